//! What a smaller file of a model costs, measured on texts.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use super::sample::Sample;
use crate::canvas::Token;
use crate::denoise::{Branch, CacheUse, CounterNoise, Predictor, Query};
use crate::error::Result;
use crate::score::log_softmax_at;
use crate::session::Session;

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareParams {
    /// Masked versions of each sample, their ratios spread evenly over the interval.
    pub ratios: usize,
    /// Samples whose response (or second half) both models write greedily.
    pub generations: usize,
    /// Steps of a generation; 0 is one per token.
    pub steps: usize,
    /// Seed of the masks.
    pub seed: u64,
}

impl Default for CompareParams {
    fn default() -> Self {
        Self {
            ratios: 5,
            generations: 16,
            steps: 16,
            seed: 0,
        }
    }
}

/// A mean and its standard error, over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error; NaN for a single sample.
    pub error: f64,
}

impl Estimate {
    /// Of these values; NaN where there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Self {
            mean,
            error: (variance / n).sqrt(),
        }
    }
}

/// Predictions at masked slots, for one range of mask ratios.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RatioRow {
    /// The range, its upper end included.
    pub from: f64,
    /// See `from`.
    pub to: f64,
    /// Masked slots.
    pub n: usize,
    /// Mean Kullback-Leibler divergence from the first model's prediction to the second's, in nats.
    pub kl: f64,
    /// Share of slots whose likeliest token is the same.
    pub agreement: f64,
    /// Mean negative log probability of the true token, of both models, in nats.
    pub loss: [f64; 2],
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Samples and masked slots that were looked at.
    pub n_samples: usize,
    /// See `n_samples`.
    pub n_slots: usize,
    /// Mean KL divergence at masked slots, per sample, in nats.
    pub kl: Estimate,
    /// The 99th percentile over slots, and the largest.
    pub kl_p99: f64,
    /// See `kl_p99`.
    pub kl_max: f64,
    /// Share of masked slots whose likeliest token is the same.
    pub agreement: Estimate,
    /// The likelihood bound of both models, in nats per token (lower is better).
    pub bound: [Estimate; 2],
    /// How much worse the second model's is, per sample.
    pub bound_change: Estimate,
    /// By mask ratio.
    pub by_ratio: Vec<RatioRow>,
    /// Generations that were compared.
    pub n_generations: usize,
    /// Of them, how many are the same throughout.
    pub same_generations: usize,
    /// Share of generated slots with the same token.
    pub same_tokens: f64,
}

/// Ranges of mask ratios in the table.
const N_RANGES: usize = 5;

/// Compares the model of `b` with that of `a` on `samples`. `progress` hears of the parts done and may
/// break.
///
/// # Errors
/// `Model`, when they do not have one vocabulary and mask; what the sessions report; `Cancelled`.
pub fn compare(
    a: &mut Session,
    b: &mut Session,
    samples: &[Sample],
    params: &CompareParams,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Comparison> {
    check_same(a, b)?;
    let mask = a.model().mask_token();
    let n_vocab = a.n_vocab();
    let noise = CounterNoise::new(vec![params.seed], n_vocab);
    let n_generations = params.generations.min(samples.len());
    let total = samples.len() + n_generations;
    let mut tell = |done: usize| match progress(done, total) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => crate::bail!(Cancelled, "the comparison was cancelled"),
    };
    let mut table = Table::default();
    let [mut p, mut q] = [Vec::new(), Vec::new()];
    for (i, sample) in samples.iter().enumerate() {
        let mut each = PerSample::default();
        for canvas in sample.masked(i, params.ratios.max(1), mask, &noise) {
            let query = Query {
                sequence: 0,
                branch: Branch::Conditional,
                tokens: &canvas.tokens,
                rows: &canvas.masked,
                cache: CacheUse::Off,
            };
            a.predict(&[query], &mut p)?;
            b.predict(&[query], &mut q)?;
            let rows = p.chunks_exact(n_vocab).zip(q.chunks_exact(n_vocab));
            let slots = rows
                .zip(&canvas.targets)
                .map(|((p, q), &token)| Slot::of(p, q, token));
            let slots: Vec<Slot> = slots.collect();
            table.add(canvas.p_mask, &slots);
            each.add(&slots);
        }
        table.samples.push(each);
        tell(i + 1)?;
    }
    let mut found = table.finish();
    let mut same = [0usize; 2];
    for (i, sample) in samples.iter().take(n_generations).enumerate() {
        let texts = [
            sample.written(a, mask, params.steps, params.seed)?,
            sample.written(b, mask, params.steps, params.seed)?,
        ];
        let equal = texts[0].iter().zip(&texts[1]).filter(|(a, b)| a == b).count();
        same[0] += equal;
        same[1] += texts[0].len();
        found.same_generations += usize::from(equal == texts[0].len());
        tell(samples.len() + i + 1)?;
    }
    found.n_generations = n_generations;
    found.same_tokens = same[0] as f64 / same[1].max(1) as f64;
    Ok(found)
}

