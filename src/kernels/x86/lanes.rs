//! What several paths do with vectors.

use std::arch::x86_64::*;

/// Rows of eight 4-byte elements become columns.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose(r: [__m256i; 8]) -> [__m256i; 8] {
    // Pairs of rows by element, then by two elements, then by halves of the vectors.
    let a0 = _mm256_unpacklo_epi32(r[0], r[1]);
    let a1 = _mm256_unpackhi_epi32(r[0], r[1]);
    let a2 = _mm256_unpacklo_epi32(r[2], r[3]);
    let a3 = _mm256_unpackhi_epi32(r[2], r[3]);
    let a4 = _mm256_unpacklo_epi32(r[4], r[5]);
    let a5 = _mm256_unpackhi_epi32(r[4], r[5]);
    let a6 = _mm256_unpacklo_epi32(r[6], r[7]);
    let a7 = _mm256_unpackhi_epi32(r[6], r[7]);
    let b0 = _mm256_unpacklo_epi64(a0, a2);
    let b1 = _mm256_unpackhi_epi64(a0, a2);
    let b2 = _mm256_unpacklo_epi64(a1, a3);
    let b3 = _mm256_unpackhi_epi64(a1, a3);
    let b4 = _mm256_unpacklo_epi64(a4, a6);
    let b5 = _mm256_unpackhi_epi64(a4, a6);
    let b6 = _mm256_unpacklo_epi64(a5, a7);
    let b7 = _mm256_unpackhi_epi64(a5, a7);
    [
        _mm256_permute2x128_si256::<0x20>(b0, b4),
        _mm256_permute2x128_si256::<0x20>(b1, b5),
        _mm256_permute2x128_si256::<0x20>(b2, b6),
        _mm256_permute2x128_si256::<0x20>(b3, b7),
        _mm256_permute2x128_si256::<0x31>(b0, b4),
        _mm256_permute2x128_si256::<0x31>(b1, b5),
        _mm256_permute2x128_si256::<0x31>(b2, b6),
        _mm256_permute2x128_si256::<0x31>(b3, b7),
    ]
}

/// # Safety
/// 32 bytes are readable.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn load(from: *const u8) -> __m256i {
    // SAFETY: by this function's contract; no alignment is needed.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// # Safety
/// 32 bytes are writable.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store(to: *mut u8, x: __m256i) {
    // SAFETY: by this function's contract; no alignment is needed.
    unsafe { _mm256_storeu_si256(to.cast(), x) }
}

/// Computes `$x` and `$y` here, from what was loaded before and with nothing stored or loaded across. No
/// instruction stands there. Without it the compiler loads the numbers of all quads of a group before the first
/// sum, and carries the results of a tile from group to group: many more than there are registers, so that
/// most go through the stack.
macro_rules! here {
    ($kind:ident, $x:expr, $y:expr) => {
        std::arch::asm!("/* {0} {1} */", inout($kind) $x, inout($kind) $y, options(nostack, preserves_flags))
    };
}
pub(super) use here;
