//! Are all weights finite? A NaN in a weight does not always show in the logits (quantising the
//! activations can drop it), so it is looked for in the file.
#![forbid(unsafe_code)]

use crate::gguf::TensorType;

/// The first element (block, for quantized types) of `bytes` that is not finite.
pub(crate) fn first_not_finite(ty: TensorType, bytes: &[u8]) -> Option<usize> {
    match ty {
        // All exponent bits set: infinite or NaN.
        TensorType::F32 => position(bytes, 4, |b| u16::from_le_bytes([b[2], b[3]]) & 0x7F80 != 0x7F80),
        TensorType::F16 => position(bytes, 2, is_finite_f16),
        TensorType::Bf16 => position(bytes, 2, |b| u16::from_le_bytes([b[0], b[1]]) & 0x7F80 != 0x7F80),
        _ => {
            let size = usize::try_from(ty.block_bytes()).ok()?;
            let scales = scale_offsets(ty);
            position(bytes, size, |block| {
                scales
                    .iter()
                    .all(|&at| block.get(at..at + 2).is_some_and(is_finite_f16))
            })
        }
    }
}

fn is_finite_f16(b: &[u8]) -> bool {
    u16::from_le_bytes([b[0], b[1]]) & 0x7C00 != 0x7C00
}

fn position(bytes: &[u8], size: usize, is_finite: impl Fn(&[u8]) -> bool) -> Option<usize> {
    // A stretch at a time without an early exit, which the compiler turns into wide instructions.
    const STRETCH: usize = 1024;
    let mut stretches = bytes.chunks(size * STRETCH);
    let bad = stretches.position(|stretch| {
        let blocks = stretch.chunks_exact(size);
        blocks.fold(false, |bad, block| bad | !is_finite(block))
    })?;
    let mut blocks = bytes[bad * size * STRETCH..].chunks_exact(size);
    Some(bad * STRETCH + blocks.position(|block| !is_finite(block))?)
}

/// Where a block of a quantized type keeps its f16 scales (ggml-common.h). All else in a block is
/// integers. IQ1_M spreads its scale over other fields and is left out.
fn scale_offsets(ty: TensorType) -> &'static [usize] {
    match ty {
        TensorType::Q4_0
        | TensorType::Q5_0
        | TensorType::Q8_0
        | TensorType::Iq4Nl
        | TensorType::Iq4Xs
        | TensorType::Iq2Xxs
        | TensorType::Iq2Xs
        | TensorType::Iq2S
        | TensorType::Iq3Xxs
        | TensorType::Iq3S
        | TensorType::Iq1S => &[0],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => &[0, 2],
        TensorType::Q2K => &[80, 82],
        TensorType::Q3K => &[108],
        TensorType::Q6K => &[208],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn a_bad_scale_is_found_in_its_block() {
        let mut blocks = vec![0u8; 3 * 34];
        assert_eq!(first_not_finite(TensorType::Q8_0, &blocks), None);
        blocks[68..70].copy_from_slice(&f16::INFINITY.to_le_bytes());
        assert_eq!(first_not_finite(TensorType::Q8_0, &blocks), Some(2));
    }

    #[test]
    fn a_nan_is_found_in_floats() {
        let mut bytes: Vec<u8> = [1.0f32, 2.0, f32::NAN]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        assert_eq!(first_not_finite(TensorType::F32, &bytes), Some(2));
        bytes.truncate(8);
        assert_eq!(first_not_finite(TensorType::F32, &bytes), None);
    }
}
