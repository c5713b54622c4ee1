//! Matrix products of quantized weights on the CPU, faster than ggml's above a few rows.
//!
//! A product of weights `[n_k, n_out]` in a block format and `n_rows` rows of f32 goes in two passes.
//! First the rows are packed into 8 bits ([`pack_tile`]), shared by all products of them. Then
//! the weights go by in *panels* of 32 rows ([`Product::panel`]): a piece of a panel is unpacked once into
//! a tile that fits the first cache, and multiplied with all rows. Weights stay as they are mapped; a
//! thread needs about 100 KB of [`Scratch`].
//!
//! Integer sums over a group of 32 are exact and the f32 arithmetic has one order, so that all levels of
//! instructions give the same bits as [`dot`], the plain version.

mod format;
mod pack;
mod panel;
mod peak;
mod reference;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use format::{Format, GROUP, Group};
pub use pack::{TILE, pack_tile, packed_bytes, tile_bytes};
pub use panel::{Output, PANEL, Product, Scratch};
pub use peak::{Peak, int8_peaks};
pub use reference::dot;

/// Instructions that the fast paths are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// AVX2 and FMA: sums of byte products in 16 bits, widened in time.
    Avx2,
    /// AVX-512 with VNNI: sums of four byte products in 32 bits.
    Avx512Vnni,
}

impl Level {
    /// All that this processor has, the slowest first.
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if x86::has_avx2() {
                levels.push(Self::Avx2);
                if x86::has_avx512_vnni() {
                    levels.push(Self::Avx512Vnni);
                }
            }
        }
        levels
    }

    /// The fastest that this processor has; `None` where only the plain version runs.
    pub fn best() -> Option<Self> {
        Self::available().pop()
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Avx2 => x86::has_avx2(),
            Self::Avx512Vnni => x86::has_avx2() && x86::has_avx512_vnni(),
        };
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}
