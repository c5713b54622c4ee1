//! `remask convert`

use std::ops::ControlFlow;

use remask::convert::{ConvertOptions, OutputType, convert};

use crate::args::{ConvertArgs, TypeArg};
use crate::output::{Outcome, ProgressLine, bytes, cancel_on_ctrl_c};

pub fn run(args: &ConvertArgs, quiet: bool) -> Outcome {
    let ty = match args.ty {
        TypeArg::F32 => OutputType::F32,
        TypeArg::F16 => OutputType::F16,
        TypeArg::Bf16 => OutputType::Bf16,
    };
    let options = ConvertOptions {
        ty,
        overwrite: args.force,
        name: args.name.clone(),
    };
    let cancel = cancel_on_ctrl_c();
    let mut line = ProgressLine::new(quiet);
    let report = convert(&args.dir, &args.output, &options, &mut |p| {
        line.show(|| format!("{} of {}: {}", bytes(p.done), bytes(p.total), p.tensor));
        if cancel.is_set() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .map_err(|e| match e.kind() {
        // The flag by its name, beside what the library says.
        remask::ErrorKind::InvalidArgument if args.output.exists() && !args.force => remask::Error::new(
            e.kind(),
            format!("{} exists; --force replaces it", args.output.display()),
        ),
        _ => e,
    })?;
    line.clear();
    if !quiet {
        eprintln!(
            "{}: {} tensors, {}",
            args.output.display(),
            report.n_tensors,
            bytes(report.n_bytes)
        );
    }
    Ok(())
}
