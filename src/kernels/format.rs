//! Block formats of weights, as plain functions: what the fast paths must reproduce.
#![forbid(unsafe_code)]

use half::f16;

/// Codes that share an activation's scale, and at most a weight's: the unit of exact sums.
pub const GROUP: usize = 32;

/// A block format that products know. Layouts are ggml's (`ggml-common.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32 signed bytes and a scale.
    Q8_0,
    /// 32 codes of 4 bits around 8, and a scale.
    Q4_0,
    /// 256 codes of 4 bits; every 32 have a scale and a minimum of 6 bits.
    Q4K,
    /// 256 codes of 6 bits around 32; every 16 have a scale of 8 bits.
    Q6K,
}

/// 32 weights: `scales[i / 16] * (codes[i] - zero) - min`, with the format's zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Codes, all below 256.
    pub codes: [u8; GROUP],
    /// Scales of the halves.
    pub scales: [f32; 2],
    /// What is taken off each weight.
    pub min: f32,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Q8_0, Self::Q4_0, Self::Q4K, Self::Q6K];

    /// The format with ggml's type id `id`.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.id() == id)
    }

    /// ggml's type id (`ggml.h`, `enum ggml_type`).
    pub fn id(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q6K => 14,
        }
    }

    /// Weights per block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 => 32,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4K => 144,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `n_k` weights, which blocks divide.
    pub const fn row_bytes(self, n_k: usize) -> usize {
        n_k / self.block_len() * self.block_bytes()
    }

    /// The code that stands for 0.
    pub const fn zero(self) -> u8 {
        match self {
            Self::Q8_0 => 128,
            Self::Q4_0 => 8,
            Self::Q4K => 0,
            Self::Q6K => 32,
        }
    }

    /// Weights `32 * i_group ..` of a row.
    pub fn group(self, row: &[u8], i_group: usize) -> Group {
        let per_block = self.block_len() / GROUP;
        let n = self.block_bytes();
        let block = &row[i_group / per_block * n..][..n];
        let i = i_group % per_block;
        match self {
            Self::Q8_0 => Group {
                codes: std::array::from_fn(|l| block[2 + l] ^ 0x80),
                scales: [float(block, 0); 2],
                min: 0.0,
            },
            Self::Q4_0 => Group {
                codes: std::array::from_fn(|l| block[2 + l % 16] >> (l / 16 * 4) & 15),
                scales: [float(block, 0); 2],
                min: 0.0,
            },
            Self::Q4K => {
                let (scale, min) = six_bits(&block[4..16], i);
                Group {
                    codes: std::array::from_fn(|l| block[16 + i / 2 * 32 + l] >> (i % 2 * 4) & 15),
                    scales: [float(block, 0) * f32::from(scale); 2],
                    min: float(block, 2) * f32::from(min),
                }
            }
            Self::Q6K => {
                // A half block of 128: 64 bytes of low bits, 32 of high bits; group q of its four.
                let (half, q) = (i / 4, i % 4);
                let low = &block[half * 64 + q % 2 * 32..][..32];
                let high = &block[128 + half * 32..][..32];
                let scale = |s: usize| float(block, 208) * f32::from(block[192 + 2 * i + s].cast_signed());
                Group {
                    codes: std::array::from_fn(|l| {
                        low[l] >> (q / 2 * 4) & 15 | (high[l] >> (2 * q) & 3) << 4
                    }),
                    scales: [scale(0), scale(1)],
                    min: 0.0,
                }
            }
        }
    }
}

/// The f16 at byte `at`.
fn float(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Scale and minimum `i` of 8 that a K-block packs into 12 bytes.
pub(super) fn six_bits(packed: &[u8], i: usize) -> (u8, u8) {
    if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        let low = packed[i + 4];
        (low & 15 | packed[i - 4] >> 6 << 4, low >> 4 | packed[i] >> 6 << 4)
    }
}
