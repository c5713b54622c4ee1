//! Sessions: the same bytes for the same seed however they are computed; cancel; limits; memory.

mod common;

use std::ops::ControlFlow;
use std::path::PathBuf;

use common::convert_golden;
use proptest::prelude::*;
use remask::device::{DeviceChoice, SplitMode};
use remask::text::Special;
use remask::{
    CancelToken, Canvas, ErrorKind, GenerateParams, LoadOptions, Model, Order, Params, Residence, Session,
    SessionOptions, Slot,
};

fn model() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-gqa-tiny", folder.path());
    (folder, path)
}

fn session(path: &PathBuf, n_threads: usize, residence: Residence) -> Session {
    let model = Model::load(
        path,
        &LoadOptions {
            residence,
            ..LoadOptions::default()
        },
    )
    .unwrap();
    Session::new(
        &model,
        &SessionOptions {
            n_threads,
            ..SessionOptions::default()
        },
    )
    .unwrap()
}

fn canvas(session: &Session, text: &str, n: usize) -> Canvas {
    let mut canvas = Canvas::new(session.model().mask_token());
    canvas.push_fixed(&session.model().tokenizer().encode(text, Special::AsText).unwrap());
    canvas.push_masked(n).unwrap();
    canvas
}

fn warm(seed: u64) -> GenerateParams {
    let denoise = Params {
        temperature: 0.8,
        top_p: 0.95,
        block_length: 8,
        steps: 12,
        seed,
        ..Params::default()
    };
    GenerateParams {
        denoise,
        ..GenerateParams::default()
    }
}

fn fill(session: &mut Session, mut canvas: Canvas, params: &GenerateParams) -> Vec<u32> {
    session
        .generate(&mut canvas, params, |_, _| ControlFlow::Continue(()))
        .unwrap();
    canvas.tokens().to_vec()
}

#[test]
fn one_seed_gives_one_text_however_it_is_computed() {
    let (_folder, path) = model();
    let mut one = session(&path, 1, Residence::Map);
    let texts = [
        "Once upon a time",
        "hello",
        "a longer prompt, with other words in it",
    ];
    let alone: Vec<_> = texts
        .iter()
        .map(|t| {
            let c = canvas(&one, t, 24);
            fill(&mut one, c, &warm(7))
        })
        .collect();
    for (n_threads, residence) in [(2, Residence::Map), (1, Residence::Read), (2, Residence::Read)] {
        let mut other = session(&path, n_threads, residence);
        for (text, expected) in texts.iter().zip(&alone) {
            let c = canvas(&other, text, 24);
            assert_eq!(
                &fill(&mut other, c, &warm(7)),
                expected,
                "{n_threads} threads, {residence:?}"
            );
        }
    }
    // The same canvases as one batch, of different lengths.
    let canvases = texts.iter().map(|t| canvas(&one, t, 24)).collect();
    let params = warm(7);
    let mut run = one.start(canvases, &params).unwrap();
    while !run.is_done() {
        run.step().unwrap();
    }
    let batch: Vec<_> = run.into_canvases().iter().map(|c| c.tokens().to_vec()).collect();
    assert_eq!(batch, alone);
}

#[test]
fn other_seeds_give_other_texts() {
    let (_folder, path) = model();
    let mut s = session(&path, 1, Residence::Map);
    let c = canvas(&s, "hello", 24);
    assert_ne!(fill(&mut s, c.clone(), &warm(1)), fill(&mut s, c, &warm(2)));
}

