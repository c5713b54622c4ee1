//! A model's file that is replaced, removed, shortened or written to while it is in use: the same result, or
//! `Io`; and the process goes on.
#![cfg(unix)]

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use remask::{
    Canvas, ErrorKind, GenerateParams, LoadOptions, Model, Params, Residence, Result, Session,
    SessionOptions, Token,
};

struct Case {
    folder: tempfile::TempDir,
    path: PathBuf,
    expected: Vec<Token>,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = common::convert_golden("llada-gqa-tiny", folder.path());
        let expected = run(&path, Residence::Map, &mut || {}).unwrap();
        Self {
            folder,
            path,
            expected,
        }
    }

    fn other(&self) -> PathBuf {
        common::convert_golden("illada-tiny", self.folder.path())
    }
}

/// Tokens of a run; `meanwhile` is called after its first step.
fn run(path: &Path, residence: Residence, meanwhile: &mut dyn FnMut()) -> Result<Vec<Token>> {
    let options = LoadOptions {
        residence,
        ..LoadOptions::default()
    };
    let model = Model::load(path, &options)?;
    let mut session = Session::new(
        &model,
        &SessionOptions {
            n_threads: 1,
            ..SessionOptions::default()
        },
    )?;
    let mut canvas = Canvas::new(model.mask_token());
    canvas.push_fixed(&[1, 2, 3]);
    canvas.push_masked(12)?;
    let params = GenerateParams {
        denoise: Params {
            steps: 6,
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    let mut step = 0;
    session.generate(&mut canvas, &params, |_, _| {
        step += 1;
        if step == 1 {
            meanwhile();
        }
        ControlFlow::Continue(())
    })?;
    assert!(step > 3);
    Ok(canvas.tokens().to_vec())
}

#[test]
fn a_file_that_is_replaced_or_removed_stays_the_one_it_was() {
    for residence in [Residence::Map, Residence::Read] {
        let case = Case::new();
        let other = case.other();
        let same = run(&case.path, residence, &mut || {
            std::fs::rename(&other, &case.path).unwrap()
        });
        assert_eq!(same.unwrap(), case.expected);
        // The other model is what is loaded now.
        assert_ne!(run(&case.path, residence, &mut || {}).unwrap(), case.expected);
        let case = Case::new();
        let same = run(&case.path, residence, &mut || {
            std::fs::remove_file(&case.path).unwrap()
        });
        assert_eq!(same.unwrap(), case.expected);
        assert_eq!(
            run(&case.path, residence, &mut || {}).unwrap_err().kind(),
            ErrorKind::Io
        );
    }
}

#[test]
fn a_file_that_is_shortened_or_written_to_is_an_error_before_the_next_step() {
    type Change = (&'static str, fn(&std::fs::File));
    let change: [Change; 4] = [
        ("half of it", |f| {
            f.set_len(f.metadata().unwrap().len() / 2).unwrap()
        }),
        ("nothing", |f| f.set_len(0).unwrap()),
        ("longer", |f| {
            f.set_len(f.metadata().unwrap().len() + 4096).unwrap()
        }),
        ("written to", |mut f| {
            // Behind a clock that counts in ticks.
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::io::Write::write_all(&mut f, b"GGUF").unwrap();
        }),
    ];
    for (what, change) in change {
        let case = Case::new();
        let whole = std::fs::read(&case.path).unwrap();
        let open = || std::fs::OpenOptions::new().write(true).open(&case.path).unwrap();
        let error = run(&case.path, Residence::Map, &mut || change(&open())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{what}: {error}");
        assert!(error.message().contains("changed"), "{what}: {error}");
        // Read into memory, it does not matter.
        std::fs::write(&case.path, &whole).unwrap();
        let same = run(&case.path, Residence::Read, &mut || change(&open()));
        assert_eq!(same.unwrap(), case.expected, "{what}");
        // And the next load of a whole file works.
        std::fs::write(&case.path, &whole).unwrap();
        assert_eq!(
            run(&case.path, Residence::Map, &mut || {}).unwrap(),
            case.expected,
            "{what}"
        );
    }
}
