//! Files made smaller, files made from memory, and checkpoints made back from files.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::synthetic::Shape;
use common::{convert_golden, json, vectors_dir};
use remask::convert::{ConvertOptions, ExportOptions, convert, export};
use remask::gguf::{Gguf, Metadata, TensorSpec, TensorType, Writer};
use remask::quantize::{
    Imatrix, ImatrixEntry, MemoryTensor, Mix, Plan, Policy, Progress, QuantizeOptions, Reason, plan_file,
    quantize, write_gguf,
};
use remask::{Error, ErrorKind, LoadOptions, Model, Session, SessionOptions};

const SHAPE: Shape = Shape {
    n_embd: 256,
    n_ff: 512,
    n_layer: 2,
    n_head: 4,
    n_head_kv: 2,
    tied: false,
};

fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn to(mix: Mix) -> QuantizeOptions {
    QuantizeOptions {
        policy: Policy {
            mix,
            ..Policy::default()
        },
        ..QuantizeOptions::default()
    }
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> = names
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn logits(path: &Path) -> Vec<f32> {
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let tokens: Vec<u32> = (0..24)
        .map(|i| if i % 2 == 0 { model.mask_token() } else { i * 7 })
        .collect();
    let mut logits = Vec::new();
    session
        .logits(&tokens, &(0..24).collect::<Vec<_>>(), &mut logits)
        .unwrap();
    logits
}

/// Mean Kullback-Leibler divergence of predictions, in nats.
fn divergence(p: &[f32], q: &[f32], n_vocab: usize) -> f64 {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let max = row.iter().copied().fold(f32::MIN, f32::max) as f64;
        let sum: f64 = row.iter().map(|&x| (x as f64 - max).exp()).sum();
        row.iter().map(|&x| x as f64 - max - sum.ln()).collect()
    };
    let rows = p.chunks(n_vocab).zip(q.chunks(n_vocab));
    let each = rows.map(|(p, q)| {
        let (p, q) = (log_softmax(p), log_softmax(q));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    });
    each.sum::<f64>() / (p.len() / n_vocab) as f64
}

#[test]
fn every_mix_runs_and_loses_no_more_than_its_bits() {
    let folder = tempfile::tempdir().unwrap();
    let source = SHAPE.write(folder.path(), Mix::F32);
    let exact = logits(&source);
    // Bounds frozen at about twice what was measured. Random weights are a hard case: their logits are
    // sharp, and no layer corrects another's error.
    let bounds = [
        (Mix::F32, 0.0),
        (Mix::F16, 1e-5),
        (Mix::Bf16, 6e-4),
        (Mix::Q8_0, 6e-3),
        (Mix::Q6K, 8e-2),
        (Mix::Q5KM, 0.16),
        (Mix::Q5KS, 0.16),
        (Mix::Q5_1, 0.18),
        (Mix::Q5_0, 0.27),
        (Mix::Q4KM, 0.75),
        (Mix::Q4KS, 0.75),
        (Mix::Q4_1, 0.65),
        (Mix::Q4_0, 0.8),
        (Mix::Iq4Nl, 0.45),
        (Mix::Iq4Xs, 0.52),
        (Mix::Q3KL, 1.6),
        (Mix::Q3KM, 1.8),
        (Mix::Q3KS, 1.8),
        (Mix::Q2K, 3.7),
    ];
    assert_eq!(bounds.len(), Mix::all().count());
    for (mix, bound) in bounds {
        let output = folder.path().join(mix.name());
        let plan = quantize(&source, &output, &to(mix), &mut go_on).unwrap();
        let kl = divergence(&exact, &logits(&output), 1024);
        let bits = plan.bytes_after() as f64 * 8.0 / plan.n_weights() as f64;
        println!(
            "{:7} {bits:5.2} bits  {kl:.3e} nats (bound {bound:.1e})",
            mix.name()
        );
        assert!(kl <= bound, "{}: {kl}", mix.name());
    }
}

