//! Conversion: every value where it belongs, and nothing left behind when it fails.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{Arrays, vectors_dir};
use remask::ErrorKind;
use remask::convert::{ConvertOptions, convert};
use remask::gguf::Gguf;
use remask::quantize::{Mix, Policy};

fn checkpoint(name: &str) -> PathBuf {
    vectors_dir().join("checkpoints").join(name)
}

fn run(dir: &Path, output: &Path, ty: Mix) -> remask::Result<remask::quantize::Plan> {
    let options = ConvertOptions {
        policy: Policy {
            mix: ty,
            ..Policy::default()
        },
        ..ConvertOptions::default()
    };
    convert(dir, output, &options, &mut |_| ControlFlow::Continue(()))
}

fn f32s(bytes: &[u8], gguf: &Gguf, name: &str) -> Vec<f32> {
    let t = gguf.tensor(name).unwrap();
    let data = &bytes[t.offset as usize..(t.offset + t.n_bytes) as usize];
    data.chunks_exact(4)
        .map(|c| f32::from_le_bytes(c.try_into().unwrap()))
        .collect()
}

#[test]
fn rows_of_queries_and_keys_are_interleaved_and_the_rest_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x.gguf");
    run(&checkpoint("llada-gqa-tiny"), &output, Mix::F32).unwrap();
    let bytes = std::fs::read(&output).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let source = Arrays::open(&checkpoint("llada-gqa-tiny").join("model.safetensors"));
    let (d, n_head, n_head_kv) = (96, 6, 2);
    let size = d / n_head;
    for (name, hf, heads) in [("attn_q", "q_proj", n_head), ("attn_k", "k_proj", n_head_kv)] {
        let ours = f32s(&bytes, &gguf, &format!("blk.1.{name}.weight"));
        let theirs = source.f32(&format!("model.transformer.blocks.1.{hf}.weight"));
        // Row h*size + 2i + j is row h*size + j*size/2 + i of the checkpoint.
        for h in 0..heads {
            for i in 0..size / 2 {
                for j in 0..2 {
                    let row = h * size + 2 * i + j;
                    assert_eq!(
                        &ours[row * d..(row + 1) * d],
                        theirs.row(h * size + j * size / 2 + i)
                    );
                }
            }
        }
    }
    for (name, hf) in [
        ("token_embd.weight", "wte.weight"),
        ("output_norm.weight", "ln_f.weight"),
        ("blk.2.attn_v.weight", "blocks.2.v_proj.weight"),
        ("blk.0.attn_output.weight", "blocks.0.attn_out.weight"),
        ("blk.0.ffn_gate.weight", "blocks.0.ff_proj.weight"),
        ("blk.0.ffn_up.weight", "blocks.0.up_proj.weight"),
        ("blk.0.ffn_down.weight", "blocks.0.ff_out.weight"),
    ] {
        let theirs = source.f32(&format!("model.transformer.{hf}")).values;
        assert_eq!(f32s(&bytes, &gguf, name), theirs, "{name}");
    }
    // Tied: the head is the embedding.
    assert!(gguf.tensor("output.weight").is_none());
    let m = &gguf.metadata;
    assert_eq!(m.str("general.architecture").unwrap(), Some("llada"));
    assert_eq!(m.u32("llada.attention.head_count_kv").unwrap(), Some(2));
    assert_eq!(m.u32("llada.vocab_size").unwrap(), Some(1024));
    assert_eq!(m.u32("tokenizer.ggml.mask_token_id").unwrap(), Some(995));
    assert_eq!(m.bool("diffusion.shift_logits").unwrap(), Some(false));
    assert_eq!(m.bool("llada.attention.causal").unwrap(), Some(false));
    assert_eq!(m.strings("tokenizer.ggml.tokens").unwrap().unwrap().len(), 1024);
    let json = std::fs::read_to_string(checkpoint("llada-gqa-tiny").join("tokenizer.json")).unwrap();
    assert_eq!(m.str("tokenizer.huggingface.json").unwrap(), Some(json.as_str()));
}

#[test]
fn shards_give_the_file_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["whole", "shards"].map(|n| folder.path().join(n));
    for (dir, output) in [("llada-gqa-tiny", &a), ("llada-gqa-tiny-sharded", &b)] {
        let options = ConvertOptions {
            name: Some("same".into()),
            ..ConvertOptions::default()
        };
        convert(&checkpoint(dir), output, &options, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap());
}

