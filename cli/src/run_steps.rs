//! `remask bench --blocks`: the steps of runs, exact and with a cache, beside two floors: the time to read
//! the weights once, and the time of the products at the device's peak.

use std::io::Write;
use std::time::Instant;

use remask::{Cache, CancelToken, Canvas, GenerateParams, Params, Session, Sizes};
use serde_json::json;

use crate::args::BenchArgs;
use crate::bench::prompt;
use crate::output::{Bar, Failure, Outcome, bytes, cancel_on_ctrl_c, invalid};

/// What is measured of one kind of step.
struct Case {
    block: usize,
    batch: usize,
    /// Slots of the canvas, and those that a step computes.
    n_slots: usize,
    n_computed: usize,
    cached: bool,
    /// Seconds of each step, the fastest first.
    times: Vec<f64>,
}

/// What a device could do.
struct Floors {
    memory_s: Option<f64>,
    arithmetic_s: Option<f64>,
}

pub fn run(args: &BenchArgs, session: &mut Session, quiet: bool) -> Outcome {
    let runs = &args.runs;
    let n_prompt = args.lengths.prompts.first().copied().unwrap_or(0);
    if runs.blocks.contains(&0) || runs.batch.contains(&0) {
        return Err(invalid("--blocks and --batch must be 1 or more"));
    }
    let cancel = cancel_on_ctrl_c();
    let mut bar = Bar::new(quiet);
    let total = (2 * runs.blocks.len() * runs.batch.len()) as u64;
    let mut cases = Vec::new();
    for &block in &runs.blocks {
        for &batch in &runs.batch {
            for cached in [false, true] {
                cases.push(measure(args, session, &cancel, (n_prompt, block, batch), cached)?);
                bar.show(cases.len() as u64, total, "running");
            }
        }
    }
    bar.clear();
    print(args, session, &cases)
}

/// Steps of runs over two blocks, of which one token each is committed.
fn measure(
    args: &BenchArgs,
    session: &mut Session,
    cancel: &CancelToken,
    (n_prompt, block, batch): (usize, usize, usize),
    cached: bool,
) -> Result<Case, Failure> {
    let n_slots = n_prompt + 2 * block;
    let mut canvas = Canvas::new(session.model().mask_token());
    canvas.push_fixed(&prompt(session, n_prompt));
    canvas.push_masked(2 * block)?;
    let params = GenerateParams {
        denoise: Params {
            block_length: block,
            cache: if cached { Cache::Dual } else { Cache::None },
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    let mut times = Vec::new();
    while times.len() < args.steps {
        let mut run = session.start(vec![canvas.clone(); batch], &params)?;
        // A run's first steps touch its memory: not measured.
        let mut n_done = 0;
        while !run.is_done() && times.len() < args.steps {
            if cancel.is_set() {
                return Err(Failure::Cancelled);
            }
            let began = Instant::now();
            let report = run.step()?;
            let seconds = began.elapsed().as_secs_f64();
            let is_kind = report.sequences.iter().all(|s| s.cached == cached);
            if is_kind && n_done >= 2 {
                times.push(seconds);
            }
            n_done += 1;
        }
        if n_done <= 3 {
            return Err(invalid("a block of one slot has no steps to measure"));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Case {
        block,
        batch,
        n_slots,
        n_computed: if cached { block } else { n_slots },
        cached,
        times,
    })
}

/// Multiply-adds of a step that computes `n` of `n_kv` slots, with the logits of `rows`.
fn macs(s: &Sizes, n: f64, n_kv: f64, rows: f64) -> f64 {
    let [d, f, v, layers] = [s.n_embd, s.n_ff, s.n_vocab, s.n_layer].map(|x| x as f64);
    let (q, kv) = ((s.n_rot * s.n_head) as f64, (s.n_rot * s.n_head_kv) as f64);
    let layer = |n_q: f64| n_q * (2.0 * d * q + 3.0 * d * f) + 2.0 * n * d * kv + 2.0 * n_q * n_kv * q;
    (layers - 1.0) * layer(n) + layer(rows) + rows * d * v
}

/// Bytes of weights that a step reads: all but the table of embeddings, of which it reads some rows. Where
/// the table is the head too, all.
fn weight_bytes(session: &Session) -> f64 {
    let model = session.model();
    let s = model.sizes();
    let [d, f, layers] = [s.n_embd, s.n_ff, s.n_layer].map(|x| x as f64);
    let (q, kv) = ((s.n_rot * s.n_head) as f64, (s.n_rot * s.n_head_kv) as f64);
    let table = s.n_vocab as f64 * d;
    let in_layers = layers * (2.0 * d * q + 2.0 * d * kv + 3.0 * d * f);
    let n_params = model.n_params().max(1) as f64;
    // Besides the layers there are one such matrix or two, and norms.
    let is_tied = n_params - in_layers < 1.5 * table;
    let unread = if is_tied { 0.0 } else { table };
    model.n_bytes() as f64 * (1.0 - unread / n_params)
}

impl Case {
    fn median(&self) -> f64 {
        self.times[self.times.len() / 2]
    }

    fn macs(&self, sizes: &Sizes) -> f64 {
        let (n, n_kv) = (self.n_computed as f64, self.n_slots as f64);
        // On the average half of the block is masked.
        self.batch as f64 * macs(sizes, n, n_kv, self.block as f64 / 2.0)
    }

    fn floors(&self, args: &BenchArgs, session: &Session) -> Floors {
        let bandwidth = args.runs.bandwidth;
        let flops = 2.0 * self.macs(session.model().sizes());
        Floors {
            memory_s: bandwidth.map(|gb| weight_bytes(session) / (gb * 1e9)),
            arithmetic_s: args.runs.tflops.map(|t| flops / (t * 1e12)),
        }
    }
}

fn print(args: &BenchArgs, session: &Session, cases: &[Case]) -> Outcome {
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "block  batch   step      slots     median    fastest  memory floor  product floor  over the higher"
        )?;
    }
    for case in cases {
        let floors = case.floors(args, session);
        let highest = floors
            .memory_s
            .into_iter()
            .chain(floors.arithmetic_s)
            .reduce(f64::max);
        let over = highest.map(|floor| case.median() / floor);
        let kind = if case.cached { "cached" } else { "exact" };
        if args.json {
            let line = json!({"block": case.block, "batch": case.batch, "step": kind,
                "canvas": case.n_slots, "computed": case.n_computed, "step_s": case.median(),
                "step_min_s": case.times[0], "memory_floor_s": floors.memory_s,
                "product_floor_s": floors.arithmetic_s, "over_floor": over,
                "weight_bytes": weight_bytes(session), "gmac": case.macs(session.model().sizes()) / 1e9});
            writeln!(out, "{line}")?;
            continue;
        }
        let ms = |s: Option<f64>| s.map_or("-".to_owned(), |s| format!("{:.3} ms", s * 1e3));
        writeln!(
            out,
            "{:>5}  {:>5}   {kind:<6}  {:>7}  {:>9}  {:>9}  {:>12}  {:>13}  {:>15}",
            case.block,
            case.batch,
            format!("{}/{}", case.n_computed, case.n_slots),
            ms(Some(case.median())),
            ms(case.times.first().copied()),
            ms(floors.memory_s),
            ms(floors.arithmetic_s),
            over.map_or("-".to_owned(), |x| format!("{x:.2}x")),
        )?;
    }
    if !args.json {
        let read = weight_bytes(session) as u64;
        writeln!(
            out,
            "a step reads {} of weights; of a block half is masked on the average",
            bytes(read)
        )?;
    }
    Ok(())
}
