//! Puts a checked table of tensors into memory.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use half::{bf16, f16};

use super::map::FileBytes;
use super::table::{Found, Parts, TensorRule, resolve};
use super::verify::first_not_finite;
use crate::error::Result;
use crate::ggml::{
    AlignedBytes, Device, DeviceKind, HOST_ALIGNMENT, StableBytes, Weight, WeightSet, WeightSetBuilder,
};
use crate::gguf::{Gguf, TensorType};

/// Which device each layer lives on. What is before and after the layers lives on the CPU, except the
/// head, which follows the last layer.
#[derive(Clone, Default)]
pub struct Placement {
    /// One entry per layer; `None` is the CPU.
    pub layers: Vec<Option<Device>>,
    /// Where the output norm and head live; `None` is the CPU.
    pub head: Option<Device>,
    /// How layers are cut, where all of them live on a device made of several.
    pub parts: Option<Parts>,
}

impl Placement {
    /// The devices in use besides the CPU.
    pub fn devices(&self) -> Vec<Device> {
        let mut devices = Vec::new();
        for device in self.layers.iter().copied().chain([self.head]).flatten() {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        devices
    }
}

/// How far loading is, in bytes of weights.
#[derive(Clone, Copy, Debug)]
pub struct LoadProgress {
    /// Bytes in place or checked.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Bytes handed to a device at a time: bounds the driver's staging memory and the wait for a cancel.
const CHUNK: usize = 16 << 20;

/// The embedding table, and the head that it serves as where the file has none.
const TABLE: &str = "token_embd.weight";
const HEAD: &str = "output.weight";

/// A family's weights, by name.
pub struct Weights {
    set: Arc<WeightSet>,
    index: HashMap<String, usize>,
    n_bytes: u64,
    found: Vec<Found>,
    files: Vec<Arc<FileBytes>>,
}

/// The next tensor that no other thread has taken.
fn take<'a>(next: &AtomicUsize, found: &'a [Found]) -> Option<(usize, &'a Found)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    found.get(i).map(|f| (i, f))
}

impl Weights {
    /// Checks `gguf` against `rules` and puts every tensor in place.
    ///
    /// # Errors
    /// `Model`, naming the tensor that is absent, unknown, or of a wrong shape or type; `Resource`;
    /// `Device`; `Cancelled`, when `progress` breaks.
    pub fn load(
        gguf: &Gguf,
        files: &[Arc<FileBytes>],
        rules: &[TensorRule],
        placement: &Placement,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let mut found = resolve(gguf, rules)?;
        let tied = found.iter().position(|f| f.name == TABLE);
        let tied = tied.filter(|_| placement.head.is_some() && !found.iter().any(|f| f.name == HEAD));
        // The head's device cannot reach the table that it shares: it gets a copy.
        if let Some(i) = tied {
            let copy = Found {
                name: HEAD.to_owned(),
                ..found[i].clone()
            };
            found.push(copy);
        }
        let n_bytes = found.iter().map(|f| f.n_bytes).sum();
        let mut loader = Loader {
            files,
            builder: WeightSetBuilder::new(found.len())?,
            progress,
            state: LoadProgress {
                done: 0,
                total: n_bytes,
            },
        };
        for f in &found {
            let declared = loader.builder.declare(f.dtype, f.dims);
            let index = declared.map_err(|e| e.context(format_args!("tensor {}", f.name)))?;
            if let Some((axis, pieces)) = placement.parts.as_ref().and_then(|parts| f.pieces(parts)) {
                loader.builder.cut(index, axis, &pieces)?;
            }
        }
        loader.place(&found, placement)?;
        let index = found
            .iter()
            .enumerate()
            .map(|(i, f)| (f.name.clone(), i))
            .collect();
        let set = loader.builder.finish()?;
        if tied.is_some()
            && let Some(copy) = found.last_mut()
        {
            // What is told of it is of the tensor in the file.
            copy.name = TABLE.to_owned();
        }
        Ok(Self {
            set,
            index,
            n_bytes,
            found,
            files: files.to_vec(),
        })
    }

