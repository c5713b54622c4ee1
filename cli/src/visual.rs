//! The canvas as people see it: masked slots dim, new tokens bright.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use remask::text::{TokenKind, Tokenizer};
use remask::{Canvas, Slot, StepReport};
use unicode_width::UnicodeWidthStr;

const DIM: &str = "\x1b[2m";
const NEW: &str = "\x1b[1;32m";
const PLAIN: &str = "\x1b[0m";
/// What stands for a masked slot.
const MASK: &str = "\u{2591}";

/// How a stretch of the canvas is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Given,
    Filled,
    New,
    Masked,
}

/// Draws canvases one over the other on a terminal, one below the other elsewhere.
pub struct Painter {
    tokenizer: Tokenizer,
    /// First slot shown: what a template puts before the text is left out.
    from: usize,
    terminal: bool,
    width: usize,
    drawn_lines: usize,
    /// Time that each drawing stays on a terminal.
    delay: Duration,
}

impl Painter {
    /// A painter of slots from `from` on.
    pub fn new(tokenizer: &Tokenizer, from: usize, delay: Duration) -> Self {
        let width = terminal_size::terminal_size().map_or(80, |(w, _)| usize::from(w.0));
        let terminal = std::io::stdout().is_terminal();
        Self {
            tokenizer: tokenizer.clone(),
            from,
            terminal,
            width: width.max(20),
            drawn_lines: 0,
            delay,
        }
    }

    /// Shows the canvas after a step.
    pub fn draw(&mut self, canvas: &Canvas, report: &StepReport) -> std::io::Result<()> {
        let new: Vec<usize> = report
            .sequences
            .first()
            .map(|s| s.changed.iter().map(|c| c.slot).collect())
            .unwrap_or_default();
        let pieces = self.pieces(canvas, &new);
        let mut out = std::io::stdout().lock();
        if !self.terminal {
            let step = report.sequences.first().map_or((0, 0), |s| (s.step, s.n_steps));
            let text: String = pieces.iter().map(|(_, t)| t.replace('\n', "\\n")).collect();
            return writeln!(out, "step {}/{}: {text}", step.0, step.1);
        }
        self.erase(&mut out)?;
        let mut column = 0;
        self.drawn_lines = 0;
        for (look, text) in &pieces {
            let colour = match look {
                Look::Given => DIM,
                Look::New => NEW,
                Look::Filled => PLAIN,
                Look::Masked => DIM,
            };
            write!(out, "{PLAIN}{colour}")?;
            self.write_wrapped(&mut out, text, &mut column)?;
        }
        writeln!(out, "{PLAIN}")?;
        self.drawn_lines += 1;
        out.flush()?;
        std::thread::sleep(self.delay);
        Ok(())
    }

    /// Takes the drawing away again, so that the finished text can stand in its place.
    pub fn clear(&mut self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        self.erase(&mut out)?;
        out.flush()
    }

    fn erase(&mut self, out: &mut impl Write) -> std::io::Result<()> {
        if self.terminal && self.drawn_lines > 0 {
            write!(out, "\x1b[{}F\x1b[J", self.drawn_lines)?;
        }
        self.drawn_lines = 0;
        Ok(())
    }

    /// Wraps by itself, to know how many lines there are to go back.
    fn write_wrapped(&mut self, out: &mut impl Write, text: &str, column: &mut usize) -> std::io::Result<()> {
        for c in text.chars() {
            let mut buffer = [0; 4];
            let shown: &str = match c {
                '\n' => {
                    writeln!(out)?;
                    *column = 0;
                    self.drawn_lines += 1;
                    continue;
                }
                '\t' => " ",
                c if c.is_control() => "\u{FFFD}",
                c => c.encode_utf8(&mut buffer),
            };
            let width = shown.width();
            if *column + width > self.width {
                writeln!(out)?;
                *column = 0;
                self.drawn_lines += 1;
            }
            write!(out, "{shown}")?;
            *column += width;
        }
        Ok(())
    }

    /// Stretches of one look, decoded together so that characters of several tokens come out whole.
    fn pieces(&self, canvas: &Canvas, new: &[usize]) -> Vec<(Look, String)> {
        let look = |i: usize| match canvas.slots()[i] {
            Slot::Masked => Look::Masked,
            Slot::Fixed => Look::Given,
            Slot::Filled if new.contains(&i) => Look::New,
            Slot::Filled => Look::Filled,
        };
        let mut pieces = Vec::new();
        let mut begin = self.from.min(canvas.len());
        while begin < canvas.len() {
            let kind = look(begin);
            let end = (begin..canvas.len())
                .find(|&i| look(i) != kind)
                .unwrap_or(canvas.len());
            let text = match kind {
                Look::Masked => MASK.repeat(end - begin),
                _ => self.text(&canvas.tokens()[begin..end]),
            };
            pieces.push((kind, text));
            begin = end;
        }
        pieces
    }

    /// Text of filled tokens; end marks as a small square, so that they are seen.
    fn text(&self, tokens: &[u32]) -> String {
        let mut text = String::new();
        for run in tokens.chunk_by(|a, b| self.is_control(*a) == self.is_control(*b)) {
            if run.first().is_some_and(|&t| self.is_control(t)) {
                text.extend(run.iter().map(|_| '\u{25AB}'));
            } else {
                text.push_str(&self.tokenizer.decode(run, true));
            }
        }
        text
    }

    fn is_control(&self, token: u32) -> bool {
        self.tokenizer.token_kind(token) == Some(TokenKind::Control)
    }
}
