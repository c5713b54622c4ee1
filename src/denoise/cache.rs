//! Which slots a step computes, and what it takes from earlier steps.
#![forbid(unsafe_code)]

/// Whether keys and values of slots that hardly change are kept from step to step. All but `None` are
/// approximate: what is kept was computed from an older canvas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Cache {
    /// Every step computes every slot: exact.
    #[default]
    None,
    /// A block's first step computes everything; the next ones compute from the block's start to the end
    /// of the canvas and keep the rest (Fast-dLLM, arXiv 2505.22618, `generate_with_prefix_cache`).
    Prefix,
    /// A block's first step computes everything; the next ones compute the block alone and keep what is
    /// before and after it (Fast-dLLM, `generate_with_dual_cache`).
    Dual,
    /// Everything is computed every `prompt_interval` steps, the response every `response_interval`.
    /// In between, layer by layer, only the share `update` of the response's slots is computed whose
    /// values changed most; the others add to the network's states what they added last (dLLM-Cache,
    /// arXiv 2506.06295; see [`Cache::FEATURE`]). The prompt is what is before the first masked slot.
    Feature {
        /// Steps between full passes; 1 or more.
        prompt_interval: usize,
        /// Steps between passes over the whole response; 1 or more.
        response_interval: usize,
        /// Share of the response's slots, 0 to 1; at least one slot.
        update: f64,
    },
}

impl Cache {
    /// [`Feature`](Self::Feature) with the authors' settings for LLaDA-8B-Instruct.
    pub const FEATURE: Self = Self::Feature {
        prompt_interval: 25,
        response_interval: 7,
        update: 0.25,
    };
}

/// How kept keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheType {
    /// As they are computed.
    #[default]
    F32,
    /// Half the memory.
    F16,
    /// A quarter of it; the size of a row of keys must be a multiple of 32.
    Q8_0,
}

/// A published version of Fast-dLLM whose loop is followed where it differs from the one here: which
/// checks whether a block is full before it computes, and goes on until it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FastDllm {
    /// As of 2025-06-27 (24cc59e): after a block's first step one more is always computed, also when
    /// the block is full. It commits nothing and counts as an evaluation.
    Jun2025,
    /// As of 2026-05-30 (a9b81e4): with `Cache::Dual` a block ends after its share of `steps`, full or
    /// not. What it leaves masked can be filled in the first steps of later blocks.
    Main,
}

/// What a query computes and keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// Everything is computed, nothing is kept.
    #[default]
    Off,
    /// Everything is computed, and keys and values of all slots are kept for later queries of the same
    /// canvas and branch.
    Fill,
    /// The slots `begin..end` are computed and what is kept of them is renewed; of the other slots the
    /// kept keys and values are used. Rows must be inside.
    Window {
        /// First slot that is computed.
        begin: usize,
        /// One past the last.
        end: usize,
    },
    /// Of the slots from `begin` to the end, the `n_update` whose values changed most are computed.
    Partial {
        /// First slot.
        begin: usize,
        /// How many are computed.
        n_update: usize,
    },
}

/// A kind of query that a run will make, for those who want to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassShape {
    /// Index of the canvas.
    pub sequence: usize,
    /// Slots of the canvas that are shown.
    pub n_slots: usize,
    /// Slots that are computed, where that is only a window.
    pub window: Option<usize>,
    /// How many of the window's slots, where they are chosen by what changed.
    pub n_update: Option<usize>,
    /// Most rows asked for.
    pub n_rows: usize,
}
