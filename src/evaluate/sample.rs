//! From texts to canvases.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::data::Record;
use crate::canvas::{Canvas, Token};
use crate::denoise::{CounterNoise, Params, Predictor, Run};
use crate::error::Result;
use crate::model::Model;
use crate::score::{Noised, mask_counts, noised};
use crate::text::{ChatMessage, Special};

/// Tokens, and which of them the forward process may mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Token of every slot.
    pub tokens: Vec<Token>,
    /// The slots that may be masked: the whole of a text, the response of a pair.
    pub answer: Range<usize>,
}

impl Sample {
    /// It as sample number `i`, masked `ratios` times at ratios that cover the interval evenly.
    pub(super) fn masked(
        &self,
        i: usize,
        ratios: usize,
        mask: Token,
        noise: &CounterNoise,
    ) -> impl Iterator<Item = Noised> {
        let len = self.answer.len();
        let counts = mask_counts(len, ratios, 1 + i % len)
            .into_iter()
            .take(ratios)
            .enumerate();
        counts.map(move |(j, count)| {
            let step = i * ratios + j;
            noised(&self.tokens, self.answer.clone(), count, mask, noise, step)
        })
    }

    /// What `predictor` writes greedily, in `steps` steps (0: one per token), for the answer, or for the
    /// second half where all is answer.
    pub(super) fn written(
        &self,
        predictor: &mut dyn Predictor,
        mask: Token,
        steps: usize,
        seed: u64,
    ) -> Result<Vec<Token>> {
        let begin = match self.answer.start {
            0 => self.answer.len() / 2,
            begin => begin,
        };
        let mut canvas = Canvas::new(mask);
        canvas.push_fixed(&self.tokens[..begin]);
        canvas.push_masked(self.tokens.len() - begin)?;
        let policies = Params {
            steps: steps.min(canvas.n_masked()),
            seed,
            ..Params::default()
        };
        let n_vocab = predictor.n_vocab();
        let noise = CounterNoise::new(vec![seed], n_vocab);
        let mut run = Run::new(vec![canvas], &policies, n_vocab)?;
        while !run.is_done() {
            run.step(predictor, &noise, None)?;
        }
        let canvas = run.into_canvases().pop();
        Ok(canvas.map(|c| c.tokens()[begin..].to_vec()).unwrap_or_default())
    }
}

/// Fewest tokens that a cut-off end must have to be used.
const SHORTEST: usize = 16;

/// Cuts `records` into canvases of at most `length` slots, until there are `limit`. Texts are cut one
/// canvas after the other; pairs go through the chat template, if the model has one, and are passed over
/// where they do not fit.
///
/// # Errors
/// What the records or the tokenizer report; `Data`, when nothing is left; `InvalidArgument`, when the
/// length is more than the model takes.
pub fn samples(
    model: &Model,
    records: impl Iterator<Item = Result<Record>>,
    length: usize,
    limit: usize,
) -> Result<Vec<Sample>> {
    let n_ctx = model.sizes().n_ctx;
    if length < 2 || length > n_ctx {
        crate::bail!(
            InvalidArgument,
            "a canvas of {length} slots; this model takes 2 to {n_ctx}"
        );
    }
    let mut samples = Vec::new();
    for record in records {
        match record? {
            Record::Text(text) => {
                let tokens = model.tokenizer().encode(&text, Special::AsText)?;
                let long = |part: &&[Token]| part.len() >= SHORTEST.min(length);
                samples.extend(tokens.chunks(length).filter(long).map(|part| Sample {
                    tokens: part.to_vec(),
                    answer: 0..part.len(),
                }));
            }
            Record::Pair { prompt, response } => {
                let tokens = pair(model, &prompt, &response)?;
                samples.extend(Some(tokens).filter(|s| s.tokens.len() <= length && !s.answer.is_empty()));
            }
        }
        if samples.len() >= limit {
            samples.truncate(limit);
            break;
        }
    }
    if samples.is_empty() {
        crate::bail!(
            Data,
            "no text of it makes a canvas: texts have fewer than {SHORTEST} tokens, or pairs more than {length}"
        );
    }
    Ok(samples)
}

fn pair(model: &Model, prompt: &str, response: &str) -> Result<Sample> {
    let tokenizer = model.tokenizer();
    let specials = tokenizer.specials();
    let mut tokens = match model.chat_template() {
        Some(template) => {
            let messages = [ChatMessage::new("user", prompt)];
            template.encode(tokenizer, &messages, &model.chat_options(true))?
        }
        None => tokenizer.encode(prompt, Special::AsText)?,
    };
    let begin = tokens.len();
    tokens.extend(tokenizer.encode(response, Special::AsText)?);
    // Responses were trained with their end.
    tokens.extend(specials.eos);
    Ok(Sample {
        answer: begin..tokens.len(),
        tokens,
    })
}
