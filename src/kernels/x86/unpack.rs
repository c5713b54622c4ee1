//! Unpacks pieces of panels of weights.

use std::arch::x86_64::*;

use super::super::format::Format;
use super::super::panel::Panel;
use super::lanes::{load, store, transpose};

/// Where eight rows of a piece go.
#[derive(Clone, Copy)]
struct Places {
    codes: *mut u8,
    scales: *mut f32,
    mins: *mut f32,
}

/// Rows that a panel lacks are filled with its last.
///
/// # Safety
/// Every row has `n_groups` groups from `block` on; codes have room for 1024 bytes a group, scales for 64
/// numbers, mins for 32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn panel(
    format: Format,
    panel: Panel<'_>,
    signed: bool,
    codes: *mut u8,
    scales: *mut f32,
    mins: *mut f32,
) {
    let n_rows = panel.bytes.len() / panel.row_bytes;
    for eight in 0..4 {
        // SAFETY: rows below `n_rows` lie in `bytes`, and eight rows have a quarter of each 32.
        unsafe {
            let row = |r: usize| {
                let row = (eight * 8 + r).min(n_rows - 1);
                panel.bytes.as_ptr().add(row * panel.row_bytes + panel.block)
            };
            let rows: [*const u8; 8] = std::array::from_fn(row);
            let places = Places {
                codes: codes.add(eight * 32),
                scales: scales.add(eight * 8),
                mins: mins.add(eight * 8),
            };
            match format {
                Format::Q8_0 => q8_0(rows, panel.n_groups, signed, places),
                Format::Q4_0 => q4_0(rows, panel.n_groups, places),
                Format::Q4K => q4_k(rows, panel.n_groups / 8, places),
                Format::Q6K => q6_k(rows, panel.n_groups / 8, places),
            }
        }
    }
}

/// Writes group `i` of eight rows.
///
/// # Safety
/// The places have room for the group.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn put(codes: *mut u8, i: usize, rows: [__m256i; 8]) {
    for (q, four) in transpose(rows).into_iter().enumerate() {
        // SAFETY: by this function's contract.
        unsafe { store(codes.add((i * 8 + q) * 128), four) };
    }
}

/// Writes eight numbers of each of eight rows below each other: `to[i * 32 + row]`.
///
/// # Safety
/// 8 x 32 numbers are writable, less what the eight rows lack of the last 32.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn put_numbers(to: *mut f32, rows: [__m256; 8]) {
    let columns = transpose(rows.map(|x| _mm256_castps_si256(x)));
    for (i, column) in columns.into_iter().enumerate() {
        // SAFETY: by this function's contract.
        unsafe { _mm256_storeu_ps(to.add(i * 32), _mm256_castsi256_ps(column)) };
    }
}

/// # Safety
/// Two bytes are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn half_bits(at: *const u8) -> i16 {
    // SAFETY: by this function's contract.
    unsafe { at.cast::<i16>().read_unaligned() }
}

/// The f16 at the start of a block of each row.
///
/// # Safety
/// Two bytes at `offset` of each row are readable.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales_of(rows: [*const u8; 8], offset: usize) -> __m256 {
    // SAFETY: by this function's contract.
    let h = rows.map(|row| unsafe { half_bits(row.add(offset)) });
    _mm256_cvtph_ps(_mm_setr_epi16(h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]))
}

#[target_feature(enable = "avx2,f16c")]
unsafe fn q8_0(rows: [*const u8; 8], n_groups: usize, signed: bool, to: Places) {
    let flip = _mm256_set1_epi8(if signed { 0 } else { i8::MIN });
    for i in 0..n_groups {
        // SAFETY: a group is a block of 34 bytes of each row; see `panel`.
        unsafe {
            _mm256_storeu_ps(to.scales.add(i * 32), scales_of(rows, i * 34));
            let codes = rows.map(|row| _mm256_xor_si256(load(row.add(i * 34 + 2)), flip));
            put(to.codes, i, codes);
        }
    }
}

