//! `remask export`

use std::ops::ControlFlow;

use remask::convert::{ExportOptions, export};
use remask::{Error, ErrorKind};

use crate::args::ExportArgs;
use crate::output::{Bar, Failure, Outcome, bytes, cancel_on_ctrl_c, note};

pub fn run(args: &ExportArgs, quiet: bool) -> Outcome {
    let options = ExportOptions {
        overwrite: args.force,
        ..ExportOptions::default()
    };
    let cancel = cancel_on_ctrl_c();
    let mut bar = Bar::new(quiet);
    let done = export(&args.input, &args.dir, &options, &mut |p| {
        bar.show(p.done, p.total, p.tensor);
        if cancel.is_set() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.clear();
    let report = done.map_err(|e| match e.kind() {
        ErrorKind::Cancelled => Failure::Cancelled,
        // The flag by its name, beside what the library says.
        ErrorKind::InvalidArgument if e.message().contains("exists;") => {
            Error::new(e.kind(), format!("{} (--force allows it)", e.message())).into()
        }
        _ => e.into(),
    })?;
    if !quiet {
        note!(
            "{}: {} tensors, {}, in {}",
            args.dir.display(),
            report.n_tensors,
            bytes(report.n_bytes),
            report.files.join(", ")
        );
    }
    Ok(())
}
