//! `remask infill`

use std::io::Write;

use remask::text::{Piece, Special, parse_holes};
use remask::{Canvas, GenerateParams, Params, Session};

use crate::args::InfillArgs;
use crate::fill::{self, Show};
use crate::generate::filled;
use crate::output::{Failure, Outcome, cancel_on_ctrl_c, invalid};

pub fn run(args: &InfillArgs, quiet: bool) -> Outcome {
    let pieces = parse_holes(&args.text)?;
    if args.max_hole == 0 {
        return Err(invalid("--max-hole is 0; it must be 1 or more"));
    }
    let mut session = fill::open(&args.model, quiet)?;
    let model = session.model().clone();
    let mut parts = Vec::new();
    for piece in &pieces {
        parts.push(match piece {
            Piece::Text(text) => Part::Fixed(model.tokenizer().encode(text, Special::AsText)?),
            Piece::Hole(n) => Part::Masked(*n),
            Piece::Open => Part::Masked(args.max_hole),
        });
    }
    let bos = model
        .tokenizer()
        .specials()
        .bos
        .filter(|_| model.tokenizer().add_bos());
    for (i, _) in pieces.iter().enumerate().filter(|(_, p)| **p == Piece::Open) {
        let n = best_length(&mut session, bos, &mut parts, i, args.max_hole)?;
        parts[i] = Part::Masked(n);
    }
    let mut canvas = layout(bos, &parts, model.mask_token())?;
    let mut params = GenerateParams {
        denoise: Params {
            block_length: args.policy.block_length.unwrap_or(0),
            // A preset's window is for text that is open at the end.
            suffix_window: args.policy.suffix_window,
            ..args.policy.params()
        },
        ..GenerateParams::default()
    };
    let from = usize::from(bos.is_some());
    let cancel = cancel_on_ctrl_c();
    let show = Show::new(&args.show, quiet, from);
    let cancelled = fill::run(&mut session, &mut canvas, &mut params, &show, &cancel)?;
    if !args.show.json {
        let tokens = canvas.tokens().get(from..).unwrap_or_default();
        writeln!(
            std::io::stdout(),
            "{}",
            model.tokenizer().decode(&filled(&model, tokens), false)
        )?;
    }
    if cancelled {
        Err(Failure::Cancelled)
    } else {
        Ok(())
    }
}

/// A stretch of the canvas.
enum Part {
    Fixed(Vec<u32>),
    Masked(usize),
}

fn layout(bos: Option<u32>, parts: &[Part], mask: u32) -> Result<Canvas, Failure> {
    let mut canvas = Canvas::new(mask);
    canvas.push_fixed(bos.as_slice());
    for part in parts {
        match part {
            Part::Fixed(tokens) => canvas.push_fixed(tokens),
            Part::Masked(n) => canvas.push_masked(*n)?,
        }
    }
    Ok(canvas)
}

/// The length of hole `i` of which the model is surest at first sight: the one with the largest mean
/// log-probability of the best token over the hole's slots. One forward pass per length.
fn best_length(
    session: &mut Session,
    bos: Option<u32>,
    parts: &mut [Part],
    i: usize,
    longest: usize,
) -> Result<usize, Failure> {
    let mask = session.model().mask_token();
    let n_vocab = session.model().sizes().n_vocab;
    let before = |parts: &[Part]| -> usize {
        parts[..i]
            .iter()
            .map(|p| match p {
                Part::Fixed(t) => t.len(),
                Part::Masked(n) => *n,
            })
            .sum()
    };
    let begin = usize::from(bos.is_some()) + before(parts);
    let mut best = (f64::NEG_INFINITY, 1);
    let mut logits = Vec::new();
    for n in 1..=longest {
        parts[i] = Part::Masked(n);
        let canvas = layout(bos, parts, mask)?;
        let rows: Vec<u32> = (begin..begin + n).map(|slot| slot as u32).collect();
        session.logits(canvas.tokens(), &rows, &mut logits)?;
        let score = logits.chunks_exact(n_vocab).map(log_of_best).sum::<f64>() / n as f64;
        if score > best.0 {
            best = (score, n);
        }
    }
    Ok(best.1)
}

/// Log-probability of the likeliest token.
fn log_of_best(row: &[f32]) -> f64 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    -row.iter()
        .map(|&x| f64::from(x - largest).exp())
        .sum::<f64>()
        .ln()
}
