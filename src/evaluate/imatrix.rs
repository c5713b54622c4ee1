//! An importance matrix for a mask predictor.
//!
//! What such a model sees is not clean text but canvases with masks, few or many, and canvases half
//! written by itself. So activations are collected on both: on texts masked at ratios that cover the
//! interval evenly, and while responses are denoised.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::sample::Sample;
use crate::denoise::{Branch, CacheUse, CounterNoise, Predictor, Query};
use crate::error::Result;
use crate::quantize::{Imatrix, ImatrixEntry};
use crate::session::Session;

/// What is run.
#[derive(Clone, Debug, PartialEq)]
pub struct ImatrixParams {
    /// Masked versions of each canvas.
    pub ratios: usize,
    /// Steps in which the second half of each canvas (the response of a pair) is denoised; 0 is not.
    pub denoise_steps: usize,
    /// Whether the head gets an entry too. llama.cpp leaves it out.
    pub head: bool,
    /// Seed of the masks.
    pub seed: u64,
}

impl Default for ImatrixParams {
    fn default() -> Self {
        Self {
            ratios: 4,
            denoise_steps: 4,
            head: false,
            seed: 0,
        }
    }
}

#[derive(Default)]
struct Sums {
    squares: Vec<f64>,
    n_rows: u64,
}

/// Runs `samples` through `session` and adds up what goes into each matrix. `progress` hears of the
/// samples done and may break.
///
/// # Errors
/// What the session reports; `Cancelled`.
pub fn collect_imatrix(
    session: &mut Session,
    samples: &[Sample],
    dataset: &str,
    params: &ImatrixParams,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Imatrix> {
    let mask = session.model().mask_token();
    let sums: RefCell<BTreeMap<String, Sums>> = RefCell::default();
    let add = |name: &str, n_rows: usize, squares: &[f32]| {
        let mut sums = sums.borrow_mut();
        let entry = match sums.get_mut(name) {
            Some(entry) => entry,
            None => sums.entry(name.to_owned()).or_default(),
        };
        entry.squares.resize(squares.len(), 0.0);
        for (sum, &x) in entry.squares.iter_mut().zip(squares) {
            *sum += f64::from(x);
        }
        entry.n_rows += n_rows as u64;
    };
    let mut observer = session.observer(Box::new(add));
    let noise = CounterNoise::new(vec![params.seed], observer.n_vocab());
    let mut logits = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        for canvas in sample.masked(i, params.ratios, mask, &noise) {
            let query = Query {
                sequence: 0,
                branch: Branch::Conditional,
                tokens: &canvas.tokens,
                rows: &canvas.masked,
                cache: CacheUse::Off,
            };
            observer.predict(&[query], &mut logits)?;
        }
        if params.denoise_steps > 0 {
            sample.written(&mut observer, mask, params.denoise_steps, params.seed)?;
        }
        if progress(i + 1, samples.len()).is_break() {
            crate::bail!(Cancelled, "the collection was cancelled; nothing was written");
        }
    }
    drop(observer);
    let entries = sums.into_inner().into_iter();
    let wanted = |name: &str| name.starts_with("blk.") || (params.head && name == "output.weight");
    let entries = entries.filter(|(name, _)| wanted(name)).map(|(name, s)| {
        let entry = ImatrixEntry {
            sums: s.squares.iter().map(|&x| x as f32).collect(),
            counts: vec![s.n_rows as f32],
        };
        (name, entry)
    });
    let longest = samples.iter().map(|s| s.tokens.len()).max().unwrap_or(0);
    Ok(Imatrix {
        datasets: vec![dataset.to_owned()],
        n_chunks: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        chunk_size: u32::try_from(longest).unwrap_or(u32::MAX),
        entries: entries.collect(),
    })
}