#[test]
fn the_golden_checkpoint_in_q8_gives_nearly_the_golden_logits() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llada-tiny", "llada-gqa-tiny", "illada-tiny"] {
        let exact = convert_golden(name, folder.path());
        let small = folder.path().join("small");
        let options = ConvertOptions {
            policy: to(Mix::Q8_0).policy,
            overwrite: true,
            ..ConvertOptions::default()
        };
        let plan = convert(
            &vectors_dir().join("checkpoints").join(name),
            &small,
            &options,
            &mut go_on,
        )
        .unwrap();
        assert!(plan.tensors.iter().any(|t| t.spec.ty == TensorType::Q8_0));
        let kl = divergence(&logits(&exact), &logits(&small), 1024);
        println!("{name}: {kl:.3e}");
        assert!(kl < 3e-2, "{name}: {kl}");
    }
}

#[test]
fn converting_straight_gives_the_bytes_of_converting_twice() {
    let folder = tempfile::tempdir().unwrap();
    let dir = vectors_dir().join("checkpoints/llada-gqa-tiny");
    let path = |name: &str| folder.path().join(name);
    for mix in [Mix::Q8_0, Mix::Q4KM, Mix::Bf16] {
        let options = ConvertOptions {
            policy: to(mix).policy,
            overwrite: true,
            ..ConvertOptions::default()
        };
        convert(&dir, &path("straight"), &options, &mut go_on).unwrap();
        let whole = convert_golden("llada-gqa-tiny", folder.path());
        let again = QuantizeOptions {
            overwrite: true,
            ..to(mix)
        };
        quantize(&whole, &path("twice"), &again, &mut go_on).unwrap();
        let [a, b] = ["straight", "twice"].map(|n| std::fs::read(path(n)).unwrap());
        assert!(a == b, "{}", mix.name());
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = SHAPE.write(folder.path(), Mix::F16);
    let made = [1, 2, 7].map(|n_threads| {
        let output = folder.path().join(n_threads.to_string());
        let options = QuantizeOptions {
            n_threads,
            ..to(Mix::Q4KM)
        };
        quantize(&source, &output, &options, &mut go_on).unwrap();
        std::fs::read(output).unwrap()
    });
    assert!(made[0] == made[1] && made[1] == made[2]);
}

#[test]
fn a_plan_says_what_will_be() {
    let folder = tempfile::tempdir().unwrap();
    let source = convert_golden("llada-tiny", folder.path());
    let output = folder.path().join("out");
    let plan: Plan = plan_file(&source, &to(Mix::Q4KM)).unwrap();
    assert!(!output.exists());
    let done = quantize(&source, &output, &to(Mix::Q4KM), &mut go_on).unwrap();
    assert_eq!(plan, done);
    let gguf = Gguf::parse(&std::fs::read(&output).unwrap()).unwrap();
    for (planned, t) in plan.tensors.iter().zip(&gguf.tensors) {
        assert_eq!((&planned.spec.name, planned.spec.ty), (&t.name, t.ty));
    }
    // Rows of 128 and 352: no block of 256 divides them.
    let fell = plan
        .fallbacks()
        .find(|t| t.spec.name == "blk.0.ffn_up.weight")
        .unwrap();
    assert_eq!(fell.reason, Reason::Fallback(TensorType::Q4K));
    assert_eq!(fell.spec.ty, TensorType::Q5_0);
}

fn refused(error: Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.message().contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = SHAPE.write(folder.path(), Mix::F16);
    let small = folder.path().join("small.gguf");
    quantize(&source, &small, &to(Mix::Q4_0), &mut go_on).unwrap();
    let before = files(folder.path());
    let output = folder.path().join("out.gguf");
    let error = quantize(&small, &output, &to(Mix::Q8_0), &mut go_on).unwrap_err();
    refused(
        error,
        ErrorKind::InvalidArgument,
        &["small.gguf", "Q4_0", "requantizing"],
    );
    let error = quantize(&source, &small, &to(Mix::Q8_0), &mut go_on).unwrap_err();
    refused(error, ErrorKind::InvalidArgument, &["small.gguf exists"]);
    let over = QuantizeOptions {
        overwrite: true,
        ..to(Mix::Q8_0)
    };
    let error = quantize(&source, &source, &over, &mut go_on).unwrap_err();
    refused(error, ErrorKind::InvalidArgument, &["input and output"]);
    let error = quantize(&source, &output, &to(Mix::Q8_0), &mut |p| match p.done {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    })
    .unwrap_err();
    refused(error, ErrorKind::Cancelled, &["cancelled"]);
    let error = quantize(Path::new("/nowhere"), &output, &to(Mix::Q8_0), &mut go_on).unwrap_err();
    refused(error, ErrorKind::Io, &["/nowhere"]);
    assert_eq!(files(folder.path()), before);
    // With leave it goes, and to the same type nothing changes.
    let again = QuantizeOptions {
        requantize: true,
        ..to(Mix::Q8_0)
    };
    quantize(&small, &output, &again, &mut go_on).unwrap();
}

/// Writes one matrix and a norm.
fn matrix(path: &Path, values: &[f32]) -> PathBuf {
    let mut m = Metadata::new();
    m.insert("general.architecture", "llada");
    let spec = TensorSpec {
        name: "blk.0.ffn_up.weight".into(),
        dims: vec![256, (values.len() / 256) as u64],
        ty: TensorType::F32,
    };
    let mut writer = Writer::create(path, &m, vec![spec], true).unwrap();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    writer.write_tensor("blk.0.ffn_up.weight", &bytes).unwrap();
    writer.finish().unwrap();
    path.to_owned()
}

#[test]
fn values_that_are_no_numbers_or_too_large_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.gguf");
    let output = folder.path().join("out.gguf");
    let mut values = vec![0.5f32; 256 * 700];
    values[256 * 600 + 3] = f32::NAN;
    matrix(&input, &values);
    for mix in [Mix::Q4_0, Mix::Q4KM, Mix::F16, Mix::F32] {
        let error = quantize(&input, &output, &to(mix), &mut go_on).unwrap_err();
        refused(
            error,
            ErrorKind::Numeric,
            &["blk.0.ffn_up.weight", "element 153603"],
        );
    }
    values[256 * 600 + 3] = 3e38;
    matrix(&input, &values);
    for mix in [Mix::Q8_0, Mix::Q4KM, Mix::Q6K, Mix::Iq4Nl, Mix::F16] {
        let error = quantize(&input, &output, &to(mix), &mut go_on).unwrap_err();
        refused(
            error,
            ErrorKind::Numeric,
            &["blk.0.ffn_up.weight", "3e38", "does not fit"],
        );
    }
    quantize(&input, &output, &to(Mix::Bf16), &mut go_on).unwrap();
    assert_eq!(files(folder.path()), ["in.gguf", "out.gguf"]);
}

