//! `remask bench --data`: whole answers under several policies, in one interleaved run.

use std::io::Write;
use std::path::Path;

use clap::Parser;
use remask::evaluate::{Dataset, Estimate, Record};
use remask::score::{self, LikelihoodParams};
use remask::text::ChatMessage;
use remask::{Canvas, GenerateParams, Params, Session};
use serde_json::json;

use crate::args::{AnswersArgs, BenchArgs, PolicyArgs};
use crate::generate::{chat_prompt, has_end, raw_prompt};
use crate::output::{Bar, Failure, Outcome, cancel_on_ctrl_c, invalid};

/// What is measured where nothing is asked for: every kind of rule with its published settings, the
/// caches, and some of both. The first is exact.
const POLICIES: &[&str] = &[
    "",
    "--threshold 0.95",
    "--threshold 0.9",
    "--threshold 0.8",
    "--threshold 0.6",
    "--threshold 0.8 --order margin",
    "--factor 1",
    "--entropy-bound 0.01",
    "--entropy-bound 0.1",
    "--neighbours",
    "--early-commit",
    "--early-commit --neighbours",
    "--cache prefix",
    "--cache dual",
    "--cache dual --cache-refresh 4",
    "--cache dual --cache-type f16",
    "--cache dual --cache-type q8_0",
    "--cache feature",
    "--cache feature --feature-intervals 25,4,0.5",
    "--cache feature --threshold 0.9",
    "--suffix-window 16",
    "--cache prefix --threshold 0.9",
    "--cache dual --threshold 0.9",
    "--cache dual --threshold 0.9 --cache-refresh 4",
    "--cache dual --threshold 0.9 --suffix-window 16",
    "--cache dual --entropy-bound 0.1",
    "--cache dual --neighbours",
    "--cache dual --neighbours --early-commit",
];

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Flags {
    #[command(flatten)]
    policy: PolicyArgs,
}

/// A policy and what it is called.
pub struct Policy {
    pub name: String,
    pub params: Params,
}

/// A policy and what came of it.
struct Measured {
    policy: Policy,
    each: Vec<Answer>,
}

/// One answer.
#[derive(Clone, Copy, Default)]
struct Answer {
    n_steps: u64,
    nfe: u64,
    n_computed: u64,
    seconds: f64,
    /// Tokens up to the end of the text.
    n_tokens: usize,
    /// Of the exact answer, and how many of them are the same here.
    n_exact: usize,
    n_same: usize,
    same: bool,
    right: bool,
    /// Minus the log-likelihood of a token, in nats, and how much more that is than the exact answer's.
    nats: Option<f64>,
    nats_more: Option<f64>,
}

pub fn run(args: &BenchArgs, session: &mut Session, data: &Path, quiet: bool) -> Outcome {
    let of = &args.answers;
    if of.gen_length == 0 || of.samples == 0 {
        return Err(invalid("--gen-length and --samples must be 1 or more"));
    }
    let measured = |policy| Measured {
        policy,
        each: Vec::new(),
    };
    let mut policies: Vec<_> = policies(of, POLICIES)?.into_iter().map(measured).collect();
    let questions = read(session, data, of)?;
    let cancel = cancel_on_ctrl_c();
    let mut bar = Bar::new(quiet);
    // The first answer of a session sizes its memory and checks the weights: not measured.
    if let (Some((prompt, _)), Some(first)) = (questions.first(), policies.first()) {
        answer(session, prompt, of, &first.policy.params)?;
    }
    let total = (questions.len() * policies.len()) as u64;
    let mut done = 0;
    for (prompt, expected) in &questions {
        let mut exact: Vec<u32> = Vec::new();
        let mut exact_nats = None;
        for policy in &mut policies {
            if cancel.is_set() {
                return Err(Failure::Cancelled);
            }
            let (mut found, tokens) = answer(session, prompt, of, &policy.policy.params)?;
            found.nats = nats(session, prompt, &tokens, of.likelihood)?;
            if policy.policy.name == EXACT {
                exact.clone_from(&tokens);
                exact_nats = found.nats;
            }
            found.nats_more = found.nats.zip(exact_nats).map(|(nats, exact)| nats - exact);
            found.n_exact = exact.len();
            found.n_same = exact.iter().zip(&tokens).filter(|(a, b)| a == b).count();
            found.same = exact == tokens;
            let text = session.model().tokenizer().decode(&tokens, true);
            found.right = text.trim() == expected.trim();
            policy.each.push(found);
        }
        done += 1;
        bar.show(done * policies.len() as u64, total, "answering");
    }
    bar.clear();
    print(args, &policies)
}

