//! Layers on other devices than the CPU: on the device that REMASK_TEST_DEVICE names, else on the first
//! that is no CPU, which may be Mesa's software driver (`cargo xtask test-vulkan`, `benches/gpu.sh`).
//! Without one the tests say so and end.
#![cfg(any(
    feature = "cuda",
    feature = "metal",
    feature = "vulkan",
    feature = "vulkan-archive"
))]

mod common;

use std::ops::ControlFlow;

use common::{Arrays, convert_golden, vectors_dir};
use remask::denoise::Cache;
use remask::device::{self, DeviceChoice, DeviceKind, SplitMode};
use remask::quantize::Mix;
use remask::synthetic::Shape;
use remask::{
    CacheType, Canvas, ErrorKind, Flash, GenerateParams, LoadOptions, Model, Order, Params, Session,
    SessionOptions, Token,
};

/// Bound on the absolute error of a logit; logits have a standard deviation of 3 to 4. Drivers may use
/// f16 inside products, whose unit is 1e-3 of a value.
const BOUND: f32 = 8e-2;

/// The device's name, where there is one. A device that was asked for must be there.
fn device_name() -> Option<String> {
    let asked = std::env::var("REMASK_TEST_DEVICE").ok();
    let all = device::list().unwrap();
    let found = all.into_iter().find(|d| match &asked {
        Some(name) => d.name.eq_ignore_ascii_case(name),
        None => d.kind != DeviceKind::Cpu,
    });
    match &found {
        Some(d) => println!("device: {} ({})", d.name, d.description),
        None => println!("no device but the CPU was found; nothing is tested"),
    }
    assert!(asked.is_none() || found.is_some(), "there is no device {asked:?}");
    found.map(|d| d.name)
}

fn session(path: &std::path::Path, device: DeviceChoice, gpu_layers: Option<usize>) -> Session {
    let options = LoadOptions {
        device,
        gpu_layers,
        ..LoadOptions::default()
    };
    let model = Model::load(path, &options).unwrap();
    let options = SessionOptions {
        flash: Flash::Off,
        n_threads: 1,
        max_canvas: 0,
    };
    Session::new(&model, &options).unwrap()
}

/// The tokens that a run puts on a canvas.
fn tokens(session: &mut Session, prompt: &[Token], rule: &Params) -> Vec<Token> {
    run(session, prompt, rule).unwrap()
}

fn run(session: &mut Session, prompt: &[Token], rule: &Params) -> remask::Result<Vec<Token>> {
    let mut all = run_all(session, &[(prompt, 8)], rule)?;
    Ok(all.remove(0))
}

/// As `run`, for several canvases in one run, each of a prompt and so many masked slots.
fn run_all(
    session: &mut Session,
    prompts: &[(&[Token], usize)],
    rule: &Params,
) -> remask::Result<Vec<Vec<Token>>> {
    run_all_by(session, prompts, rule, false)
}

/// As `run_all`; with `begins` every step is begun when the one before is done.
fn run_all_by(
    session: &mut Session,
    prompts: &[(&[Token], usize)],
    rule: &Params,
    begins: bool,
) -> remask::Result<Vec<Vec<Token>>> {
    let mask = session.model().mask_token();
    let canvas = |&(prompt, n): &(&[Token], usize)| {
        let mut all = prompt.to_vec();
        all.resize(prompt.len() + n, mask);
        Canvas::from_tokens(&all, mask)
    };
    let params = GenerateParams {
        denoise: rule.clone(),
        ..GenerateParams::default()
    };
    let mut run = session.start(prompts.iter().map(canvas).collect(), &params)?;
    while !run.is_done() {
        run.step()?;
        if begins {
            run.begin();
        }
    }
    Ok(run.canvases().map(|canvas| canvas.tokens().to_vec()).collect())
}