#[test]
fn an_imatrix_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i.gguf");
    let mut imatrix = Imatrix {
        datasets: vec!["a.txt".into(), "b.txt".into()],
        n_chunks: 12,
        chunk_size: 256,
        ..Imatrix::default()
    };
    let entry = |n: usize| ImatrixEntry {
        sums: (0..n).map(|i| i as f32).collect(),
        counts: vec![4.0],
    };
    imatrix.entries.insert("blk.0.ffn_up.weight".into(), entry(256));
    imatrix.entries.insert("blk.0.ffn_down.weight".into(), entry(512));
    imatrix.write(&path, false).unwrap();
    assert_eq!(Imatrix::read(&path).unwrap(), imatrix);
    assert_eq!(imatrix.entries["blk.0.ffn_up.weight"].means()[8], 2.0);
    let mut twice = imatrix.clone();
    twice.merge(&imatrix).unwrap();
    assert_eq!(twice.entries["blk.0.ffn_up.weight"].means()[8], 2.0);
    assert_eq!(twice.n_chunks, 24);

    // A negative sum, and a matrix of another model.
    let mut bad = imatrix.clone();
    bad.entries.get_mut("blk.0.ffn_up.weight").unwrap().sums[3] = -1.0;
    let path = folder.path().join("bad.gguf");
    bad.write(&path, false).unwrap();
    refused(
        Imatrix::read(&path).unwrap_err(),
        ErrorKind::Numeric,
        &["bad.gguf", "element 3"],
    );
    let source = SHAPE.write(folder.path(), Mix::F16);
    refused(
        Imatrix::read(&source).unwrap_err(),
        ErrorKind::Format,
        &["imatrix"],
    );
    imatrix.entries.insert("blk.1.ffn_up.weight".into(), entry(128));
    let options = QuantizeOptions {
        policy: Policy {
            mix: Mix::Q4KM,
            importance: Some(Arc::new(imatrix)),
            ..Policy::default()
        },
        ..QuantizeOptions::default()
    };
    let error = quantize(&source, &folder.path().join("x"), &options, &mut go_on).unwrap_err();
    refused(
        error,
        ErrorKind::InvalidArgument,
        &["blk.1.ffn_up.weight", "another model"],
    );
}

