//! Random numbers by counter: a draw depends on the seed and on what it is for, not on what was drawn
//! before. So the same seed gives the same text for any number of threads, alone or in a batch, on a
//! CPU or a GPU.
#![forbid(unsafe_code)]

/// Uniform numbers for one run; several threads may ask for those of different slots at once.
///
/// Above temperature 0 a candidate is drawn by the two numbers of its slot, or, where there are none, by
/// one for each token. Both ways draw from softmax(logits / temperature).
pub trait Noise: Sync {
    /// For the draw of one slot by the inverse of the cumulative distribution: uniform in [0, 1) and
    /// independent. `None`, the default: by [`gumbel`](Self::gumbel), as the reference does.
    /// - step, sequence, slot: as there
    fn slot(&self, _step: usize, _sequence: usize, _slot: usize) -> Option<[f64; 2]> {
        None
    }

    /// For the Gumbel noise on one logit: uniform in [0, 1).
    /// - step: number of the step in the sequence's plan, from 0
    /// - sequence: index of the canvas in the run
    /// - slot: position in the canvas
    /// - token: column of the logits
    fn gumbel(&self, step: usize, sequence: usize, slot: usize, token: usize) -> f64;

    /// [`gumbel`](Self::gumbel) for columns `first ..`, as many as `out` has.
    fn gumbel_row(&self, [step, sequence, slot, first]: [usize; 4], out: &mut [f64]) {
        for (i, u) in out.iter_mut().enumerate() {
            *u = self.gumbel(step, sequence, slot, first + i);
        }
    }

    /// For random order: uniform in [0, 1).
    fn order(&self, step: usize, sequence: usize, slot: usize) -> f32;
}

/// The default: splitmix64's finaliser (Steele, Lea, Flood 2014) over a counter.
#[derive(Clone, Debug)]
pub struct CounterNoise {
    seeds: Vec<u64>,
    n_vocab: u64,
    /// Whether slots have no numbers of their own.
    by_token: bool,
}

impl CounterNoise {
    /// Noise for canvases with these seeds, one each. Equal seeds give equal noise: the index of a
    /// canvas does not enter.
    pub fn new(seeds: Vec<u64>, n_vocab: usize) -> Self {
        Self {
            seeds,
            n_vocab: n_vocab as u64,
            by_token: false,
        }
    }

    /// The same with a number for each token: draws are by Gumbel-max. They have the same law, take several
    /// times as long, and need the logits.
    pub fn gumbel_max(self) -> Self {
        Self {
            by_token: true,
            ..self
        }
    }

    /// Where a stream starts: itself hashed, so that neighbouring seeds and steps share nothing.
    fn start(&self, sequence: usize, stream: u64) -> u64 {
        let seed = self.seeds.get(sequence).copied().unwrap_or(0);
        mix(seed ^ mix(stream))
    }

    fn counter(&self, slot: usize, token: usize) -> u64 {
        (slot as u64)
            .wrapping_mul(self.n_vocab)
            .wrapping_add(token as u64)
    }
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Number `counter` of the stream that starts at `start`.
fn draw(start: u64, counter: u64) -> u64 {
    mix(start.wrapping_add(counter.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// splitmix64's finaliser.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The upper 53 bits as a number in [0, 1).
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

impl Noise for CounterNoise {
    fn slot(&self, step: usize, sequence: usize, slot: usize) -> Option<[f64; 2]> {
        // A run takes these or the tokens' numbers of the stream.
        let start = self.start(sequence, 2 * step as u64 + 1);
        let number = |i| unit(draw(start, (slot as u64).wrapping_mul(2).wrapping_add(i)));
        (!self.by_token).then(|| [number(0), number(1)])
    }

    fn gumbel(&self, step: usize, sequence: usize, slot: usize, token: usize) -> f64 {
        let start = self.start(sequence, 2 * step as u64 + 1);
        unit(draw(start, self.counter(slot, token)))
    }

    fn gumbel_row(&self, [step, sequence, slot, first]: [usize; 4], out: &mut [f64]) {
        let start = self.start(sequence, 2 * step as u64 + 1);
        let counter = self.counter(slot, first);
        for (i, u) in out.iter_mut().enumerate() {
            *u = unit(draw(start, counter.wrapping_add(i as u64)));
        }
    }

    fn order(&self, step: usize, sequence: usize, slot: usize) -> f32 {
        let start = self.start(sequence, 2 * step as u64 + 2);
        // 24 bits, so that rounding to f32 cannot give 1.
        (draw(start, slot as u64) >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_uncorrelated_across_what_they_are_for() {
        let noise = CounterNoise::new(vec![0, 1], 1000);
        let mut sums = [0.0f64; 4];
        let n = 20_000;
        for i in 0..n {
            let a = noise.gumbel(0, 0, i / 1000, i % 1000) - 0.5;
            let b = noise.gumbel(1, 0, i / 1000, i % 1000) - 0.5;
            let c = noise.gumbel(0, 1, i / 1000, i % 1000) - 0.5;
            for (sum, x) in sums.iter_mut().zip([a, a * a, a * b, a * c]) {
                *sum += x / n as f64;
            }
        }
        assert!(
            sums[0].abs() < 0.01 && (sums[1] - 1.0 / 12.0).abs() < 0.002,
            "{sums:?}"
        );
        assert!(sums[2].abs() < 0.003 && sums[3].abs() < 0.003, "{sums:?}");
    }

    #[test]
    fn a_slots_two_numbers_are_uniform_and_independent() {
        let noise = CounterNoise::new(vec![0, 1], 1000);
        let n = 100_000;
        let mut counts = [[0u32; 8]; 8];
        for i in 0..n {
            let u = noise.slot(i / 500, i % 2, i % 500).unwrap();
            assert!(u.iter().all(|u| (0.0..1.0).contains(u)));
            let [a, b] = u.map(|u| (u * 8.0) as usize);
            counts[a][b] += 1;
        }
        let expected = n as f64 / 64.0;
        let off = |&c: &u32| (f64::from(c) - expected).powi(2) / expected;
        let chi2: f64 = counts.iter().flatten().map(off).sum();
        // 63 degrees of freedom: above 103 once in a thousand.
        assert!(chi2 < 103.0, "{chi2}");
        assert!(noise.clone().gumbel_max().slot(0, 0, 0).is_none());
    }

    #[test]
    fn equal_seeds_give_equal_noise_in_any_place_of_a_batch() {
        let noise = CounterNoise::new(vec![7, 8, 7], 10);
        assert_eq!(noise.gumbel(3, 0, 4, 5), noise.gumbel(3, 2, 4, 5));
        assert_ne!(noise.gumbel(3, 0, 4, 5), noise.gumbel(3, 1, 4, 5));
        assert_eq!(noise.order(3, 0, 4), noise.order(3, 2, 4));
        assert_eq!(noise.slot(3, 0, 4), noise.slot(3, 2, 4));
        assert_ne!(noise.slot(3, 0, 4), noise.slot(3, 1, 4));
    }

    #[test]
    fn a_row_is_its_draws() {
        let noise = CounterNoise::new(vec![7, 8], 1000);
        let mut row = [0.0; 37];
        noise.gumbel_row([5, 1, 6, 20], &mut row);
        for (i, u) in row.into_iter().enumerate() {
            assert_eq!(u, noise.gumbel(5, 1, 6, 20 + i));
        }
    }
}
