//! Tensor types and what a file says of a tensor.
#![forbid(unsafe_code)]

/// Element or block type of a tensor; the ids are ggml's. Types that ggml removed are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are ggml's own
pub enum TensorType {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    Iq2Xxs,
    Iq2Xs,
    Iq3Xxs,
    Iq1S,
    Iq4Nl,
    Iq3S,
    Iq2S,
    Iq4Xs,
    I8,
    I16,
    I32,
    I64,
    F64,
    Iq1M,
    Bf16,
    Tq1_0,
    Tq2_0,
    Mxfp4,
}

use TensorType as T;

/// Type, id, name, elements per block, bytes per block (ggml.c `type_traits`, ggml-common.h).
const TYPES: &[(T, u32, &str, u64, u64)] = &[
    (T::F32, 0, "F32", 1, 4),
    (T::F16, 1, "F16", 1, 2),
    (T::Q4_0, 2, "Q4_0", 32, 18),
    (T::Q4_1, 3, "Q4_1", 32, 20),
    (T::Q5_0, 6, "Q5_0", 32, 22),
    (T::Q5_1, 7, "Q5_1", 32, 24),
    (T::Q8_0, 8, "Q8_0", 32, 34),
    (T::Q8_1, 9, "Q8_1", 32, 36),
    (T::Q2K, 10, "Q2_K", 256, 84),
    (T::Q3K, 11, "Q3_K", 256, 110),
    (T::Q4K, 12, "Q4_K", 256, 144),
    (T::Q5K, 13, "Q5_K", 256, 176),
    (T::Q6K, 14, "Q6_K", 256, 210),
    (T::Q8K, 15, "Q8_K", 256, 292),
    (T::Iq2Xxs, 16, "IQ2_XXS", 256, 66),
    (T::Iq2Xs, 17, "IQ2_XS", 256, 74),
    (T::Iq3Xxs, 18, "IQ3_XXS", 256, 98),
    (T::Iq1S, 19, "IQ1_S", 256, 50),
    (T::Iq4Nl, 20, "IQ4_NL", 32, 18),
    (T::Iq3S, 21, "IQ3_S", 256, 110),
    (T::Iq2S, 22, "IQ2_S", 256, 82),
    (T::Iq4Xs, 23, "IQ4_XS", 256, 136),
    (T::I8, 24, "I8", 1, 1),
    (T::I16, 25, "I16", 1, 2),
    (T::I32, 26, "I32", 1, 4),
    (T::I64, 27, "I64", 1, 8),
    (T::F64, 28, "F64", 1, 8),
    (T::Iq1M, 29, "IQ1_M", 256, 56),
    (T::Bf16, 30, "BF16", 1, 2),
    (T::Tq1_0, 34, "TQ1_0", 256, 54),
    (T::Tq2_0, 35, "TQ2_0", 256, 66),
    (T::Mxfp4, 39, "MXFP4", 32, 17),
];

impl TensorType {
    /// The type with ggml's id, if it is one that files may hold.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    /// The type of this name, in any case: `q4_k`, `F16`.
    pub fn from_name(name: &str) -> Option<Self> {
        TYPES
            .iter()
            .find(|row| row.2.eq_ignore_ascii_case(name))
            .map(|row| row.0)
    }

    fn row(self) -> &'static (T, u32, &'static str, u64, u64) {
        // The table lists every variant (tested); the first row stands in for the impossible.
        TYPES.iter().find(|row| row.0 == self).unwrap_or(&TYPES[0])
    }

    /// ggml's id.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// ggml's name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Elements per block; 1 for plain types.
    pub fn block_len(self) -> u64 {
        self.row().3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> u64 {
        self.row().4
    }

    /// Bytes of a row of `n` elements; `None` where blocks do not divide it or the size overflows.
    pub fn row_bytes(self, n: u64) -> Option<u64> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Bytes of a tensor of `dims`; `None` as in [`row_bytes`](Self::row_bytes).
    pub fn tensor_bytes(self, dims: &[u64]) -> Option<u64> {
        let (first, rest) = dims.split_first()?;
        rest.iter()
            .try_fold(self.row_bytes(*first)?, |bytes, &d| bytes.checked_mul(d))
    }
}

/// What a file says of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique name.
    pub name: String,
    pub(super) dims: [u64; 4],
    pub(super) n_dims: usize,
    /// Element or block type.
    pub ty: TensorType,
    /// Where its data begins, in bytes from the beginning of its file.
    pub offset: u64,
    /// Bytes of data.
    pub n_bytes: u64,
    /// Which part of a split model holds it; 0 for a whole one.
    pub file: u16,
}

impl TensorInfo {
    /// Dimensions in ggml order, fastest first: 1 to 4 of them.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.n_dims]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back() {
        for row in TYPES {
            assert_eq!(TensorType::from_id(row.0.id()), Some(row.0));
            assert_eq!(TensorType::from_name(&row.0.name().to_lowercase()), Some(row.0));
        }
        for removed in [4, 5, 31, 32, 33, 36, 37, 38, 1000] {
            assert_eq!(TensorType::from_id(removed), None);
        }
    }

    #[test]
    fn rows_must_divide_into_blocks() {
        assert_eq!(TensorType::Q8_0.row_bytes(64), Some(68));
        assert_eq!(TensorType::Q8_0.row_bytes(33), None);
        assert_eq!(TensorType::F32.tensor_bytes(&[u64::MAX / 2, 2]), None);
        assert_eq!(TensorType::Q4K.tensor_bytes(&[512, 3]), Some(864));
    }
}
