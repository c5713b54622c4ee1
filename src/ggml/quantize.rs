//! The kernels that pack floats into blocks, and unpack them.

use ggml_sys as sys;

use super::DType;
use crate::error::Result;

/// Types that [`pack`] writes. The others that ggml knows (below 3 bits) are of no use without an
/// importance matrix, which their kernels assert.
const PACKABLE: &[sys::ggml_type] = &[
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
    sys::GGML_TYPE_IQ4_NL,
    sys::GGML_TYPE_IQ4_XS,
];

impl DType {
    /// The type with ggml's id `id`, if [`pack`] can write it.
    pub fn packable(id: u32) -> Option<Self> {
        Self::matrix(id).filter(|t| PACKABLE.contains(&t.raw()))
    }
}

/// Packs whole rows of `n_per_row` finite floats from `rows` into `packed`, as `dtype`.
///
/// `importance` has one weight per column, finite and not negative; the kernels minimise the error
/// weighted by it. Safe to call from any number of threads.
///
/// # Errors
/// `Internal`, when the type is not [packable](DType::packable) or a size does not fit: callers check
/// shapes and values first.
pub fn pack(
    dtype: DType,
    n_per_row: usize,
    rows: &[f32],
    importance: Option<&[f32]>,
    packed: &mut [u8],
) -> Result<()> {
    // ggml.c asserts that rows divide into blocks, that the type has a kernel and that the result has
    // the size of the rows.
    let row_bytes = dtype.row_bytes(n_per_row).filter(|_| n_per_row > 0);
    let n_rows = rows.len() / n_per_row.max(1);
    let fits = row_bytes.and_then(|b| b.checked_mul(n_rows)) == Some(packed.len())
        && n_rows * n_per_row == rows.len()
        && importance.is_none_or(|i| i.len() == n_per_row)
        && PACKABLE.contains(&dtype.raw());
    let (Ok(n_rows), Ok(n_per_row)) = (i64::try_from(n_rows), i64::try_from(n_per_row)) else {
        crate::bail!(Internal, "rows are too long to pack");
    };
    if !fits {
        crate::bail!(
            Internal,
            "{} floats in rows of {n_per_row} do not pack into {} bytes",
            rows.len(),
            packed.len()
        );
    }
    let importance = importance.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let target = packed.as_mut_ptr().cast();
    // SAFETY: source, target and importance have the sizes that the kernel reads and writes: checked
    // above. Tables that kernels need are made once, under ggml's own lock.
    unsafe {
        sys::ggml_quantize_chunk(
            dtype.raw(),
            rows.as_ptr(),
            target,
            0,
            n_rows,
            n_per_row,
            importance,
        )
    };
    Ok(())
}

/// Unpacks `packed` into floats.
///
/// # Errors
/// `Internal`, when the sizes do not fit: callers compute them from the shape.
pub fn unpack(dtype: DType, packed: &[u8], values: &mut [f32]) -> Result<()> {
    if dtype.row_bytes(values.len()) != Some(packed.len()) {
        crate::bail!(
            Internal,
            "{} bytes do not unpack into {} floats",
            packed.len(),
            values.len()
        );
    }
    let (Ok(n), false) = (i64::try_from(values.len()), values.is_empty()) else {
        return Ok(());
    };
    if dtype == DType::F32 {
        for (bytes, value) in packed.chunks_exact(4).zip(values) {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        return Ok(());
    }
    // Blocks begin with 16-bit scales.
    if !(packed.as_ptr() as usize).is_multiple_of(2) {
        crate::bail!(Internal, "packed values are not aligned to 2 bytes");
    }
    if dtype == DType::F16 {
        let unpack = super::cpu::functions()?.fp16_to_fp32;
        // SAFETY: the source is aligned and holds `n` halves, the target `n` floats.
        unsafe { unpack(packed.as_ptr().cast(), values.as_mut_ptr(), n) };
        return Ok(());
    }
    // SAFETY: the id is from the allow-list, so ggml's table has an entry for it.
    let traits = unsafe { sys::ggml_get_type_traits(dtype.raw()) };
    // SAFETY: the entry is a constant of the library.
    let Some(kernel) = (unsafe { (*traits).to_float }) else {
        crate::bail!(Internal, "a type without a kernel to unpack it");
    };
    // SAFETY: source and target have the sizes that the kernel reads and writes.
    unsafe { kernel(packed.as_ptr().cast(), values.as_mut_ptr(), n) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_to_within_its_bits() {
        let values: Vec<f32> = (0..512)
            .map(|i| ((i * 37 % 512) as f32 - 256.0) / 100.0)
            .collect();
        for &raw in PACKABLE {
            let dtype = DType::packable(raw).unwrap();
            let mut packed = vec![0u8; dtype.row_bytes(512).unwrap()];
            pack(dtype, 256, &values, None, &mut packed).unwrap();
            let mut back = vec![0f32; 512];
            unpack(dtype, &packed, &mut back).unwrap();
            let error = values.iter().zip(&back).map(|(a, b)| (a - b).abs());
            let largest = error.fold(0.0, f32::max);
            // Two bits: four levels over a span of 5.
            assert!(largest < 1.2, "type {raw}: {largest}");
            assert!(raw != sys::GGML_TYPE_F32 || largest == 0.0);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let dtype = DType::packable(sys::GGML_TYPE_Q8_0).unwrap();
        let mut packed = [0u8; 34];
        assert!(pack(dtype, 32, &[0.0; 31], None, &mut packed).is_err());
        assert!(pack(dtype, 31, &[0.0; 31], None, &mut packed).is_err());
        assert!(pack(dtype, 32, &[0.0; 32], Some(&[1.0; 31]), &mut packed).is_err());
        assert!(unpack(dtype, &packed, &mut [0.0; 33]).is_err());
        assert!(DType::packable(sys::GGML_TYPE_IQ2_XXS).is_none());
    }
}
