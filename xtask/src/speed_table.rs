//! `cargo xtask speed-table`: what the denoiser's policies gain and cost, as a table and a picture.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;

const HELP: &str = "\
cargo xtask speed-table [--model FILE] [--data FILE.jsonl] [--name NAME] [--samples N]
                        [-n SLOTS] [-b SLOTS] [--threads N] [--program FILE] [--raw true] [--stories true]
                        [--likelihood N]

Answers every prompt of the data under every policy (remask bench --data) and puts the table into
docs/speed.md, between the marks of NAME (made at the end where there are none), and the picture
into docs/speed-NAME.svg. Without --model and --data: models/little-world.gguf and freshly drawn
questions of its world; with --stories, beginnings of stories to go on with. Where no exact answer
is right, the share of tokens that are those of the exact answer is the measure of quality. The table has
the likelihood of what was written too, by N masked canvases (32). --raw: without the chat template. --program names a built `remask`; else a release build is made.";

struct Options {
    model: String,
    data: Option<String>,
    name: String,
    samples: String,
    gen_length: String,
    block_length: String,
    threads: Option<String>,
    likelihood: String,
    program: Option<String>,
    raw: bool,
    stories: bool,
}

pub fn run(args: &[&str]) -> Outcome {
    if args.iter().any(|a| ["--help", "-h"].contains(a)) {
        println!("{HELP}");
        return Ok(());
    }
    let options = options(args)?;
    let folder = crate::root().join(crate::demo::target()).join("speed-table");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let data = match &options.data {
        Some(path) => path.clone(),
        None => {
            let path = folder.join(format!("{}.jsonl", options.name));
            let questions = crate::train_demo::questions(2026, 400, options.stories);
            std::fs::write(&path, questions).map_err(|e| format!("{}: {e}", path.display()))?;
            path.to_string_lossy().into_owned()
        }
    };
    let csv = measure(&options, &data)?;
    let rows = parse(&csv)?;
    let picture = format!("speed-{}.svg", options.name);
    let docs = crate::root().join("docs");
    write(&docs.join(&picture), &svg(&rows, &options.name))?;
    let table = table(&rows, &options, &picture);
    let page = docs.join("speed.md");
    let text = std::fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
    write(&page, &placed(&text, &options.name, &table))?;
    println!("{table}");
    println!("{} and docs/{picture} are written", page.display());
    Ok(())
}

fn options(args: &[&str]) -> Result<Options, String> {
    let mut options = Options {
        model: "models/little-world.gguf".to_owned(),
        data: None,
        name: "little-world".to_owned(),
        samples: "200".to_owned(),
        gen_length: "32".to_owned(),
        block_length: "16".to_owned(),
        threads: None,
        likelihood: "32".to_owned(),
        program: None,
        raw: false,
        stories: false,
    };
    let mut rest = args.iter();
    while let Some(&flag) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let value = (*value).to_owned();
        match flag {
            "--model" | "-m" => options.model = value,
            "--data" => options.data = Some(value),
            "--name" => options.name = value,
            "--samples" => options.samples = value,
            "-n" | "--gen-length" => options.gen_length = value,
            "-b" | "--block-length" => options.block_length = value,
            "-t" | "--threads" => options.threads = Some(value),
            "--likelihood" => options.likelihood = value,
            "--raw" => options.raw = value == "true",
            "--stories" => options.stories = value == "true",
            "--program" => options.program = Some(value),
            _ => {
                return Err(format!(
                    "`{flag}` is no option; see cargo xtask speed-table --help"
                ));
            }
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if options.name.is_empty() || !options.name.chars().all(plain) {
        return Err(format!(
            "name `{}` must be of letters, digits and -",
            options.name
        ));
    }
    Ok(options)
}

fn measure(options: &Options, data: &str) -> Result<String, String> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => {
            let cargo = crate::cargo();
            crate::run(&cargo, &["build", "--release", "--package", "remask-cli"])?;
            let built = crate::root().join(crate::demo::target()).join("release/remask");
            built.to_string_lossy().into_owned()
        }
    };
    let mut args = vec!["bench", "-m", &options.model, "--data", data, "--csv"];
    args.extend(["--samples", &options.samples, "-n", &options.gen_length]);
    args.extend(["-b", &options.block_length, "--likelihood", &options.likelihood]);
    if options.raw || options.stories {
        args.push("--raw");
    }
    if let Some(threads) = &options.threads {
        args.extend(["-t", threads]);
    }
    println!("$ {program} {}", args.join(" "));
    let done = Command::new(&program)
        .args(&args)
        .current_dir(crate::root())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("`{program}` does not start: {e}"))?;
    if !done.status.success() {
        return Err(format!("`{program} bench` ended with {}", done.status));
    }
    String::from_utf8(done.stdout).map_err(|_| "the table is not UTF-8".to_owned())
}

