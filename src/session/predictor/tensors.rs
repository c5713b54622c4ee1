//! What differs where devices share every layer.
#![forbid(unsafe_code)]

use super::NetworkPredictor;
use crate::error::Result;
use crate::session::Flash;

impl NetworkPredictor {
    /// Key heads of each device that keys and values are cut between; none where they are whole.
    fn heads(&self) -> &[usize] {
        let parts = self.model.placement().parts.as_ref();
        parts.map_or(&[], |parts| &parts.heads)
    }

    /// Elements of a slot's keys on each device.
    pub(super) fn key_pieces(&self) -> Vec<u64> {
        let n_rot = self.model.sizes().n_rot;
        self.heads().iter().map(|n| (n * n_rot) as u64).collect()
    }

    /// Whether heads are cut of which several queries share keys: products of scores are then not cut alike
    /// (ggml-backend-meta.cpp:601).
    pub(super) fn cut_in_groups(&self) -> bool {
        let sizes = self.model.sizes();
        !self.heads().is_empty() && sizes.n_head != sizes.n_head_kv
    }

    /// Whether tokens can be drawn in the graph: ggml has no way for `ARANGE`, which has no argument
    /// (ggml-backend-meta.cpp:541).
    pub(super) fn can_draw(&self) -> bool {
        self.model.placement().parts.is_none()
    }

    pub(super) fn check_flash(&self) -> Result<()> {
        if self.flash == Flash::Off && self.cut_in_groups() {
            crate::bail!(
                Unsupported,
                "grouped heads that are split between devices need flash attention; leave it at auto, or split layers"
            );
        }
        Ok(())
    }

    /// Slots whose values changed are found by whole rows of values (ggml-backend-meta.cpp:547).
    pub(super) fn check_features(&self, features: bool) -> Result<()> {
        if features && !self.heads().is_empty() {
            crate::bail!(
                Unsupported,
                "a cache of features cannot be had where heads are split between devices; split layers, or take another cache"
            );
        }
        Ok(())
    }
}
