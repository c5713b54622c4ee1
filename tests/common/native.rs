//! What the tests of the C interface and of what is built on it share.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use remask::text::Special;
use remask::{Canvas, GenerateParams, LoadOptions, Model, Params, Session, SessionOptions, Token};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo puts the library that it builds for tests: beside this program.
pub fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().to_owned()
}

/// Whether a compiler is here; says so where it is not.
pub fn exists(compiler: &str) -> bool {
    let found = Command::new(compiler).arg("--version").output();
    let found = found.is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: there is no {compiler}");
    }
    found
}

/// The standard output of a program that must have succeeded.
pub fn ok(what: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What the library itself makes of the run that the test programs make.
pub fn expected_tokens(path: &Path) -> Vec<Token> {
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let mut canvas = Canvas::new(model.mask_token());
    let prompt = model.tokenizer().encode("Once upon a time", Special::AsText);
    canvas.push_fixed(&prompt.unwrap());
    canvas.push_masked(16).unwrap();
    let params = GenerateParams {
        denoise: Params {
            temperature: 0.8,
            top_p: 0.95,
            block_length: 8,
            steps: 12,
            seed: 7,
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    session
        .generate(&mut canvas, &params, |_, _| std::ops::ControlFlow::Continue(()))
        .unwrap();
    canvas.tokens().to_vec()
}
