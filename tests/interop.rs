//! Against llama.cpp itself, which the library that carries ggml brings along: it quantizes our files
//! to our bytes, and computes our logits from them.

#![allow(clippy::multiple_unsafe_ops_per_block)] // a foreign API, called as its own programs do

mod common;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::synthetic::{Shape, hash};
use ggml_sys as sys;
use remask::gguf::Gguf;
use remask::quantize::{Imatrix, ImatrixEntry, Mix, Policy, QuantizeOptions, TypeOverride, quantize};
use remask::{Flash, LoadOptions, Model, Session, SessionOptions};

/// llama.cpp's library keeps global state.
static LLAMA: Mutex<()> = Mutex::new(());

extern "C" fn quiet(_: sys::ggml_log_level, _: *const std::os::raw::c_char, _: *mut std::os::raw::c_void) {}

fn c_string(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// What `llama-quantize IN OUT TYPE` does.
fn llama_quantize(input: &Path, output: &Path, mix: Mix, importance: Option<&Imatrix>) {
    let _guard = LLAMA.lock().unwrap_or_else(|e| e.into_inner());
    let means: BTreeMap<CString, Vec<f32>> = importance
        .map(|i| i.entries.iter())
        .into_iter()
        .flatten()
        .map(|(name, e)| (CString::new(name.as_str()).unwrap(), e.means()))
        .collect();
    let mut list: Vec<sys::llama_model_imatrix_data> = means
        .iter()
        .map(|(name, values)| sys::llama_model_imatrix_data {
            name: name.as_ptr(),
            data: values.as_ptr(),
            size: values.len(),
        })
        .collect();
    list.push(sys::llama_model_imatrix_data {
        name: std::ptr::null(),
        data: std::ptr::null(),
        size: 0,
    });
    let (input, output) = (c_string(input), c_string(output));
    // SAFETY: the strings and the list, which ends with an empty entry, live through the call.
    let code = unsafe {
        sys::llama_log_set(Some(quiet), std::ptr::null_mut());
        let mut params = sys::llama_model_quantize_default_params();
        params.nthread = 2;
        params.ftype = mix.file_type();
        if importance.is_some() {
            params.imatrix = list.as_ptr();
        }
        sys::llama_model_quantize(input.as_ptr(), output.as_ptr(), &params)
    };
    assert_eq!(code, 0, "llama.cpp refused {}", mix.name());
}

/// Type and bytes of every tensor.
fn tensors(path: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let data = |t: &remask::gguf::TensorInfo| {
        let range = t.offset as usize..(t.offset + t.n_bytes) as usize;
        (t.name.clone(), (t.ty.id(), bytes[range].to_vec()))
    };
    gguf.tensors.iter().map(data).collect()
}

fn importance(shape: &Shape) -> Imatrix {
    let mut imatrix = Imatrix {
        datasets: vec!["counter".into()],
        n_chunks: 3,
        chunk_size: 128,
        ..Imatrix::default()
    };
    for (seed, (name, dims, _)) in shape.tensors().iter().enumerate() {
        if name.starts_with("blk.") && dims.len() == 2 {
            let value = |i: u64| (hash(seed as u64, i) % 1000) as f32 / 10.0 + 0.01;
            let entry = ImatrixEntry {
                sums: (0..dims[0]).map(value).collect(),
                counts: vec![7.0],
            };
            imatrix.entries.insert(name.clone(), entry);
        }
    }
    imatrix
}

fn compare(shape: &Shape, mixes: impl Iterator<Item = Mix>, importance: Option<Imatrix>) {
    let folder = tempfile::tempdir().unwrap();
    let source = shape.write(folder.path(), Mix::F16);
    let importance = importance.map(Arc::new);
    for mix in mixes {
        let [ours, theirs] = ["ours.gguf", "theirs.gguf"].map(|n| folder.path().join(n));
        let options = QuantizeOptions {
            policy: Policy {
                mix,
                importance: importance.clone(),
                ..Policy::default()
            },
            n_threads: 1,
            overwrite: true,
            ..QuantizeOptions::default()
        };
        quantize(&source, &ours, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        llama_quantize(&source, &theirs, mix, importance.as_deref());
        let (a, b) = (tensors(&ours), tensors(&theirs));
        assert_eq!(a.len(), b.len());
        for (name, (ty, bytes)) in &a {
            let (theirs_ty, theirs_bytes) = &b[name];
            assert_eq!(ty, theirs_ty, "{}: type of {name}", mix.name());
            assert!(bytes == theirs_bytes, "{}: bytes of {name}", mix.name());
        }
        let [a, b] = [&ours, &theirs].map(|p| Gguf::parse(&std::fs::read(p).unwrap()).unwrap().metadata);
        for key in ["general.file_type", "general.quantization_version"] {
            assert_eq!(a.u32(key).unwrap(), b.u32(key).unwrap(), "{}: {key}", mix.name());
        }
    }
}

const GQA: Shape = Shape {
    n_embd: 256,
    n_ff: 512,
    n_layer: 8,
    n_head: 4,
    n_head_kv: 1,
    tied: true,
};

#[test]
fn every_mix_gives_llama_cpps_bytes() {
    compare(&GQA, Mix::all(), None);
}

#[test]
fn more_layers_and_a_head_of_its_own_give_llama_cpps_bytes() {
    let shape = Shape {
        n_embd: 256,
        n_ff: 256,
        n_layer: 17,
        n_head: 4,
        n_head_kv: 4,
        tied: false,
    };
    let mixes = [Mix::Q2K, Mix::Q3KM, Mix::Q4KM, Mix::Q4KS, Mix::Q5KM, Mix::Iq4Xs];
    compare(&shape, mixes.into_iter(), None);
}

#[test]
fn an_importance_matrix_gives_llama_cpps_bytes() {
    compare(
        &GQA,
        Mix::all().filter(|m| m.base().block_len() > 1),
        Some(importance(&GQA)),
    );
}

#[test]
fn rows_that_blocks_do_not_divide_give_llama_cpps_bytes() {
    let shape = Shape {
        n_embd: 96,
        n_ff: 352,
        n_layer: 3,
        n_head: 4,
        n_head_kv: 2,
        tied: false,
    };
    compare(&shape, Mix::all(), None);
}

/// Logits of all slots, by llama.cpp.
fn llama_logits(path: &Path, tokens: &[u32], n_vocab: usize) -> Vec<f32> {
    let _guard = LLAMA.lock().unwrap_or_else(|e| e.into_inner());
    let path = c_string(path);
    // SAFETY: llama.cpp's own sequence of calls, each result checked; the batch holds as many tokens as
    // it was made for, and logits are read for as many rows as were asked for.
    unsafe {
        sys::llama_log_set(Some(quiet), std::ptr::null_mut());
        sys::llama_backend_init();
        let mut params = sys::llama_model_default_params();
        params.n_gpu_layers = 0;
        let model = sys::llama_model_load_from_file(path.as_ptr(), params);
        assert!(!model.is_null(), "llama.cpp does not load {path:?}");
        let mut params = sys::llama_context_default_params();
        params.n_ctx = 256;
        params.n_batch = 256;
        params.n_ubatch = 256;
        params.n_threads = 1;
        params.n_threads_batch = 1;
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        let context = sys::llama_init_from_model(model, params);
        assert!(!context.is_null());
        let mut batch = sys::llama_batch_init(tokens.len() as i32, 0, 1);
        for (i, &token) in tokens.iter().enumerate() {
            *batch.token.add(i) = token as i32;
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

/// A canvas of 40 slots, and our logits of all of them.
fn our_logits(path: &Path) -> (Vec<u32>, Vec<f32>) {
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    let mask = model.mask_token();
    let token = |i: u64| {
        if i.is_multiple_of(3) {
            mask
        } else {
            (hash(5, i) % 900) as u32
        }
    };
    let tokens: Vec<u32> = (0..40u64).map(token).collect();
    let options = SessionOptions {
        n_threads: 1,
        flash: Flash::Off,
        ..SessionOptions::default()
    };
    let mut session = Session::new(&model, &options).unwrap();
    let rows: Vec<u32> = (0..40).collect();
    let mut logits = Vec::new();
    session.logits(&tokens, &rows, &mut logits).unwrap();
    (tokens, logits)
}

/// Products of quantized weights are our own: both are held to the network with the weights of the file in
/// full precision.
#[test]
fn our_logits_of_quantized_files_are_as_right_as_llama_cpps() {
    let folder = tempfile::tempdir().unwrap();
    for mix in [Mix::Q8_0, Mix::Q4_0, Mix::Q4KM, Mix::Q6K] {
        let path = GQA.write(folder.path(), mix);
        let whole = folder.path().join(format!("{}-as-f32.gguf", mix.name()));
        let options = QuantizeOptions {
            policy: Policy {
                mix: Mix::F32,
                ..Policy::default()
            },
            requantize: true,
            ..QuantizeOptions::default()
        };
        quantize(&path, &whole, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let (tokens, right) = our_logits(&whole);
        let (_, ours) = our_logits(&path);
        let theirs = llama_logits(&path, &tokens, ours.len() / tokens.len());
        assert!(ours.len() == right.len() && theirs.len() == right.len());
        let error = |logits: &[f32]| {
            let each = logits.iter().zip(&right).map(|(a, b)| f64::from(a - b).powi(2));
            (each.sum::<f64>() / right.len() as f64).sqrt()
        };
        let (a, b) = (error(&ours), error(&theirs));
        println!("{}: {a:.4} here, {b:.4} in llama.cpp", mix.name());
        assert!(a < 1.1 * b, "{}: {a} here, {b} in llama.cpp", mix.name());
    }
}

#[test]
fn llama_cpp_loads_our_files_and_gives_our_logits() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths: Vec<_> = ["llada-tiny", "llada-gqa-tiny", "llada-train-tiny", "illada-tiny"]
        .map(|name| common::convert_golden(name, folder.path()))
        .to_vec();
    paths.push(GQA.write(folder.path(), Mix::F32));
    let half = GQA.write(folder.path(), Mix::F16);
    paths.push(half.clone());
    for path in paths {
        let (tokens, ours) = our_logits(&path);
        let theirs = llama_logits(&path, &tokens, ours.len() / tokens.len());
        let mean_square = ours.iter().map(|x| x * x).sum::<f32>() / ours.len() as f32;
        assert!(mean_square > 0.01 && theirs.len() == ours.len(), "{mean_square}");
        let error = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        let error = error.fold(0f32, f32::max);
        println!("{}: {error:e}", path.file_name().unwrap().to_string_lossy());
        // Attention is by kernels of our own, in f32. What that differs in moves activations across the roundings to
        // f16 that products with f16 weights begin with.
        let bound = if path == half { 5e-2 } else { 1e-3 };
        assert!(error < bound, "{}: {error}", path.display());
    }
}

#[test]
fn files_that_llama_cpp_made_load_here() {
    let folder = tempfile::tempdir().unwrap();
    let source = GQA.write(folder.path(), Mix::F16);
    for mix in [Mix::Q8_0, Mix::Q4KM, Mix::Iq4Xs] {
        let theirs = folder.path().join(format!("{}.gguf", mix.name()));
        llama_quantize(&source, &theirs, mix, None);
        let model = Model::load(&theirs, &LoadOptions::default()).unwrap();
        let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
        let tokens = vec![model.mask_token(); 16];
        let mut logits = Vec::new();
        session.logits(&tokens, &[0, 3, 15], &mut logits).unwrap();
        assert!(logits.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn a_type_by_name_overrides_the_mix_as_in_llama_cpp() {
    // `--tensor-type ffn_down=q6_k`: the same bytes as a file of that type has there.
    let folder = tempfile::tempdir().unwrap();
    let source = GQA.write(folder.path(), Mix::F16);
    let [mixed, six] = ["mixed.gguf", "six.gguf"].map(|n| folder.path().join(n));
    let options = QuantizeOptions {
        policy: Policy {
            mix: Mix::Q4_0,
            overrides: vec![TypeOverride::parse("ffn_down=q6_k").unwrap()],
            ..Policy::default()
        },
        ..QuantizeOptions::default()
    };
    quantize(&source, &mixed, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    llama_quantize(&source, &six, Mix::Q6K, None);
    let (a, b) = (tensors(&mixed), tensors(&six));
    assert_eq!(a["blk.3.ffn_down.weight"], b["blk.3.ffn_down.weight"]);
    assert_ne!(a["blk.3.ffn_up.weight"].0, b["blk.3.ffn_up.weight"].0);
}