    /// The name of the weight with number `index` in the set.
    pub fn name(&self, index: usize) -> Option<&str> {
        self.found.get(index).map(|f| f.name.as_str())
    }

    /// Reads every weight of the file once, on `n_threads` threads, and checks that it is finite.
    ///
    /// # Errors
    /// `Numeric`, naming the first tensor that is not, and where.
    pub fn verify(&self, n_threads: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        let faults = Mutex::new(BTreeMap::new());
        let work = || {
            while let Some((i, f)) = take(&next, &self.found) {
                let fault = slice(&self.files, f).map(|bytes| first_not_finite(f.source, bytes));
                if !matches!(fault, Ok(None)) {
                    faults.lock().unwrap_or_else(|e| e.into_inner()).insert(i, fault);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..n_threads.max(1) {
                // Fewer threads than asked for only take longer.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let faults = faults.into_inner().unwrap_or_else(|e| e.into_inner());
        match faults.into_iter().next() {
            None => Ok(()),
            Some((_, Err(error))) => Err(error),
            Some((i, Ok(at))) => {
                let f = &self.found[i];
                let unit = if f.source.block_len() > 1 {
                    "block"
                } else {
                    "element"
                };
                crate::bail!(
                    Numeric,
                    "tensor {}: {unit} {} is not a finite number",
                    f.name,
                    at.unwrap_or(0)
                )
            }
        }
    }

    /// The weight `name`, if the file has it.
    pub fn get(&self, name: &str) -> Option<Weight> {
        self.set.get(*self.index.get(name)?)
    }

    /// The weight `name`.
    ///
    /// # Errors
    /// `Internal`: required weights were checked at loading.
    pub fn require(&self, name: &str) -> Result<Weight> {
        self.get(name)
            .ok_or_else(|| crate::err!(Internal, "weight {name} was not loaded"))
    }

    /// Bytes of all weights, as stored in the file.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

struct Loader<'a> {
    files: &'a [Arc<FileBytes>],
    builder: WeightSetBuilder,
    progress: &'a mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    state: LoadProgress,
}

impl Loader<'_> {
    fn place(&mut self, found: &[Found], placement: &Placement) -> Result<()> {
        let mut on_host: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.files.len()];
        let mut on_device: Vec<(Device, Vec<usize>)> = Vec::new();
        let mut copied = Vec::new();
        for (i, f) in found.iter().enumerate() {
            match device_of(f, placement) {
                Some(device) => match on_device.iter_mut().find(|(d, _)| *d == device) {
                    Some((_, list)) => list.push(i),
                    None => on_device.push((device, vec![i])),
                },
                None => {
                    let offset = usize::try_from(f.offset).unwrap_or(usize::MAX);
                    if f.widen.is_none() && offset.is_multiple_of(HOST_ALIGNMENT) {
                        on_host.get_mut(f.file).ok_or_else(no_file)?.push((i, offset));
                    } else {
                        copied.push(i);
                    }
                }
            }
        }
        for (file, places) in self.files.iter().zip(&on_host) {
            if !places.is_empty() {
                self.builder.bind_host(file.clone(), places)?;
            }
        }
        self.copy_to_host(found, &copied)?;
        for (device, indices) in on_device {
            self.builder.allocate(device, &indices)?;
            for i in indices {
                self.upload(i, &found[i])?;
            }
        }
        Ok(())
    }

    /// Tensors that cannot be used where they lie: 16-bit norms, and files aligned to less than ggml
    /// asks for. Small, but for such files.
    fn copy_to_host(&mut self, found: &[Found], indices: &[usize]) -> Result<()> {
        if indices.is_empty() {
            return Ok(());
        }
        let mut places = Vec::new();
        let mut end = 0usize;
        for &i in indices {
            places.push((i, end));
            let n = usize::try_from(f32_bytes(&found[i])).unwrap_or(usize::MAX);
            end = end
                .checked_add(n)
                .map(|e| e.next_multiple_of(HOST_ALIGNMENT))
                .unwrap_or(usize::MAX);
        }
        let mut memory = AlignedBytes::new(end, "copies of weights that are not aligned in the file")?;
        for &(i, at) in &places {
            let f = &found[i];
            let source = self.bytes(f)?;
            let n = usize::try_from(f32_bytes(f)).unwrap_or(0);
            let Some(target) = memory.bytes_mut().get_mut(at..at + n) else {
                return Err(no_file());
            };
            match f.widen {
                None => target.copy_from_slice(source),
                Some(ty) => widen(ty, source, target),
            }
            self.advance(f.n_bytes)?;
        }
        self.builder.bind_host(Arc::new(memory), &places)
    }

    fn upload(&mut self, index: usize, f: &Found) -> Result<()> {
        if let Some(ty) = f.widen {
            let mut wide = AlignedBytes::new(usize::try_from(f32_bytes(f)).unwrap_or(0), "a norm")?;
            widen(ty, self.bytes(f)?, wide.bytes_mut());
            self.builder.upload(index, 0, wide.bytes())?;
            return self.advance(f.n_bytes);
        }
        let files = self.files;
        // Between its rows a tensor is cut as a whole; then its pieces are the steps of loading.
        let step = self.builder.upload_step(index)?;
        let size = (CHUNK / step).max(1).saturating_mul(step);
        for (n, chunk) in slice(files, f)?.chunks(size).enumerate() {
            self.builder.upload(index, n * size, chunk)?;
            self.advance(chunk.len() as u64)?;
        }
        Ok(())
    }

    fn bytes(&self, f: &Found) -> Result<&[u8]> {
        slice(self.files, f)
    }

    fn advance(&mut self, n_bytes: u64) -> Result<()> {
        self.state.done += n_bytes;
        match (self.progress)(self.state) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => crate::bail!(Cancelled, "loading was cancelled"),
        }
    }
}

fn slice<'a>(files: &'a [Arc<FileBytes>], f: &Found) -> Result<&'a [u8]> {
    let bytes = files.get(f.file).ok_or_else(no_file)?.bytes();
    let begin = usize::try_from(f.offset).ok();
    let range = begin.and_then(|b| Some(b..b.checked_add(usize::try_from(f.n_bytes).ok()?)?));
    range.and_then(|r| bytes.get(r)).ok_or_else(no_file)
}

