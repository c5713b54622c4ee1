//! Attention in f32, in one pass over the keys and without a matrix of scores (online softmax: Milakov and
//! Gimelshein, arXiv 1805.02867; in tiles: FlashAttention, arXiv 2205.14135).
//!
//! First keys and values are laid out in tiles ([`lay_out`]): keys turned, so that those of a tile lie side by side;
//! values as they are, but near each other, since rows of many heads lie a power of two apart. Then each head
//! takes its queries in groups ([`Attention::attend`]): scores of a group with a tile of keys, their exponentials, and the
//! mixture of the tile's values, all of which stay in the first cache. The arithmetic has one order, so that
//! a result depends neither on the instructions nor on threads.
#![forbid(unsafe_code)]

use super::Level;
use crate::math::exp;

/// Keys of a tile.
pub(super) const KEYS: usize = 32;

/// Queries of one piece of work.
const QUERIES: usize = 32;

/// The largest head.
const MAX_ROT: usize = 256;

/// Numbers that are worked on together.
const LANES: usize = 16;

/// Sizes of an attention.
/// - q: `[n_q][n_head][n_rot]`; k, v: `[n_kv][n_head_kv][n_rot]`; result: as q
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionSizes {
    /// Size of a head.
    pub n_rot: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads, each for as many query heads.
    pub n_head_kv: usize,
    /// Queries.
    pub n_q: usize,
    /// Keys and values.
    pub n_kv: usize,
}

impl AttentionSizes {
    /// Whether [`Attention::attend`] can: heads of a multiple of 16 up to 256, nothing empty.
    pub fn suit(&self) -> bool {
        let all = [self.n_rot, self.n_head, self.n_head_kv, self.n_q, self.n_kv];
        all.iter().all(|&n| n > 0)
            && self.n_rot.is_multiple_of(LANES)
            && self.n_rot <= MAX_ROT
            && self.n_head.is_multiple_of(self.n_head_kv)
    }

    /// Numbers of q and of the result; `None` where that overflows.
    pub fn q_len(&self) -> Option<usize> {
        self.n_rot.checked_mul(self.n_head)?.checked_mul(self.n_q)
    }

    /// Numbers of k and of v.
    pub fn kv_len(&self) -> Option<usize> {
        self.n_rot.checked_mul(self.n_head_kv)?.checked_mul(self.n_kv)
    }

    /// Numbers of a tile: keys `[n_rot][32]`, values `[32][n_rot]`.
    pub fn tile_len(&self) -> usize {
        2 * self.n_rot * KEYS
    }

    /// Tiles: of each 32 keys one for every head.
    pub fn n_tiles(&self) -> usize {
        self.n_kv.div_ceil(KEYS) * self.n_head_kv
    }

    /// Pieces of work: of each 32 queries one for every head.
    pub fn n_pieces(&self) -> usize {
        self.n_q.div_ceil(QUERIES) * self.n_head
    }
}

/// A thread's work memory.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Room {
    /// Scaled queries `[group][n_rot][queries of a group]`.
    queries: [f32; QUERIES * MAX_ROT],
    /// Mixtures so far, `[query][n_rot]`.
    mixed: [f32; QUERIES * MAX_ROT],
    /// Of each query the largest score so far and the sum of exponentials.
    largest: [f32; QUERIES],
    total: [f32; QUERIES],
}

impl Room {
    pub const EMPTY: Self = Self {
        queries: [0.0; QUERIES * MAX_ROT],
        mixed: [0.0; QUERIES * MAX_ROT],
        largest: [0.0; QUERIES],
        total: [0.0; QUERIES],
    };
}

/// Lays tile `i` of keys and values out in `out`; those that are lacking are zeros.
///
/// # Panics
/// When a length is not that of the sizes.
pub fn lay_out(sizes: AttentionSizes, k: &[f32], v: &[f32], i: usize, out: &mut [f32]) {
    let AttentionSizes { n_rot, n_head_kv, .. } = sizes;
    assert!(Some(k.len()) == sizes.kv_len() && k.len() == v.len() && out.len() == sizes.tile_len());
    let (first, head) = (i / n_head_kv * KEYS, i % n_head_kv);
    let n = KEYS.min(sizes.n_kv - first);
    let at = |j: usize| ((first + j) * n_head_kv + head) * n_rot;
    let (keys, values) = out.split_at_mut(n_rot * KEYS);
    // Squares of 16, whose rows and columns both fill cache lines.
    for begin in (0..KEYS).step_by(LANES) {
        for d in (0..n_rot).step_by(LANES) {
            let mut square = [[0f32; LANES]; LANES];
            for (j, row) in square.iter_mut().enumerate().take(n.saturating_sub(begin)) {
                row.copy_from_slice(&k[at(begin + j) + d..][..LANES]);
            }
            for c in 0..LANES {
                let column: [f32; LANES] = std::array::from_fn(|j| square[j][c]);
                keys[(d + c) * KEYS + begin..][..LANES].copy_from_slice(&column);
            }
        }
    }
    for (j, value) in values.chunks_exact_mut(n_rot).enumerate() {
        match j < n {
            true => value.copy_from_slice(&v[at(j)..][..n_rot]),
            false => value.fill(0.0),
        }
    }
}

