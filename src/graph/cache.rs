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
        /// Whether what attention and feed-forward network add is kept too.
        features: bool,
    },
    /// Some slots are computed and theirs renewed; they look at all `n_kv` slots of the canvas.
    Window {
        /// Row of slot 0.
        first: usize,
        /// Slots of the canvas.
        n_kv: usize,
        /// See `Fill`.
        features: bool,
    },
    /// Of the canvas' last slots, those whose values changed most are computed; what is kept of the
    /// others is used (dLLM-Cache, arXiv 2506.06295).
    Partial {
        /// Row of slot 0.
        first: usize,
        /// Slots of the canvas.
        n_kv: usize,
        /// Slots that are computed.
        n_update: usize,
    },
}

impl CacheShape {
    /// Whether it keeps what attention and feed-forward network add.
    pub fn has_features(&self) -> bool {
        match *self {
            Self::Off => false,
            Self::Fill { features, .. } | Self::Window { features, .. } => features,
            Self::Partial { .. } => true,
        }
    }
}

/// Keys and values of all layers, one row per slot.
///
/// Fast-dLLM keeps keys before RoPE and rotates the whole cache in every call. Here they are kept after
/// it: RoPE is a function of a key and its own position, and slots do not move during a run, so that
/// rotating once gives the same numbers.
pub struct KvCache {
    set: Arc<StateSet>,
    layers: Vec<LayerState>,
    features: bool,
    dtype: DType,
    n_rows: usize,
}

/// What is kept of one layer.
struct LayerState {
    keys: State,
    values: State,
    /// What attention and feed-forward network added.
    added: Option<[State; 2]>,
}

impl KvCache {
    /// A cache of `n_rows` slots with `n` elements each for keys and for values, one layer per entry of
    /// `devices` (`None`: the CPU); with `n_embd`, also of what is added to states of that size. `pieces` are the
    /// elements of each device where keys and values are cut.
    ///
    /// # Errors
    /// `Unsupported`, when blocks of the type do not divide a row; `Resource`; `Device`.
    pub fn new(
        devices: &[Option<Device>],
        n: usize,
        pieces: &[u64],
        n_embd: Option<usize>,
        n_rows: usize,
        dtype: DType,
    ) -> Result<Self> {
        let whole = |n: u64| usize::try_from(n).is_ok_and(|n| dtype.row_bytes(n).is_some());
        if let Some(piece) = pieces.iter().find(|&&n| !whole(n)) {
            crate::bail!(
                Unsupported,
                "keys of {n} elements are cut between devices, {piece} on one, between blocks of {}; use another type for the cache",
                dtype.block_len()
            );
        }
        if dtype.row_bytes(n).is_none() || n_embd.is_some_and(|n| dtype.row_bytes(n).is_none()) {
            crate::bail!(
                Unsupported,
                "keys of {n} elements do not divide into blocks of {}; use another type for the cache",
                dtype.block_len()
            );
        }
        let mut builder = StateSetBuilder::new(4 * devices.len())?;
        let mut indices = Vec::new();
        for device in devices {
            let k = builder.declare(dtype, n, n_rows, *device)?;
            let v = builder.declare(dtype, n, n_rows, *device)?;
            if !pieces.is_empty() {
                builder.cut(k, pieces)?;
                builder.cut(v, pieces)?;
            }
            let added = match n_embd {
                Some(n) => Some([
                    builder.declare(dtype, n, n_rows, *device)?,
                    builder.declare(dtype, n, n_rows, *device)?,
                ]),
                None => None,
            };
            indices.push((k, v, added));
        }
        let set = builder.finish()?;
        let state = |(k, v, added): (usize, usize, Option<[usize; 2]>)| {
            let added = match added {
                Some([a, m]) => Some([set.get(a)?, set.get(m)?]),
                None => None,
            };
            Some(LayerState {
                keys: set.get(k)?,
                values: set.get(v)?,
                added,
            })
        };
        let layers: Option<Vec<_>> = indices.into_iter().map(state).collect();
        Ok(Self {
            layers: layers.unwrap_or_default(),
            set,
            features: n_embd.is_some(),
            dtype,
            n_rows,
        })
    }