fn no_file() -> crate::error::Error {
    crate::err!(
        Internal,
        "a tensor lies outside its file, although the container was checked"
    )
}

/// Bytes in memory: twice the file's for what is widened.
fn f32_bytes(f: &Found) -> u64 {
    if f.widen.is_some() {
        f.n_bytes.saturating_mul(2)
    } else {
        f.n_bytes
    }
}

fn widen(ty: TensorType, source: &[u8], target: &mut [u8]) {
    for (from, to) in source.chunks_exact(2).zip(target.chunks_exact_mut(4)) {
        let bits = [from[0], from[1]];
        let value = match ty {
            TensorType::Bf16 => bf16::from_le_bytes(bits).to_f32(),
            _ => f16::from_le_bytes(bits).to_f32(),
        };
        to.copy_from_slice(&value.to_ne_bytes());
    }
}

fn device_of(f: &Found, placement: &Placement) -> Option<Device> {
    let device = match f.layer {
        Some(i) => placement.layers.get(i).copied().flatten(),
        None if f.name.starts_with("output") => placement.head,
        // Values that are cut cannot go to the CPU for it.
        None if placement.parts.is_some() && f.name != TABLE => placement.head,
        None => None,
    };
    // The embedding table stays with the CPU: one row per token is all that is read of it.
    device.filter(|d| d.kind() != DeviceKind::Cpu)
}