/// What [`Attention::attend`] reads.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// All sizes.
    pub sizes: AttentionSizes,
    /// Queries.
    pub q: &'a [f32],
    /// Keys and values: all tiles.
    pub tiles: &'a [f32],
    /// What scores are multiplied with.
    pub scale: f32,
}

impl Attention<'_> {
    /// Whether lengths are those of the sizes.
    pub fn fits(&self) -> bool {
        let tiles = self.sizes.n_tiles().checked_mul(self.sizes.tile_len());
        self.sizes.suit() && Some(self.q.len()) == self.sizes.q_len() && Some(self.tiles.len()) == tiles
    }

    /// Computes piece `i` and gives `row` the first number's place in the result and `n_rot` numbers of it, for each
    /// query. Where a score is not finite, nothing of its query is.
    pub(super) fn piece(&self, level: Level, i: usize, room: &mut Room, row: impl FnMut(usize, &[f32])) {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => self.compute::<8>(i, room, super::x86::attend_512),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni | Level::Avx2 => self.compute::<4>(i, room, super::x86::attend_256),
            _ => self.compute::<4>(i, room, |group| group.attend::<4>()),
        }
        self.give(i, room, row);
    }

    /// The queries of piece `i`, and its head.
    fn place(&self, i: usize) -> (std::ops::Range<usize>, usize) {
        let first = i / self.sizes.n_head * QUERIES;
        (
            first..(first + QUERIES).min(self.sizes.n_q),
            i % self.sizes.n_head,
        )
    }

    /// Piece `i`, in groups of `R` queries.
    fn compute<const R: usize>(&self, i: usize, room: &mut Room, attend: impl Fn(Group<'_>)) {
        let AttentionSizes {
            n_rot,
            n_head,
            n_head_kv,
            n_kv,
            ..
        } = self.sizes;
        let (rows, head) = self.place(i);
        let head_kv = head / (n_head / n_head_kv);
        let n_groups = rows.len().div_ceil(R);
        room.largest.fill(f32::NEG_INFINITY);
        room.total.fill(0.0);
        room.mixed[..n_groups * R * n_rot].fill(0.0);
        for r in 0..n_groups * R {
            // Groups are filled up with the last query.
            let at = ((rows.start + r.min(rows.len() - 1)) * n_head + head) * n_rot;
            let query = &self.q[at..at + n_rot];
            let group = &mut room.queries[r / R * (R * n_rot)..][..R * n_rot];
            for (to, x) in group.chunks_exact_mut(R).zip(query) {
                to[r % R] = x * self.scale;
            }
        }
        for first in (0..n_kv).step_by(KEYS) {
            let tile = (first / KEYS * n_head_kv + head_kv) * self.sizes.tile_len();
            let tile = &self.tiles[tile..tile + self.sizes.tile_len()];
            for group in 0..n_groups {
                let numbers = group * R * n_rot..(group + 1) * R * n_rot;
                attend(Group {
                    queries: &room.queries[numbers.clone()],
                    keys: &tile[..n_rot * KEYS],
                    values: &tile[n_rot * KEYS..],
                    n: KEYS.min(n_kv - first),
                    n_rot,
                    largest: &mut room.largest[group * R..(group + 1) * R],
                    total: &mut room.total[group * R..(group + 1) * R],
                    mixed: &mut room.mixed[numbers],
                });
            }
        }
        for (r, row) in room.mixed[..rows.len() * n_rot]
            .chunks_exact_mut(n_rot)
            .enumerate()
        {
            let share = 1.0 / room.total[r];
            row.iter_mut().for_each(|x| *x *= share);
        }
    }

    fn give(&self, i: usize, room: &Room, mut row: impl FnMut(usize, &[f32])) {
        let AttentionSizes { n_rot, n_head, .. } = self.sizes;
        let (rows, head) = self.place(i);
        for (r, mixed) in rows.zip(room.mixed.chunks_exact(n_rot)) {
            row((r * n_head + head) * n_rot, mixed);
        }
    }
}