/// Rules that need all there is of a row that was reduced on the device.
fn rules() -> Vec<Params> {
    let short = std::env::var_os("REMASK_TEST_SHORT").is_some();
    let base = Params {
        steps: 4,
        block_length: 4,
        ..Params::default()
    };
    let mut rules = vec![
        base.clone(),
        Params {
            cache: Cache::Dual,
            suppress: vec![9, 30],
            ..base.clone()
        },
        Params {
            temperature: 1.0,
            seed: 11,
            suppress: vec![9, 30],
            ..base.clone()
        },
        // The nucleus is wider than what comes back of a row: all of it is then read.
        Params {
            temperature: 5.0,
            top_p: 0.95,
            seed: 12,
            ..base.clone()
        },
        Params {
            temperature: 1.0,
            top_k: 20,
            top_p: 0.9,
            seed: 13,
            ..base.clone()
        },
        Params {
            order: Order::Margin,
            ..base.clone()
        },
        Params {
            order: Order::Entropy,
            ..base
        },
    ];
    if short {
        // With a software driver most of the time goes into compiling a shader for each new shape.
        rules.truncate(4);
    }
    rules
}

#[test]
fn logits_and_tokens_are_the_references_on_the_device_and_split_with_the_cpu() {
    let Some(name) = device_name() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-gqa-tiny", folder.path());
    let arrays = Arrays::open(&vectors_dir().join("logits/llada-gqa-tiny.safetensors"));
    let ids = arrays.i32("chat.input_ids");
    let ids: Vec<Token> = ids.row(0).iter().map(|&t| t as Token).collect();
    let positions = arrays.i32("chat.positions");
    let rows: Vec<u32> = positions.values.iter().map(|&p| p as u32).collect();
    let expected = arrays.f32("chat.logits");
    let mut cpu = session(&path, DeviceChoice::Cpu, None);
    let rules = rules();
    let reference: Vec<_> = rules
        .iter()
        .map(|rule| tokens(&mut cpu, &ids[..12], rule))
        .collect();
    for gpu_layers in [None, Some(1)] {
        let mut session = session(&path, DeviceChoice::Named(name.clone()), gpu_layers);
        let mut logits = Vec::new();
        session.logits(&ids, &rows, &mut logits).unwrap();
        let errors = logits.iter().zip(expected.row(0)).map(|(a, b)| (a - b).abs());
        let worst = errors.fold(0f32, f32::max);
        println!("layers {gpu_layers:?}: largest error of a logit {worst:.1e}");
        assert!(worst <= BOUND, "layers {gpu_layers:?}: {worst}");
        for (rule, reference) in rules.iter().zip(&reference) {
            let got = tokens(&mut session, &ids[..12], rule);
            if rule.temperature == 0.0 {
                assert_eq!(&got, reference, "layers {gpu_layers:?}, {rule:?}");
                continue;
            }
            // A draw depends on all logits, which differ by roundings: the host draws from the device's.
            session.set_reduction(Some(false));
            let same = tokens(&mut session, &ids[..12], rule);
            session.set_reduction(None);
            assert_eq!(got, same, "layers {gpu_layers:?}, {rule:?}");
        }
        // The logits themselves, as rules get them that need them.
        session.set_reduction(Some(false));
        let got = tokens(&mut session, &ids[..12], &rules[0]);
        assert_eq!(got, reference[0], "layers {gpu_layers:?}");
    }
}

#[test]
fn layers_over_two_devices_give_the_same() {
    let Some(names) = two_devices() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-gqa-tiny", folder.path());
    let arrays = Arrays::open(&vectors_dir().join("logits/llada-gqa-tiny.safetensors"));
    let ids = arrays.i32("chat.input_ids");
    let ids: Vec<Token> = ids.row(0).iter().map(|&t| t as Token).collect();
    let options = LoadOptions {
        device: DeviceChoice::Named(names),
        split: vec![1.0, 1.0],
        ..LoadOptions::default()
    };
    let model = Model::load(&path, &options).unwrap();
    let mut split = Session::new(&model, &SessionOptions::default()).unwrap();
    let mut cpu = session(&path, DeviceChoice::Cpu, None);
    for rule in &rules()[..2] {
        assert_eq!(
            tokens(&mut split, &ids[..12], rule),
            tokens(&mut cpu, &ids[..12], rule),
            "{rule:?}"
        );
    }
}

