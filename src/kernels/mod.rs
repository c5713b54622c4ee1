//! Matrix products of quantized weights on the CPU, faster than ggml's above a few rows.
//!
//! A product of weights `[n_k, n_out]` in a block format and `n_rows` rows of f32 goes in two passes.
//! First the rows are packed into 8 bits ([`pack_tile`]), shared by all products of them. Then
//! the weights go by in *panels* of 32 rows ([`Product::panel`]): a piece of a panel is unpacked once into
//! a tile that fits the first cache, and multiplied with all rows. Weights stay as they are mapped; a
//! thread needs 160 KB of [`Scratch`]. [`Attention`] is beside them.
//!
//! Integer sums over a group of 32 are exact and the f32 arithmetic has one order, so that all levels of
//! instructions give the same bits as [`dot`], the plain version.

#[cfg(target_arch = "aarch64")]
mod arm;
mod attention;
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

pub use attention::{Attention, AttentionSizes, lay_out};
pub use format::{Format, GROUP, Group};
pub use pack::{TILE, pack_tile, packed_bytes, tile_bytes};
pub use panel::{Output, PANEL, Product, Scratch};
pub use peak::{Peak, int8_peaks};
pub use reference::dot;

use std::sync::atomic::{AtomicUsize, Ordering};

/// Instructions that the fast paths are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// AVX2 and FMA: sums of byte products in 16 bits, widened in time.
    Avx2,
    /// VNNI on 256 bits: sums of four byte products in 32 bits.
    AvxVnni,
    /// AVX-512 with VNNI: the same on 512 bits.
    Avx512Vnni,
    /// NEON: sums of two byte products in 32 bits.
    Neon,
    /// NEON with `sdot`: sums of four.
    NeonDot,
    /// NEON with `smmla`: two rows times two, sums of eight.
    NeonI8mm,
}

/// No restriction; other numbers are places in [`Level::ALL`], or past its end for none.
const ANY: usize = usize::MAX;

static ONLY: AtomicUsize = AtomicUsize::new(ANY);

/// Computes products with `level` only, or with ggml where it is `None`, in sessions of this process that
/// are made from now on. For measurements.
pub fn restrict(level: Option<Level>) {
    let place = level.and_then(|level| Level::ALL.iter().position(|l| *l == level));
    ONLY.store(place.unwrap_or(Level::ALL.len()), Ordering::Relaxed);
}

impl Level {
    const ALL: [Self; 6] = [
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512Vnni,
        Self::Neon,
        Self::NeonDot,
        Self::NeonI8mm,
    ];

    /// All that this processor has, the slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|level| level.is_available())
            .collect()
    }

    /// What products are computed with: the fastest that this processor has, or what [`restrict`] has left;
    /// `None` where that is the plain version, and products are ggml's.
    pub fn best() -> Option<Self> {
        match ONLY.load(Ordering::Relaxed) {
            ANY => Self::available().pop(),
            only => Self::ALL.get(only).copied().filter(|level| level.is_available()),
        }
    }

    /// Its name: `avx2`, `avxvnni`, `avx512vnni`, `neon`, `neondot`, `neoni8mm`.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The level with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Avx2 => x86::has_avx2(),
            Self::AvxVnni => x86::has_vnni(),
            Self::Avx512Vnni => x86::has_avx2() && x86::has_avx512_vnni(),
            _ => false,
        };
        #[cfg(target_arch = "aarch64")]
        return match self {
            Self::Neon => true,
            Self::NeonDot => arm::has_dot(),
            Self::NeonI8mm => arm::has_i8mm(),
            _ => false,
        };
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        false
    }
}
