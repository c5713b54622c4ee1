//! The trainer's checkpoints: a valid one, of which one file is the input.
#![allow(dead_code)] // for targets, or for tests

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use remask_trainer::checkpoint::{Progress, Snapshot, find, list, load_progress, load_state, name, save};
use remask_trainer::data::SpecialIds;
use remask_trainer::import;
use remask_trainer::optim::State;
use remask_trainer::shape::Shape;

/// Files of a checkpoint, by the input's first byte.
pub const FILES: [&str; 5] = [
    "trainer.json",
    "config.json",
    "trainer.safetensors",
    "model.safetensors",
    "tokenizer.json",
];

/// A run's folder with one checkpoint, and what its files hold.
pub struct Run {
    folder: tempfile::TempDir,
    shape: Shape,
    valid: Vec<Vec<u8>>,
    /// The file that is not valid now.
    bent: Option<usize>,
}

impl Run {
    /// Saves a checkpoint of a network of a few thousand weights; `tokenizer` is the folder of its tokenizer.
    pub fn new(tokenizer: &Path) -> Self {
        let base = Path::new("/dev/shm");
        let base = if base.is_dir() {
            base.to_owned()
        } else {
            std::env::temp_dir()
        };
        let folder = tempfile::Builder::new()
            .prefix("remask-fuzz-")
            .tempdir_in(base)
            .unwrap();
        let shape = Shape {
            d_model: 8,
            n_layers: 1,
            n_heads: 2,
            mlp_hidden_size: 8,
            vocab_size: 32,
            max_sequence_length: 16,
            ..Shape::default()
        };
        let parameters = shape.parameters();
        let weights = shape.initial(1);
        let states: Vec<State> = weights
            .iter()
            .map(|w| State {
                values: w.clone(),
                first: vec![0.25; w.len()],
                second: vec![0.5; w.len()],
                average: Vec::new(),
            })
            .collect();
        let progress = Progress {
            version: 1,
            step: 7,
            config: "[run]".to_owned(),
            ..Progress::default()
        };
        let snapshot = Snapshot {
            shape: &shape,
            weights: &weights,
            parameters: &parameters,
            state: &states,
            progress: &progress,
            tokenizer,
            ids: SpecialIds { eos: 1, mask: 2 },
            shift: false,
        };
        let path = save(folder.path(), &snapshot).unwrap();
        let valid = FILES
            .iter()
            .map(|f| std::fs::read(path.join(f)).unwrap())
            .collect();
        Self {
            folder,
            shape,
            valid,
            bent: None,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(name(7))
    }

    /// Inputs that are the files as they are.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let seed = |(i, bytes): (usize, &Vec<u8>)| [&[i as u8], &bytes[..]].concat();
        self.valid.iter().enumerate().map(seed).collect()
    }

    /// One file is the input: the checkpoint is refused, or what is read fits the network.
    pub fn load(&mut self, bytes: &[u8]) -> bool {
        let Some((which, bytes)) = bytes.split_first() else {
            return false;
        };
        let which = usize::from(*which) % FILES.len();
        if let Some(before) = self.bent.replace(which).filter(|b| *b != which) {
            std::fs::write(self.path().join(FILES[before]), &self.valid[before]).unwrap();
        }
        std::fs::write(self.path().join(FILES[which]), bytes).unwrap();
        assert_eq!(list(self.folder.path()).len(), 1);
        let path = find(self.folder.path()).unwrap();
        let mut good = load_progress(&path).is_ok();
        match load_state(&path, &self.shape.parameters()) {
            Ok(states) => {
                for (state, p) in states.iter().zip(self.shape.parameters()) {
                    assert_eq!(state.values.len(), p.len(), "{}", p.name);
                    for list in [&state.first, &state.second, &state.average] {
                        assert!(list.is_empty() || list.len() == p.len(), "{}", p.name);
                    }
                }
            }
            Err(_) => good = false,
        }
        match import::read(&path) {
            Ok(source) => {
                for p in source.shape.parameters() {
                    assert_eq!(source.weights[&p.name].len(), p.len(), "{}", p.name);
                }
            }
            Err(_) => good = false,
        }
        good
    }
}

/// For targets: a run of this thread, with the tokenizer of the hostile files' valid checkpoint.
fn with_run<T>(what: impl FnOnce(&mut Run) -> T) -> T {
    thread_local! {
        static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
    }
    RUN.with_borrow_mut(|run| {
        what(run.get_or_insert_with(|| {
            let hostile = std::env::var_os("REMASK_HOSTILE").expect("REMASK_HOSTILE names no folder");
            Run::new(&Path::new(&hostile).join("hf_ok"))
        }))
    })
}

/// The body of the target.
pub fn checkpoint_load(bytes: &[u8]) -> bool {
    with_run(|run| run.load(bytes))
}

/// Inputs to begin with, as files.
pub fn write_seeds(folder: &Path) {
    for (i, seed) in with_run(|run| run.seeds()).iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{i}")), seed).unwrap();
    }
}