#[test]
fn every_golden_checkpoint_of_the_family_converts_in_every_type() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llada-tiny", "llada-gqa-tiny", "llada-train-tiny", "illada-tiny"] {
        for (ty, file_type) in [(Mix::F32, 0), (Mix::F16, 1), (Mix::Bf16, 32)] {
            let output = folder.path().join(format!("{name}-{file_type}.gguf"));
            let report = run(&checkpoint(name), &output, ty).unwrap();
            let bytes = std::fs::read(&output).unwrap();
            let gguf = Gguf::parse(&bytes).unwrap();
            assert_eq!(gguf.tensors.len(), report.tensors.len());
            assert_eq!(gguf.metadata.u32("general.file_type").unwrap(), Some(file_type));
            remask::Model::load(&output, &remask::LoadOptions::default()).unwrap();
        }
    }
    // BF16 weights are exact in BF16: the two conversions agree to the bit.
    let [exact, bf16] =
        [0, 32].map(|t| std::fs::read(folder.path().join(format!("llada-tiny-{t}.gguf"))).unwrap());
    let (a, b) = (Gguf::parse(&exact).unwrap(), Gguf::parse(&bf16).unwrap());
    let t = b.tensor("output.weight").unwrap();
    let halves = bf16[t.offset as usize..(t.offset + t.n_bytes) as usize].chunks_exact(2);
    let widened: Vec<f32> = halves
        .map(|c| f32::from_bits(u32::from(u16::from_le_bytes([c[0], c[1]])) << 16))
        .collect();
    assert_eq!(f32s(&exact, &a, "output.weight"), widened);
}

/// A copy of a golden checkpoint with `config.json` changed.
fn with_config(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) -> PathBuf {
    let dir = folder.join("bent");
    std::fs::create_dir_all(&dir).unwrap();
    for entry in std::fs::read_dir(checkpoint("llada-gqa-tiny")).unwrap().flatten() {
        std::fs::write(dir.join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
    }
    let mut config = common::json(&dir.join("config.json"));
    change(&mut config);
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir
}

#[test]
fn switches_that_would_change_results_are_refused_by_name() {
    for (key, value) in [
        ("alibi", serde_json::json!(true)),
        ("layer_norm_type", "low_precision".into()),
        ("block_type", "sequential".into()),
        ("activation_type", "gelu".into()),
        ("rope", false.into()),
        ("scale_logits", true.into()),
        ("input_emb_norm", true.into()),
        ("attention_layer_norm", true.into()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let dir = with_config(folder.path(), |c| c[key] = value);
        let error = run(&dir, &folder.path().join("x.gguf"), Mix::F16).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{key}: {error}");
        assert!(error.message().contains(key), "{error}");
    }
}

#[test]
fn what_is_missing_or_left_over_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x.gguf");
    let dir = with_config(folder.path(), |c| c["n_layers"] = 2.into());
    let error = run(&dir, &output, Mix::F16).unwrap_err();
    assert!(error.message().contains("blocks.2."), "{error}");
    let dir = with_config(folder.path(), |c| c["n_layers"] = 4.into());
    let error = run(&dir, &output, Mix::F16).unwrap_err();
    assert!(error.message().contains("blocks.3."), "{error}");
    let dir = with_config(folder.path(), |c| c["weight_tying"] = false.into());
    let error = run(&dir, &output, Mix::F16).unwrap_err();
    assert!(error.message().contains("ff_out.weight"), "{error}");
    let dir = with_config(folder.path(), |_| ());
    let index = r#"{"weight_map": {"a": "../outside.safetensors"}}"#;
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    let error = run(&dir, &output, Mix::F16).unwrap_err();
    assert!(error.message().contains("../outside"), "{error}");
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left, ["bent"], "{left:?}");
}

#[test]
fn an_existing_output_is_kept_unless_asked() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x.gguf");
    std::fs::write(&output, "precious").unwrap();
    let error = run(&checkpoint("llada-train-tiny"), &output, Mix::F16).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "precious");
    let options = ConvertOptions {
        overwrite: true,
        ..ConvertOptions::default()
    };
    // Cancelled half way: the old file stays.
    let mut n = 0;
    let error = convert(&checkpoint("llada-train-tiny"), &output, &options, &mut |_| {
        n += 1;
        if n > 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "precious");
    convert(&checkpoint("llada-train-tiny"), &output, &options, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(std::fs::read(&output).unwrap()[..4], *b"GGUF");
}