    /// Slots that fit.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Whether it has room for what attention and feed-forward network add.
    pub fn has_features(&self) -> bool {
        self.features
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

impl KvCache {
    fn layer(&self, i: usize) -> Result<&LayerState> {
        let layer = self.layers.get(i);
        layer.ok_or_else(|| crate::err!(Internal, "the cache has no layer {i}"))
    }
}

/// Which of a layer's two additions to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Attention's.
    Attention = 0,
    /// The feed-forward network's.
    FeedForward = 1,
}

/// Keeps what a layer adds at some slots; returns all that is kept, in the cache's type.
/// - x: `[n_embd, k]` f32
/// - slots: `[k]` i32, rows of the cache
/// - result: `[n_embd, n_rows]`
pub fn keep_feature(
    g: &mut GraphBuilder,
    cache: &KvCache,
    (i_layer, added): (usize, Added),
    x: Node,
    slots: Node,
) -> Result<Node> {
    let Some(states) = &cache.layer(i_layer)?.added else {
        crate::bail!(Internal, "the cache keeps no features");
    };
    let state = g.state(&states[added as usize])?;
    g.set_rows(state, x, slots)
}

/// As [`keep_feature`], and returns what is kept of `n` slots from row `first` on.
/// - result: `[n_embd, n]` f32
pub fn through_features(
    g: &mut GraphBuilder,
    cache: &KvCache,
    place: (usize, Added),
    x: Node,
    slots: Node,
    (first, n): (usize, usize),
) -> Result<Node> {
    let renewed = keep_feature(g, cache, place, x, slots)?;
    let kept = g.row_range(renewed, first, n)?;
    match cache.dtype {
        DType::F32 => Ok(kept),
        _ => g.cast(kept, DType::F32),
    }
}

/// The slots whose values changed most since they were kept: numbers among those that are computed,
/// and their rows in the cache. The values of all are renewed.
/// - v: `[n_rot * n_head_kv, n]` f32, of the canvas' last n slots
/// - slots: `[n]` i32, rows of the cache
pub fn most_changed(
    g: &mut GraphBuilder,
    cache: &KvCache,
    shape: CacheShape,
    i_layer: usize,
    v: Node,
    slots: Node,
) -> Result<Changed> {
    let CacheShape::Partial {
        first,
        n_kv,
        n_update,
    } = shape
    else {
        crate::bail!(Internal, "a partial update of a cache that has none");
    };
    let n = g.dims(v)?[1];
    let state = g.state(&cache.layer(i_layer)?.values)?;
    let old = g.row_range(state, first + n_kv - n, n)?;
    let old = match cache.dtype {
        DType::F32 => old,
        _ => g.cast(old, DType::F32)?,
    };
    let ids = g.least_alike(v, old, n_update)?;
    // The old values are read before they are overwritten: nodes run in the order they are added in.
    g.compute(ids)?;
    let renewed = g.set_rows(state, v, slots)?;
    let values = g.row_range(renewed, first, n_kv)?;
    let values = match cache.dtype {
        DType::Q8_0 => g.cast(values, DType::F32)?,
        _ => values,
    };
    Ok(Changed {
        slots: pick(g, slots, ids)?,
        ids,
        values,
    })
}

/// What [`most_changed`] found.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// `[n_update]` i32: numbers among the slots that were given.
    pub ids: Node,
    /// `[n_update]` i32: their rows in the cache.
    pub slots: Node,
    /// `[n_rot * n_head_kv, n_kv]`: the values of the whole canvas.
    pub values: Node,
}

/// Elements of a list by number.
/// - list: `[n]` i32; ids: `[k]` i32
pub fn pick(g: &mut GraphBuilder, list: Node, ids: Node) -> Result<Node> {
    let (n, k) = (g.dims(list)?[0], g.dims(ids)?[0]);
    let list = g.reshape(list, [1, n, 1])?;
    let picked = g.rows(list, ids)?;
    g.reshape(picked, [k, 1, 1])
}

/// Renews some keys and returns those of the whole canvas.
/// - k: `[n_rot, n_head_kv, n_update]` f32, after RoPE; slots: `[n_update]` i32, rows of the cache
/// - result: `[n_rot, n_head_kv, n_kv]` f32 or f16
pub fn renew_keys(
    g: &mut GraphBuilder,
    cache: &KvCache,
    shape: CacheShape,
    i_layer: usize,
    k: Node,
    slots: Node,
) -> Result<Node> {
    let CacheShape::Partial { first, n_kv, .. } = shape else {
        crate::bail!(Internal, "a partial update of a cache that has none");
    };
    let [n_rot, n_head, n, _] = g.dims(k)?;
    let rows = g.reshape(k, [n_rot * n_head, n, 1])?;
    let state = g.state(&cache.layer(i_layer)?.keys)?;
    let renewed = g.set_rows(state, rows, slots)?;
    seen(g, renewed, first, [n_rot, n_head, n_kv])
}

/// Keeps the keys and values of all slots that are computed; returns all that are kept.
/// - k: `[n_rot, n_head_kv, n]` f32, after RoPE; v: the same shape
/// - slots: `[n]` i32, rows of the cache
/// - result: keys and values, `[n_rot * n_head_kv, n_rows]` in the cache's type
pub fn keep(
    g: &mut GraphBuilder,
    cache: &KvCache,
    i_layer: usize,
    (k, v): (Node, Node),
    slots: Node,
) -> Result<(Node, Node)> {
    let LayerState { keys, values, .. } = cache.layer(i_layer)?;
    let [n_rot, n_head, n, _] = g.dims(k)?;
    let mut keep = |x: Node, state: &State| -> Result<Node> {
        let rows = g.reshape(x, [n_rot * n_head, n, 1])?;
        let state = g.state(state)?;
        let kept = g.set_rows(state, rows, slots)?;
        g.compute(kept)?;
        Ok(kept)
    };
    Ok((keep(k, keys)?, keep(v, values)?))
}

/// The keys, or the values, that queries of a window look at.
/// - kept: of [`keep`]; first: row of slot 0; `[n_rot, n_head, n_kv]`: the result's shape
/// - result: f32 or f16
pub fn seen(
    g: &mut GraphBuilder,
    kept: Node,
    first: usize,
    [n_rot, n_head, n_kv]: [usize; 3],
) -> Result<Node> {
    let mut all = g.row_range(kept, first, n_kv)?;
    if g.dtype(all)? == DType::Q8_0 {
        all = g.cast(all, DType::F32)?;
    }
    g.reshape(all, [n_rot, n_head, n_kv])
}
