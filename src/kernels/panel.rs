//! One panel of a product: blocking, bounds, and where results go. The kernels below rely on what is
//! proved here.

use std::marker::PhantomData;

use super::Level;
#[cfg(target_arch = "aarch64")]
use super::arm as simd;
use super::attention::{Attention, Room};
use super::format::{Format, GROUP};
use super::pack::{FACT_BYTES, TILE, packed_bytes, tile_bytes};
#[cfg(target_arch = "x86_64")]
use super::x86 as simd;
use crate::error::Result;

/// Rows of weights that are unpacked and multiplied together.
pub const PANEL: usize = 32;

/// Weights of a row that are unpacked together: a multiple of every block.
pub(super) const DEPTH: usize = 512;

/// Rows of activations between two unpackings of a panel.
const SPAN: usize = 512;

/// A thread's work memory.
///
/// All of it begins at cache lines: a vector of 64 bytes that does not lies in two, and is stored in two.
pub struct Scratch {
    codes: Vec<Line<u8, 64>>,
    scales: Vec<Line<f32, 16>>,
    mins: Vec<Line<f32, 16>>,
    sums: Vec<Line<f32, 16>>,
    /// One.
    room: Vec<Room>,
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line<T, const N: usize>([T; N]);

/// The numbers of lines.
fn flat(lines: &mut [Line<f32, 16>]) -> &mut [f32] {
    // SAFETY: a line is 16 numbers without padding: its size is its alignment.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 16) }
}

impl Scratch {
    /// Work memory for one thread.
    ///
    /// # Errors
    /// `Resource`.
    pub fn new() -> Result<Self> {
        const WHAT: &str = "a product's work memory";
        use crate::error::try_vec;
        Ok(Self {
            codes: try_vec(DEPTH * PANEL / 64, Line([0; 64]), WHAT)?,
            scales: try_vec(DEPTH / 16 * PANEL / 16, Line([0.0; 16]), WHAT)?,
            mins: try_vec(DEPTH / GROUP * PANEL / 16, Line([0.0; 16]), WHAT)?,
            sums: try_vec(SPAN * PANEL / 16, Line([0.0; 16]), WHAT)?,
            room: try_vec(1, Room::EMPTY, WHAT)?,
        })
    }
}

/// Rows of weights, and which part of each is to be unpacked.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// 1 to 32 whole rows.
    pub bytes: &'a [u8],
    pub row_bytes: usize,
    /// Byte of each row at which the piece begins: a block's.
    pub block: usize,
    pub n_groups: usize,
}

impl Panel<'_> {
    /// Asserts that each row holds what is read of it, and that the piece fits its places.
    pub fn check(&self, format: Format, codes: &[u8], scales: &[f32], mins: &[f32]) {
        let (bytes, n) = (self.bytes.len(), self.n_groups);
        assert!(self.row_bytes > 0 && bytes > 0 && bytes.is_multiple_of(self.row_bytes));
        assert!(n.is_multiple_of(format.block_len() / GROUP));
        assert!(self.block + format.row_bytes(n * GROUP) <= self.row_bytes);
        assert!(codes.len() >= n * 1024 && scales.len() >= n * 64 && mins.len() >= n * 32);
    }
}

/// A piece of a panel, unpacked: what kernels read.
/// - codes: `[n / 4][32 rows][4]`; scales: `[n / 32][32]` or `[n / 16][32]`; mins: `[n / 32][32]`
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub codes: *const u8,
    pub scales: *const f32,
    pub mins: *const f32,
    pub n_groups: usize,
}

/// Up to 8 rows of activations over the same depth, and the sums that they add to.
/// - codes: at the piece's first code of the tile; facts: at its first group
/// - sums: `[8][32]`
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub codes: *const u8,
    pub facts: *const u8,
    pub sums: *mut f32,
    pub n_rows: usize,
}

/// Where a product goes, to be filled by several threads: row-major `[n_rows, n_out]`.
pub struct Output<'a> {
    data: *mut f32,
    len: usize,
    _lives: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads write through it at places of their own: see `Product::panel`.
unsafe impl Send for Output<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Borrows `data` until all panels are written.
    pub fn new(data: &'a mut [f32]) -> Self {
        Self {
            data: data.as_mut_ptr(),
            len: data.len(),
            _lives: PhantomData,
        }
    }

    /// As [`new`](Self::new), of `len` numbers that may hold anything.
    ///
    /// # Safety
    /// They are writable for the life of the result, and nothing else reads or writes them.
    pub unsafe fn from_raw(data: *mut f32, len: usize) -> Self {
        Self {
            data,
            len,
            _lives: PhantomData,
        }
    }

    /// # Safety
    /// No other thread writes to these places at the same time.
    unsafe fn write(&self, at: usize, values: &[f32]) {
        assert!(at.checked_add(values.len()).is_some_and(|end| end <= self.len));
        // SAFETY: inside the slice that `new` borrowed: asserted above.
        let place = unsafe { self.data.add(at) };
        // SAFETY: as above; no one else is at this place by the caller's contract.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), place, values.len()) };
    }
}

impl Attention<'_> {
    /// Computes piece `i`: up to 32 queries of one head.
    ///
    /// # Safety
    /// No other thread computes the same piece into the same output at the same time.
    ///
    /// # Panics
    /// When there is no such piece, lengths do not fit the sizes, or the processor has no such instructions.
    pub unsafe fn attend(&self, level: Level, i: usize, out: &Output<'_>, scratch: &mut Scratch) {
        assert!(self.fits() && i < self.sizes.n_pieces() && self.sizes.q_len() == Some(out.len));
        self.piece(level, i, &mut scratch.room[0], |at, values| {
            // SAFETY: this thread alone has the piece, and with it these rows of its head.
            unsafe { out.write(at, values) };
        });
    }
}