/// One policy's line.
struct Row {
    name: String,
    answers: f64,
    right: f64,
    right_error: f64,
    same_tokens: f64,
    same_texts: f64,
    steps: f64,
    nfe: f64,
    slots: f64,
    ms: f64,
    speed: f64,
    nats: f64,
    nats_more: f64,
    nats_more_error: f64,
}

fn parse(csv: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for line in csv.lines().skip(1) {
        let bad = || format!("not a line of the table: {line}");
        let (name, numbers) = line
            .strip_prefix('"')
            .and_then(|l| l.split_once("\","))
            .ok_or_else(bad)?;
        let numbers: Result<Vec<f64>, _> = numbers.split(',').map(str::parse).collect();
        let numbers = numbers.map_err(|_| bad())?;
        let [
            answers,
            right,
            right_error,
            same_tokens,
            same_texts,
            steps,
            nfe,
            slots,
            _,
            ms,
            speed,
            nats,
            nats_more,
            nats_more_error,
        ] = numbers[..]
        else {
            return Err(bad());
        };
        rows.push(Row {
            name: name.to_owned(),
            answers,
            right,
            right_error,
            same_tokens,
            same_texts,
            steps,
            nfe,
            slots,
            ms,
            speed,
            nats,
            nats_more,
            nats_more_error,
        });
    }
    match rows.is_empty() {
        true => Err("the table is empty".to_owned()),
        false => Ok(rows),
    }
}

/// What the picture shows of quality: right answers, or where the exact ones are all wrong, tokens that
/// are as in the exact answer.
fn quality(rows: &[Row]) -> fn(&Row) -> f64 {
    match rows.first() {
        Some(exact) if exact.right < 0.05 => |r| r.same_tokens,
        _ => |r| r.right,
    }
}

/// Policies that no other beats in both speed and quality, by number.
fn frontier(rows: &[Row]) -> Vec<usize> {
    let measure = quality(rows);
    let beaten = |r: &Row| {
        let better = |o: &Row| {
            let (q, p) = (measure(o), measure(r));
            o.speed > r.speed && q >= p || o.speed >= r.speed && q > p
        };
        rows.iter().any(better)
    };
    let mut best: Vec<usize> = (0..rows.len()).filter(|&i| !beaten(&rows[i])).collect();
    best.sort_by(|&a, &b| rows[a].speed.total_cmp(&rows[b].speed));
    best
}

fn table(rows: &[Row], options: &Options, picture: &str) -> String {
    let exact = &rows[0];
    let best = frontier(rows);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} on {} prompts, {} slots in blocks of {}; means per answer (of ms and tokens/s medians), `right`\n\
         and `nats more` with their standard errors. Nats: minus the log-likelihood of a token of what was written, by {} masked\n\
         canvases; more: than of the exact answer to the same prompt. Bold: no other policy is both faster and as good.\n",
        options.model, exact.answers, options.gen_length, options.block_length, options.likelihood
    );
    let _ = writeln!(
        out,
        "| | policy | right | same tokens | same texts | nats | nats more | steps | NFE | slots computed | ms | tokens/s | gain |"
    );
    let _ = writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (i, r) in rows.iter().enumerate() {
        let name = match best.contains(&i) {
            true => format!("**`{}`**", r.name),
            false => format!("`{}`", r.name),
        };
        let _ = writeln!(
            out,
            "| {} | {name} | {:.1} ± {:.1} % | {:.1} % | {:.1} % | {:.3} | {:+.3} ± {:.3} | {:.1} | {:.1} | {:.0} | {:.1} | {:.0} | {:.2} |",
            i + 1,
            r.right * 100.0,
            r.right_error * 100.0,
            r.same_tokens * 100.0,
            r.same_texts * 100.0,
            r.nats,
            r.nats_more,
            r.nats_more_error,
            r.steps,
            r.nfe,
            r.slots,
            r.ms,
            r.speed,
            r.speed / exact.speed
        );
    }
    let _ = writeln!(out, "\n![speed and quality]({picture})");
    out
}

