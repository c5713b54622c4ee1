//! Classifier-free guidance (LLaDA, appendix A.2; `generate.py`).
#![forbid(unsafe_code)]

/// Turns the logits of the conditional canvas into guided ones: `un + (guidance + 1) * (cond - un)`, in
/// f32 as the reference computes it.
pub(crate) fn combine(cond: &mut [f32], un: &[f32], guidance: f64) {
    let scale = (guidance + 1.0) as f32;
    for (c, &u) in cond.iter_mut().zip(un) {
        *c = u + scale * (*c - u);
    }
}
