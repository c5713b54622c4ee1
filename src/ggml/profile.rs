//! Where the time of a pass goes: ggml's first thread asks after every operation whether to go on, and
//! the clock is read then.

use std::ffi::CStr;
use std::os::raw::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ggml_sys as sys;

use super::DType;
use super::product::Products;
use crate::error::Result;

/// One kind of work in a pass, added up over passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// `products TYPE` of the network's weights, `head TYPE` of the last one, `attention`, `packing` of
    /// activations, `norms`, `copies`, `elementwise`; `waiting`, where threads had no more to do in a product
    /// or packing of our own and others had (a mean over threads); `unsplit`, where it could not be told.
    pub name: String,
    /// Wall time. In what ggml computes itself, the wait for the other threads is in it.
    pub seconds: f64,
    /// Operations.
    pub n: u64,
    /// Multiply-adds of the products among them.
    pub macs: f64,
}

/// Parts of all runs since it was last asked.
#[derive(Default)]
pub(super) struct Profile {
    parts: Vec<Part>,
}

/// The clock of one run.
pub(super) struct Watch<'a> {
    cancel: Option<&'a AtomicBool>,
    began: Instant,
    /// One for each operation; the room is there before.
    stamps: Vec<Instant>,
}

impl<'a> Watch<'a> {
    pub fn new(graph: NonNull<sys::ggml_cgraph>, cancel: Option<&'a AtomicBool>) -> Result<Self> {
        let mut stamps = Vec::new();
        stamps
            .try_reserve_exact(n_nodes(graph))
            .map_err(|_| crate::err!(Resource, "no memory for a profile"))?;
        Ok(Self {
            cancel,
            began: Instant::now(),
            stamps,
        })
    }

