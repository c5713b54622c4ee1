//! What hosts ask of the library beside generating: models from memory and through readers, embeddings,
//! scores that can be stopped, runs that own their session.

mod common;

use std::ops::ControlFlow;
use std::path::PathBuf;

use common::convert_golden;
use remask::score::{self, Method};
use remask::text::Special;
use remask::{
    CancelToken, Canvas, ErrorKind, GenerateParams, LoadOptions, Model, ModelFile, Pooling, Session,
    SessionOptions,
};

fn golden() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-tiny", folder.path());
    (folder, path)
}

fn session(model: &Model) -> Session {
    Session::new(model, &SessionOptions::default()).unwrap()
}

fn logits(model: &Model) -> Vec<f32> {
    let mut logits = Vec::new();
    session(model)
        .logits(&[5, 6, 7, model.mask_token()], &[3], &mut logits)
        .unwrap();
    logits
}

#[test]
fn a_model_is_the_same_from_a_path_from_memory_and_through_a_reader() {
    let (_folder, path) = golden();
    let expected = logits(&Model::load(&path, &LoadOptions::default()).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    let go_on = &mut |_| ControlFlow::Continue(());
    let file = ModelFile::from_memory(bytes.clone()).unwrap();
    let model = Model::from_file(file, &LoadOptions::default(), go_on).unwrap();
    assert_eq!(logits(&model), expected);
    let mut read_at = |offset: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
        Ok(())
    };
    let file = ModelFile::from_reader(bytes.len() as u64, &mut read_at, go_on).unwrap();
    let model = Model::from_file(file, &LoadOptions::default(), go_on).unwrap();
    assert_eq!(logits(&model), expected);
}

#[test]
fn a_reader_can_fail_and_be_cancelled() {
    let fails = ModelFile::from_reader(
        10,
        &mut |_, _| Err(remask::Error::new(ErrorKind::Io, "gone")),
        &mut |_| ControlFlow::Continue(()),
    );
    assert_eq!(fails.err().unwrap().kind(), ErrorKind::Io);
    let stopped = ModelFile::from_reader(10, &mut |_, _| Ok(()), &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped.err().unwrap().kind(), ErrorKind::Cancelled);
}

#[test]
fn embeddings_are_the_states_after_the_final_norm() {
    let (_folder, path) = golden();
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    let mut session = session(&model);
    let tokens = [5, 9, 12, 700, 3];
    let states = session.hidden_states(&tokens).unwrap().pop().unwrap();
    let n = model.sizes().n_embd;
    let near = |a: &[f32], b: &[f32]| {
        assert_eq!(a.len(), b.len());
        let far = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(far < 1e-4, "{far}");
    };
    near(&session.embeddings(&tokens, Pooling::None).unwrap(), &states);
    near(
        &session.embeddings(&tokens, Pooling::Last).unwrap(),
        &states[4 * n..],
    );
    let mean: Vec<f32> = (0..n)
        .map(|i| (0..5).map(|slot| states[slot * n + i]).sum::<f32>() / 5.0)
        .collect();
    near(&session.embeddings(&tokens, Pooling::Mean).unwrap(), &mean);
    assert!(session.embeddings(&[], Pooling::None).is_err());
}

#[test]
fn the_pseudo_likelihood_masks_one_token_at_a_time() {
    let (_folder, path) = golden();
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    let mut session = session(&model);
    let tokens = [5u32, 9, 12, 700];
    let mut expected = 0.0;
    for slot in 1..4usize {
        let mut canvas = tokens;
        canvas[slot] = model.mask_token();
        let mut row = Vec::new();
        session.logits(&canvas, &[slot as u32], &mut row).unwrap();
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        expected += f64::from(row[tokens[slot] as usize]) - sum.ln();
    }
    let nfe = session.stats().nfe;
    let found = score::pseudo_likelihood(&mut session, &tokens, 1..4, model.mask_token()).unwrap();
    assert!(
        (found.log_likelihood - expected).abs() < 1e-4,
        "{found:?} {expected}"
    );
    assert_eq!(session.stats().nfe, nfe + 3);
}

#[test]
fn a_cancelled_session_scores_nothing_until_it_is_told_otherwise() {
    let (_folder, path) = golden();
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    let mut session = session(&model);
    let cancel = CancelToken::new();
    cancel.set();
    session.set_cancel(Some(cancel));
    let mask = model.mask_token();
    let stopped = score::choose(&mut session, &[5], &[&[6], &[7]], mask, &Method::Pseudo);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    session.set_cancel(None);
    score::choose(&mut session, &[5], &[&[6], &[7]], mask, &Method::Pseudo).unwrap();
}

#[test]
fn a_run_that_owns_its_session_gives_the_same_and_gives_it_back() {
    let (_folder, path) = golden();
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    let mut canvas = Canvas::new(model.mask_token());
    canvas.push_fixed(&model.tokenizer().encode("hello", Special::AsText).unwrap());
    canvas.push_masked(6).unwrap();
    let params = GenerateParams::default();
    let mut borrowed = canvas.clone();
    session(&model)
        .generate(&mut borrowed, &params, |_, _| ControlFlow::Continue(()))
        .unwrap();
    let started = session(&model).into_generation(vec![canvas.clone()], &params);
    let Ok(mut generation) = started else {
        panic!("the run does not start");
    };
    while !generation.is_done() {
        generation.step().unwrap();
    }
    let (session, canvases) = generation.into_parts();
    assert_eq!(canvases[0].tokens(), borrowed.tokens());
    assert_eq!((session.stats().n_runs, session.stats().n_steps), (1, 6));
    let Err(failed) = session.into_generation(Vec::new(), &params) else {
        panic!("a run of nothing starts");
    };
    assert_eq!(failed.1.kind(), ErrorKind::InvalidArgument);
}