#[test]
fn tensors_in_memory_must_fit_what_is_said_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let write = |tensors: &[MemoryTensor<'_>]| {
        write_gguf(
            &path,
            &Metadata::new(),
            tensors,
            &Policy::default(),
            1,
            false,
            &mut go_on,
        )
    };
    let good = MemoryTensor {
        name: "a.weight",
        dims: &[2, 3],
        values: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    };
    let short = MemoryTensor {
        values: &[1.0],
        ..good
    };
    refused(
        write(&[short]).unwrap_err(),
        ErrorKind::InvalidArgument,
        &["a.weight", "1 values"],
    );
    refused(
        write(&[good, good]).unwrap_err(),
        ErrorKind::InvalidArgument,
        &["twice"],
    );
    assert!(files(folder.path()).is_empty());
    write(&[good]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let t = gguf.tensor("a.weight").unwrap();
    assert_eq!((t.ty, t.dims()), (TensorType::F16, &[2, 3][..]));
}

#[test]
fn a_checkpoint_comes_back_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llada-tiny", "llada-gqa-tiny", "llada-train-tiny", "illada-tiny"] {
        let source = vectors_dir().join("checkpoints").join(name);
        let bf16 = json(&source.join("config.json"))["torch_dtype"] == "bfloat16";
        let options = ConvertOptions {
            policy: to(if bf16 { Mix::Bf16 } else { Mix::F32 }).policy,
            ..ConvertOptions::default()
        };
        let file = folder.path().join(format!("{name}.gguf"));
        convert(&source, &file, &options, &mut go_on).unwrap();
        let back = folder.path().join(name);
        let report = export(&file, &back, &ExportOptions::default(), &mut go_on).unwrap();
        assert_eq!(report.files.last().unwrap(), "config.json");
        for text in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            assert_eq!(json(&source.join(text)), json(&back.join(text)), "{name}: {text}");
        }
        let [a, b] = [&source, &back].map(|d| safetensors(&d.join("model.safetensors")));
        assert_eq!(a.len(), b.len(), "{name}");
        for (tensor, data) in &a {
            assert!(data == &b[tensor], "{name}: {tensor}");
        }
        // And the file made of it is the first one again.
        let again = folder.path().join(format!("{name}-again.gguf"));
        convert(&back, &again, &options, &mut go_on).unwrap();
        let [a, b] = [&file, &again].map(|p| Gguf::parse(&std::fs::read(p).unwrap()).unwrap());
        assert_eq!(a.tensors.len(), b.tensors.len());
        for (key, value) in a.metadata.iter() {
            // Its layout of JSON is ours.
            if !key.starts_with("remask.huggingface") {
                assert_eq!(b.metadata.get(key), Some(value), "{name}: {key}");
            }
        }
    }
}

/// Type, shape and bytes of every tensor.
fn safetensors(path: &Path) -> std::collections::BTreeMap<String, (String, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let tensors = header.as_object().unwrap().iter();
    let tensors = tensors.filter(|(name, _)| *name != "__metadata__");
    let each = tensors.map(|(name, t)| {
        let at = |i: usize| 8 + n + t["data_offsets"][i].as_u64().unwrap() as usize;
        let about = format!("{} {}", t["dtype"], t["shape"]);
        (name.clone(), (about, bytes[at(0)..at(1)].to_vec()))
    });
    each.collect()
}

#[test]
fn a_large_checkpoint_is_exported_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let file = SHAPE.write(folder.path(), Mix::F16);
    let back = folder.path().join("back");
    let options = ExportOptions {
        shard_bytes: 700_000,
        ..ExportOptions::default()
    };
    let report = export(&file, &back, &options, &mut go_on).unwrap();
    let parts = report
        .files
        .iter()
        .filter(|f| f.ends_with(".safetensors"))
        .count();
    assert!(parts >= 4, "{:?}", report.files);
    let again = folder.path().join("again.gguf");
    convert(&back, &again, &ConvertOptions::default(), &mut go_on).unwrap();
    assert_eq!(logits(&file), logits(&again));
}