/// Names of the devices that are no CPU, two or more. One that was asked for is tested alone.
fn devices() -> Option<Vec<String>> {
    let all = device::list().unwrap().into_iter();
    let names: Vec<String> = all
        .filter(|d| d.kind != DeviceKind::Cpu)
        .map(|d| d.name)
        .collect();
    if names.len() < 2 || std::env::var_os("REMASK_TEST_DEVICE").is_some() {
        println!("there are no two devices; nothing is tested");
        return None;
    }
    println!("devices: {}", names.join(", "));
    Some(names)
}

/// The first two of them, with a comma between them.
fn two_devices() -> Option<String> {
    Some(devices()?[..2].join(","))
}

fn by_tensors(names: &str) -> LoadOptions {
    LoadOptions {
        device: DeviceChoice::Named(names.to_owned()),
        split_mode: SplitMode::Tensors,
        ..LoadOptions::default()
    }
}

/// The largest difference between two lists.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max)
}

#[test]
fn tensors_over_two_devices_give_the_references_logits_and_tokens() {
    let Some(names) = two_devices() else { return };
    let folder = tempfile::tempdir().unwrap();
    // Six query heads on two key heads, a hidden state of 256; the head is the embedding table too.
    let path = convert_golden("llada-gqa-tiny", folder.path());
    let arrays = Arrays::open(&vectors_dir().join("logits/llada-gqa-tiny.safetensors"));
    let ids = arrays.i32("chat.input_ids");
    let ids: Vec<Token> = ids.row(0).iter().map(|&t| t as Token).collect();
    let positions = arrays.i32("chat.positions");
    let rows: Vec<u32> = positions.values.iter().map(|&p| p as u32).collect();
    let expected = arrays.f32("chat.logits");
    let options = LoadOptions {
        split: vec![3.0, 1.0],
        ..by_tensors(&names)
    };
    let model = Model::load(&path, &options).unwrap();
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let mut logits = Vec::new();
    session.logits(&ids, &rows, &mut logits).unwrap();
    let worst = apart(&logits, expected.row(0));
    println!("grouped heads, F32: largest error of a logit {worst:.1e}");
    assert!(worst <= BOUND, "{worst}");
    let mut cpu = self::session(&path, DeviceChoice::Cpu, None);
    // Draws depend on all logits, which differ by roundings: below.
    for rule in rules().iter().filter(|rule| rule.temperature == 0.0) {
        let expected = tokens(&mut cpu, &ids[..12], rule);
        assert_eq!(tokens(&mut session, &ids[..12], rule), expected, "{rule:?}");
    }
    // Seven canvases, of which five go through a graph together, and a block of 40 slots, which takes many graphs.
    let mut both = |rule: &Params| {
        let mut prompts = vec![(&ids[..12], 40)];
        prompts.extend((20..26).map(|i| (&ids[i..2 * i - 19], 8)));
        let [got, expected] = [&mut session, &mut cpu].map(|s| run_all(s, &prompts, rule).unwrap());
        assert_eq!(got, expected, "{rule:?}");
    };
    let rules = rules();
    let (base, dual) = (&rules[0], &rules[1]);
    both(&Params {
        block_length: 40,
        // A rank among 40 confidences turns on their last digits.
        order: Order::LeftToRight,
        ..dual.clone()
    });
    if std::env::var_os("REMASK_TEST_SHORT").is_none() {
        both(&Params {
            block_length: 40,
            order: Order::LeftToRight,
            cache: Cache::Prefix,
            cache_type: CacheType::F16,
            ..base.clone()
        });
    }
    // A device would have half a block of a slot's keys.
    let in_blocks = Params {
        cache_type: CacheType::Q8_0,
        ..dual.clone()
    };
    let refused = run(&mut session, &ids[..12], &in_blocks).unwrap_err();
    println!("{refused}");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    // The logits themselves, as rules get them that need them; draws from all tokens do in any case.
    let warm = Params {
        temperature: 0.7,
        ..base.clone()
    };
    let cut = Params {
        top_k: 20,
        ..warm.clone()
    };
    // Of 1024 tokens more than what comes back of a row.
    let wide = Params {
        temperature: 5.0,
        top_p: 0.95,
        ..base.clone()
    };
    for rule in [&warm, &cut, &wide] {
        session.set_reduction(None);
        let drawn = tokens(&mut session, &ids[..12], rule);
        session.set_reduction(Some(false));
        assert_eq!(tokens(&mut session, &ids[..12], rule), drawn, "{rule:?}");
    }
    assert_eq!(
        tokens(&mut session, &ids[..12], base),
        tokens(&mut cpu, &ids[..12], base)
    );
    // What cannot be had is an error, and the session goes on.
    let with_features = Params {
        cache: Cache::FEATURE,
        ..base.clone()
    };
    let refused = run(&mut session, &ids[..12], &with_features).unwrap_err();
    println!("{refused}");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert_eq!(
        tokens(&mut session, &ids[..12], base),
        tokens(&mut cpu, &ids[..12], base)
    );
    let options = SessionOptions {
        flash: Flash::Off,
        ..SessionOptions::default()
    };
    assert_eq!(
        Session::new(&model, &options).err().unwrap().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn quantized_tensors_over_devices_give_the_same_as_on_one_to_two_sessions_at_once() {
    let Some(names) = devices() else { return };
    // Four heads with keys of their own, Q8_0.
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/little-world.gguf");
    let mut one = session(&path, DeviceChoice::Named(names[0].clone()), None);
    let mut cpu = session(&path, DeviceChoice::Cpu, None);
    let prompt: Vec<Token> = (300..312).collect();
    let rows: Vec<u32> = (0..12).collect();
    let mut rules = rules()[..2].to_vec();
    rules[1].cache_type = CacheType::Q8_0;
    let [mut expected, mut on_one] = [Vec::new(), Vec::new()];
    cpu.logits(&prompt, &rows, &mut expected).unwrap();
    one.logits(&prompt, &rows, &mut on_one).unwrap();
    // The CPU rounds activations to 8 bits, the driver products to f16.
    let bound = 1.5 * apart(&on_one, &expected);
    let tokens_on_one: Vec<_> = rules.iter().map(|rule| tokens(&mut one, &prompt, rule)).collect();
    let model = Model::load(&path, &by_tensors(&names.join(","))).unwrap();
    let run = || {
        let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
        let mut logits = Vec::new();
        session.logits(&prompt, &rows, &mut logits).unwrap();
        let (worst, to_one) = (apart(&logits, &expected), apart(&logits, &on_one));
        println!(
            "Q8_0: largest error of a logit {worst:.1e}, {bound:.1e} allowed; to one device {to_one:.1e}"
        );
        assert!(worst <= bound, "{worst}");
        for (rule, expected) in rules.iter().zip(&tokens_on_one) {
            assert_eq!(&tokens(&mut session, &prompt, rule), expected, "{rule:?}");
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(run);
        run();
        other.join().unwrap();
    });
}

#[test]
fn what_does_not_divide_by_two_devices_is_whole_on_each() {
    let Some(names) = two_devices() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let write = |shape: &str, mix: Mix| {
        let shape = Shape::parse(&format!("layers=2,width=64,vocab=512,context=128,{shape}")).unwrap();
        let mut none = |_: remask::quantize::Progress<'_>| ControlFlow::Continue(());
        shape.write(&path, mix, true, &mut none).unwrap();
    };
    // A single block of the hidden state, and a single key head.
    write("heads=4,kv=1,ff=32", Mix::Q8_0);
    let error = Model::load(&path, &by_tensors(&names)).err().unwrap();
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let first = names.split(',').next().unwrap_or_default();
    let prompt: Vec<Token> = (100..112).collect();
    let rows: Vec<u32> = (0..12).collect();
    let with_features = Params {
        steps: 4,
        block_length: 4,
        cache: Cache::Feature {
            prompt_interval: 4,
            response_interval: 2,
            update: 0.5,
        },
        ..Params::default()
    };
    for (shape, mix, is_whole) in [
        // A single key head: attention is whole, so that features can be kept.
        ("heads=4,kv=1,ff=96", Mix::F32, true),
        // A single block of the hidden state: attention alone is cut.
        ("heads=2,kv=2,ff=32", Mix::Q8_0, false),
    ] {
        write(shape, mix);
        let model = Model::load(&path, &by_tensors(&names)).unwrap();
        let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
        let mut one = self::session(&path, DeviceChoice::Named(first.to_owned()), None);
        let [mut got, mut expected] = [Vec::new(), Vec::new()];
        session.logits(&prompt, &rows, &mut got).unwrap();
        one.logits(&prompt, &rows, &mut expected).unwrap();
        let worst = apart(&got, &expected);
        println!("{shape}: largest difference of a logit {worst:.1e}");
        assert!(worst <= BOUND, "{worst}");
        let kept = run(&mut session, &prompt, &with_features);
        match is_whole {
            true => assert_eq!(kept.unwrap(), tokens(&mut one, &prompt, &with_features)),
            false => assert_eq!(kept.unwrap_err().kind(), ErrorKind::Unsupported),
        }
    }
}

#[test]
fn tensors_are_split_between_two_or_more_gpus_that_take_all_layers() {
    let Some(names) = two_devices() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-gqa-tiny", folder.path());
    let refused = |change: &dyn Fn(&mut LoadOptions), kind: ErrorKind| {
        let mut options = by_tensors(&names);
        change(&mut options);
        let error = Model::load(&path, &options).err().unwrap();
        println!("{error}");
        assert_eq!(error.kind(), kind);
    };
    let first = names.split(',').next().unwrap_or_default();
    refused(
        &|o| o.device = DeviceChoice::Named(first.to_owned()),
        ErrorKind::InvalidArgument,
    );
    refused(&|o| o.device = DeviceChoice::Cpu, ErrorKind::InvalidArgument);
    refused(&|o| o.gpu_layers = Some(2), ErrorKind::InvalidArgument);
    refused(&|o| o.split = vec![1.0, 0.0], ErrorKind::InvalidArgument);
    refused(&|o| o.split = vec![1.0, 1.0, 1.0], ErrorKind::InvalidArgument);
    // Progress is told and a load can be cancelled.
    let mut heard = Vec::new();
    let load = |heard: &mut dyn FnMut(u64) -> ControlFlow<()>| {
        Model::load_with_progress(&path, &by_tensors(&names), &mut |p| heard(p.done))
    };
    load(&mut |done| {
        heard.push(done);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(heard.len() > 20 && heard.is_sorted());
    let stopped = load(&mut |_| ControlFlow::Break(()));
    assert_eq!(stopped.err().unwrap().kind(), ErrorKind::Cancelled);
}

/// Steps of several canvases, each begun before the host is done with the one before.
#[test]
fn steps_that_are_begun_ahead_give_the_same() {
    let Some(name) = device_name() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-gqa-tiny", folder.path());
    let mut session = session(&path, DeviceChoice::Named(name), None);
    let prompts: [(&[Token], usize); 2] = [(&[3, 14, 15, 92, 65, 35], 12), (&[2, 71, 82], 12)];
    let base = Params {
        block_length: 4,
        ..Params::default()
    };
    let rules = [
        Params {
            cache: Cache::Dual,
            temperature: 0.8,
            ..base.clone()
        },
        Params {
            guidance: 0.5,
            ..base.clone()
        },
        Params {
            cache: Cache::FEATURE,
            ..base
        },
    ];
    for rule in rules {
        let plain = run_all(&mut session, &prompts, &rule).unwrap();
        let before = session.n_begun();
        let begun = run_all_by(&mut session, &prompts, &rule, true).unwrap();
        let n = session.n_begun() - before;
        assert_eq!(begun, plain, "{rule:?}");
        // Every step but the first; with features the partial ones are not begun.
        println!("{n} begun: {rule:?}");
        assert!(n > 0 && (n == 11 || rule.cache == Cache::FEATURE), "{n} {rule:?}");
    }
    // A run that is given up with a step begun, and what is asked for instead of it.
    let mut canvas = Canvas::new(session.model().mask_token());
    canvas.push_fixed(prompts[0].0);
    canvas.push_masked(8).unwrap();
    let before = canvas.tokens().to_vec();
    let params = GenerateParams::default();
    let mut logits = [Vec::new(), Vec::new()];
    session.logits(&before, &[7, 9], &mut logits[0]).unwrap();
    let mut run = session.start(vec![canvas], &params).unwrap();
    run.step().unwrap();
    run.begin();
    drop(run);
    session.logits(&before, &[7, 9], &mut logits[1]).unwrap();
    assert_eq!(logits[0], logits[1]);
    // The session goes while its device is at work.
    let canvas = Canvas::from_tokens(&before, session.model().mask_token());
    let run = session.into_generation(vec![canvas], &params);
    let mut run = run.map_err(|failed| failed.1).unwrap();
    run.step().unwrap();
    run.begin();
    drop(run);
}

#[test]
fn canvases_that_are_computed_together_give_the_cpus_tokens() {
    let Some(name) = device_name() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-gqa-tiny", folder.path());
    let mut on_device = session(&path, DeviceChoice::Named(name), None);
    let mut cpu = session(&path, DeviceChoice::Cpu, None);
    let prompts = [3, 11, 6].map(|n: Token| (0..n).map(|i| 20 + 7 * i % 300).collect::<Vec<_>>());
    let prompts = prompts.each_ref().map(|prompt| (&prompt[..], 8));
    // With a cache.
    let rule = &rules()[1];
    let alone = prompts.map(|(prompt, _)| tokens(&mut cpu, prompt, rule));
    assert_eq!(run_all(&mut on_device, &prompts, rule).unwrap(), alone);
}

/// The test before, with a driver that gives no more at once than the largest tensor takes.
#[test]
fn weights_lie_in_as_many_pieces_as_the_driver_wants() {
    let Some(name) = device_name() else { return };
    if !name.starts_with("Vulkan") {
        println!("only Vulkan's backend can be told how much it may take at once; nothing is tested");
        return;
    }
    let limits = ["MAX_ALLOCATION_SIZE", "MAX_BUFFER_SIZE"].map(|what| format!("GGML_VK_FORCE_{what}"));
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "canvases_that_are_computed_together_give_the_cpus_tokens",
        ])
        .args(["--nocapture", "--test-threads", "1"])
        .envs(limits.iter().map(|name| (name, "393216")))
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn loading_to_a_device_tells_its_progress_and_can_be_cancelled() {
    let Some(name) = device_name() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-tiny", folder.path());
    let options = LoadOptions {
        device: DeviceChoice::Named(name),
        ..LoadOptions::default()
    };
    let mut heard = Vec::new();
    Model::load_with_progress(&path, &options, &mut |p| {
        heard.push(p.done);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(heard.len() > 2 && heard.is_sorted());
    let stopped = Model::load_with_progress(&path, &options, &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped.err().unwrap().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_split_needs_a_part_for_every_device() {
    let Some(name) = device_name() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-tiny", folder.path());
    let options = LoadOptions {
        device: DeviceChoice::Named(name),
        split: vec![1.0, 2.0],
        ..LoadOptions::default()
    };
    let error = Model::load(&path, &options).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(device::list().unwrap().iter().any(|d| d.kind == DeviceKind::Cpu));
}
