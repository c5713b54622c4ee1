//! `remask bench --prompts --answers`: whole answers of given lengths under several policies, in one
//! interleaved run. Prompts are tokens without a meaning: what is measured is time and work, not quality.

use std::io::Write;
use std::time::Instant;

use remask::{CancelToken, Canvas, GenerateParams, Params, Session};
use serde_json::json;

use crate::answers::{self, Policy};
use crate::args::BenchArgs;
use crate::bench::prompt;
use crate::generate::has_end;
use crate::machine::Resident;
use crate::output::{Bar, Failure, Outcome, cancel_on_ctrl_c, invalid};

/// What is measured where nothing is asked for.
const POLICIES: &[&str] = &["", "--speed balanced", "--speed fast"];

/// One answer, or the beginning of one.
#[derive(Clone, Copy)]
struct Answer {
    /// Steps done, and those of the whole answer.
    n_done: u64,
    n_steps: u64,
    nfe: u64,
    n_computed: u64,
    first_s: f64,
    /// The steps after the first.
    rest_s: f64,
    n_tokens: usize,
}

/// A line of the table.
struct Case {
    n_prompt: usize,
    n_answer: usize,
    policy: Policy,
    rounds: Vec<Answer>,
}

impl Answer {
    /// Seconds of the whole answer: measured, or from the steps that were.
    fn seconds(&self) -> f64 {
        let rest = self.n_done.saturating_sub(1).max(1) as f64;
        self.first_s + self.rest_s * (self.n_steps.saturating_sub(1) as f64 / rest).max(1.0)
    }

    fn is_whole(&self) -> bool {
        self.n_done == self.n_steps
    }
}

pub fn run(args: &BenchArgs, session: &mut Session, quiet: bool) -> Outcome {
    let of = &args.lengths;
    let longest = session.model().sizes().n_ctx;
    let mut cases = Vec::new();
    for &n_answer in &of.answers {
        for &n_prompt in &of.prompts {
            if n_answer == 0 || n_prompt + n_answer > longest {
                return Err(invalid(format!(
                    "{n_prompt} + {n_answer} slots: a canvas has 1 to {longest}, 1 or more of them for the answer"
                )));
            }
            let policies = answers::policies(&args.answers, POLICIES)?;
            cases.extend(policies.into_iter().map(|policy| Case {
                n_prompt,
                n_answer,
                policy,
                rounds: Vec::new(),
            }));
        }
    }
    let cancel = cancel_on_ctrl_c();
    let mut bar = Bar::new(quiet);
    // The first pass of a session checks the weights: not measured.
    let first = prompt(session, 1);
    let mut logits = Vec::new();
    session.logits(&first, &[0], &mut logits)?;
    let total = (of.rounds * cases.len()) as u64;
    for round in 0..of.rounds {
        for i in 0..cases.len() {
            let case = &cases[i];
            let found = answer(session, case, of.seconds, &cancel)?;
            cases[i].rounds.push(found);
            bar.show((round * cases.len() + i + 1) as u64, total, "answering");
        }
    }
    bar.clear();
    print(args, &cases)
}

