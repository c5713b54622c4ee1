//! A model: family, weights, tokenizer and template, opened from one file and shared by all sessions.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::arch::{self, Arch, Sizes};
use crate::device::{self, DeviceChoice, MemoryEstimate, SplitMode, Wanted};
use crate::error::{Error, Result, try_push};
use crate::ggml::{AlignedBytes, DType, StableBytes, unpack};
use crate::gguf::{Gguf, Metadata, StringArray};
use crate::text::{ChatTemplate, RenderOptions, SpecialIds, Tokenizer, VocabSpec};
use crate::weights::{
    FileBytes, GgufFiles, LoadProgress, OwnedBytes, Placement, READ_AT_ONCE, Residence, Weights,
    first_not_finite,
};

/// When weights are checked to be finite numbers. A NaN does not always show in the logits: rounding
/// activations to 8 bits can drop it, and the text is then wrong without a sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Once, before a model's first run. That run reads every weight anyway; the check adds the time of
    /// reading them from memory, a few percent of a step.
    #[default]
    FirstUse,
    /// When the model is opened.
    Load,
    /// Not at all: for files that were checked before.
    Never,
}

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Map the file (the default) or read it.
    pub residence: Residence,
    /// When weights are checked to be finite numbers.
    pub verify: Verify,
    /// Where layers live.
    pub device: DeviceChoice,
    /// So many layers on the device, the last ones; `None` is as many as fit. More than fit are refused.
    pub gpu_layers: Option<usize>,
    /// Shares of the layers for several devices, one number each; empty is by free memory. Where tensors are
    /// split, shares of each of them.
    pub split: Vec<f64>,
    /// What several devices divide between them: layers, or the tensors of every layer.
    pub split_mode: SplitMode,
    /// A `tokenizer.json` to use in place of what the file says of its tokenizer.
    pub tokenizer: Option<PathBuf>,
}

/// A masked-diffusion model, immutable. Clones share it; sessions keep it alive. Safe to use from any
/// number of threads.
#[derive(Clone)]
pub struct Model {
    shared: Arc<Shared>,
}

struct Shared {
    arch: Box<dyn Arch>,
    gguf: Gguf,
    files: Vec<Arc<FileBytes>>,
    weights: Weights,
    placement: Placement,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    mask: u32,
    verify: Verify,
    verified: OnceLock<Result<()>>,
}

/// A file opened as far as its metadata: what `inspect` shows, without touching a weight.
pub struct ModelFile {
    /// The container's contents, all parts of a split file joined.
    pub gguf: Gguf,
    files: Vec<Arc<FileBytes>>,
}

impl ModelFile {
    /// Opens `path` and, for the first part of a split model, the other parts beside it.
    ///
    /// # Errors
    /// `Io`, `Format`, `Limit`, `Unsupported`; messages begin with the path.
    pub fn open(path: impl AsRef<Path>, residence: Residence) -> Result<Self> {
        let GgufFiles { gguf, files } = GgufFiles::open(path.as_ref(), residence)?;
        Ok(Self { gguf, files })
    }

    /// Opens a whole file that is in memory; `bytes` are kept, or copied where they are not aligned to
    /// 32 bytes.
    ///
    /// # Errors
    /// `Format`, `Limit`, `Resource`; `Unsupported`, for one part of a split model.
    pub fn from_memory(bytes: Vec<u8>) -> Result<Self> {
        Self::from_lent(Box::new(OwnedBytes::new(bytes)))
    }

    pub(crate) fn from_lent(bytes: Box<dyn StableBytes>) -> Result<Self> {
        let GgufFiles { gguf, files } = GgufFiles::in_memory(FileBytes::lent("memory", bytes)?)?;
        Ok(Self { gguf, files })
    }

    /// Reads a whole file of `n_bytes` through `read_at`, which fills a buffer from an offset on, in
    /// rising order. `progress` hears of the bytes read; a break cancels.
    ///
    /// # Errors
    /// What `read_at` reports; `Cancelled`; else as [`from_memory`](Self::from_memory).
    pub fn from_reader(
        n_bytes: u64,
        read_at: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let Ok(n) = usize::try_from(n_bytes) else {
            crate::bail!(Limit, "a model of {n_bytes} bytes does not fit the address space");
        };
        let mut memory = AlignedBytes::new(n, "the model")?;
        let mut done = 0u64;
        for chunk in memory.bytes_mut().chunks_mut(READ_AT_ONCE) {
            read_at(done, chunk)?;
            done += chunk.len() as u64;
            let now = LoadProgress { done, total: n_bytes };
            if progress(now).is_break() {
                crate::bail!(Cancelled, "loading was cancelled");
            }
        }
        Self::from_lent(Box::new(memory))
    }

    /// The family's sizes.
    ///
    /// # Errors
    /// `Unsupported`, for an architecture that is not served; `Model`, for keys that do not make one.
    pub fn sizes(&self) -> Result<Sizes> {
        Ok(arch::open(&self.gguf)?.sizes().clone())
    }