/// Quality over tokens per second, relative to exact, with the frontier.
fn svg(rows: &[Row], name: &str) -> String {
    const SIZE: (f64, f64) = (760.0, 460.0);
    const EDGE: (f64, f64) = (60.0, 40.0);
    let measure = quality(rows);
    let (exact, shows_right) = (rows[0].speed, rows[0].right >= 0.05);
    let error = |r: &Row| if shows_right { r.right_error } else { 0.0 };
    let gains: Vec<f64> = rows.iter().map(|r| (r.speed / exact).max(1e-3).log2()).collect();
    let (low, high) = gains.iter().fold((0f64, 1f64), |(a, b), &x| (a.min(x), b.max(x)));
    let (low, high) = (low.floor(), high.ceil());
    let worst = rows.iter().map(|r| measure(r) - error(r)).fold(1.0, f64::min);
    let bottom = ((worst - 0.02).max(0.0) * 20.0).floor() / 20.0;
    let top = rows.iter().map(|r| measure(r) + error(r)).fold(0.0, f64::max);
    let top = ((top + 0.02).min(1.0) * 20.0).ceil() / 20.0;
    let x = |gain: f64| EDGE.0 + (gain - low) / (high - low) * (SIZE.0 - 2.0 * EDGE.0);
    let y =
        |right: f64| SIZE.1 - EDGE.1 - (right - bottom) / (top - bottom).max(1e-9) * (SIZE.1 - 2.0 * EDGE.1);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE.0, SIZE.1
    );
    for i in 0..=((high - low) as usize) {
        let gain = low + i as f64;
        let _ = writeln!(
            out,
            "<line x1=\"{0:.1}\" y1=\"{1}\" x2=\"{0:.1}\" y2=\"{2}\" stroke=\"#ddd\"/><text x=\"{0:.1}\" y=\"{3}\" text-anchor=\"middle\">{4}x</text>",
            x(gain),
            EDGE.1,
            SIZE.1 - EDGE.1,
            SIZE.1 - EDGE.1 + 16.0,
            gain.exp2()
        );
    }
    for i in 0..=4 {
        let right = bottom + (top - bottom) * f64::from(i) / 4.0;
        let _ = writeln!(
            out,
            "<line x1=\"{0}\" y1=\"{1:.1}\" x2=\"{2}\" y2=\"{1:.1}\" stroke=\"#ddd\"/><text x=\"{3}\" y=\"{4:.1}\" text-anchor=\"end\">{5:.1} %</text>",
            EDGE.0,
            y(right),
            SIZE.0 - EDGE.0,
            EDGE.0 - 6.0,
            y(right) + 4.0,
            right * 100.0
        );
    }
    let best = frontier(rows);
    let points = best
        .iter()
        .map(|&i| format!("{:.1},{:.1}", x(gains[i]), y(measure(&rows[i]))));
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#c33\"/>",
        points.collect::<Vec<_>>().join(" ")
    );
    for (i, r) in rows.iter().enumerate() {
        let (px, colour) = (x(gains[i]), if best.contains(&i) { "#c33" } else { "#36a" });
        let _ = writeln!(
            out,
            "<line x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" opacity=\"0.3\"/>\
             <circle cx=\"{px:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"><title>{}</title></circle>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{}</text>",
            y(measure(r) - error(r)),
            y(measure(r) + error(r)),
            y(measure(r)),
            r.name,
            px + 6.0,
            y(measure(r)) - 4.0,
            i + 1
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"20\" text-anchor=\"middle\">{name}: {} over tokens per second, exact = 1x; numbers are the table's</text>\n</svg>",
        SIZE.0 / 2.0,
        if shows_right {
            "right answers"
        } else {
            "tokens as in exact"
        }
    );
    out
}

/// `page` with `table` between the marks of `name`.
fn placed(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- table {name} -->"), format!("<!-- end {name} -->"));
    let inside = format!("{begin}\n{table}{end}");
    let found = page.find(&begin).zip(page.find(&end)).filter(|(b, e)| b < e);
    match found {
        Some((b, e)) => format!("{}{inside}{}", &page[..b], &page[e + end.len()..]),
        None => format!("{}\n\n## {name}\n\n{inside}\n", page.trim_end()),
    }
}

fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