fn answer(
    session: &mut Session,
    case: &Case,
    limit: Option<f64>,
    cancel: &CancelToken,
) -> Result<Answer, Failure> {
    let mut canvas = Canvas::new(session.model().mask_token());
    canvas.push_fixed(&prompt(session, case.n_prompt));
    canvas.push_masked(case.n_answer)?;
    let params = GenerateParams {
        denoise: Params {
            stop_at_eos: has_end(session.model()),
            ..case.policy.params.clone()
        },
        ..GenerateParams::default()
    };
    let mut run = session.start(vec![canvas], &params)?;
    let mut found = Answer {
        n_done: 0,
        n_steps: 0,
        nfe: 0,
        n_computed: 0,
        first_s: 0.0,
        rest_s: 0.0,
        n_tokens: case.n_answer,
    };
    let whole = Instant::now();
    let mut filled = 0;
    while !run.is_done() {
        if cancel.is_set() {
            return Err(Failure::Cancelled);
        }
        let began = Instant::now();
        let report = run.step()?;
        let seconds = began.elapsed().as_secs_f64();
        found.n_computed = report.n_computed;
        let left = report.sequences.first().map_or(0, |s| s.n_masked);
        filled = case.n_answer.saturating_sub(left);
        match found.n_done {
            0 => found.first_s = seconds,
            _ => found.rest_s += seconds,
        }
        found.n_done += 1;
        // A block's first step costs another than its others: at least one whole block is measured.
        let at_block = filled > 0 && filled.is_multiple_of(block_of(case));
        let out_of_time = limit.is_some_and(|limit| whole.elapsed().as_secs_f64() > limit);
        if out_of_time && at_block {
            break;
        }
    }
    let summary = run.summary();
    found.nfe = summary.nfe;
    found.n_steps = found.n_done;
    if run.is_done() {
        let end = summary.ends.first().copied().unwrap_or(0);
        found.n_tokens = end.saturating_sub(case.n_prompt);
    } else {
        // As many steps and slots for each of the tokens that are left.
        let scale = case.n_answer as f64 / filled.max(1) as f64;
        found.n_steps = (found.n_done as f64 * scale).round() as u64;
        found.nfe = (found.nfe as f64 * scale).round() as u64;
        found.n_computed = (found.n_computed as f64 * scale).round() as u64;
    }
    Ok(found)
}

fn block_of(case: &Case) -> usize {
    match case.policy.params.block_length {
        0 => case.n_answer,
        n => n.min(case.n_answer),
    }
}

fn print(args: &BenchArgs, cases: &[Case]) -> Outcome {
    let mut out = std::io::stdout().lock();
    let resident = Resident::now();
    if args.answers.csv {
        writeln!(
            out,
            "prompt,answer,policy,steps,nfe,slots_computed,first_step_s,seconds,whole,tokens,tokens_per_second,gain"
        )?;
    } else if !args.json {
        writeln!(
            out,
            "prompt  answer   steps     nfe    slots  first step   seconds  tokens  tokens/s    gain  policy"
        )?;
    }
    let mut exact = f64::NAN;
    for case in cases {
        let mut rounds = case.rounds.clone();
        rounds.sort_by(|a, b| a.seconds().total_cmp(&b.seconds()));
        let Some(m) = rounds.get(rounds.len() / 2) else {
            continue;
        };
        let speed = m.n_tokens as f64 / m.seconds().max(1e-9);
        let name = &case.policy.name;
        if name == answers::EXACT {
            exact = speed;
        }
        let gain = speed / exact;
        let (n_prompt, n_answer, whole) = (case.n_prompt, case.n_answer, m.is_whole());
        if args.json {
            let line = json!({"prompt": n_prompt, "answer": n_answer, "policy": name, "steps": m.n_steps,
                "nfe": m.nfe, "slots_computed": m.n_computed, "first_step_s": m.first_s,
                "seconds": m.seconds(), "whole": whole, "tokens": m.n_tokens, "tokens_per_second": speed,
                "gain": gain, "resident_bytes": resident.map(|r| r.peak)});
            writeln!(out, "{line}")?;
        } else if args.answers.csv {
            writeln!(
                out,
                "{n_prompt},{n_answer},\"{name}\",{},{},{},{:.4},{:.3},{whole},{},{speed:.3},{gain:.3}",
                m.n_steps,
                m.nfe,
                m.n_computed,
                m.first_s,
                m.seconds(),
                m.n_tokens
            )?;
        } else {
            let about = if whole { " " } else { "~" };
            writeln!(
                out,
                "{n_prompt:>6}  {n_answer:>6}  {:>6}  {:>6}  {:>7}  {:>7.3} s  {about}{:>8.2}  {:>6}  {speed:>8.2}  {gain:>6.2}  {name}",
                m.n_steps,
                m.nfe,
                m.n_computed,
                m.first_s,
                m.seconds(),
                m.n_tokens
            )?;
        }
    }
    if !args.json && !args.answers.csv {
        if cases.iter().any(|c| c.rounds.iter().any(|a| !a.is_whole())) {
            writeln!(out, "~ from the blocks that were done within --seconds")?;
        }
        if let Some(resident) = resident {
            let most = crate::output::bytes(resident.peak);
            writeln!(out, "resident at most {most}")?;
        }
    }
    Ok(())
}
