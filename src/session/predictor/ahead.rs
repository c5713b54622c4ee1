//! What a device computes while the host does something else.
#![forbid(unsafe_code)]

use super::group::{MAX_PARTS, Part};
use super::{NetworkPredictor, Reduced};
use crate::denoise::Query;
use crate::error::Result;
use crate::graph::{CacheShape, HeadShape};

impl NetworkPredictor {
    /// Whether devices that need no host compute all but the embedding of tokens: what is left to the CPU would be done
    /// before the caller goes on.
    fn goes_ahead(&self) -> bool {
        let placement = self.model.placement();
        let all = placement.head.is_some() && placement.layers.iter().all(Option::is_some);
        all && self.executor.starts()
    }

    /// Graphs that were started and then asked for.
    pub fn n_begun(&self) -> u64 {
        self.executor.n_taken()
    }

    /// Starts the first graph of what is asked for.
    pub(super) fn start(&mut self, queries: &[Query<'_>], reduced: Option<&Reduced<'_>>) -> Result<()> {
        if !self.goes_ahead() {
            return Ok(());
        }
        let mut parts = [Part::NONE; MAX_PARTS];
        let mut queries = queries.iter().filter(|q| !q.rows.is_empty());
        let k = self.next_group(&mut queries, &mut parts, &mut 0)?;
        let parts = &parts[..k];
        // What a partial pass does to the cache depends on what is there: it is done once.
        let once = |p: &Part<'_>| matches!(p.shape.cache, CacheShape::Partial { .. });
        if parts.is_empty() || parts.iter().any(once) {
            return Ok(());
        }
        let built = match reduced {
            Some(reduced) => self.prepare_peaks(parts, reduced)?,
            None => self.prepare_parts(parts, HeadShape::Logits)?,
        };
        for index in parts.iter().filter_map(|p| p.fills) {
            // Until it is done, nothing there is of use.
            self.regions[index].filled = 0;
        }
        let (values, n) = self.graphs[built].values(&self.scratch);
        self.executor.start(self.graphs[built].id, &values[..n]);
        Ok(())
    }
}
