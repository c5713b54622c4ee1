//! Attention by kernels of our own, by ggml with a score matrix, and by ggml without: the same logits.
//!
//! A process of its own, since kernels are chosen for all of one.

mod common;

use remask::kernels::{Level, restrict};
use remask::{Flash, LoadOptions, Model, Session, SessionOptions};

fn logits(model: &Model, flash: Flash) -> Vec<f32> {
    let options = SessionOptions {
        flash,
        n_threads: 2,
        max_canvas: 0,
    };
    let mut session = Session::new(model, &options).unwrap();
    let tokens: Vec<u32> = (0..200).map(|i| i * 37 % 900).collect();
    let rows: Vec<u32> = (0..200).step_by(7).collect();
    let mut logits = Vec::new();
    session.logits(&tokens, &rows, &mut logits).unwrap();
    logits
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
}

#[test]
fn all_kinds_of_attention_agree() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llada-tiny", "llada-gqa-tiny"] {
        let path = common::convert_golden(name, folder.path());
        let model = Model::load(&path, &LoadOptions::default()).unwrap();
        let own = Level::available().pop().map(|level| {
            restrict(Some(level));
            [Flash::Off, Flash::On].map(|flash| logits(&model, flash))
        });
        restrict(None);
        let [matrix, flash] = [Flash::Off, Flash::On].map(|flash| logits(&model, flash));
        let error = difference(&matrix, &flash);
        // Not the same to the bit: the option is heard.
        assert!(error > 0.0 && error < 5e-4, "{name}: {error}");
        if let Some([a, b]) = own {
            assert!(a == b, "{name}: of our own there is one kind");
            let error = difference(&matrix, &a);
            println!("{name}: {error:e}");
            assert!(error > 0.0 && error < 5e-4, "{name}: {error}");
        }
    }
}
