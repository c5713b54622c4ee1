//! Plain lines on stderr.

use std::io::Write;
use std::time::Instant;

use super::{clock, left, rate};
use crate::run::Event;

/// Lines for a file or a pipe.
pub struct Plain {
    quiet: bool,
    every: u64,
    /// Operations a second that a large product reaches; 0 where it is not known.
    peak: f64,
    losses: Vec<f64>,
    begun: Option<(Instant, u64)>,
}

impl Plain {
    /// A line for every `every` updates.
    pub fn new(quiet: bool, every: u64, peak: f64) -> Self {
        Self {
            quiet,
            every: every.max(1),
            peak,
            losses: Vec::new(),
            begun: None,
        }
    }

    /// Tells an event.
    pub fn tell(&mut self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        let mut err = std::io::stderr().lock();
        let _ = match event {
            Event::Started {
                n_parameters,
                config,
                step,
                ..
            } => {
                self.begun = Some((Instant::now(), *step));
                writeln!(
                    err,
                    "{:.2} million parameters, {} x {} tokens an update, {} of {} updates done",
                    *n_parameters as f64 / 1e6,
                    config.run.batch,
                    config.data.length,
                    step,
                    config.run.steps,
                )
            }
            Event::Step(s) => {
                self.losses.push(s.loss);
                if !s.step.is_multiple_of(self.every) && s.step != s.total {
                    return;
                }
                let mean = self.losses.iter().sum::<f64>() / self.losses.len() as f64;
                self.losses.clear();
                let score = s.score.map_or(String::new(), |s| format!("  score {s:.3}"));
                let share = match self.peak > 0.0 {
                    true => format!(" ({:.0} %)", 100.0 * s.flops / self.peak),
                    false => String::new(),
                };
                let left = self
                    .begun
                    .and_then(|(begin, before)| left(s.step, s.total, before, begin.elapsed().as_secs_f64()));
                writeln!(
                    err,
                    "{:>7}/{}  loss {mean:.4}{score}  |g| {:.2}  lr {:.2e}  {:.0} tokens/s  {}{share}  {} left",
                    s.step,
                    s.total,
                    s.grad_norm,
                    s.lr,
                    s.tokens_per_s,
                    rate(s.flops),
                    clock(left.unwrap_or(0.0))
                )
            }
            Event::Evaluated {
                step,
                bound,
                error,
                bits_per_byte,
            } => writeln!(
                err,
                "{step:>7}  held out: {bound:.4} ± {error:.4} nats a token, {bits_per_byte:.3} bits a byte"
            ),
            Event::Saved(path) => writeln!(err, "         {}", path.display()),
            Event::Wrote { text, .. } => writeln!(err, "         > {}", text.replace('\n', " ")),
            Event::Note(text) => writeln!(err, "         {text}"),
        };
    }
}