    /// ggml's question whether to stop, `data` being a [`Watch`] that outlives the run.
    pub unsafe extern "C" fn node_done(data: *mut c_void) -> bool {
        // SAFETY: `data` is the watch that `compute` keeps through the call; the first thread alone asks.
        let watch = unsafe { &mut *data.cast::<Self>() };
        if watch.stamps.len() < watch.stamps.capacity() {
            watch.stamps.push(Instant::now());
        }
        watch.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

impl Profile {
    /// Adds a run of `graph` on `n_threads`, whose products of our own are `own`.
    pub fn add(
        &mut self,
        graph: NonNull<sys::ggml_cgraph>,
        watch: &Watch<'_>,
        own: &Products,
        n_threads: u32,
    ) {
        let n = watch.stamps.len();
        // ggml-cpu.c computes a norm and the product after it as one.
        let found = [true, false]
            .into_iter()
            .map(|fused| operations(graph, fused))
            .find(|all| all.len() == n);
        let Some(operations) = found else {
            let end = watch.stamps.last().unwrap_or(&watch.began);
            self.note("unsplit", (*end - watch.began).as_secs_f64(), 0.0);
            return;
        };
        let mut before = watch.began;
        for (operation, &stamp) in operations.iter().zip(&watch.stamps) {
            let mut seconds = (stamp - before).as_secs_f64();
            if let Some(all) = own.take_time(operation.value) {
                let waited = (seconds - all.as_secs_f64() / f64::from(n_threads.max(1))).max(0.0);
                self.note("waiting", waited, 0.0);
                seconds -= waited;
            }
            self.note(&operation.name, seconds, operation.macs);
            before = stamp;
        }
    }

    fn note(&mut self, name: &str, seconds: f64, macs: f64) {
        let i = self.parts.iter().position(|p| p.name == name);
        let i = i.unwrap_or_else(|| {
            self.parts.push(Part {
                name: name.to_owned(),
                seconds: 0.0,
                n: 0,
                macs: 0.0,
            });
            self.parts.len() - 1
        });
        let part = &mut self.parts[i];
        part.seconds += seconds;
        part.n += 1;
        part.macs += macs;
    }

    /// The parts, the longest first.
    pub fn take(&mut self) -> Vec<Part> {
        let mut parts = std::mem::take(&mut self.parts);
        parts.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        parts
    }
}

fn n_nodes(graph: NonNull<sys::ggml_cgraph>) -> usize {
    // SAFETY: the graph is live.
    let n = unsafe { sys::ggml_graph_n_nodes(graph.as_ptr()) };
    usize::try_from(n).unwrap_or(0)
}

/// One operation of a graph: what it makes, what kind it is, and its multiply-adds.
struct Operation {
    value: *const sys::ggml_tensor,
    name: String,
    macs: f64,
}

/// The operations of the graph in the order of computing.
fn operations(graph: NonNull<sys::ggml_cgraph>, fused: bool) -> Vec<Operation> {
    let mut all: Vec<Operation> = Vec::new();
    let mut head = None;
    let mut after_norm = false;
    for i in 0..n_nodes(graph) {
        // SAFETY: the graph is live and has this node.
        let node = unsafe { sys::ggml_graph_node(graph.as_ptr(), i32::try_from(i).unwrap_or(0)) };
        // SAFETY: nodes of a live graph are live.
        let node = unsafe { &*node };
        let none = [
            sys::GGML_OP_NONE,
            sys::GGML_OP_RESHAPE,
            sys::GGML_OP_TRANSPOSE,
            sys::GGML_OP_VIEW,
            sys::GGML_OP_PERMUTE,
        ];
        let joined = std::mem::replace(&mut after_norm, node.op == sys::GGML_OP_RMS_NORM)
            && fused
            && node.op == sys::GGML_OP_MUL;
        if none.contains(&node.op) || node.flags & sys::GGML_TENSOR_FLAG_COMPUTE as i32 == 0 || joined {
            continue;
        }
        // SAFETY: arguments of a live node are NULL or live.
        let first = unsafe { node.src[0].as_ref() };
        let weight = first.filter(|src| src.op == sys::GGML_OP_NONE);
        let (name, macs) = match node.op {
            sys::GGML_OP_CUSTOM if node.type_ == sys::GGML_TYPE_I8 => ("packing".to_owned(), 0.0),
            sys::GGML_OP_CUSTOM if !is_own_product(node) => ("attention".to_owned(), attention_macs(node)),
            sys::GGML_OP_CUSTOM | sys::GGML_OP_MUL_MAT => {
                let elements: f64 = node.ne.iter().map(|&n| n as f64).product();
                let macs = elements * first.map_or(0.0, |src| src.ne[0] as f64);
                match weight {
                    Some(weight) => {
                        head = Some(all.len());
                        let ty = DType::of(weight);
                        (format!("products {}", type_name(ty)), macs)
                    }
                    None => ("attention".to_owned(), macs),
                }
            }
            sys::GGML_OP_SOFT_MAX | sys::GGML_OP_FLASH_ATTN_EXT => ("attention".to_owned(), 0.0),
            sys::GGML_OP_RMS_NORM | sys::GGML_OP_MUL => ("norms".to_owned(), 0.0),
            sys::GGML_OP_GET_ROWS
            | sys::GGML_OP_SET_ROWS
            | sys::GGML_OP_CPY
            | sys::GGML_OP_CONT
            | sys::GGML_OP_DUP => ("copies".to_owned(), 0.0),
            _ => ("elementwise".to_owned(), 0.0),
        };
        let value = std::ptr::from_ref(node);
        all.push(Operation { value, name, macs });
    }
    if let Some(head) = head.and_then(|i| all.get_mut(i)) {
        head.name = head.name.replace("products", "head");
    }
    all
}

/// Whether a custom operation is a product with packed rows, and not one of attention's.
fn is_own_product(node: &sys::ggml_tensor) -> bool {
    // SAFETY: arguments of a live node are NULL or live.
    unsafe { node.src[1].as_ref() }.is_some_and(|second| second.type_ == sys::GGML_TYPE_I8)
}

/// Multiply-adds of an attention of our own, by its queries and keys; 0 of what lays keys out.
fn attention_macs(node: &sys::ggml_tensor) -> f64 {
    let elements: f64 = node.ne.iter().map(|&n| n as f64).product();
    // SAFETY: arguments of a live node are NULL or live.
    let keys = unsafe { node.src[2].as_ref() };
    keys.map_or(0.0, |keys| 2.0 * elements * keys.ne[2] as f64)
}

/// ggml's name of a type, such as `q4_K`.
fn type_name(ty: DType) -> String {
    // SAFETY: a type that a live tensor has.
    let name = unsafe { sys::ggml_type_name(ty.raw()) };
    if name.is_null() {
        return "?".to_owned();
    }
    // SAFETY: not NULL: a static, NUL-terminated string of ggml.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Executor, GraphBuilder, Input, Output};
    use super::*;

    #[test]
    fn every_operation_of_a_run_is_noted_once() {
        let mut executor = Executor::on_cpu(2).unwrap();
        let mut g = GraphBuilder::new(16).unwrap();
        let ids = g.input(DType::I32, [4, 1, 1, 1]).unwrap();
        let x = g.cast(ids, DType::F32).unwrap();
        let y = g.add(x, x).unwrap();
        g.output(y).unwrap();
        let id = executor.add(g).unwrap();
        let run = |executor: &mut Executor| {
            let mut out = [0f32; 4];
            executor
                .run(
                    id,
                    &[(ids, Input::I32(&[1, 2, 3, 4]))],
                    &mut [(y, Output::F32(&mut out))],
                    None,
                )
                .unwrap();
            assert_eq!(out, [2.0, 4.0, 6.0, 8.0]);
        };
        run(&mut executor);
        assert_eq!(executor.take_profile(), []);
        executor.set_profiling(true);
        run(&mut executor);
        run(&mut executor);
        let mut parts = executor.take_profile();
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        let counts: Vec<_> = parts.iter().map(|p| (p.name.as_str(), p.n)).collect();
        assert_eq!(counts, [("copies", 2), ("elementwise", 2)]);
        assert!(parts.iter().all(|p| p.seconds >= 0.0));
        assert_eq!(executor.take_profile(), []);
    }
}