#[test]
fn a_set_token_cancels_and_leaves_the_canvas() {
    let (_folder, path) = model();
    let mut s = session(&path, 1, Residence::Map);
    let cancel = CancelToken::new();
    let params = GenerateParams {
        cancel: Some(cancel.clone()),
        ..GenerateParams::default()
    };
    let mut c = canvas(&s, "hello", 16);
    let error = s
        .generate(&mut c, &params, |report, _| {
            if report.sequences[0].step == 3 {
                cancel.set();
            }
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(c.n_masked(), 13);
    cancel.reset();
    let rest = fill(&mut s, c, &params);
    let whole = canvas(&s, "hello", 16);
    assert_eq!(rest.len(), whole.len());
}

#[test]
fn the_processor_alone_splits_no_tensors() {
    let (_folder, path) = model();
    let options = LoadOptions {
        device: DeviceChoice::Cpu,
        split_mode: SplitMode::Tensors,
        ..LoadOptions::default()
    };
    let error = Model::load(&path, &options).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("two or more GPUs"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (_folder, path) = model();
    let mut s = session(&path, 1, Residence::Map);
    let n_ctx = s.model().sizes().n_ctx;
    let mut refused = |canvas: Canvas, denoise: Params, word: &str| {
        let params = GenerateParams {
            denoise,
            ..GenerateParams::default()
        };
        let error = s.start(vec![canvas], &params).map(|_| ()).unwrap_err();
        assert!(error.message().contains(word), "{error}");
    };
    let base = {
        let mut c = Canvas::new(995);
        c.push_fixed(&[1, 2]);
        c.push_masked(8).unwrap();
        c
    };
    let mut long = base.clone();
    long.push_masked(n_ctx).unwrap();
    refused(long, Params::default(), &n_ctx.to_string());
    refused(Canvas::new(995), Params::default(), "empty");
    refused(Canvas::new(3), Params::default(), "empty");
    let mut other = Canvas::new(3);
    other.push_masked(2).unwrap();
    refused(other, Params::default(), "another model");
    for (params, word) in [
        (
            Params {
                temperature: f64::NAN,
                ..Params::default()
            },
            "temperature",
        ),
        (
            Params {
                temperature: -1.0,
                ..Params::default()
            },
            "temperature",
        ),
        (
            Params {
                top_p: 0.0,
                ..Params::default()
            },
            "top_p",
        ),
        (
            Params {
                guidance: f64::INFINITY,
                ..Params::default()
            },
            "guidance",
        ),
        (
            Params {
                steps: usize::MAX,
                ..Params::default()
            },
            "steps",
        ),
        (
            Params {
                suppress: vec![1 << 30],
                ..Params::default()
            },
            "suppress",
        ),
        (
            Params {
                response_start: Some(99),
                ..Params::default()
            },
            "response_start",
        ),
        (
            Params {
                commit: remask::Commit::Threshold(2.0),
                ..Params::default()
            },
            "threshold",
        ),
        (
            Params {
                commit: remask::Commit::Factor(-1.0),
                ..Params::default()
            },
            "factor",
        ),
        (
            Params {
                seeds: vec![1, 2],
                ..Params::default()
            },
            "seeds",
        ),
        (
            Params {
                commit: remask::Commit::Factor(1.0),
                order: Order::Random,
                ..Params::default()
            },
            "order",
        ),
    ] {
        refused(base.clone(), params, word);
    }
    let mut ids = base.clone();
    ids.push_fixed(&[1 << 20]);
    let mut logits = Vec::new();
    assert!(
        s.logits(ids.tokens(), &[0], &mut logits)
            .unwrap_err()
            .message()
            .contains("vocabulary")
    );
    assert!(
        s.logits(base.tokens(), &[10], &mut logits)
            .unwrap_err()
            .message()
            .contains("row 10")
    );
}

#[test]
fn stop_texts_and_ends_cut_the_response_and_change_nothing_before() {
    let (_folder, path) = model();
    let mut s = session(&path, 1, Residence::Map);
    let c = canvas(&s, "hello", 32);
    let n_prompt = c.len() - 32;
    let params = GenerateParams {
        denoise: Params {
            block_length: 8,
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    let whole = fill(&mut s, c.clone(), &params);
    // A token of the whole text in the middle of the response, as the end-of-text token.
    let end = whole[n_prompt + 12];
    let first = whole[n_prompt..].iter().position(|&t| t == end).unwrap();
    let denoise = Params {
        stop_at_eos: true,
        eos: Some(end),
        eot: Some(end),
        ..params.denoise.clone()
    };
    let cut = fill(
        &mut s,
        c.clone(),
        &GenerateParams {
            denoise,
            ..GenerateParams::default()
        },
    );
    assert_eq!(cut, whole[..n_prompt + first]);
    // And its text as a stop text.
    let text = s
        .model()
        .tokenizer()
        .decode(&whole[n_prompt..n_prompt + 13], true);
    let tail: String = text
        .chars()
        .rev()
        .take(2)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    if !tail.contains('\u{FFFD}') {
        let stopped = fill(
            &mut s,
            c,
            &GenerateParams {
                stop: vec![tail.clone()],
                ..params
            },
        );
        assert!(stopped.len() < whole.len());
        assert_eq!(stopped, whole[..stopped.len()]);
        assert!(
            !s.model()
                .tokenizer()
                .decode(&stopped[n_prompt..], true)
                .contains(&tail)
        );
    }
}

#[test]
fn a_valid_file_of_eight_gigabytes_opens_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.gguf");
    if !sparse::write(&path) {
        println!("this file system has no room for a sparse file; not tried");
        return;
    }
    let before = sparse::resident();
    let began = std::time::Instant::now();
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let elapsed = began.elapsed();
    let grown = sparse::resident().saturating_sub(before);
    println!(
        "opened {} bytes in {elapsed:?}, {grown} bytes of memory",
        model.n_bytes()
    );
    assert!(model.n_bytes() > 7 << 30);
    // A bound on kind, not on speed: reading the file would take far more of either.
    assert!(
        elapsed.as_secs() < 5 && grown < 64 << 20,
        "{elapsed:?}, {grown} bytes"
    );
}

/// An 8 GiB file that takes no room.
mod sparse {
    use std::path::Path;

    use remask::gguf::Gguf;

    /// Writes the header of a file with huge matrices after the vocabulary of a small one.
    pub fn write(path: &Path) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let small = super::convert_golden("llada-gqa-tiny", folder.path());
        let bytes = std::fs::read(small).unwrap();
        let mut metadata = Gguf::parse(&bytes).unwrap().metadata;
        let (d, f, n_layer, v) = (4096u64, 12288u64, 21u64, 1024u64);
        for (key, n) in [
            ("embedding_length", d),
            ("feed_forward_length", f),
            ("block_count", n_layer),
        ] {
            metadata.insert(format!("llada.{key}"), n as u32);
        }
        for key in ["attention.head_count", "attention.head_count_kv"] {
            metadata.insert(format!("llada.{key}"), 32u32);
        }
        metadata.insert("llada.rope.dimension_count", 128u32);
        let mut tensors = vec![
            ("token_embd.weight".to_owned(), vec![d, v], 1u32),
            ("output_norm.weight".to_owned(), vec![d], 0),
        ];
        for i in 0..n_layer {
            for (name, dims, ty) in [
                ("attn_norm", vec![d], 0),
                ("ffn_norm", vec![d], 0),
                ("attn_q", vec![d, d], 1),
                ("attn_k", vec![d, d], 1),
                ("attn_v", vec![d, d], 1),
                ("attn_output", vec![d, d], 1),
                ("ffn_gate", vec![d, f], 1),
                ("ffn_up", vec![d, f], 1),
                ("ffn_down", vec![f, d], 1),
            ] {
                tensors.push((format!("blk.{i}.{name}.weight"), dims, ty));
            }
        }
        let header = header(&metadata, &tensors);
        let n_data: u64 = tensors
            .iter()
            .map(|(_, d, ty)| d.iter().product::<u64>() * if *ty == 1 { 2 } else { 4 })
            .sum();
        std::fs::write(path, &header).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(header.len() as u64 + n_data).is_ok()
    }

    /// A header by hand: the writer would want the data too. Only the pairs that a model needs.
    fn header(metadata: &remask::gguf::Metadata, tensors: &[(String, Vec<u64>, u32)]) -> Vec<u8> {
        use remask::gguf::{TensorSpec, TensorType, Writer};
        // The library's writer makes the metadata; its file of one small tensor is cut before the data.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("header.gguf");
        let spec = TensorSpec {
            name: "x".to_owned(),
            dims: vec![8],
            ty: TensorType::F32,
        };
        let mut writer = Writer::create(&path, metadata, vec![spec], false).unwrap();
        writer.write_tensor("x", &[0; 32]).unwrap();
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let n_info = 8 + 1 + 4 + 8 + 4 + 8;
        let data_offset = Gguf::parse(&bytes).unwrap().data_offset as usize;
        // The info ends before the padding; find it by its name's length and name.
        let mark = [1u64.to_le_bytes().as_slice(), b"x"].concat();
        let at = bytes[..data_offset].windows(9).rposition(|w| w == mark).unwrap();
        assert!(at + n_info <= data_offset);
        let mut out = bytes[..at].to_vec();
        out[8..16].copy_from_slice(&(tensors.len() as u64).to_le_bytes());
        let mut offset = 0u64;
        for (name, dims, ty) in tensors {
            out.extend((name.len() as u64).to_le_bytes());
            out.extend(name.as_bytes());
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(ty.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += dims.iter().product::<u64>() * if *ty == 1 { 2 } else { 4 };
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out
    }

    /// Bytes of this process that are its own: not those of mapped files.
    pub fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For any canvas: fixed slots stay, everything masked is filled (this model never predicts its mask
    /// token first), the masked count never rises.
    #[test]
    fn fixed_slots_never_change(
        parts in proptest::collection::vec((0u32..900, 1usize..6, any::<bool>()), 1..8),
        block_length in 0usize..9,
        order in 0usize..5,
        temperature in prop_oneof![Just(0.0), Just(0.7)],
    ) {
        let (_folder, path) = model();
        let mut s = session(&path, 1, Residence::Map);
        let mut c = Canvas::new(s.model().mask_token());
        for (token, n, masked) in &parts {
            if *masked { c.push_masked(*n).unwrap() } else { c.push_fixed(&vec![*token; *n]) }
        }
        prop_assume!(c.n_masked() > 0);
        let order = [Order::LowConfidence, Order::Random, Order::Margin, Order::Entropy, Order::LeftToRight][order];
        let denoise = Params { block_length, order, temperature, response_start: None, ..Params::default() };
        let params = GenerateParams { denoise, ..GenerateParams::default() };
        let before = c.clone();
        let mut left = c.n_masked();
        let n = left;
        let summary = s.generate(&mut c, &params, |report, now| {
            assert!(now.n_masked() < left);
            left = now.n_masked();
            assert_eq!(report.sequences[0].n_masked, left);
            ControlFlow::Continue(())
        }).unwrap();
        prop_assert_eq!(summary.nfe as usize, n);
        prop_assert_eq!(c.n_masked(), 0);
        for i in 0..c.len() {
            if before.slots()[i] == Slot::Fixed {
                prop_assert_eq!(before.tokens()[i], c.tokens()[i]);
                prop_assert_eq!(c.slots()[i], Slot::Fixed);
            }
        }
    }
}

#[test]
fn reading_a_file_is_heard_of_and_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = common::convert_golden("llada-gqa-tiny", folder.path());
    let length = std::fs::metadata(&path).unwrap().len();
    let options = LoadOptions {
        residence: Residence::Read,
        ..LoadOptions::default()
    };
    let mut heard = Vec::new();
    Model::load_with_progress(&path, &options, &mut |now| {
        heard.push((now.done, now.total));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(heard.contains(&(length, length)), "{heard:?} of {length}");
    let cancelled = Model::load_with_progress(&path, &options, &mut |_| ControlFlow::Break(()));
    assert_eq!(cancelled.err().unwrap().kind(), ErrorKind::Cancelled);
}
