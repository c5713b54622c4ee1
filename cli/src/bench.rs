//! `remask bench`: the time of one step beside what the arithmetic alone would take; of whole answers
//! see `answers.rs`.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use serde_json::json;

use crate::answers;
use crate::args::BenchArgs;
use crate::fill;
use crate::output::{Outcome, bytes, invalid};

pub fn run(args: &BenchArgs, quiet: bool) -> Outcome {
    if let Some(data) = &args.data {
        return answers::run(args, data, quiet);
    }
    if args.rows == 0 || args.rows > args.canvas || args.steps == 0 {
        return Err(invalid("--rows must be 1 to --canvas, and --steps 1 or more"));
    }
    let began = Instant::now();
    let mut session = fill::open(&args.model, quiet)?;
    let load_s = began.elapsed().as_secs_f64();
    let sizes = session.model().sizes().clone();
    let mask = session.model().mask_token();
    let n_prompt = args.canvas - args.rows;
    let mut tokens: Vec<u32> = (0..n_prompt).map(|i| (i * 7919 % sizes.n_vocab) as u32).collect();
    tokens.resize(args.canvas, mask);
    let rows: Vec<u32> = (n_prompt..args.canvas).map(|i| i as u32).collect();
    let mut logits = Vec::new();
    let mut times = Vec::new();
    for i in 0..args.steps + 2 {
        let began = Instant::now();
        session.logits(&tokens, &rows, &mut logits)?;
        black_box(&logits);
        if i >= 2 {
            times.push(began.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let macs = macs(&sizes, args.canvas as f64, args.rows as f64);
    let peak = peak_gmacs(session.n_threads());
    let floor = macs / (peak * 1e9);
    let mut out = std::io::stdout().lock();
    if args.json {
        let line = json!({"canvas": args.canvas, "rows": args.rows, "threads": session.n_threads(),
            "load_s": load_s, "step_s": median, "step_min_s": times[0], "step_max_s": times[times.len() - 1],
            "gmac": macs / 1e9, "gmac_per_s": macs / median / 1e9, "f32_peak_gmac_per_s": peak,
            "session_bytes": session.n_bytes(), "weight_bytes": session.model().n_bytes()});
        writeln!(out, "{line}")?;
        return Ok(());
    }
    writeln!(
        out,
        "canvas {} slots, {} rows, {} threads",
        args.canvas,
        args.rows,
        session.n_threads()
    )?;
    writeln!(out, "load            {:.1} ms", load_s * 1e3)?;
    writeln!(
        out,
        "step            {:.3} ms (median of {}; {:.3} to {:.3})",
        median * 1e3,
        times.len(),
        times[0] * 1e3,
        times[times.len() - 1] * 1e3
    )?;
    writeln!(
        out,
        "products        {:.3} GMAC, {:.1} GMAC/s",
        macs / 1e9,
        macs / median / 1e9
    )?;
    writeln!(
        out,
        "f32 peak        {peak:.1} GMAC/s measured now; the products alone would take {:.3} ms",
        floor * 1e3
    )?;
    writeln!(out, "step / products {:.2}", median / floor)?;
    writeln!(
        out,
        "memory          {} of weights, {} to compute in",
        bytes(session.model().n_bytes()),
        bytes(session.n_bytes())
    )?;
    Ok(())
}

/// Multiply-adds of one step: the last layer's queries, feed-forward network and head for the rows only.
fn macs(s: &remask::Sizes, n: f64, rows: f64) -> f64 {
    let [d, f, v, layers] = [s.n_embd, s.n_ff, s.n_vocab, s.n_layer].map(|x| x as f64);
    let (q, kv) = ((s.n_rot * s.n_head) as f64, (s.n_rot * s.n_head_kv) as f64);
    let layer = |n_q: f64| n_q * (2.0 * d * q + 3.0 * d * f) + 2.0 * n * d * kv + 2.0 * n_q * n * q;
    (layers - 1.0) * layer(n) + layer(rows) + rows * d * v
}

/// Multiply-adds per second of dependent-free f32 arithmetic on this many threads, measured.
fn peak_gmacs(n_threads: usize) -> f64 {
    const LANES: usize = 96;
    const ROUNDS: usize = 400_000;
    let work = || {
        let mut sums = [1.0f32; LANES];
        let (a, b) = (black_box(0.999_999f32), black_box(1e-7f32));
        let began = Instant::now();
        for _ in 0..ROUNDS {
            for x in &mut sums {
                *x = x.mul_add(a, b);
            }
        }
        black_box(sums);
        (LANES * ROUNDS) as f64 / began.elapsed().as_secs_f64() / 1e9
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).sum()
    })
}
