//! A graph that devices compute while the host does something else.

use ggml_sys as sys;

use super::graph::Node;
use super::sched::{Engine, Executor, GraphId, Input};
use super::shim;
use crate::error::Result;

/// What was started and not waited for yet.
#[derive(Default)]
pub(super) struct Ahead {
    /// The graph, and whether it could be started.
    started: Option<(GraphId, Result<()>)>,
    /// What its inputs were set to, one after the other.
    inputs: Vec<u8>,
    /// How often a run took what was started.
    n_taken: u64,
}

impl Ahead {
    /// Keeps a copy of `inputs`; `false` where there is no memory for it.
    fn note(&mut self, inputs: &[(Node, Input<'_>)]) -> bool {
        let n = inputs.iter().map(|(_, input)| input.bytes().len()).sum();
        self.inputs.clear();
        if self.inputs.try_reserve(n).is_err() {
            return false;
        }
        for (_, input) in inputs {
            self.inputs.extend_from_slice(input.bytes());
        }
        true
    }

    fn noted(&self, inputs: &[(Node, Input<'_>)]) -> bool {
        let mut rest = &self.inputs[..];
        let same = inputs.iter().all(|(_, input)| {
            let (bytes, noted) = (input.bytes(), rest);
            rest = noted.get(bytes.len()..).unwrap_or(&[]);
            noted.starts_with(bytes)
        });
        same && rest.is_empty()
    }
}

impl Executor {
    /// Whether graphs can be started ahead. The CPU would take the time of whoever asks; devices that work as one take
    /// turns; workers are waited for.
    pub fn starts(&self) -> bool {
        matches!(&self.engine, Engine::Split(e) if !e.is_joined() && e.links.is_empty())
    }

    /// Sets `inputs`, has devices compute graph `id`, and does not wait for them. What comes of it is for the
    /// next [`run`](Self::run), where that is of this graph with these inputs; whatever else is asked of the
    /// executor waits for the devices first and forgets it. An error is told by that run.
    /// Does nothing where it [`starts`](Self::starts) nothing.
    pub fn start(&mut self, id: GraphId, inputs: &[(Node, Input<'_>)]) {
        self.forget_ahead();
        if !self.starts() || !self.ahead.note(inputs) {
            return;
        }
        let done = self.load(id, inputs).and_then(|()| self.launch(id));
        self.ahead.started = Some((id, done));
    }

    fn launch(&mut self, id: GraphId) -> Result<()> {
        let (Engine::Split(engine), Some(graph)) = (&mut self.engine, self.graphs.get(id.index())) else {
            crate::bail!(Internal, "graph {} cannot be started", id.index());
        };
        let mut status = sys::GGML_STATUS_SUCCESS;
        // SAFETY: the graph is placed and live, and stays so: whatever would change that waits first.
        let code =
            unsafe { shim::remask_shim_sched_start(engine.sched.as_ptr(), graph.raw.as_ptr(), &mut status) };
        self.engine.computed(code, status)
    }

    /// Waits for what was started; `None` where it is not graph `id` with `inputs`.
    pub(super) fn finish_ahead(&mut self, id: GraphId, inputs: &[(Node, Input<'_>)]) -> Option<Result<()>> {
        let (started, done) = self.ahead.started.take()?;
        let done = done.and(self.wait());
        let taken = started == id && self.placed == Some(id) && self.ahead.noted(inputs);
        self.ahead.n_taken += u64::from(taken);
        taken.then_some(done)
    }

    /// How often a run took what was started before it.
    pub fn n_taken(&self) -> u64 {
        self.ahead.n_taken
    }

    /// Waits for what was started, and forgets it.
    pub(super) fn forget_ahead(&mut self) {
        if self.ahead.started.take().is_some() {
            // Whether the driver gave up is remembered.
            drop(self.wait());
        }
    }

    fn wait(&mut self) -> Result<()> {
        let Engine::Split(engine) = &self.engine else {
            return Ok(());
        };
        // SAFETY: the scheduler is live.
        let code = unsafe { shim::remask_shim_sched_wait(engine.sched.as_ptr()) };
        let done = shim::check(code, "wait for a graph");
        self.engine.heed(done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::backend;
    use super::super::sched::Output;
    use super::super::sched::tests::{product, weights};
    use super::super::tensor::WeightSet;
    use super::*;
    use crate::ggml::GraphBuilder;

    /// An executor for which the CPU's device stands for another, and its graph of `n` rows.
    fn made(set: &Arc<WeightSet>, n: usize) -> (Executor, GraphId, Node, Node) {
        let mut executor = Executor::on_devices(&[backend::cpu().unwrap()], 1).unwrap();
        let (g, input, _, y): (GraphBuilder, _, _, _) = product(set, n);
        let id = executor.add(g).unwrap();
        (executor, id, input, y)
    }

    fn run(executor: &mut Executor, id: GraphId, input: Node, y: Node, ids: &[i32]) -> Vec<f32> {
        let mut out = vec![0.0; 3 * ids.len()];
        let outputs = &mut [(y, Output::F32(&mut out))];
        executor
            .run(id, &[(input, Input::I32(ids))], outputs, None)
            .unwrap();
        out
    }

    #[test]
    fn what_was_started_is_taken_or_forgotten() {
        let set = weights();
        let (mut executor, id, input, y) = made(&set, 2);
        let expected = [[1, 2], [5, 3]].map(|ids| run(&mut executor, id, input, y, &ids));
        executor.start(id, &[(input, Input::I32(&[1, 2]))]);
        assert!(executor.ahead.started.is_some());
        assert_eq!(run(&mut executor, id, input, y, &[1, 2]), expected[0]);
        assert!(executor.ahead.started.is_none());
        // Another input than was asked for in the end.
        executor.start(id, &[(input, Input::I32(&[1, 2]))]);
        assert_eq!(run(&mut executor, id, input, y, &[5, 3]), expected[1]);
        // Another graph in between, which takes the place of the one that was started.
        executor.start(id, &[(input, Input::I32(&[1, 2]))]);
        let (g, other, _, other_y) = product(&set, 4);
        let large = executor.add(g).unwrap();
        assert!(executor.ahead.started.is_none());
        let first = run(&mut executor, large, other, other_y, &[1, 2, 5, 3]);
        assert_eq!(first, expected.concat());
        executor.start(id, &[(input, Input::I32(&[5, 3]))]);
        executor.start(id, &[(input, Input::I32(&[1, 2]))]);
        assert_eq!(run(&mut executor, id, input, y, &[1, 2]), expected[0]);
        assert_eq!(executor.n_taken(), 2);
        executor.start(id, &[(input, Input::I32(&[1, 2]))]);
        drop(executor);
    }

    #[test]
    fn what_cannot_be_started_is_told_by_the_run() {
        let set = weights();
        let (mut executor, id, input, y) = made(&set, 2);
        executor.start(id, &[(input, Input::I32(&[1]))]);
        let mut out = vec![0.0; 6];
        let outputs = &mut [(y, Output::F32(&mut out))];
        let wrong = executor.run(id, &[(input, Input::I32(&[1]))], outputs, None);
        assert!(wrong.unwrap_err().message().contains("do not fit"));
        assert_eq!(run(&mut executor, id, input, y, &[1, 2]).len(), 6);
    }

    #[test]
    fn the_cpu_does_nothing_ahead() {
        let set = weights();
        let mut executor = Executor::on_cpu(1).unwrap();
        let (g, input, _, _) = product(&set, 2);
        let id = executor.add(g).unwrap();
        executor.start(id, &[(input, Input::I32(&[1, 2]))]);
        assert!(executor.ahead.started.is_none());
    }

    #[test]
    fn inputs_are_told_apart() {
        let mut g = GraphBuilder::new(16).unwrap();
        let node = g.input(crate::ggml::DType::I32, [2, 1, 1, 1]).unwrap();
        let mut ahead = Ahead::default();
        assert!(ahead.note(&[(node, Input::I32(&[1, 2])), (node, Input::F32(&[0.5]))]));
        assert!(ahead.noted(&[(node, Input::I32(&[1, 2])), (node, Input::F32(&[0.5]))]));
        assert!(!ahead.noted(&[(node, Input::I32(&[1, 2])), (node, Input::F32(&[0.25]))]));
        assert!(!ahead.noted(&[(node, Input::I32(&[1, 2]))]));
        assert!(!ahead.noted(&[(node, Input::I32(&[1, 2, 3, 4, 5]))]));
    }
}
