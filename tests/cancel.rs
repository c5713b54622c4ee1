//! How long a run goes on after its token was set from another thread, at any moment within a step.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use remask::quantize::Mix;
use remask::synthetic::Shape;
use remask::{
    CancelToken, Canvas, ErrorKind, GenerateParams, LoadOptions, Model, Params, Session, SessionOptions,
};

#[test]
fn a_cancel_within_a_step_is_noticed_before_the_next_operation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slow.gguf");
    let shape = Shape::parse("layers=6,width=512,ff=1536,heads=8,kv=8,vocab=4096,context=1024");
    let mut none = |_: remask::quantize::Progress<'_>| ControlFlow::Continue(());
    shape.unwrap().write(&path, Mix::Q8_0, true, &mut none).unwrap();
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let options = SessionOptions {
        n_threads: 1,
        ..SessionOptions::default()
    };
    let mut session = Session::new(&model, &options).unwrap();
    let rounds = std::env::var("REMASK_CANCELS").ok().and_then(|v| v.parse().ok());
    let rounds: u64 = rounds.unwrap_or(12);
    let mut canvas = Canvas::new(model.mask_token());
    canvas.push_fixed(&[1, 2, 3]);
    canvas.push_masked(509).unwrap();
    let mut took = Vec::new();
    // How long a step is.
    let mut step = Duration::ZERO;
    for round in 0..=rounds {
        let cancel = CancelToken::new();
        let params = GenerateParams {
            denoise: Params {
                steps: 64,
                ..Params::default()
            },
            cancel: Some(cancel.clone()),
            ..GenerateParams::default()
        };
        let mut canvas = canvas.clone();
        if round == 0 {
            let began = Instant::now();
            session
                .generate(&mut canvas, &params, |_, _| ControlFlow::Break(()))
                .unwrap();
            step = began.elapsed();
            continue;
        }
        let wait = step.mul_f64(0.1 + (round as f64 * 0.618_034).fract() * 1.5);
        let setter = std::thread::spawn(move || {
            std::thread::sleep(wait);
            cancel.set();
            Instant::now()
        });
        let done = session.generate(&mut canvas, &params, |_, _| ControlFlow::Continue(()));
        let ended = Instant::now();
        assert_eq!(done.unwrap_err().kind(), ErrorKind::Cancelled);
        took.push(ended.duration_since(setter.join().unwrap()));
    }
    took.sort_unstable();
    let (slowest, median) = (took[took.len() - 1], took[took.len() / 2]);
    println!("{rounds} rounds: a step of {step:?} left within {slowest:?}, half of them within {median:?}");
    assert!(
        slowest < step.div_f64(2.0).max(Duration::from_secs(1)),
        "{slowest:?} of a step of {step:?}"
    );
    // The session is as good as new.
    let params = GenerateParams {
        denoise: Params {
            steps: 1,
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    session
        .generate(&mut canvas, &params, |_, _| ControlFlow::Continue(()))
        .unwrap();
}
