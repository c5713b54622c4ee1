//! Unpacks pieces of panels of weights, four rows at a time.

use std::arch::aarch64::*;

use half::f16;

use super::super::format::Format;
use super::super::panel::Panel;
use super::lanes::transpose;

/// Where four rows of a piece go.
#[derive(Clone, Copy)]
struct Places {
    codes: *mut u8,
    scales: *mut f32,
    mins: *mut f32,
}

/// A group of a row.
type Codes = [uint8x16_t; 2];

/// Rows that a panel lacks are filled with its last.
///
/// # Safety
/// Every row has `n_groups` groups from `block` on; codes have room for 1024 bytes a group, scales for 64
/// numbers, mins for 32.
pub(super) unsafe fn panel(format: Format, panel: Panel<'_>, to: (*mut u8, *mut f32, *mut f32)) {
    let n_rows = panel.bytes.len() / panel.row_bytes;
    for four in 0..8 {
        // SAFETY: rows below `n_rows` lie in `bytes`, and four rows have an eighth of each 32.
        unsafe {
            let rows: [*const u8; 4] = std::array::from_fn(|r| {
                let row = (four * 4 + r).min(n_rows - 1);
                panel.bytes.as_ptr().add(row * panel.row_bytes + panel.block)
            });
            let places = Places {
                codes: to.0.add(four * 16),
                scales: to.1.add(four * 4),
                mins: to.2.add(four * 4),
            };
            match format {
                Format::Q8_0 => q8_0(rows, panel.n_groups, places),
                Format::Q4_0 => q4_0(rows, panel.n_groups, places),
                Format::Q4K => q4_k(rows, panel.n_groups / 8, places),
                Format::Q6K => q6_k(rows, panel.n_groups / 8, places),
            }
        }
    }
}

/// Writes group `i` of four rows.
///
/// # Safety
/// The places have room for the group.
#[inline(always)]
unsafe fn put(codes: *mut u8, i: usize, rows: [Codes; 4]) {
    for half in 0..2 {
        // SAFETY: by this function's contract.
        unsafe {
            let columns = transpose(rows.map(|row| vreinterpretq_u32_u8(row[half])));
            for (q, four) in columns.into_iter().enumerate() {
                vst1q_u8(
                    codes.add((i * 8 + half * 4 + q) * 128),
                    vreinterpretq_u8_u32(four),
                );
            }
        }
    }
}

/// Writes eight numbers of each of four rows below each other: `to[i * 32 + row]`.
///
/// # Safety
/// 8 x 32 numbers are writable, less what the four rows lack of the last 32.
#[inline(always)]
unsafe fn put_numbers(to: *mut f32, rows: [[float32x4_t; 2]; 4]) {
    for half in 0..2 {
        // SAFETY: by this function's contract.
        unsafe {
            let columns = transpose(rows.map(|row| vreinterpretq_u32_f32(row[half])));
            for (i, column) in columns.into_iter().enumerate() {
                vst1q_f32(to.add((half * 4 + i) * 32), vreinterpretq_f32_u32(column));
            }
        }
    }
}

/// # Safety
/// Two bytes are readable.
#[inline(always)]
unsafe fn number(at: *const u8) -> f32 {
    // SAFETY: by this function's contract.
    f16::from_le_bytes(unsafe { at.cast::<[u8; 2]>().read() }).to_f32()
}

/// # Safety
/// 32 bytes are readable.
#[inline(always)]
unsafe fn load(at: *const u8) -> Codes {
    // SAFETY: by this function's contract.
    unsafe { [vld1q_u8(at), vld1q_u8(at.add(16))] }
}

#[inline(always)]
fn each(a: Codes, f: impl Fn(uint8x16_t) -> uint8x16_t) -> Codes {
    [f(a[0]), f(a[1])]
}

unsafe fn q8_0(rows: [*const u8; 4], n_groups: usize, to: Places) {
    for i in 0..n_groups {
        // SAFETY: a group is a block of 34 bytes of each row; see `panel`.
        unsafe {
            for (r, row) in rows.into_iter().enumerate() {
                *to.scales.add(i * 32 + r) = number(row.add(i * 34));
            }
            put(to.codes, i, rows.map(|row| load(row.add(i * 34 + 2))));
        }
    }
}

