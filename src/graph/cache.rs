//! Keys and values that stay from one pass to the next.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::error::Result;
use crate::ggml::{DType, Device, GraphBuilder, Node, State, StateSet, StateSetBuilder};

/// What a graph does with a [`KvCache`]. Slot i of a canvas has row `first + i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheShape {
    /// Nothing: every slot is computed.
    #[default]
    Off,
    /// Every slot is computed and its keys and values are kept.
    Fill {
        /// Row of slot 0.
        first: usize,
    },
    /// Some slots are computed and theirs renewed; they look at all `n_kv` slots of the canvas.
    Window {
        /// Row of slot 0.
        first: usize,
        /// Slots of the canvas.
        n_kv: usize,
    },
}

/// Keys and values of all layers, one row per slot.
///
/// Fast-dLLM keeps keys before RoPE and rotates the whole cache in every call. Here they are kept after
/// it: RoPE is a function of a key and its own position, and slots do not move during a run, so that
/// rotating once gives the same numbers.
pub struct KvCache {
    set: Arc<StateSet>,
    layers: Vec<(State, State)>,
    dtype: DType,
    n_rows: usize,
}

impl KvCache {
    /// A cache of `n_rows` slots with `n` elements each for keys and for values, one layer per entry of
    /// `devices` (`None`: the CPU).
    ///
    /// # Errors
    /// `Unsupported`, when blocks of the type do not divide a row; `Resource`; `Device`.
    pub fn new(devices: &[Option<Device>], n: usize, n_rows: usize, dtype: DType) -> Result<Self> {
        if dtype.row_bytes(n).is_none() {
            crate::bail!(
                Unsupported,
                "keys of {n} elements do not divide into blocks of {}; use another type for the cache",
                dtype.block_len()
            );
        }
        let mut builder = StateSetBuilder::new(2 * devices.len())?;
        let mut indices = Vec::new();
        for device in devices {
            let k = builder.declare(dtype, n, n_rows, *device)?;
            let v = builder.declare(dtype, n, n_rows, *device)?;
            indices.push((k, v));
        }
        let set = builder.finish()?;
        let pairs = indices.into_iter().map(|(k, v)| set.get(k).zip(set.get(v)));
        let layers: Option<Vec<_>> = pairs.collect();
        Ok(Self {
            layers: layers.unwrap_or_default(),
            set,
            dtype,
            n_rows,
        })
    }

    /// Slots that fit.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Type of its elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes of memory.
    pub fn n_bytes(&self) -> u64 {
        self.set.n_bytes()
    }
}

/// Keeps what `shape` says and returns the keys and values that queries look at.
/// - k: `[n_rot, n_head_kv, n]` f32, after RoPE; v: the same shape
/// - slots: `[n]` i32, rows of the cache
/// - result: k and v as they came, or `[n_rot, n_head_kv, n_kv]` f32 or f16
pub fn through_cache(
    g: &mut GraphBuilder,
    cache: Option<&KvCache>,
    shape: CacheShape,
    i_layer: usize,
    (k, v): (Node, Node),
    slots: Option<Node>,
) -> Result<(Node, Node)> {
    let (first, n_kv) = match shape {
        CacheShape::Off => return Ok((k, v)),
        CacheShape::Fill { first } => (first, None),
        CacheShape::Window { first, n_kv } => (first, Some(n_kv)),
    };
    let (Some(cache), Some(slots)) = (cache, slots) else {
        crate::bail!(Internal, "a graph with a cache was built without one");
    };
    let Some((keys, values)) = cache.layers.get(i_layer) else {
        crate::bail!(Internal, "the cache has no layer {i_layer}");
    };
    let [n_rot, n_head, n, _] = g.dims(k)?;
    let mut through = |x: Node, state: &State| -> Result<Node> {
        let rows = g.reshape(x, [n_rot * n_head, n, 1])?;
        let state = g.state(state)?;
        let renewed = g.set_rows(state, rows, slots)?;
        let Some(n_kv) = n_kv else {
            g.compute(renewed)?;
            return Ok(x);
        };
        let mut all = g.row_range(renewed, first, n_kv)?;
        if cache.dtype == DType::Q8_0 {
            all = g.cast(all, DType::F32)?;
        }
        g.reshape(all, [n_rot, n_head, n_kv])
    };
    Ok((through(k, keys)?, through(v, values)?))
}