    /// The tokenizer that the file describes, of any architecture.
    ///
    /// # Errors
    /// `Tokenizer` or `Unsupported`, naming what does not hold together.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let Some(table) = self.gguf.tensor("token_embd.weight") else {
            crate::bail!(Model, "tensor token_embd.weight is absent");
        };
        let n_vocab = table.dims().get(1).copied().unwrap_or(1);
        tokenizer(&self.gguf, usize::try_from(n_vocab).unwrap_or(usize::MAX), None)
    }

    /// The values of tensor `name` as floats, whatever they are stored as: rows of its first dimension
    /// one after the other. For trainers.
    ///
    /// # Errors
    /// `Model`, when there is no such tensor; `Unsupported`, for a type without a kernel; `Numeric`, for
    /// values that are no finite numbers; `Io`; `Resource`.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        let Some(info) = self.gguf.tensor(name) else {
            crate::bail!(Model, "tensor {name} is absent");
        };
        let (Some(dtype), Some(file)) = (
            DType::matrix(info.ty.id()),
            self.files.get(usize::from(info.file)),
        ) else {
            crate::bail!(
                Unsupported,
                "tensor {name}: {} cannot be unpacked",
                info.ty.name()
            );
        };
        let n = info.dims().iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let n = n.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        // A packed type is never wider than floats: what the file holds bounds what is reserved.
        let mut values = crate::error::try_vec(n, 0f32, name)?;
        let mut packed =
            crate::error::try_vec(usize::try_from(info.n_bytes).unwrap_or(usize::MAX), 0u8, name)?;
        file.read_at(info.offset, &mut packed)?;
        if first_not_finite(info.ty, &packed).is_some() {
            crate::bail!(Numeric, "tensor {name} has values that are no finite numbers");
        }
        unpack(dtype, &packed, &mut values)?;
        Ok(values)
    }

    /// Memory for a canvas of `n_tokens` with `n_rows` masked slots, attention without flash.
    ///
    /// # Errors
    /// As [`sizes`](Self::sizes).
    pub fn estimate(&self, n_tokens: usize, n_rows: usize) -> Result<MemoryEstimate> {
        Ok(device::estimate(
            &self.gguf,
            &self.sizes()?,
            n_tokens,
            n_rows,
            false,
        ))
    }
}

impl Model {
    /// Opens the model in `path`.
    ///
    /// # Errors
    /// Any kind but `InvalidArgument`, `Busy`, `Data`; messages begin with the path and name the key or
    /// tensor.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        Self::load_with_progress(path, options, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`load`](Self::load), telling `progress` how far it is; a break cancels. It hears of bytes that
    /// are read into memory, then of those that are copied to devices; a mapped file on the CPU has neither.
    ///
    /// # Errors
    /// As [`load`](Self::load), and `Cancelled`.
    pub fn load_with_progress(
        path: impl AsRef<Path>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let GgufFiles { gguf, files } = GgufFiles::open_watched(path, options.residence, progress)?;
        let file = ModelFile { gguf, files };
        let shared = Shared::load(file, options, progress).map_err(|e| e.context(path.display()))?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Makes a model of a file that is open: one in memory, or one that was looked at first.
    /// [`LoadOptions::residence`] has no meaning here.
    ///
    /// # Errors
    /// As [`load_with_progress`](Self::load_with_progress), without the path.
    pub fn from_file(
        file: ModelFile,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let shared = Shared::load(file, options, progress)?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.shared.gguf.metadata
    }

    /// Sizes of the network.
    pub fn sizes(&self) -> &Sizes {
        self.shared.arch.sizes()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.shared.tokenizer
    }

    /// The chat template, where the file has one that parses.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.shared.template.as_ref()
    }

    /// What a chat template of this model is told: the spelling of its marks, and whether the prompt ends
    /// where the answer begins.
    pub fn chat_options(&self, add_generation_prompt: bool) -> RenderOptions {
        let tokenizer = self.tokenizer();
        let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        let specials = tokenizer.specials();
        RenderOptions {
            add_generation_prompt,
            bos: spelled(specials.bos).to_owned(),
            eos: spelled(specials.eos).to_owned(),
        }
    }

    /// Memory for a canvas of `n_tokens` with `n_rows` masked slots, attention without flash.
    pub fn estimate(&self, n_tokens: usize, n_rows: usize) -> MemoryEstimate {
        device::estimate(&self.shared.gguf, self.sizes(), n_tokens, n_rows, false)
    }

    /// Number of weights.
    pub fn n_params(&self) -> u64 {
        let tensors = self.shared.gguf.tensors.iter();
        tensors.map(|t| t.dims().iter().product::<u64>()).sum()
    }

    /// The id of `[MASK]`.
    pub fn mask_token(&self) -> u32 {
        self.shared.mask
    }

    /// Bytes of all weights.
    pub fn n_bytes(&self) -> u64 {
        self.shared.weights.n_bytes()
    }

    pub(crate) fn arch(&self) -> &dyn Arch {
        self.shared.arch.as_ref()
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.shared.weights
    }

    pub(crate) fn placement(&self) -> &Placement {
        &self.shared.placement
    }

