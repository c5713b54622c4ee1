//! `remask quantize` and `remask convert`: what they share is the policy and the plan.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use remask::Error;
use remask::convert::{ConvertOptions, convert, plan_folder};
use remask::quantize::{
    Imatrix, Mix, Plan, PlannedTensor, Policy, Progress, QuantizeOptions, Reason, TypeOverride, plan_file,
    quantize,
};

use crate::args::{ConvertArgs, PackArgs, QuantizeArgs};
use crate::output::{Bar, Failure, Outcome, bytes, cancel_on_ctrl_c, invalid};

pub fn run_quantize(args: &QuantizeArgs, quiet: bool) -> Outcome {
    let (output, ty) = match args.rest.as_slice() {
        [ty] if args.pack.dry_run => (None, ty),
        [_, ty] if args.pack.dry_run => (None, ty),
        [output, ty] => (Some(Path::new(output)), ty),
        _ => return Err(invalid("give INPUT, OUTPUT and TYPE; --dry-run needs no OUTPUT")),
    };
    let options = QuantizeOptions {
        policy: policy(&args.pack, mix(ty)?)?,
        requantize: args.requantize,
        n_threads: args.pack.threads,
        overwrite: args.pack.force,
    };
    let explain = |e: Error| match e.message().contains("requantizing") {
        true => flag(e, "--requantize allows it"),
        false => e,
    };
    let Some(output) = output else {
        return show(&plan_file(&args.input, &options).map_err(explain)?);
    };
    let work = |progress: &mut Tell<'_>| quantize(&args.input, output, &options, progress);
    go(output, &args.pack, quiet, work, explain)
}

pub fn run_convert(args: &ConvertArgs, quiet: bool) -> Outcome {
    let options = ConvertOptions {
        policy: policy(&args.pack, mix(&args.ty)?)?,
        n_threads: args.pack.threads,
        overwrite: args.pack.force,
        name: args.name.clone(),
    };
    if args.pack.dry_run {
        return show(&plan_folder(&args.dir, &options)?);
    }
    let Some(output) = &args.output else {
        return Err(invalid("name an output file with -o, or give --dry-run"));
    };
    let work = |progress: &mut Tell<'_>| convert(&args.dir, output, &options, progress);
    go(output, &args.pack, quiet, work, |e| e)
}

type Tell<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

fn go(
    output: &Path,
    pack: &PackArgs,
    quiet: bool,
    work: impl FnOnce(&mut Tell<'_>) -> remask::Result<Plan>,
    explain: impl Fn(Error) -> Error,
) -> Outcome {
    let cancel = cancel_on_ctrl_c();
    let began = Instant::now();
    let mut bar = Bar::new(quiet);
    let done = work(&mut |p: Progress<'_>| {
        bar.show(p.done, p.total, p.tensor);
        if cancel.is_set() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.clear();
    let plan = match done {
        Ok(plan) => plan,
        Err(e) if e.kind() == remask::ErrorKind::Cancelled => return Err(Failure::Cancelled),
        // The flag by its name, beside what the library says.
        Err(e) if e.message().contains("exists;") && !pack.force => {
            return Err(flag(e, "--force replaces it").into());
        }
        Err(e) => return Err(explain(e).into()),
    };
    if !quiet {
        let seconds = began.elapsed().as_secs_f64();
        let mut err = std::io::stderr().lock();
        let _ = writeln!(
            err,
            "{}: {} tensors, {} -> {}, {:.2} bits a weight, {:.1} s ({:.2} GB/s read)",
            output.display(),
            plan.tensors.len(),
            bytes(plan.bytes_before()),
            bytes(plan.bytes_after()),
            bits_per_weight(&plan),
            seconds,
            plan.bytes_before() as f64 / 1e9 / seconds.max(1e-9)
        );
        let n = plan.fallbacks().count();
        if n > 0 {
            let first = plan.fallbacks().next().map(line).unwrap_or_default();
            let _ = match n {
                1 => writeln!(err, "one tensor fell back to another type: {first}"),
                n => writeln!(err, "{n} tensors fell back to another type, such as {first}"),
            };
        }
    }
    Ok(())
}

fn flag(e: Error, what: &str) -> Error {
    Error::new(e.kind(), format!("{} ({what})", e.message()))
}

fn mix(name: &str) -> Result<Mix, Failure> {
    match Mix::from_name(name) {
        Some(mix) => Ok(mix),
        None => {
            let names: Vec<_> = Mix::all().map(Mix::name).collect();
            Err(invalid(format!(
                "`{name}` is no type; there are {}",
                names.join(", ")
            )))
        }
    }
}

fn policy(args: &PackArgs, mix: Mix) -> Result<Policy, Failure> {
    let overrides: Result<Vec<_>, _> = args.tensor_type.iter().map(|t| TypeOverride::parse(t)).collect();
    let importance = match &args.imatrix {
        Some(path) => Some(Arc::new(Imatrix::read(path)?)),
        None => None,
    };
    Ok(Policy {
        mix,
        overrides: overrides?,
        pure: args.pure,
        importance,
    })
}

fn bits_per_weight(plan: &Plan) -> f64 {
    plan.bytes_after() as f64 * 8.0 / plan.n_weights().max(1) as f64
}

fn line(t: &PlannedTensor) -> String {
    let why = match &t.reason {
        Reason::Mix => String::new(),
        Reason::Override => " (asked for)".into(),
        Reason::Vector => " (kept)".into(),
        Reason::Fallback(wanted) => format!(
            " (instead of {}, whose blocks of {} do not divide rows of {})",
            wanted.name(),
            wanted.block_len(),
            t.spec.dims.first().copied().unwrap_or(0)
        ),
    };
    format!("{}: {} -> {}{why}", t.spec.name, t.from.name(), t.spec.ty.name())
}

/// The plan, one tensor a line.
fn show(plan: &Plan) -> Outcome {
    let mut out = std::io::stdout().lock();
    for t in &plan.tensors {
        writeln!(out, "{:>10}  {}", bytes(t.spec.n_bytes().unwrap_or(0)), line(t))?;
    }
    writeln!(
        out,
        "{:>10}  in all, {} before, {:.2} bits a weight; nothing was written",
        bytes(plan.bytes_after()),
        bytes(plan.bytes_before()),
        bits_per_weight(plan)
    )?;
    Ok(())
}