/// A group of queries and a tile of keys and values.
/// - queries: `[n_rot][R]`, scaled; keys: `[n_rot][KEYS]`; values: `[KEYS][n_rot]`, of which there are `n`
/// - largest, total: `[R]`; mixed: `[R][n_rot]`
pub(super) struct Group<'a> {
    pub queries: &'a [f32],
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub n: usize,
    pub n_rot: usize,
    pub largest: &'a mut [f32],
    pub total: &'a mut [f32],
    pub mixed: &'a mut [f32],
}

impl Group<'_> {
    /// Adds the tile to the mixtures of `R` queries.
    #[inline(always)]
    pub fn attend<const R: usize>(mut self) {
        let mut weights = scores::<R>(self.queries, self.keys);
        self.weigh(&mut weights);
        mix::<R>(&weights, self.n, self.values, self.n_rot, self.mixed);
    }

    /// Makes weights of scores, and takes back the mixtures so far where a larger score has come.
    #[inline(always)]
    pub fn weigh<const R: usize>(&mut self, scores: &mut [[f32; KEYS]; R]) {
        for (r, scores) in scores.iter_mut().enumerate() {
            let grown = exponentials(scores, self.n, &mut self.largest[r], &mut self.total[r]);
            if grown != 1.0 {
                let mixed = &mut self.mixed[r * self.n_rot..][..self.n_rot];
                mixed.iter_mut().for_each(|x| *x *= grown);
            }
        }
    }
}

/// Scores of a group with a tile.
#[inline(always)]
fn scores<const R: usize>(queries: &[f32], keys: &[f32]) -> [[f32; KEYS]; R] {
    let mut scores = [[0f32; KEYS]; R];
    for begin in (0..KEYS).step_by(LANES) {
        let mut sums = [[0f32; LANES]; R];
        for (x, k) in queries.chunks_exact(R).zip(keys.chunks_exact(KEYS)) {
            let k = &k[begin..begin + LANES];
            for r in 0..R {
                for c in 0..LANES {
                    sums[r][c] = x[r].mul_add(k[c], sums[r][c]);
                }
            }
        }
        for r in 0..R {
            scores[r][begin..begin + LANES].copy_from_slice(&sums[r]);
        }
    }
    scores
}

/// Makes of `n` scores their exponentials, less the largest so far, and zeros of the others. Returns what to
/// multiply with what was made by the largest before.
#[inline(always)]
fn exponentials(scores: &mut [f32; KEYS], n: usize, largest: &mut f32, total: &mut f32) -> f32 {
    // In lanes and without branches, so that it vectorises. What is not finite makes NaN.
    let (mut most, mut bad) = ([f32::NEG_INFINITY; LANES], [0f32; LANES]);
    scores[n..].fill(0.0);
    for lanes in scores.chunks_exact(LANES) {
        for c in 0..LANES {
            bad[c] += 0.0 * lanes[c];
        }
    }
    scores[n..].fill(f32::NEG_INFINITY);
    for lanes in scores.chunks_exact(LANES) {
        for c in 0..LANES {
            most[c] = if lanes[c] > most[c] { lanes[c] } else { most[c] };
        }
    }
    let most = most.iter().fold(*largest, |a, &b| if b > a { b } else { a });
    let grown = exp(*largest - most);
    *largest = most;
    for x in scores.iter_mut() {
        *x = exp(*x - most);
    }
    scores[n..].fill(0.0);
    for lanes in scores.chunks_exact(LANES) {
        for c in 0..LANES {
            bad[c] += lanes[c];
        }
    }
    *total = *total * grown + bad.iter().sum::<f32>();
    grown
}

/// Adds `n` values in the weights of a group.
#[inline(always)]
fn mix<const R: usize>(
    weights: &[[f32; KEYS]; R],
    n: usize,
    values: &[f32],
    n_rot: usize,
    mixed: &mut [f32],
) {
    for d in (0..n_rot).step_by(LANES) {
        let mut sums = [[0f32; LANES]; R];
        for r in 0..R {
            sums[r].copy_from_slice(&mixed[r * n_rot + d..][..LANES]);
        }
        for j in 0..n {
            let v = &values[j * n_rot + d..][..LANES];
            for r in 0..R {
                for c in 0..LANES {
                    sums[r][c] = weights[r][j].mul_add(v[c], sums[r][c]);
                }
            }
        }
        for r in 0..R {
            mixed[r * n_rot + d..][..LANES].copy_from_slice(&sums[r]);
        }
    }
}
