//! A case at least for each way that is known to reach an assertion, a null call or an endless loop of ggml
//! and of the loader around it, so that no newer version brings one back unnoticed. `cargo xtask asserts`
//! lists the assertions; these tests are what must stand before them.

mod common;
#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)]
mod fuzz;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fuzz::Valid;
use remask::gguf::Gguf;
use remask::{
    Canvas, ErrorKind, GenerateParams, LoadOptions, Model, ModelFile, Pooling, Residence, Session,
    SessionOptions,
};

/// Where it ends a process, what leads there, and the hostile files that do. What has no file is a test below
/// or elsewhere, which is named.
const PATHS: &[(&str, &str, &[&str])] = &[
    (
        "ggml.c, sizes of a tensor at the limit",
        "dims of I8",
        &["ti_eq_int64max", "ti_prod_overflow", "ti_bytes_overflow"],
    ),
    (
        "ggml.c, memory of a pool",
        "dims larger than the file",
        &["ti_huge_real"],
    ),
    (
        "gguf.cpp, strings",
        "lengths above the file's",
        &["kv_str_2p63", "kv_str_max", "kv_str_filesize", "kv_key_2p64m1"],
    ),
    (
        "gguf.cpp, arrays",
        "counts above the file's",
        &[
            "kv_arr_2p62_u8",
            "kv_arr_2p61_u64",
            "kv_arr_2p30p1",
            "kv_arr_str_amplify",
        ],
    ),
    (
        "gguf.cpp, typed getters",
        "values of another type",
        &[
            "wt_block_count_str",
            "wt_arch_u32",
            "wt_tokens_i32",
            "wt_toktype_f32",
            "wt_align_i32",
        ],
    ),
    (
        "ggml.c, ggml_row_size",
        "types that are gone or unknown",
        &["ti_type4", "ti_type99", "ti_type_neg"],
    ),
    (
        "ggml.c, ggml_new_tensor",
        "negative dims, half blocks",
        &["ti_neg_dim", "ti_zero_dim", "ti_row_not_block", "ti_ndims5"],
    ),
    (
        "ggml-backend.cpp, addresses",
        "alignment 1",
        &["align_1", "align_3", "align_0"],
    ),
    (
        "llama-model.cpp, block_count",
        "0 and too many",
        &["hp_blk0", "hp_blk_2p31"],
    ),
    (
        "llama-model.cpp, experts",
        "counts without experts",
        &["hp_expert_used"],
    ),
    (
        "llama-model.cpp, rope scaling",
        "an unknown kind",
        &["hp_rope_scaling_bogus"],
    ),
    (
        "ops.cpp, rotary dimension",
        "odd and beyond the head",
        &["hp_rope7"],
    ),
    (
        "ggml.c, heads and key heads",
        "no multiple",
        &["sh_gqa3", "hp_head3", "hp_head0"],
    ),
    (
        "llama-vocab.cpp, tokens",
        "equal ones, none, ids out of range",
        &[
            "tok_dup",
            "tok_zero",
            "tok_mask_oob",
            "tok_mask_max",
            "tok_eos_oob",
            "tok_more_than_rows",
        ],
    ),
    (
        "split files",
        "a part of another type or none",
        &["split_missing", "split_second", "split_65535"],
    ),
    (
        "ggml-cpu, products without vec_dot",
        "matrices of I8, F64, ...",
        &["ti_role_i8", "ti_role_f64_embd"],
    ),
    ("binary-ops.cpp, norms", "a norm that is not F32", &["ti_norm_q8"]),
    (
        "ops.cpp, rms_norm",
        "epsilon negative or NaN",
        &["hp_epsneg", "hp_epsnan"],
    ),
    ("rope base", "0", &["hp_freq0"]),
    ("ops.cpp, get_rows", "ids: ids_out_of_range below, args.c", &[]),
    (
        "gguf.cpp, writer",
        "alignment, names, order, a full disk: gguf.rs, faults.c",
        &[],
    ),
    ("std::regex", "long words: hostile_text.rs", &[]),
    (
        "llama-context.cpp, batches",
        "canvases of any length: session.rs, args.c",
        &[],
    ),
    (
        "ggml.c, threads",
        "513 and more: args.c, cli/tests/faults.rs",
        &[],
    ),
    ("ggml-cpu.c, pthread_create", "faults.c", &[]),
    ("fopen of a FIFO", "cli/tests/faults.rs", &[]),
    (
        "ggml-backend.cpp, set and get",
        "sched.rs: what_does_not_fit_is_an_error_and_not_an_abort",
        &[],
    ),
];

#[test]
fn every_path_has_its_file() {
    let manifest = std::fs::read_to_string(common::hostile_dir().join("MANIFEST.tsv")).unwrap();
    let files: BTreeSet<&str> = manifest.lines().filter_map(|l| l.split('\t').next()).collect();
    for (place, what, names) in PATHS {
        assert!(!what.is_empty());
        for name in *names {
            assert!(files.contains(format!("{name}.gguf").as_str()), "{place}: {name}");
        }
    }
}

