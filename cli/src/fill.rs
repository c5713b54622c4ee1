//! Runs a canvas through a session and shows it, for the commands that do so.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use remask::{
    CancelToken, Canvas, Error, ErrorKind, GenerateParams, LoadProgress, Model, Session, StepReport,
};
use serde_json::json;

use crate::args::{ModelArgs, ShowArgs};
use crate::output::{Failure, ProgressLine, bytes, note};
use crate::visual::Painter;

/// Opens the model with a progress line and makes a session on it.
pub fn open(args: &ModelArgs, quiet: bool) -> Result<Session, Failure> {
    open_file(&args.model, args, quiet)
}

/// As [`open`], of another file.
pub fn open_file(path: &Path, args: &ModelArgs, quiet: bool) -> Result<Session, Failure> {
    let mut line = ProgressLine::new(quiet);
    let mut progress = |p: LoadProgress| {
        line.show(|| format!("loading {} of {}", bytes(p.done), bytes(p.total)));
        ControlFlow::Continue(())
    };
    let model = Model::load_with_progress(path, &args.load_options(), &mut progress)?;
    line.clear();
    Ok(Session::new(&model, &args.session_options())?)
}

/// What a run is shown as.
pub struct Show {
    pub visual: bool,
    pub json: bool,
    pub quiet: bool,
    /// First slot of interest.
    pub from: usize,
    /// Time that each drawing stays.
    pub delay: Duration,
}

impl Show {
    pub fn new(args: &ShowArgs, quiet: bool, from: usize) -> Self {
        Self {
            visual: args.visual,
            json: args.json,
            quiet,
            from,
            delay: Duration::from_millis(args.delay),
        }
    }
}

/// Fills the canvas, showing steps as asked. On Ctrl-C the canvas keeps what was filled, and `true`
/// comes back.
pub fn run(
    session: &mut Session,
    canvas: &mut Canvas,
    params: &mut GenerateParams,
    show: &Show,
    cancel: &CancelToken,
) -> Result<bool, Failure> {
    params.cancel = Some(cancel.clone());
    let tokenizer = session.model().tokenizer().clone();
    let n_slots = canvas.len();
    let n_masked = canvas.n_masked();
    if show.json {
        event(&json!({"event": "start", "slots": n_slots, "masked": n_masked}))?;
    }
    let mut painter = show
        .visual
        .then(|| Painter::new(&tokenizer, show.from, show.delay));
    let mut line = ProgressLine::new(show.quiet || show.visual);
    let mut failed = None;
    let outcome = session.generate(canvas, params, |report, now| {
        let shown = match (&mut painter, show.json) {
            (Some(painter), _) => painter.draw(now, report),
            (None, true) => event(&step_event(report, &tokenizer)),
            (None, false) => {
                line.show(|| progress_text(report, n_masked));
                Ok(())
            }
        };
        match shown {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    line.clear();
    if let Some(error) = failed {
        return Err(error.into());
    }
    if let Some(painter) = &mut painter {
        painter.clear()?;
    }
    let summary = match outcome {
        Ok(summary) => summary,
        Err(error) if error.kind() == ErrorKind::Cancelled => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let seconds = summary.elapsed.as_secs_f64();
    let n_filled = n_masked.saturating_sub(canvas.n_masked() + n_slots.saturating_sub(canvas.len()));
    let speed = n_filled as f64 / seconds.max(1e-9);
    if show.json {
        let text = tokenizer.decode(canvas.tokens().get(show.from..).unwrap_or_default(), false);
        event(&json!({
            "event": "end", "text": text, "tokens": n_filled, "nfe": summary.nfe,
            "seconds": seconds, "tokens_per_second": speed,
        }))?;
    } else if !show.quiet {
        note!(
            "{n_filled} tokens in {} passes, {seconds:.2} s, {speed:.1} tokens/s",
            summary.nfe
        );
    }
    Ok(false)
}

fn progress_text(report: &StepReport, n_masked: usize) -> String {
    let Some(s) = report.sequences.first() else {
        return String::new();
    };
    format!(
        "step {}/{}, {} of {n_masked} tokens",
        s.step,
        s.n_steps,
        n_masked.saturating_sub(s.n_masked)
    )
}

fn step_event(report: &StepReport, tokenizer: &remask::text::Tokenizer) -> serde_json::Value {
    let Some(s) = report.sequences.first() else {
        return serde_json::Value::Null;
    };
    let changed: Vec<_> = s
        .changed
        .iter()
        .map(|c| {
            json!({"slot": c.slot, "token": c.token, "text": tokenizer.decode(&[c.token], true), "confidence": c.confidence})
        })
        .collect();
    json!({
        "event": "step", "step": s.step, "steps": s.n_steps, "block": [s.block.start, s.block.end],
        "changed": changed, "masked": s.n_masked, "nfe": report.nfe,
    })
}

/// Writes one event as a line.
pub fn event(value: &serde_json::Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

/// An error for a text that comes to nothing.
pub fn require_text(tokens: &[u32], what: &str) -> Result<(), Error> {
    if tokens.is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument, format!("{what} is empty")));
    }
    Ok(())
}
