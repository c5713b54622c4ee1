//! From logits to candidates: every row by itself, on several threads where that pays.
#![forbid(unsafe_code)]

use std::sync::Mutex;
use std::thread;

use super::confidence::{confidence, gap, negative_entropy};
use super::noise::Noise;
use super::params::{Commit, Order, Params};
use super::sample::{Draws, Scratch, adjust, candidate, peak};
use super::sequence::{Drawn, Sequence};
use crate::error::Result;

/// Logits for each thread below which making it costs more than it saves: one to ten milliseconds of work.
const SHARE: usize = 1 << 21;

/// A row's rank and candidate; `None` before it was drawn.
pub(super) type Outcome = Option<Result<(f32, Drawn)>>;

/// What all rows of a step have in common.
pub(super) struct Drawing<'a> {
    pub params: &'a Params,
    pub sequences: &'a [Sequence],
    pub noise: &'a dyn Noise,
}

impl Drawing<'_> {
    /// Draws and ranks a candidate for every row of `logits`, `[rows of all sequences, n_vocab]`. Outcomes are
    /// in the order of rows and the same for any number of threads; fewer are made where few are needed
    /// or the system makes no more.
    pub fn all(
        &self,
        logits: &mut [f32],
        n_vocab: usize,
        n_threads: usize,
        scratch: &mut Scratch,
        outcomes: &mut Vec<Outcome>,
    ) {
        let n_rows = self.sequences.iter().map(|s| s.rows.len()).sum();
        outcomes.clear();
        outcomes.resize_with(n_rows, || None);
        let n_threads = n_threads.min(n_rows).min(logits.len() / SHARE);
        let slots = |(i, s): (usize, &'_ Sequence)| (0..s.rows.len()).map(move |k| (i, k));
        let places = self.sequences.iter().enumerate().flat_map(slots);
        let work = places
            .zip(logits.chunks_exact_mut(n_vocab.max(1)))
            .zip(outcomes.iter_mut());
        if n_threads < 2 {
            return work.for_each(|((at, row), out)| *out = Some(self.one(at, row, scratch)));
        }
        let work = Mutex::new(work);
        let next = || work.lock().ok().and_then(|mut work| work.next());
        let draw = |scratch: &mut Scratch| {
            while let Some(((at, row), out)) = next() {
                *out = Some(self.one(at, row, scratch));
            }
        };
        thread::scope(|scope| {
            for _ in 1..n_threads {
                let named = thread::Builder::new().name("remask-draw".to_owned());
                if named
                    .spawn_scoped(scope, || draw(&mut Scratch::default()))
                    .is_err()
                {
                    break;
                }
            }
            draw(scratch);
        });
    }

    /// The candidate of row `k` of sequence `i`.
    fn one(&self, (i, k): (usize, usize), row: &mut [f32], scratch: &mut Scratch) -> Result<(f32, Drawn)> {
        let params = self.params;
        let s = &self.sequences[i];
        let slot = s.rows[k];
        let at = slot as usize;
        adjust(row, params, &s.on_canvas);
        for token in s.canvas.forbidden(at) {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let peak = peak(row, at)?;
        let draws = Draws {
            noise: self.noise,
            step: s.n_done,
            sequence: i,
            slot: at,
        };
        let token = candidate(row, peak, params, scratch, draws)?;
        let rank = match params.order {
            Order::Random | Order::Origin => self.noise.order(s.n_done, i, at),
            Order::LeftToRight => -(slot as f32),
            _ => confidence(row, peak, token, params),
        };
        let entropy = match params.commit {
            Commit::EntropyBound(_) => -negative_entropy(row, peak),
            _ => 0.0,
        };
        let gap = match params.early_commit {
            Some(_) => gap(row, peak),
            None => 0.0,
        };
        let drawn = Drawn {
            slot,
            token,
            entropy,
            gap,
        };
        Ok((rank, drawn))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Condvar;
    use std::thread::ThreadId;
    use std::time::Duration;

    use super::super::{CounterNoise, Predictor, Query, Run};
    use super::*;
    use crate::canvas::Canvas;

    const N_VOCAB: usize = 1 << 17;
    const N_SLOTS: usize = 40;

    struct Flat;

    impl Predictor for Flat {
        fn n_vocab(&self) -> usize {
            N_VOCAB
        }

        fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
            let rows = queries.iter().flat_map(|q| q.rows);
            logits.clear();
            rows.for_each(|&slot| {
                logits.extend((0..N_VOCAB).map(|i| ((i * 31 + slot as usize) % 997) as f32 * 0.01));
            });
            Ok(())
        }
    }

    /// Random order, whose threads wait until so many have come.
    struct Meeting {
        noise: CounterNoise,
        seen: Mutex<HashSet<ThreadId>>,
        n: usize,
        all: Condvar,
    }

    impl Noise for Meeting {
        fn slot(&self, step: usize, sequence: usize, slot: usize) -> Option<[f64; 2]> {
            self.noise.slot(step, sequence, slot)
        }

        fn gumbel(&self, step: usize, sequence: usize, slot: usize, token: usize) -> f64 {
            self.noise.gumbel(step, sequence, slot, token)
        }

        fn order(&self, step: usize, sequence: usize, slot: usize) -> f32 {
            let mut seen = self.seen.lock().unwrap();
            seen.insert(thread::current().id());
            self.all.notify_all();
            let patience = Duration::from_secs(60);
            let missing = |seen: &mut HashSet<_>| seen.len() < self.n;
            drop(self.all.wait_timeout_while(seen, patience, missing).unwrap());
            self.noise.order(step, sequence, slot)
        }
    }

    fn tokens(n_threads: usize, n_used: usize) -> Vec<u32> {
        let mut canvas = Canvas::new(0);
        canvas.push_masked(N_SLOTS).unwrap();
        let params = Params {
            order: Order::Random,
            steps: 1,
            ..Params::default()
        };
        let mut run = Run::new(vec![canvas], &params, N_VOCAB).unwrap();
        run.set_threads(n_threads);
        let noise = Meeting {
            noise: CounterNoise::new(vec![7], N_VOCAB),
            seen: Mutex::default(),
            n: n_used,
            all: Condvar::new(),
        };
        run.step(&mut Flat, &noise, None).unwrap();
        assert_eq!(noise.seen.lock().unwrap().len(), n_used);
        run.canvases().next().unwrap().tokens().to_vec()
    }

    #[test]
    fn threads_share_the_rows_and_change_nothing() {
        let alone = tokens(1, 1);
        assert!(alone.iter().all(|&t| t != 0));
        // 40 rows of 2^17 are work for two.
        assert_eq!(tokens(2, 2), alone);
        assert_eq!(tokens(16, 2), alone);
    }
}