/// Loads and runs a file in memory: refused or run, never the end of the process.
fn takes(bytes: Vec<u8>) -> bool {
    let began = Instant::now();
    let taken = fuzz::load_and_step(bytes);
    let elapsed = began.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    taken
}

/// Every tensor as every type: ids that are gone, unknown ones, types without a product or without a kernel.
#[test]
fn every_type_in_every_role_is_refused_or_runs() {
    let valid = Valid::read(&common::hostile_dir());
    let n = Gguf::parse(&valid.gguf).unwrap().tensors.len();
    let (mut done, mut taken) = (0, 0);
    for at in 0..n {
        for ty in 0..48u8 {
            taken += u32::from(takes(fuzz::bent::bend(&valid.gguf, &[at as u8, 6, ty])));
            done += 1;
        }
    }
    // As they are, every tensor once, and matrices as other types.
    assert!(taken > n as u32 && taken < done / 2, "{taken} of {done}");
}

/// Every key set to every number at an edge, as its own type and as others; every dimension of every tensor.
#[test]
fn every_key_and_dimension_at_every_edge_is_refused_or_runs() {
    let valid = Valid::read(&common::hostile_dir());
    let file = Gguf::parse(&valid.gguf).unwrap();
    let mut done = 0;
    for key in 0..file.metadata.len() {
        for kind in [0u8, 160, 161, 163, 164, 166, 167] {
            for edge in 0..16u8 {
                takes(fuzz::bent::bend(
                    &valid.gguf,
                    &[0, 0, key as u8, kind, edge, edge],
                ));
                done += 1;
            }
        }
    }
    for at in 0..file.tensors.len() {
        for axis in 0..2u8 {
            for edge in 0..16u8 {
                takes(fuzz::bent::bend(&valid.gguf, &[at as u8, 5, axis, edge]));
                done += 1;
            }
        }
    }
    assert!(done > 1000, "{done}");
}

#[test]
fn ids_out_of_range_are_refused() {
    let valid = Valid::read(&common::hostile_dir());
    let file = ModelFile::from_memory(valid.gguf).unwrap();
    let mut none = |_| std::ops::ControlFlow::Continue(());
    let model = Model::from_file(file, &LoadOptions::default(), &mut none).unwrap();
    let n_vocab = model.sizes().n_vocab as u32;
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    for bad in [n_vocab, n_vocab + 1, u32::MAX, i32::MAX as u32, 1 << 31] {
        let mut logits = Vec::new();
        assert!(session.logits(&[1, bad], &[0], &mut logits).is_err(), "{bad}");
        assert!(session.logits(&[1, 2], &[bad], &mut logits).is_err(), "{bad}");
        assert!(session.embeddings(&[bad], Pooling::Mean).is_err(), "{bad}");
        let mut canvas = Canvas::new(model.mask_token());
        canvas.push_fixed(&[bad]);
        canvas.push_masked(2).unwrap();
        let go = |_: &remask::StepReport, _: &Canvas| std::ops::ControlFlow::Continue(());
        assert!(
            session
                .generate(&mut canvas, &GenerateParams::default(), go)
                .is_err(),
            "{bad}"
        );
        let mut canvas = Canvas::new(bad);
        canvas.push_masked(2).unwrap();
        assert!(
            session
                .generate(&mut canvas, &GenerateParams::default(), go)
                .is_err(),
            "{bad}"
        );
    }
}

/// Files of gigabytes that hold nothing but their header: as fast and small as others.
#[cfg(unix)]
#[test]
fn sparse_files_cost_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let header = |n_kv: u64, rest: &[u8]| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(n_kv.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.push(b'k');
        bytes.extend(rest);
        bytes
    };
    // A string of 700 MB; an array of 29 million empty strings; an array of 2^30 bytes.
    let string = [&8u32.to_le_bytes()[..], &700_000_000u64.to_le_bytes()].concat();
    let strings = [
        &9u32.to_le_bytes()[..],
        &8u32.to_le_bytes(),
        &29_000_000u64.to_le_bytes(),
    ]
    .concat();
    let bytes = [
        &9u32.to_le_bytes()[..],
        &0u32.to_le_bytes(),
        &(1u64 << 30).to_le_bytes(),
    ]
    .concat();
    for (i, rest) in [string, strings, bytes].iter().enumerate() {
        let path = folder.path().join(format!("{i}.gguf"));
        std::fs::write(&path, header(1, rest)).unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1200 << 20)
            .unwrap();
        let began = Instant::now();
        let error = Model::load(&path, &LoadOptions::default())
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Limit | ErrorKind::Format | ErrorKind::Model
            ),
            "{error}"
        );
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{i}: {:?}",
            began.elapsed()
        );
    }
    let error = ModelFile::open(folder.path(), Residence::Map)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}