/// How the policy without a flag is called.
pub const EXACT: &str = "exact";

/// The policies asked for, else `default`; the exact one first.
pub fn policies(args: &AnswersArgs, default: &[&'static str]) -> Result<Vec<Policy>, Failure> {
    let listed: Vec<&str> = match args.policy.is_empty() {
        true => default.to_vec(),
        false => [""]
            .into_iter()
            .chain(args.policy.iter().map(String::as_str))
            .collect(),
    };
    let mut policies = Vec::new();
    for flags in listed {
        let parsed = Flags::try_parse_from(flags.split_whitespace()).map_err(|e| {
            let text = e.to_string();
            let line = text
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            invalid(format!("policy `{flags}`: {line}"))
        })?;
        let params = parsed.policy.params();
        let given = parsed.policy.block_length;
        policies.push(Policy {
            name: match flags.trim() {
                "" => EXACT.to_owned(),
                flags => flags.to_owned(),
            },
            params: Params {
                block_length: given.unwrap_or(args.block_length),
                ..params
            },
        });
    }
    Ok(policies)
}

/// Prompts, as the model wants them, and expected answers. Those that do not fit are passed over.
fn read(session: &Session, data: &Path, args: &AnswersArgs) -> Result<Vec<(Vec<u32>, String)>, Failure> {
    let model = session.model();
    let mut questions = Vec::new();
    for record in Dataset::open(data)? {
        let Record::Pair { prompt, response } = record? else {
            return Err(invalid(format!(
                "{}: answers need lines with `prompt` and `response`",
                data.display()
            )));
        };
        let tokens = match args.raw || model.chat_template().is_none() {
            true => raw_prompt(model, &prompt)?,
            false => chat_prompt(model, &[ChatMessage::new("user", prompt)])?,
        };
        if tokens.len() + args.gen_length <= model.sizes().n_ctx {
            questions.push((tokens, response));
        }
        if questions.len() >= args.samples {
            break;
        }
    }
    if questions.is_empty() {
        return Err(invalid(format!(
            "{}: no prompt fits with {} slots for the answer",
            data.display(),
            args.gen_length
        )));
    }
    Ok(questions)
}

/// One answer, and its tokens up to the end of the text.
fn answer(
    session: &mut Session,
    prompt: &[u32],
    args: &AnswersArgs,
    params: &Params,
) -> Result<(Answer, Vec<u32>), Failure> {
    let mut canvas = Canvas::new(session.model().mask_token());
    canvas.push_fixed(prompt);
    canvas.push_masked(args.gen_length)?;
    let params = GenerateParams {
        denoise: Params {
            stop_at_eos: has_end(session.model()),
            ..params.clone()
        },
        ..GenerateParams::default()
    };
    let mut run = session.start(vec![canvas], &params)?;
    let mut found = Answer::default();
    while !run.is_done() {
        found.n_computed = run.step()?.n_computed;
        found.n_steps += 1;
    }
    let summary = run.summary();
    found.nfe = summary.nfe;
    found.seconds = summary.elapsed.as_secs_f64();
    let end = summary.ends.first().copied().unwrap_or(0);
    let tokens = run
        .into_canvases()
        .pop()
        .and_then(|c| c.tokens().get(prompt.len()..end).map(<[u32]>::to_vec))
        .unwrap_or_default();
    found.n_tokens = tokens.len();
    Ok((found, tokens))
}

/// Minus the log-likelihood of a token of an answer, by the bound over `samples` masked canvases, the same for
/// every answer of a length; `None` where that is not asked for or the answer is empty.
fn nats(
    session: &mut Session,
    prompt: &[u32],
    answer: &[u32],
    samples: usize,
) -> Result<Option<f64>, Failure> {
    if samples == 0 || answer.is_empty() {
        return Ok(None);
    }
    let mask = session.model().mask_token();
    let params = LikelihoodParams {
        samples,
        batch: samples.min(LikelihoodParams::default().batch),
        ..LikelihoodParams::default()
    };
    let tokens = [prompt, answer].concat();
    let bound = score::likelihood(session, &tokens, prompt.len()..tokens.len(), mask, &params)?;
    Ok(Some(-bound.log_likelihood / answer.len() as f64))
}

/// The means of a policy; medians of what depends on the clock, since machines have other work too.
struct Means {
    right: f64,
    right_error: f64,
    same_tokens: f64,
    same_texts: f64,
    steps: f64,
    nfe: f64,
    computed: f64,
    tokens: f64,
    ms: f64,
    tokens_per_second: f64,
    /// NaN where likelihoods were not asked for.
    nats: Estimate,
    nats_more: Estimate,
}

impl Means {
    fn of(each: &[Answer]) -> Self {
        let n = each.len().max(1) as f64;
        let sum = |f: &dyn Fn(&Answer) -> f64| each.iter().map(f).sum::<f64>();
        let share = |f: &dyn Fn(&Answer) -> bool| each.iter().filter(|a| f(a)).count() as f64 / n;
        let right = share(&|a| a.right);
        let tokens = sum(&|a| a.n_tokens as f64);
        Self {
            right,
            right_error: (right * (1.0 - right) / (n - 1.0).max(1.0)).sqrt(),
            same_tokens: sum(&|a| a.n_same as f64) / sum(&|a| a.n_exact as f64).max(1.0),
            same_texts: share(&|a| a.same),
            steps: sum(&|a| a.n_steps as f64) / n,
            nfe: sum(&|a| a.nfe as f64) / n,
            computed: sum(&|a| a.n_computed as f64) / n,
            tokens: tokens / n,
            ms: median(each, |a| a.seconds * 1e3),
            tokens_per_second: median(each, |a| a.n_tokens as f64 / a.seconds.max(1e-9)),
            nats: Estimate::of(each.iter().filter_map(|a| a.nats)),
            nats_more: Estimate::of(each.iter().filter_map(|a| a.nats_more)),
        }
    }
}

fn median(each: &[Answer], of: impl Fn(&Answer) -> f64) -> f64 {
    let mut values: Vec<f64> = each.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn print(args: &BenchArgs, policies: &[Measured]) -> Outcome {
    let mut out = std::io::stdout().lock();
    let n = policies.first().map_or(0, |p| p.each.len());
    let shows_nats = args.answers.likelihood > 0;
    if args.answers.csv {
        writeln!(
            out,
            "policy,answers,right,right_error,same_tokens,same_texts,steps,nfe,slots_computed,tokens,ms,tokens_per_second,nats,nats_more,nats_more_error"
        )?;
    } else if !args.json {
        writeln!(
            out,
            "{n} answers of {} slots in blocks of {}; means per answer, medians of ms and tokens/s\n",
            args.answers.gen_length, args.answers.block_length
        )?;
        writeln!(
            out,
            "  right  same tokens  same texts{}   steps     nfe    slots      ms  tokens/s  policy",
            if shows_nats {
                "    nats   more than exact"
            } else {
                ""
            }
        )?;
    }
    for policy in policies {
        let m = Means::of(&policy.each);
        let name = &policy.policy.name;
        if args.json {
            let line = json!({"policy": name, "answers": n, "right": m.right, "right_error": m.right_error,
                "same_tokens": m.same_tokens, "same_texts": m.same_texts, "steps": m.steps, "nfe": m.nfe,
                "slots_computed": m.computed, "tokens": m.tokens, "ms": m.ms,
                "tokens_per_second": m.tokens_per_second, "nats": m.nats.mean, "nats_more": m.nats_more.mean,
                "nats_more_error": m.nats_more.error});
            writeln!(out, "{line}")?;
        } else if args.answers.csv {
            writeln!(
                out,
                "\"{name}\",{n},{:.4},{:.4},{:.4},{:.4},{:.2},{:.2},{:.1},{:.2},{:.3},{:.2},{:.4},{:.4},{:.4}",
                m.right,
                m.right_error,
                m.same_tokens,
                m.same_texts,
                m.steps,
                m.nfe,
                m.computed,
                m.tokens,
                m.ms,
                m.tokens_per_second,
                m.nats.mean,
                m.nats_more.mean,
                m.nats_more.error
            )?;
        } else {
            let nats = match shows_nats {
                true => format!(
                    "  {:>6.3}  {:>+7.3} ± {:.3}",
                    m.nats.mean, m.nats_more.mean, m.nats_more.error
                ),
                false => String::new(),
            };
            writeln!(
                out,
                "{:>5.1} %  {:>9.1} %  {:>8.1} %{nats}  {:>6.1}  {:>6.1}  {:>7.0}  {:>6.1}  {:>8.1}  {name}",
                m.right * 100.0,
                m.same_tokens * 100.0,
                m.same_texts * 100.0,
                m.steps,
                m.nfe,
                m.computed,
                m.ms,
                m.tokens_per_second
            )?;
        }
    }
    Ok(())
}