unsafe fn q4_0(rows: [*const u8; 4], n_groups: usize, to: Places) {
    for i in 0..n_groups {
        // SAFETY: a group is a block of 18 bytes of each row; see `panel`.
        unsafe {
            for (r, row) in rows.into_iter().enumerate() {
                *to.scales.add(i * 32 + r) = number(row.add(i * 18));
            }
            let low = vdupq_n_u8(15);
            let codes = rows.map(|row| {
                let both = vld1q_u8(row.add(i * 18 + 2));
                [vandq_u8(both, low), vshrq_n_u8::<4>(both)]
            });
            put(to.codes, i, codes);
        }
    }
}

unsafe fn q4_k(rows: [*const u8; 4], n_blocks: usize, to: Places) {
    for b in 0..n_blocks {
        // SAFETY: a block is 144 bytes of each row and 8 groups; see `panel`.
        unsafe {
            let rows = rows.map(|row| row.add(b * 144));
            let facts = rows.map(|row| k_scales(row));
            put_numbers(to.scales.add(b * 256), facts.map(|f| f.0));
            put_numbers(to.mins.add(b * 256), facts.map(|f| f.1));
            let low = vdupq_n_u8(15);
            for pair in 0..4 {
                let both = rows.map(|row| load(row.add(16 + pair * 32)));
                let first = both.map(|x| each(x, |x| vandq_u8(x, low)));
                put(to.codes, b * 8 + pair * 2, first);
                let second = both.map(|x| each(x, |x| vshrq_n_u8::<4>(x)));
                put(to.codes, b * 8 + pair * 2 + 1, second);
            }
        }
    }
}

/// The 8 scales and minimums of a K-block.
///
/// # Safety
/// The 16 bytes at the start of a block are readable.
#[inline(always)]
unsafe fn k_scales(block: *const u8) -> ([float32x4_t; 2], [float32x4_t; 2]) {
    // SAFETY: by this function's contract.
    let words: [u32; 4] = unsafe { block.cast::<[u32; 4]>().read_unaligned() };
    let [_, a, b, c] = words;
    // Bytes 0..4 hold scales 0..4 in 6 bits, bytes 4..8 minimums; bytes 8..12 have the low 4 bits of the
    // others, whose high bits are the tops of the first eight.
    let scales = [a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | a >> 2 & 0x3030_3030];
    let mins = [b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | b >> 2 & 0x3030_3030];
    // SAFETY: NEON is there, and the block has its two f16.
    unsafe {
        let wide = |x: [u32; 2], by: f32| {
            let bytes = vcreate_u8(u64::from(x[0]) | u64::from(x[1]) << 32);
            let words = vmovl_u8(bytes);
            let low = vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)));
            let high = vcvtq_f32_u32(vmovl_u16(vget_high_u16(words)));
            [vmulq_n_f32(low, by), vmulq_n_f32(high, by)]
        };
        (wide(scales, number(block)), wide(mins, number(block.add(2))))
    }
}

unsafe fn q6_k(rows: [*const u8; 4], n_blocks: usize, to: Places) {
    for b in 0..n_blocks {
        // SAFETY: a block is 210 bytes of each row and 8 groups; see `panel`.
        unsafe {
            let rows = rows.map(|row| row.add(b * 210));
            for eight in 0..2 {
                let scales = rows.map(|row| {
                    let d = number(row.add(208));
                    let words = vmovl_s8(vld1_s8(row.add(192 + eight * 8).cast()));
                    let low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
                    let high = vcvtq_f32_s32(vmovl_s16(vget_high_s16(words)));
                    [vmulq_n_f32(low, d), vmulq_n_f32(high, d)]
                });
                put_numbers(to.scales.add((b * 2 + eight) * 256), scales);
            }
            let (low, high) = (vdupq_n_u8(15), vdupq_n_u8(0x30));
            for half in 0..2 {
                let top = rows.map(|row| load(row.add(128 + half * 32)));
                let ends = [0, 1].map(|q| rows.map(|row| load(row.add(half * 64 + q * 32))));
                // Group q of four: 4 bits of its end, 2 bits of the top.
                for q in 0..4 {
                    let codes: [Codes; 4] = std::array::from_fn(|r| {
                        std::array::from_fn(|j| {
                            let end = ends[q % 2][r][j];
                            let end = if q < 2 {
                                vandq_u8(end, low)
                            } else {
                                vshrq_n_u8::<4>(end)
                            };
                            let top = match q {
                                0 => vshlq_n_u8::<4>(top[r][j]),
                                1 => vshlq_n_u8::<2>(top[r][j]),
                                2 => top[r][j],
                                _ => vshrq_n_u8::<2>(top[r][j]),
                            };
                            vorrq_u8(end, vandq_u8(top, high))
                        })
                    });
                    put(to.codes, b * 8 + half * 4 + q, codes);
                }
            }
        }
    }
}