/// A product of weights and packed rows, its sizes proved against each other.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    level: Level,
    format: Format,
    weights: &'a [u8],
    packed: &'a [u8],
    n_k: usize,
    n_out: usize,
    n_rows: usize,
}

impl<'a> Product<'a> {
    /// Weights of `n_out` rows of `n_k`, and `n_rows` rows packed by [`pack_tile`](super::pack_tile).
    /// `None` when the sizes do not fit each other or the processor has no such instructions.
    pub fn new(
        level: Level,
        format: Format,
        weights: &'a [u8],
        packed: &'a [u8],
        [n_k, n_out, n_rows]: [usize; 3],
    ) -> Option<Self> {
        let blocks = n_k > 0 && n_k.is_multiple_of(format.block_len());
        let fits = blocks
            && format.row_bytes(n_k).checked_mul(n_out) == Some(weights.len())
            && packed_bytes(n_k, n_rows) == Some(packed.len())
            && n_out.checked_mul(n_rows).is_some();
        (fits && level.is_available()).then_some(Self {
            level,
            format,
            weights,
            packed,
            n_k,
            n_out,
            n_rows,
        })
    }

    /// The number of panels; each is computed once, by any thread.
    pub fn n_panels(&self) -> usize {
        self.n_out.div_ceil(PANEL)
    }

    /// Computes panel `i`: columns `32 * i ..` of every row of `out`.
    ///
    /// # Safety
    /// No other thread computes the same panel into the same output at the same time.
    ///
    /// # Panics
    /// When there is no such panel, or `out` is not of `n_rows * n_out`.
    pub unsafe fn panel(&self, i: usize, out: &Output<'_>, scratch: &mut Scratch) {
        assert!(i < self.n_panels() && out.len == self.n_rows * self.n_out);
        let columns = i * PANEL..(i * PANEL + PANEL).min(self.n_out);
        let row_bytes = self.format.row_bytes(self.n_k);
        let weights = &self.weights[columns.start * row_bytes..columns.end * row_bytes];
        for begin in (0..self.n_rows).step_by(SPAN) {
            let end = (begin + SPAN).min(self.n_rows);
            flat(&mut scratch.sums)[..(end - begin).next_multiple_of(TILE) * PANEL].fill(0.0);
            for k in (0..self.n_k).step_by(DEPTH) {
                let depth = DEPTH.min(self.n_k - k);
                self.piece(weights, k, depth, begin..end, scratch);
            }
            for row in begin..end {
                let sums = &flat(&mut scratch.sums)[(row - begin) * PANEL..][..columns.len()];
                // SAFETY: this thread alone has the panel, and with it these columns.
                unsafe { out.write(row * self.n_out + columns.start, sums) };
            }
        }
    }

    /// Adds the products over weights `k .. k + depth` of a panel's rows and activations `rows`.
    fn piece(
        &self,
        weights: &[u8],
        k: usize,
        depth: usize,
        rows: std::ops::Range<usize>,
        scratch: &mut Scratch,
    ) {
        let row_bytes = self.format.row_bytes(self.n_k);
        let (n_groups, block) = (depth / GROUP, self.format.row_bytes(k));
        // What the kernels read and write: 32 rows of `depth` codes, a multiple of a block, fit the
        // scratch, and the weights are whole rows.
        assert!(depth <= DEPTH && depth.is_multiple_of(self.format.block_len()) && k + depth <= self.n_k);
        assert!(rows.start.is_multiple_of(TILE) && rows.end <= self.n_rows && rows.len() <= SPAN);
        assert!(weights.len().is_multiple_of(row_bytes) && weights.len() <= PANEL * row_bytes);
        let codes: *mut u8 = scratch.codes.as_mut_ptr().cast();
        let piece = Piece {
            codes,
            scales: scratch.scales.as_ptr().cast(),
            mins: scratch.mins.as_ptr().cast(),
            n_groups,
        };
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        simd::unpack(
            self.level,
            self.format,
            Panel {
                bytes: weights,
                row_bytes,
                block,
                n_groups,
            },
            // SAFETY: the lines are plain bytes, DEPTH * PANEL of them, borrowed uniquely.
            unsafe { std::slice::from_raw_parts_mut(codes, DEPTH * PANEL) },
            flat(&mut scratch.scales),
            flat(&mut scratch.mins),
        );
        for row in rows.clone().step_by(TILE) {
            let tile = &self.packed[row / TILE * tile_bytes(self.n_k)..][..tile_bytes(self.n_k)];
            let (codes, facts) = tile.split_at(self.n_k * TILE);
            let codes = &codes[k * TILE..][..depth * TILE];
            let facts = &facts[k / GROUP * FACT_BYTES..][..n_groups * FACT_BYTES];
            let sums = &mut flat(&mut scratch.sums)[(row - rows.start) * PANEL..][..TILE * PANEL];
            let tile = Rows {
                codes: codes.as_ptr(),
                facts: facts.as_ptr(),
                sums: sums.as_mut_ptr(),
                n_rows: TILE.min(rows.end - row),
            };
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            // SAFETY: the piece holds `n_groups` unpacked groups of 32 rows; the slices above bound what
            // is read of the activations and written of the sums; `new` has checked the level.
            unsafe {
                simd::multiply(self.level, self.format, piece, tile);
            }
        }
    }
}