#[target_feature(enable = "avx2,f16c")]
unsafe fn q4_0(rows: [*const u8; 8], n_groups: usize, to: Places) {
    let low = _mm256_set1_epi8(15);
    for i in 0..n_groups {
        // SAFETY: a group is a block of 18 bytes of each row; see `panel`.
        unsafe {
            _mm256_storeu_ps(to.scales.add(i * 32), scales_of(rows, i * 18));
            let codes = rows.map(|row| {
                let both = _mm_loadu_si128(row.add(i * 18 + 2).cast());
                let both = _mm256_set_m128i(_mm_srli_epi16::<4>(both), both);
                _mm256_and_si256(both, low)
            });
            put(to.codes, i, codes);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q4_k(rows: [*const u8; 8], n_blocks: usize, to: Places) {
    let low = _mm256_set1_epi8(15);
    for b in 0..n_blocks {
        // SAFETY: a block is 144 bytes of each row and 8 groups; see `panel`.
        unsafe {
            let rows = rows.map(|row| row.add(b * 144));
            let facts = rows.map(|row| k_scales(row));
            put_numbers(to.scales.add(b * 256), facts.map(|f| f.0));
            put_numbers(to.mins.add(b * 256), facts.map(|f| f.1));
            for pair in 0..4 {
                let both = rows.map(|row| load(row.add(16 + pair * 32)));
                let first = both.map(|x| _mm256_and_si256(x, low));
                put(to.codes, b * 8 + pair * 2, first);
                let second = both.map(|x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), low));
                put(to.codes, b * 8 + pair * 2 + 1, second);
            }
        }
    }
}

/// The 8 scales and minimums of a K-block.
///
/// # Safety
/// The 16 bytes at the start of a block are readable.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn k_scales(block: *const u8) -> (__m256, __m256) {
    // SAFETY: by this function's contract.
    let words: [u32; 4] = unsafe { block.cast::<[u32; 4]>().read_unaligned() };
    let [head, a, b, c] = words;
    // Bytes 0..4 hold scales 0..4 in 6 bits, bytes 4..8 minimums; bytes 8..12 have the low 4 bits of the
    // others, whose high bits are the tops of the first eight.
    let scales = [a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | a >> 2 & 0x3030_3030];
    let mins = [b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | b >> 2 & 0x3030_3030];
    let wide = |x: [u32; 2]| {
        let bytes = u64::from(x[0]) | u64::from(x[1]) << 32;
        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed())))
    };
    let both = _mm_cvtph_ps(_mm_cvtsi32_si128(head.cast_signed()));
    let d = _mm256_broadcastss_ps(both);
    let dmin = _mm256_broadcastss_ps(_mm_movehdup_ps(both));
    (_mm256_mul_ps(d, wide(scales)), _mm256_mul_ps(dmin, wide(mins)))
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn q6_k(rows: [*const u8; 8], n_blocks: usize, to: Places) {
    let (low, high) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    for b in 0..n_blocks {
        // SAFETY: a block is 210 bytes of each row and 8 groups; see `panel`.
        unsafe {
            let rows = rows.map(|row| row.add(b * 210));
            for eight in 0..2 {
                let scales = rows.map(|row| {
                    let d = _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half_bits(row.add(208)))));
                    let bytes = _mm_loadl_epi64(row.add(192 + eight * 8).cast());
                    let scales = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
                    _mm256_mul_ps(_mm256_broadcastss_ps(d), scales)
                });
                put_numbers(to.scales.add((b * 2 + eight) * 256), scales);
            }
            for half in 0..2 {
                let top = |row: *const u8| load(row.add(128 + half * 32));
                let ends = |row: *const u8, q: usize| load(row.add(half * 64 + q * 32));
                let join = |a, b| _mm256_or_si256(_mm256_and_si256(a, low), _mm256_and_si256(b, high));
                let i = b * 8 + half * 4;
                put(
                    to.codes,
                    i,
                    rows.map(|r| join(ends(r, 0), _mm256_slli_epi16::<4>(top(r)))),
                );
                put(
                    to.codes,
                    i + 1,
                    rows.map(|r| join(ends(r, 1), _mm256_slli_epi16::<2>(top(r)))),
                );
                put(
                    to.codes,
                    i + 2,
                    rows.map(|r| join(_mm256_srli_epi16::<4>(ends(r, 0)), top(r))),
                );
                put(
                    to.codes,
                    i + 3,
                    rows.map(|r| {
                        let top = _mm256_srli_epi16::<2>(top(r));
                        join(_mm256_srli_epi16::<4>(ends(r, 1)), top)
                    }),
                );
            }
        }
    }
}