    /// Checks the weights, the first time it is called.
    pub(crate) fn verify_once(&self, n_threads: usize) -> Result<()> {
        let shared = &self.shared;
        if shared.verify == Verify::Never {
            return Ok(());
        }
        shared
            .verified
            .get_or_init(|| shared.weights.verify(n_threads))
            .clone()
    }

    /// Notices a mapped file that was changed under us: see [`FileBytes::check_unchanged`].
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.shared.files.iter().try_for_each(|f| f.check_unchanged())
    }
}

impl Shared {
    fn load(
        file: ModelFile,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let ModelFile { gguf, files } = file;
        let arch = arch::open(&gguf)?;
        let sizes = arch.sizes();
        let tokenizer = tokenizer(&gguf, sizes.n_vocab, options.tokenizer.as_deref())?;
        let Some(mask) = tokenizer.specials().mask else {
            crate::bail!(
                Tokenizer,
                "key tokenizer.ggml.mask_token_id is absent; a mask predictor needs it"
            );
        };
        let template = template(&gguf)?;
        let wanted = Wanted {
            choice: &options.device,
            gpu_layers: options.gpu_layers,
            shares: &options.split,
            mode: options.split_mode,
        };
        let placement = device::place(&gguf, arch.as_ref(), &wanted)?;
        let weights = Weights::load(&gguf, &files, &arch.tensors(), &placement, progress)?;
        let verified = OnceLock::new();
        if options.verify == Verify::Load {
            weights.verify(crate::ggml::default_threads())?;
            let _ = verified.set(Ok(()));
        }
        let verify = options.verify;
        Ok(Self {
            arch,
            gguf,
            files,
            weights,
            placement,
            tokenizer,
            template,
            mask,
            verify,
            verified,
        })
    }
}

/// The tokenizer: the one beside the file where it was named, else the whole original one where the
/// file keeps it, else the one that its vocabulary and merges describe.
pub(crate) fn tokenizer(gguf: &Gguf, n_vocab: usize, side: Option<&Path>) -> Result<Tokenizer> {
    let m = &gguf.metadata;
    let id = |name: &str| -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let id = m.u32(&key).map_err(as_tokenizer)?;
        match id {
            Some(id) if id as usize >= n_vocab => {
                crate::bail!(
                    Tokenizer,
                    "key {key} is {id}; the vocabulary has {n_vocab} entries"
                )
            }
            id => Ok(id),
        }
    };
    let specials = SpecialIds {
        bos: id("bos")?,
        eos: id("eos")?,
        eot: id("eot")?,
        pad: id("padding")?,
        mask: id("mask")?,
        unk: id("unknown")?,
    };
    let n_rows = u32::try_from(n_vocab).unwrap_or(u32::MAX);
    let Some(tokens) = m.strings("tokenizer.ggml.tokens").map_err(as_tokenizer)? else {
        crate::bail!(Tokenizer, "key tokenizer.ggml.tokens is absent");
    };
    let types = m.i32s("tokenizer.ggml.token_type").map_err(as_tokenizer)?;
    let merges = m.strings("tokenizer.ggml.merges").map_err(as_tokenizer)?;
    let spec = VocabSpec {
        model: m
            .str("tokenizer.ggml.model")
            .map_err(as_tokenizer)?
            .unwrap_or("gpt2"),
        pre: m.str("tokenizer.ggml.pre").map_err(as_tokenizer)?,
        tokens: strings(tokens)?,
        token_types: types.as_deref(),
        merges: merges.map(strings).transpose()?.unwrap_or_default(),
        n_rows,
        specials,
        add_bos: m
            .bool("tokenizer.ggml.add_bos_token")
            .map_err(as_tokenizer)?
            .unwrap_or(false),
    };
    if let Some(path) = side {
        let file = FileBytes::open(path, Residence::Read);
        let named = |e: Error| e.context(path.display());
        let file = file.map_err(named)?;
        let Ok(json) = std::str::from_utf8(file.bytes()) else {
            crate::bail!(Tokenizer, "{}: it is not UTF-8", path.display());
        };
        return Tokenizer::from_json_and_vocab(json, &spec).map_err(named);
    }
    match m.str("tokenizer.huggingface.json").map_err(as_tokenizer)? {
        Some(json) => Tokenizer::from_json_and_vocab(json, &spec),
        None => Tokenizer::from_vocab(&spec),
    }
}

fn strings(array: &StringArray) -> Result<Vec<&[u8]>> {
    let mut all = Vec::new();
    for string in array.iter() {
        try_push(&mut all, string, "the vocabulary")?;
    }
    Ok(all)
}

/// The chat template. One that does not parse is no reason to refuse the model: base models run
/// without, and a chat says so.
fn template(gguf: &Gguf) -> Result<Option<ChatTemplate>> {
    let Some(source) = gguf.metadata.str("tokenizer.chat_template")? else {
        return Ok(None);
    };
    match ChatTemplate::parse(source) {
        Ok(template) => Ok(Some(template)),
        Err(error) => {
            crate::log!(Warn, "key tokenizer.chat_template is ignored: {error}");
            Ok(None)
        }
    }
}

fn as_tokenizer(error: Error) -> Error {
    Error::new(crate::error::ErrorKind::Tokenizer, error.message())
}
