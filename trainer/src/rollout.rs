//! Answers that the network being trained writes itself: the library's denoiser with an engine as its mask
//! predictor.

use remask::denoise::{Branch, CounterNoise, Predictor, Query, Run};
use remask::{Canvas, Params, Result, Token};

use crate::engine::Engine;
use crate::objective::Batch;
use crate::policy::PolicyConfig;

/// An engine as the denoiser sees it. With `shift` predictions are read one slot before their own.
struct Eyes<'a> {
    engine: &'a mut dyn Engine,
    shift: bool,
}

impl Predictor for Eyes<'_> {
    fn n_vocab(&self) -> usize {
        self.engine.shape().vocab_size
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        let length = queries.first().map_or(0, |q| q.tokens.len());
        let same = |q: &Query<'_>| q.tokens.len() == length && q.branch == Branch::Conditional;
        debug_assert!(
            queries.iter().all(same),
            "answers to one prompt are of one length"
        );
        let mut batch = Batch::look(
            length,
            queries.iter().flat_map(|q| q.tokens.iter().copied()).collect(),
            queries
                .iter()
                .enumerate()
                .flat_map(|(i, q)| q.rows.iter().map(move |r| (i * length) as u32 + r))
                .collect(),
        );
        if self.shift {
            batch.shift();
        }
        *logits = self.engine.logits(&batch)?;
        Ok(())
    }
}

/// Writes an answer to `prompt` for each seed.
///
/// - suppress: tokens that are never written
///
/// Returns the tokens of each, `config.tokens` of them.
///
/// # Errors
/// What engine and denoiser report.
pub fn write(
    engine: &mut dyn Engine,
    prompt: &[Token],
    config: &PolicyConfig,
    mask: Token,
    suppress: Vec<Token>,
    shift: bool,
    seeds: Vec<u64>,
) -> Result<Vec<Vec<Token>>> {
    let params = Params {
        steps: config.steps,
        block_length: config.block_length,
        temperature: config.temperature,
        suppress,
        seeds: seeds.clone(),
        ..Params::default()
    };
    let mut canvases = Vec::new();
    for _ in &seeds {
        let mut canvas = Canvas::new(mask);
        canvas.push_fixed(prompt);
        canvas.push_masked(config.tokens)?;
        canvases.push(canvas);
    }
    let mut eyes = Eyes { engine, shift };
    let mut run = Run::new(canvases, &params, eyes.n_vocab())?;
    let noise = CounterNoise::new(seeds, eyes.n_vocab());
    while !run.is_done() {
        run.step(&mut eyes, &noise, None)?;
    }
    let answers = run.into_canvases();
    Ok(answers
        .iter()
        .map(|c| c.tokens()[prompt.len()..].to_vec())
        .collect())
}