fn check_same(a: &Session, b: &Session) -> Result<()> {
    let [x, y] = [a.model(), b.model()];
    let vocabulary = |m: &crate::model::Model| {
        let t = m.tokenizer();
        (0..t.n_vocab() as Token).find(|&i| t.token_text(i) != y.tokenizer().token_text(i))
    };
    if x.sizes().n_vocab != y.sizes().n_vocab || x.mask_token() != y.mask_token() {
        crate::bail!(
            Model,
            "the files are not of one model: {} tokens and mask {}, {} tokens and mask {}",
            x.sizes().n_vocab,
            x.mask_token(),
            y.sizes().n_vocab,
            y.mask_token()
        );
    }
    if let Some(token) = vocabulary(x) {
        crate::bail!(
            Model,
            "the files are not of one model: token {token} is `{}` and `{}`",
            x.tokenizer().token_text(token).unwrap_or_default(),
            y.tokenizer().token_text(token).unwrap_or_default()
        );
    }
    Ok(())
}

/// One masked slot.
#[derive(Clone, Copy)]
struct Slot {
    kl: f64,
    same: bool,
    loss: [f64; 2],
}

impl Slot {
    fn of(p: &[f32], q: &[f32], token: Token) -> Self {
        let normaliser = |row: &[f32]| {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
            f64::from(max) + sum.ln()
        };
        let (zp, zq) = (normaliser(p), normaliser(q));
        let each = p.iter().zip(q).map(|(&a, &b)| {
            let (a, b) = (f64::from(a) - zp, f64::from(b) - zq);
            a.exp() * (a - b)
        });
        let best = |row: &[f32]| {
            let first = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
            row.iter().enumerate().max_by(first).map(|(i, _)| i)
        };
        Self {
            // Rounding may leave it a little below 0.
            kl: each.sum::<f64>().max(0.0),
            same: best(p) == best(q),
            loss: [-log_softmax_at(p, token), -log_softmax_at(q, token)],
        }
    }
}

/// Means over the masked canvases of a sample. With mask counts uniform over the answer's length, the
/// mean loss at masked slots is the bound per token (equation 6).
#[derive(Default)]
struct PerSample {
    n_canvases: usize,
    kl: f64,
    same: f64,
    loss: [f64; 2],
}

impl PerSample {
    fn add(&mut self, slots: &[Slot]) {
        let n = slots.len().max(1) as f64;
        self.n_canvases += 1;
        self.kl += slots.iter().map(|s| s.kl).sum::<f64>() / n;
        self.same += slots.iter().filter(|s| s.same).count() as f64 / n;
        for (k, loss) in self.loss.iter_mut().enumerate() {
            *loss += slots.iter().map(|s| s.loss[k]).sum::<f64>() / n;
        }
    }
}

#[derive(Default)]
struct Table {
    samples: Vec<PerSample>,
    rows: [RatioRow; N_RANGES],
    kls: Vec<f64>,
}

impl Table {
    fn add(&mut self, ratio: f64, slots: &[Slot]) {
        let range = ((ratio * N_RANGES as f64).ceil() as usize).clamp(1, N_RANGES) - 1;
        let row = &mut self.rows[range];
        for slot in slots {
            row.n += 1;
            row.kl += slot.kl;
            row.agreement += f64::from(u8::from(slot.same));
            row.loss[0] += slot.loss[0];
            row.loss[1] += slot.loss[1];
            self.kls.push(slot.kl);
        }
    }

    fn finish(mut self) -> Comparison {
        for (i, row) in self.rows.iter_mut().enumerate() {
            let n = row.n.max(1) as f64;
            row.from = i as f64 / N_RANGES as f64;
            row.to = (i + 1) as f64 / N_RANGES as f64;
            row.kl /= n;
            row.agreement /= n;
            row.loss = row.loss.map(|x| x / n);
        }
        self.kls.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let i = ((self.kls.len() as f64 * part).ceil() as usize).max(1) - 1;
            self.kls.get(i).copied().unwrap_or(0.0)
        };
        let over = |f: &dyn Fn(&PerSample) -> f64| {
            let means = self.samples.iter().map(|s| f(s) / s.n_canvases.max(1) as f64);
            Estimate::of(means)
        };
        Comparison {
            n_samples: self.samples.len(),
            n_slots: self.kls.len(),
            kl: over(&|s| s.kl),
            kl_p99: at(0.99),
            kl_max: at(1.0),
            agreement: over(&|s| s.same),
            bound: [over(&|s| s.loss[0]), over(&|s| s.loss[1])],
            bound_change: over(&|s| s.loss[1] - s.loss[0]),
            by_ratio: self.rows.into_iter().filter(|r| r.n > 0).collect(),
            ..Comparison::default()
        }
    }
}
