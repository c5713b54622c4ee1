//! Our adapters in llama.cpp: base and adapter give the logits of the merged model.

#![allow(clippy::multiple_unsafe_ops_per_block)] // a foreign API, called as its own programs do

use std::ffi::CString;
use std::ops::ControlFlow;
use std::path::Path;

use ggml_sys as sys;
use remask::convert::{ConvertOptions, convert};
use remask::quantize::{Mix, Policy};
use remask_trainer::adapter::export_adapter;
use remask_trainer::checkpoint;
use remask_trainer::config::Config;
use remask_trainer::data::{PrepareOptions, prepare};
use remask_trainer::run::Run;

#[path = "../../tests/common/vectors.rs"]
mod vectors;

extern "C" fn quiet(_: sys::ggml_log_level, _: *const std::os::raw::c_char, _: *mut std::os::raw::c_void) {}

fn c_string(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// Logits of the file at `path`, with an adapter beside it where one is given.
fn logits(path: &Path, adapter: Option<&Path>, tokens: &[i32], n_vocab: usize) -> Vec<f32> {
    let path = c_string(path);
    // SAFETY: llama.cpp's own sequence of calls, each result checked; the batch holds as many tokens as it
    // was made for, logits are read for as many rows as were asked for, and the adapter goes with its model.
    unsafe {
        sys::llama_log_set(Some(quiet), std::ptr::null_mut());
        sys::llama_backend_init();
        let mut params = sys::llama_model_default_params();
        params.n_gpu_layers = 0;
        let model = sys::llama_model_load_from_file(path.as_ptr(), params);
        assert!(!model.is_null(), "llama.cpp does not load {path:?}");
        let mut params = sys::llama_context_default_params();
        params.n_ctx = 64;
        params.n_batch = 64;
        params.n_ubatch = 64;
        params.n_threads = 1;
        params.n_threads_batch = 1;
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        let context = sys::llama_init_from_model(model, params);
        assert!(!context.is_null());
        if let Some(file) = adapter {
            let file = c_string(file);
            let loaded = sys::llama_adapter_lora_init(model, file.as_ptr());
            assert!(!loaded.is_null(), "llama.cpp does not load {file:?}");
            let (mut adapters, mut scales) = ([loaded], [1f32]);
            let code = sys::llama_set_adapters_lora(context, adapters.as_mut_ptr(), 1, scales.as_mut_ptr());
            assert_eq!(code, 0);
        }
        let mut batch = sys::llama_batch_init(tokens.len() as i32, 0, 1);
        for (i, &token) in tokens.iter().enumerate() {
            *batch.token.add(i) = token;
            *batch.pos.add(i) = i as i32;
            *batch.n_seq_id.add(i) = 1;
            *(*batch.seq_id.add(i)) = 0;
            *batch.logits.add(i) = 1;
        }
        batch.n_tokens = tokens.len() as i32;
        assert_eq!(sys::llama_decode(context, batch), 0);
        let found = sys::llama_get_logits(context);
        let logits = std::slice::from_raw_parts(found, tokens.len() * n_vocab).to_vec();
        sys::llama_batch_free(batch);
        sys::llama_free(context);
        sys::llama_model_free(model);
        logits
    }
}

fn file(folder: &Path, output: &Path) {
    let options = ConvertOptions {
        policy: Policy {
            mix: Mix::F32,
            ..Policy::default()
        },
        ..ConvertOptions::default()
    };
    convert(folder, output, &options, &mut |_| ControlFlow::Continue(())).unwrap();
}

#[test]
fn llama_cpp_takes_an_adapter_to_the_merged_models_logits() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let init = vectors::vectors_dir().join("checkpoints/llada-gqa-tiny");
    std::fs::write(
        at("text.txt"),
        "The cat sat on the mat, and the hen in the pen. ".repeat(40),
    )
    .unwrap();
    prepare(
        &[at("text.txt")],
        &init,
        &at("data"),
        &PrepareOptions::default(),
        &mut |_| (),
    )
    .unwrap();
    let text = format!(
        "[data]
        train = ['{}']
        length = 16
        [optimizer]
        lr = 3e-2
        warmup = 0
        [lora]
        rank = 3
        alpha = 7.0
        [run]
        init_from = '{}'
        steps = 6
        batch = 4
        eval_every = 0",
        at("data").display(),
        init.display()
    );
    let config = Config::parse(&text, &[]).unwrap();
    let mut run = Run::open(&config, &at("run")).unwrap();
    run.train(&mut |_| ControlFlow::Continue(())).unwrap();
    let newest = checkpoint::find(&at("run")).unwrap();
    export_adapter(&newest, &at("adapter.gguf"), false).unwrap();
    file(&init, &at("base.gguf"));
    file(&newest, &at("merged.gguf"));
    let n_vocab = run.config().model.vocab_size;
    let tokens: Vec<i32> = (0..24).map(|i| i * 37 % n_vocab as i32).collect();
    let base = logits(&at("base.gguf"), None, &tokens, n_vocab);
    let merged = logits(&at("merged.gguf"), None, &tokens, n_vocab);
    let beside = logits(&at("base.gguf"), Some(&at("adapter.gguf")), &tokens, n_vocab);
    let farthest = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
    let (moved, error) = (farthest(&base, &merged), farthest(&beside, &merged));
    assert!(
        moved > 0.1 && error < 1e-3 * moved.max(1.0),
        "moved {moved}, differs {error}"
    );
}
