//! The one kernel that is ours: ggml rounds each value of Q8_0 by a call into the C library, which
//! takes most of the time of quantizing a file to it. The bytes are the same.
#![forbid(unsafe_code)]

use half::f16;

/// Values in a block.
const BLOCK: usize = 32;
/// Bytes of a block: the scale as f16, then a byte for each value.
const BYTES: usize = 2 + BLOCK;

/// Packs whole blocks of finite `values` (ggml-quants.c: `quantize_row_q8_0_ref`).
pub(super) fn pack_q8_0(values: &[f32], packed: &mut [u8]) {
    let blocks = values.as_chunks::<BLOCK>().0.iter();
    for (x, out) in blocks.zip(packed.as_chunks_mut::<BYTES>().0) {
        // Without their signs floats are ordered as their bits are, and integers are compared at once.
        let largest = x.iter().fold(0, |a: u32, x| a.max(x.abs().to_bits()));
        let largest = f32::from_bits(largest);
        let scale = largest / 127.0;
        // Also where the scale is so small that its inverse overflows: as f16 it is 0.
        let inverse = Some(1.0 / scale).filter(|i| i.is_finite()).unwrap_or(0.0);
        let (head, tail) = out.split_at_mut(2);
        head.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for (byte, x) in tail.iter_mut().zip(x) {
            // At most 127 by the choice of the scale.
            *byte = (x * inverse).round() as i32 as i8 as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ggml::{DType, pack, unpack};
    use crate::gguf::TensorType;

    fn same(values: &[f32]) {
        let dtype = DType::packable(TensorType::Q8_0.id()).unwrap();
        let mut theirs = vec![0; values.len() / BLOCK * BYTES];
        let mut ours = theirs.clone();
        pack(dtype, values.len(), values, None, &mut theirs).unwrap();
        pack_q8_0(values, &mut ours);
        assert_eq!(ours, theirs, "{values:?}");
    }

    #[test]
    fn ties_and_edges_are_rounded_as_ggml_does() {
        same(&[0.0; 32]);
        same(&[-0.0; 32]);
        let mut ties = [0f32; 32];
        ties[0] = 127.0;
        for (i, x) in ties.iter_mut().enumerate().skip(1) {
            *x = (i as f32 - 16.0) + 0.5 - if i % 3 == 0 { f32::EPSILON * 8.0 } else { 0.0 };
        }
        same(&ties);
        same(&[-65504.0; 32]);
    }

    /// ggml makes integers of infinities there, which compilers do in ways of their own; what comes out is 0.
    #[test]
    fn values_whose_scale_has_no_inverse_become_zero() {
        let dtype = DType::packable(TensorType::Q8_0.id()).unwrap();
        for value in [f32::MIN_POSITIVE, 1e-42, -1e-40] {
            let (mut theirs, mut ours) = ([1; BYTES], [1; BYTES]);
            pack(dtype, BLOCK, &[value; BLOCK], None, &mut theirs).unwrap();
            pack_q8_0(&[value; BLOCK], &mut ours);
            assert_eq!(ours, [0; BYTES]);
            for packed in [&theirs, &ours] {
                let mut values = [1f32; BLOCK];
                unpack(dtype, packed, &mut values).unwrap();
                assert_eq!(values, [0.0; BLOCK], "{value:e}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_bytes_are_ggmls(values in prop::collection::vec(-1e3f32..1e3, 64), small in -30i32..5) {
            let scaled: Vec<f32> = values.iter().map(|x| x * 2f32.powi(small)).collect();
            same(&scaled);
        }
    }
}