#[test]
fn a_file_without_the_original_texts_is_exported_from_its_keys() {
    // As llama.cpp's converter leaves it: no tokenizer.json, no config.json.
    let folder = tempfile::tempdir().unwrap();
    let with = convert_golden("llada-tiny", folder.path());
    let bytes = std::fs::read(&with).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let mut m = Metadata::new();
    for (key, value) in gguf.metadata.iter() {
        if !key.contains("huggingface") && !key.starts_with("remask") {
            m.insert(key, value.clone());
        }
    }
    let specs = gguf.tensors.iter().map(|t| TensorSpec {
        name: t.name.clone(),
        dims: t.dims().to_vec(),
        ty: t.ty,
    });
    let bare = folder.path().join("bare.gguf");
    let mut writer = Writer::create(&bare, &m, specs.collect(), false).unwrap();
    for t in &gguf.tensors {
        let range = t.offset as usize..(t.offset + t.n_bytes) as usize;
        writer.write_tensor(&t.name, &bytes[range]).unwrap();
    }
    writer.finish().unwrap();
    let back = folder.path().join("back");
    export(&bare, &back, &ExportOptions::default(), &mut go_on).unwrap();
    // Its configuration says of the network what the original says.
    let [theirs, ours] = [
        vectors_dir().join("checkpoints/llada-tiny/config.json"),
        back.join("config.json"),
    ]
    .map(|p| json(&p));
    for key in [
        "d_model",
        "n_layers",
        "n_heads",
        "n_kv_heads",
        "mlp_hidden_size",
        "max_sequence_length",
        "rope_theta",
        "rms_norm_eps",
        "weight_tying",
        "mask_token_id",
        "eos_token_id",
        "embedding_size",
        "include_bias",
        "block_type",
        "layer_norm_type",
        "activation_type",
        "rope",
        "architectures",
        "auto_map",
    ] {
        assert_eq!(theirs[key], ours[key], "{key}");
    }
    let again = folder.path().join("again.gguf");
    let options = ConvertOptions {
        policy: to(Mix::F32).policy,
        ..ConvertOptions::default()
    };
    convert(&back, &again, &options, &mut go_on).unwrap();
    assert_eq!(logits(&with), logits(&again));
    let [a, b] = [&with, &again].map(|p| Model::load(p, &LoadOptions::default()).unwrap());
    let text = "Hello, wörld! 123 <|mdm_mask|>\n\ttabs";
    for special in [remask::text::Special::Parse, remask::text::Special::AsText] {
        assert_eq!(
            a.tokenizer().encode(text, special).unwrap(),
            b.tokenizer().encode(text, special).unwrap()
        );
    }
}

#[test]
fn an_export_never_leaves_half_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let file = SHAPE.write(folder.path(), Mix::F16);
    let small = folder.path().join("small.gguf");
    quantize(&file, &small, &to(Mix::Q8_0), &mut go_on).unwrap();
    let before = files(folder.path());
    let back = folder.path().join("back");
    let go = ExportOptions::default();
    let error = export(&small, &back, &go, &mut go_on).unwrap_err();
    refused(error, ErrorKind::Unsupported, &["small.gguf", "Q8_0"]);
    let error = export(&file, &back, &go, &mut |_| ControlFlow::Break(())).unwrap_err();
    refused(error, ErrorKind::Cancelled, &["cancelled"]);
    assert_eq!(files(folder.path()), before);
    std::fs::create_dir(&back).unwrap();
    std::fs::write(back.join("notes.txt"), "mine").unwrap();
    let error = export(&file, &back, &go, &mut go_on).unwrap_err();
    refused(error, ErrorKind::InvalidArgument, &["back exists"]);
    let over = ExportOptions {
        overwrite: true,
        ..ExportOptions::default()
    };
    export(&file, &back, &over, &mut go_on).unwrap();
    assert_eq!(std::fs::read_to_string(back.join("notes.txt")).unwrap(), "mine");
    assert!(back.join("config.json").exists());
}
