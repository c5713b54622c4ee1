//! A step of a run allocates nothing, once the first has sized the buffers. Rust's side is counted
//! here; ggml computes in memory that was reserved before.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use remask::{Canvas, GenerateParams, LoadOptions, Model, Params, Session, SessionOptions};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator; the counter is a plain thread-local.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = common::convert_golden("llada-tiny", folder.path());
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let reduced = [
        Params {
            block_length: 16,
            cache: remask::Cache::Dual,
            suppress: vec![3, 4],
            ..Params::default()
        },
        Params {
            order: remask::Order::Entropy,
            early_commit: Some(remask::EarlyCommit::default()),
            ..Params::default()
        },
        Params {
            temperature: 0.7,
            block_length: 16,
            cache: remask::Cache::Prefix,
            ..Params::default()
        },
    ];
    let reduced = reduced.map(|params| (params, 2, Some(true)));
    for (denoise, n_canvases, reduction) in [
        (Params::default(), 1),
        (
            Params {
                temperature: 0.7,
                ..Params::default()
            },
            2,
        ),
        (
            Params {
                block_length: 16,
                temperature: 0.7,
                top_p: 0.9,
                top_k: 50,
                ..Params::default()
            },
            1,
        ),
        (
            Params {
                guidance: 1.5,
                repetition_penalty: 1.2,
                stop_at_eos: true,
                ..Params::default()
            },
            2,
        ),
        (
            Params {
                block_length: 16,
                cache: remask::Cache::Dual,
                guidance: 0.5,
                ..Params::default()
            },
            2,
        ),
        (
            Params {
                block_length: 12,
                cache: remask::Cache::Prefix,
                cache_refresh: 5,
                cache_type: remask::CacheType::Q8_0,
                suffix_window: Some(20),
                commit: remask::Commit::NEIGHBOURS,
                early_commit: Some(remask::EarlyCommit::default()),
                ..Params::default()
            },
            1,
        ),
        (
            Params {
                block_length: 20,
                cache: remask::Cache::FEATURE,
                cache_type: remask::CacheType::F16,
                guidance: 0.5,
                ..Params::default()
            },
            1,
        ),
        (
            Params {
                commit: remask::Commit::EntropyBound(0.1),
                ..Params::default()
            },
            1,
        ),
        (
            Params {
                commit: remask::Commit::Threshold(0.9),
                ..Params::default()
            },
            1,
        ),
    ]
    .map(|(params, n)| (params, n, None))
    .into_iter()
    .chain(reduced)
    {
        let mut session = Session::new(
            &model,
            &SessionOptions {
                n_threads: 1,
                ..SessionOptions::default()
            },
        )
        .unwrap();
        session.set_reduction(reduction);
        let mut canvas = Canvas::new(model.mask_token());
        canvas.push_fixed(&[1, 2, 3, 4, 5]);
        canvas.push_masked(48).unwrap();
        let params = GenerateParams {
            denoise: denoise.clone(),
            ..GenerateParams::default()
        };
        let mut run = session.start(vec![canvas; n_canvases], &params).unwrap();
        run.step().unwrap();
        let mut n_steps = 0;
        while !run.is_done() {
            let before = COUNT.with(Cell::get);
            run.step().unwrap();
            let n = COUNT.with(Cell::get) - before;
            assert_eq!(n, 0, "step {n_steps} of {denoise:?}");
            n_steps += 1;
        }
        assert!(n_steps > 3);
    }
}
