//! Attention: the plain code for AVX2, and the same sums on 512 bits, which compilers do not choose by themselves.

use std::arch::x86_64::*;

use super::super::attention::{Group, KEYS};

/// Queries of a group on 512 bits.
const R: usize = 8;

#[target_feature(enable = "avx2,fma")]
pub(super) fn four(group: Group<'_>) {
    group.attend::<4>();
}

#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) fn eight(mut group: Group<'_>) {
    let n_rot = group.n_rot;
    assert!(
        group.queries.len() == n_rot * R
            && group.keys.len() == n_rot * KEYS
            && group.mixed.len() == n_rot * R
    );
    assert!(group.n > 0 && group.n <= KEYS && n_rot.is_multiple_of(16));
    assert!(group.values.len() == n_rot * KEYS);
    let mut weights = [[0f32; KEYS]; R];
    // SAFETY: the assertions above.
    unsafe { scores(group.queries, group.keys, &mut weights) };
    group.weigh(&mut weights);
    for d in (0..n_rot / 32 * 32).step_by(32) {
        // SAFETY: columns `d .. d + 32` are below `n_rot`; the assertions above.
        unsafe { mix::<2>(&mut group, &weights, d) };
    }
    if !n_rot.is_multiple_of(32) {
        // SAFETY: as above, of the last 16.
        unsafe { mix::<1>(&mut group, &weights, n_rot - 16) };
    }
}

/// # Safety
/// Queries are `[n][R]`, keys `[n][KEYS]`.
#[target_feature(enable = "avx512f")]
unsafe fn scores(queries: &[f32], keys: &[f32], out: &mut [[f32; KEYS]; R]) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for i in 0..queries.len() / R {
        // SAFETY: below the lengths, by this function's contract.
        unsafe {
            let k = keys.as_ptr().add(i * KEYS);
            let (k0, k1) = (_mm512_loadu_ps(k), _mm512_loadu_ps(k.add(16)));
            for r in 0..R {
                let x = _mm512_set1_ps(*queries.as_ptr().add(i * R + r));
                sums[r][0] = _mm512_fmadd_ps(x, k0, sums[r][0]);
                sums[r][1] = _mm512_fmadd_ps(x, k1, sums[r][1]);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        // SAFETY: there is room for 32 numbers.
        unsafe {
            _mm512_storeu_ps(out.as_mut_ptr(), sums[0]);
            _mm512_storeu_ps(out.as_mut_ptr().add(16), sums[1]);
        }
    }
}

/// Adds the values to columns `d .. d + 16 W` of the mixtures.
///
/// # Safety
/// Mixtures are `[R][n_rot]`; values `[KEYS][n_rot]`; these columns are there.
#[target_feature(enable = "avx512f")]
unsafe fn mix<const W: usize>(group: &mut Group<'_>, weights: &[[f32; KEYS]; R], d: usize) {
    let mut sums = [[_mm512_setzero_ps(); W]; R];
    for r in 0..R {
        for c in 0..W {
            // SAFETY: by this function's contract.
            sums[r][c] = unsafe { _mm512_loadu_ps(group.mixed.as_ptr().add(r * group.n_rot + d + c * 16)) };
        }
    }
    for j in 0..group.n {
        let mut v = [_mm512_setzero_ps(); W];
        for c in 0..W {
            // SAFETY: by this function's contract.
            v[c] = unsafe { _mm512_loadu_ps(group.values.as_ptr().add(j * group.n_rot + d + c * 16)) };
        }
        for r in 0..R {
            let weight = _mm512_set1_ps(weights[r][j]);
            for c in 0..W {
                sums[r][c] = _mm512_fmadd_ps(weight, v[c], sums[r][c]);
            }
        }
    }
    for r in 0..R {
        for c in 0..W {
            // SAFETY: by this function's contract.
            unsafe {
                _mm512_storeu_ps(
                    group.mixed.as_mut_ptr().add(r * group.n_rot + d + c * 16),
                    sums[r][c],
                )
            };
        }
    }
}
