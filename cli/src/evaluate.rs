//! `remask imatrix` and `remask compare`: models against texts.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use remask::evaluate::{
    CompareParams, Comparison, Dataset, Estimate, ImatrixParams, Sample, collect_imatrix, compare, samples,
};
use remask::quantize::Imatrix;
use remask::{Error, ErrorKind, LoadOptions, Model, Session, SessionOptions};
use serde_json::json;

use crate::args::{CompareArgs, ImatrixArgs, TextsArgs, device_choice};
use crate::fill;
use crate::output::{Bar, Failure, Outcome, cancel_on_ctrl_c, invalid, note};

/// Canvases of this length where the model and the user say nothing else.
const LENGTH: usize = 256;

pub fn run_imatrix(args: &ImatrixArgs, quiet: bool) -> Outcome {
    // Before the work, which takes a while.
    if args.output.exists() && !args.force {
        return Err(invalid(format!(
            "{} exists; --force replaces it",
            args.output.display()
        )));
    }
    let merged: Result<Vec<_>, _> = args.merge.iter().map(|path| Imatrix::read(path)).collect();
    let merged = merged?;
    let mut session = fill::open(&args.model, quiet)?;
    let canvases = read(session.model(), &args.texts)?;
    let params = ImatrixParams {
        ratios: args.texts.ratios,
        denoise_steps: args.denoise_steps,
        head: args.head,
        seed: args.texts.seed,
    };
    let name = args.texts.data.display().to_string();
    let mut found = watch(quiet, "collecting", |tell| {
        collect_imatrix(&mut session, &canvases, &name, &params, tell)
    })?;
    for other in &merged {
        found.merge(other)?;
    }
    found.write(&args.output, args.force)?;
    if !quiet {
        let rows = found.entries.values().map(|e| e.counts.iter().sum::<f32>());
        note!(
            "{}: {} matrices, {} canvases, {:.0} rows each",
            args.output.display(),
            found.entries.len(),
            canvases.len(),
            rows.fold(0.0, f32::max)
        );
    }
    Ok(())
}

pub fn run_compare(args: &CompareArgs, quiet: bool) -> Outcome {
    if args.texts.ratios == 0 {
        return Err(invalid("--ratios must be 1 or more"));
    }
    let open = |path: &Path| -> Result<Session, Error> {
        let options = LoadOptions {
            device: device_choice(&args.device),
            ..LoadOptions::default()
        };
        let options_of_session = SessionOptions {
            n_threads: args.threads,
            ..SessionOptions::default()
        };
        Session::new(&Model::load(path, &options)?, &options_of_session)
    };
    let (mut a, mut b) = (open(&args.a)?, open(&args.b)?);
    let canvases = read(a.model(), &args.texts)?;
    let params = CompareParams {
        ratios: args.texts.ratios,
        generations: args.generations,
        steps: args.steps,
        seed: args.texts.seed,
    };
    let found = watch(quiet, "comparing", |tell| {
        compare(&mut a, &mut b, &canvases, &params, tell)
    })?;
    if args.json {
        let line = as_json(
            &found,
            &args.a,
            &args.b,
            [a.model().n_bytes(), b.model().n_bytes()],
        );
        writeln!(std::io::stdout(), "{line}")?;
        return Ok(());
    }
    table(&found)
}

fn read(model: &Model, args: &TextsArgs) -> Result<Vec<Sample>, Error> {
    let records = Dataset::open(&args.data)?;
    let length = args.length.unwrap_or(LENGTH.min(model.sizes().n_ctx));
    samples(model, records, length, args.samples)
        .map_err(|e| e.context(format_args!("canvases from {}", args.data.display())))
}

type Tell<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

/// Runs `work` behind a bar, until it is done or Ctrl-C.
fn watch<T>(
    quiet: bool,
    what: &str,
    work: impl FnOnce(&mut Tell<'_>) -> Result<T, Error>,
) -> Result<T, Failure> {
    let cancel = cancel_on_ctrl_c();
    let mut bar = Bar::new(quiet);
    let done = work(&mut |done, total| {
        bar.show(done as u64, total as u64, what);
        match cancel.is_set() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.clear();
    done.map_err(|e| match e.kind() {
        ErrorKind::Cancelled => Failure::Cancelled,
        _ => Failure::Error(e),
    })
}

fn table(c: &Comparison) -> Outcome {
    let mut out = std::io::stdout().lock();
    let with_error = |e: Estimate, digits: usize| format!("{:.digits$} ± {:.digits$}", e.mean, e.error);
    writeln!(out, "{} canvases, {} masked slots", c.n_samples, c.n_slots)?;
    writeln!(out)?;
    writeln!(
        out,
        "mask ratio   slots          KL  agreement    loss A    loss B"
    )?;
    for r in &c.by_ratio {
        writeln!(
            out,
            "{:.1} to {:.1} {:>8}  {:>10.6}  {:>7.2} %  {:>8.4}  {:>8.4}",
            r.from,
            r.to,
            r.n,
            r.kl,
            r.agreement * 100.0,
            r.loss[0],
            r.loss[1]
        )?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "KL            {} nats a slot; 99 % below {:.4}, the largest {:.4}",
        with_error(c.kl, 6),
        c.kl_p99,
        c.kl_max
    )?;
    let percent = Estimate {
        mean: c.agreement.mean * 100.0,
        error: c.agreement.error * 100.0,
    };
    writeln!(
        out,
        "agreement     {} % of likeliest tokens",
        with_error(percent, 2)
    )?;
    writeln!(
        out,
        "bound         A {}, B {} nats a token",
        with_error(c.bound[0], 4),
        with_error(c.bound[1], 4)
    )?;
    writeln!(
        out,
        "B worse by    {} nats a token",
        with_error(c.bound_change, 5)
    )?;
    if c.n_generations > 0 {
        writeln!(
            out,
            "greedy        {:.1} % of tokens the same; {} of {} texts throughout",
            c.same_tokens * 100.0,
            c.same_generations,
            c.n_generations
        )?;
    }
    Ok(())
}

fn as_json(c: &Comparison, a: &Path, b: &Path, n_bytes: [u64; 2]) -> serde_json::Value {
    // JSON knows no NaN, which the error of a single sample is.
    let estimate = |e: Estimate| json!({"mean": e.mean, "error": Some(e.error).filter(|x| x.is_finite())});
    let rows = c.by_ratio.iter().map(|r| {
        json!({"from": r.from, "to": r.to, "slots": r.n, "kl": r.kl, "agreement": r.agreement,
            "loss_a": r.loss[0], "loss_b": r.loss[1]})
    });
    json!({
        "a": a.display().to_string(),
        "b": b.display().to_string(),
        "bytes_a": n_bytes[0],
        "bytes_b": n_bytes[1],
        "samples": c.n_samples,
        "slots": c.n_slots,
        "kl": estimate(c.kl),
        "kl_p99": c.kl_p99,
        "kl_max": c.kl_max,
        "agreement": estimate(c.agreement),
        "bound_a": estimate(c.bound[0]),
        "bound_b": estimate(c.bound[1]),
        "bound_change": estimate(c.bound_change),
        "by_ratio": rows.collect::<Vec<_>>(),
        "generations": c.n_generations,
        "same_generations": c.same_generations,
        "same_tokens": c.same_tokens,
    })
}
