//! Types of tensor elements that the kernels here can work with.

use ggml_sys as sys;

/// An element or block type, from an allow-list: ggml has ids whose block size is 0 (a division by
/// zero in `ggml_row_size`) and types without a `vec_dot` (a call through NULL in `mul_mat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DType(sys::ggml_type);

/// Types that may be the left side of a matrix product: those whose `vec_dot` exists on the CPU.
const MATRIX: &[sys::ggml_type] = &[
    sys::GGML_TYPE_F32,
    sys::GGML_TYPE_F16,
    sys::GGML_TYPE_BF16,
    sys::GGML_TYPE_Q4_0,
    sys::GGML_TYPE_Q4_1,
    sys::GGML_TYPE_Q5_0,
    sys::GGML_TYPE_Q5_1,
    sys::GGML_TYPE_Q8_0,
    sys::GGML_TYPE_Q2_K,
    sys::GGML_TYPE_Q3_K,
    sys::GGML_TYPE_Q4_K,
    sys::GGML_TYPE_Q5_K,
    sys::GGML_TYPE_Q6_K,
    sys::GGML_TYPE_IQ2_XXS,
    sys::GGML_TYPE_IQ2_XS,
    sys::GGML_TYPE_IQ2_S,
    sys::GGML_TYPE_IQ3_XXS,
    sys::GGML_TYPE_IQ3_S,
    sys::GGML_TYPE_IQ1_S,
    sys::GGML_TYPE_IQ1_M,
    sys::GGML_TYPE_IQ4_NL,
    sys::GGML_TYPE_IQ4_XS,
];

impl DType {
    /// 32-bit floats.
    pub const F32: Self = Self(sys::GGML_TYPE_F32);
    /// 16-bit IEEE floats.
    pub const F16: Self = Self(sys::GGML_TYPE_F16);
    /// 8-bit integers in blocks of 32 with a scale each.
    pub const Q8_0: Self = Self(sys::GGML_TYPE_Q8_0);
    /// 32-bit integers: token ids, positions, row numbers.
    pub const I32: Self = Self(sys::GGML_TYPE_I32);

    /// The type with ggml's id `id`, if it may hold weights.
    pub fn matrix(id: u32) -> Option<Self> {
        MATRIX.iter().find(|&&t| t == id).map(|&t| Self(t))
    }

    /// ggml's id.
    pub fn id(self) -> u32 {
        self.0
    }

    /// Elements per block.
    pub fn block_len(self) -> usize {
        // SAFETY: the id is from the allow-list, so ggml's table has an entry for it.
        let len = unsafe { sys::ggml_blck_size(self.0) };
        usize::try_from(len).unwrap_or(1).max(1)
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        // SAFETY: the id is from the allow-list, so ggml's table has an entry for it.
        unsafe { sys::ggml_type_size(self.0) }
    }

    /// Bytes of a row of `n` elements; `None` where blocks do not divide it or the size overflows.
    pub fn row_bytes(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    pub(super) fn raw(self) -> sys::ggml_type {
        self.0
    }

    pub(super) fn of(tensor: &sys::ggml_tensor) -> Self {
        Self(tensor.type_)
    }
}
