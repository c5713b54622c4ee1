//! What caches may and may not change, on a real network.

mod common;

use common::{canvas, convert_golden};
use remask::denoise::{Branch, CacheUse, Predictor, Query};
use remask::{
    Cache, CacheType, CancelToken, Canvas, Commit, ErrorKind, Flash, GenerateParams, LoadOptions, Model,
    Params, Session, SessionOptions, StepReport,
};

fn session(checkpoint: &str, flash: Flash) -> Session {
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden(checkpoint, folder.path());
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let options = SessionOptions {
        flash,
        n_threads: 1,
        ..SessionOptions::default()
    };
    Session::new(&model, &options).unwrap()
}

fn run(session: &mut Session, canvases: Vec<Canvas>, denoise: &Params) -> (Vec<Canvas>, Vec<StepReport>) {
    let params = GenerateParams {
        denoise: denoise.clone(),
        ..GenerateParams::default()
    };
    let mut run = session.start(canvases, &params).unwrap();
    let mut reports = Vec::new();
    while !run.is_done() {
        reports.push(run.step().unwrap().clone());
    }
    (run.into_canvases(), reports)
}

#[test]
fn a_window_over_everything_changes_nothing() {
    for checkpoint in ["llada-tiny", "illada-tiny"] {
        for flash in [Flash::Off, Flash::On] {
            let mut session = session(checkpoint, flash);
            let canvas = canvas(&session, 0, 40);
            let exact = run(&mut session, vec![canvas.clone()], &Params::default());
            for cache in [Cache::Prefix, Cache::Dual] {
                let params = Params {
                    cache,
                    ..Params::default()
                };
                let cached = run(&mut session, vec![canvas.clone()], &params);
                assert_eq!(exact.0, cached.0, "{checkpoint} {flash:?} {cache:?}");
                assert!(cached.1[5].sequences[0].cached);
                for (a, b) in exact.1.iter().zip(&cached.1) {
                    let (a, b) = (&a.sequences[0].changed[0], &b.sequences[0].changed[0]);
                    assert!((a.confidence - b.confidence).abs() < 1e-5, "{a:?} {b:?}");
                }
            }
        }
    }
}

#[test]
fn a_feature_cache_that_updates_everything_is_the_prefix_cache() {
    let feature = |prompt_interval, response_interval, update| Cache::Feature {
        prompt_interval,
        response_interval,
        update,
    };
    for (checkpoint, flash) in [("llada-tiny", Flash::Off), ("illada-tiny", Flash::On)] {
        let mut session = session(checkpoint, flash);
        let canvas = canvas(&session, 20, 30);
        let mut with = |cache| {
            let params = Params {
                cache,
                ..Params::default()
            };
            run(&mut session, vec![canvas.clone()], &params)
        };
        let (prefix, exact) = (with(Cache::Prefix), with(Cache::None));
        // All slots in partial passes, or none of the passes partial.
        for cache in [feature(1000, 1000, 1.0), feature(1000, 1, 0.1)] {
            let found = with(cache);
            assert_eq!(found.0, prefix.0, "{checkpoint} {flash:?} {cache:?}");
            for (a, b) in prefix.1.iter().zip(&found.1) {
                assert_eq!(a.n_computed, b.n_computed);
                let (a, b) = (&a.sequences[0].changed[0], &b.sequences[0].changed[0]);
                assert!((a.confidence - b.confidence).abs() < 1e-5, "{a:?} {b:?}");
            }
        }
        assert_eq!(with(feature(1, 5, 0.25)).0, exact.0);
        // A full pass of 50 every eighth step, the response of 30 every third, else 7 slots of it.
        let some = with(feature(8, 3, 0.25));
        let computed: Vec<u64> = some.1.iter().map(|r| r.n_computed).collect();
        let each: Vec<u64> = computed.windows(2).map(|w| w[1] - w[0]).collect();
        assert_eq!(computed[0], 50);
        assert_eq!(each[..9], [7, 7, 30, 7, 7, 30, 7, 50, 7]);
        assert_eq!(some.0[0].n_masked(), 0);
    }
}

/// What slots add is kept: where no token changed, a partial pass gives what the last pass gave.
#[test]
fn a_partial_pass_over_an_unchanged_canvas_changes_nothing() {
    let mut session = session("llada-gqa-tiny", Flash::Off);
    let canvas = canvas(&session, 9, 24);
    for cache_type in [CacheType::F32, CacheType::F16] {
        let params = GenerateParams {
            denoise: Params {
                cache: Cache::Feature {
                    prompt_interval: 100,
                    response_interval: 100,
                    update: 0.2,
                },
                cache_type,
                ..Params::default()
            },
            ..GenerateParams::default()
        };
        let start = canvas.tokens().to_vec();
        let mut run = session.start(vec![canvas.clone()], &params).unwrap();
        let mut first = run.step().unwrap().sequences[0].changed[0];
        for _ in 0..3 {
            run.run_mut().replace(0, &start).unwrap();
            let report = run.step().unwrap();
            assert!(report.sequences[0].cached);
            let again = report.sequences[0].changed[0];
            assert_eq!((first.slot, first.token), (again.slot, again.token));
            let bound = if cache_type == CacheType::F32 { 1e-5 } else { 2e-3 };
            assert!(
                (first.confidence - again.confidence).abs() < bound,
                "{first:?} {again:?}"
            );
            first = again;
        }
    }
}

#[test]
fn smaller_types_keep_nearly_the_same() {
    for flash in [Flash::Off, Flash::On] {
        let mut session = session("llada-tiny", flash);
        let canvas = canvas(&session, 30, 32);
        let of = |ty, session: &mut Session| {
            let params = Params {
                cache: Cache::Dual,
                cache_type: ty,
                block_length: 16,
                ..Params::default()
            };
            let reports = run(session, vec![canvas.clone()], &params).1;
            // The second step is the first that looks at what was kept.
            assert!(reports[1].sequences[0].cached);
            reports[1].sequences[0].changed[0]
        };
        let exact = of(CacheType::F32, &mut session);
        let half = of(CacheType::F16, &mut session);
        let small = of(CacheType::Q8_0, &mut session);
        assert_eq!((exact.slot, exact.token), (half.slot, half.token));
        assert!(
            (exact.confidence - half.confidence).abs() < 2e-3,
            "{exact:?} {half:?}"
        );
        assert_eq!((exact.slot, exact.token), (small.slot, small.token));
        assert!(
            (exact.confidence - small.confidence).abs() < 3e-2,
            "{exact:?} {small:?}"
        );
        assert_ne!(exact.confidence, small.confidence);
    }
}

#[test]
fn neighbours_in_a_batch_and_both_branches_of_guidance_have_caches_of_their_own() {
    let mut session = session("llada-gqa-tiny", Flash::Off);
    for cache in [Cache::Prefix, Cache::Dual, Cache::FEATURE] {
        let params = Params {
            cache,
            cache_refresh: if cache == Cache::FEATURE { 0 } else { 3 },
            block_length: 8,
            guidance: 1.5,
            commit: Commit::Threshold(0.3),
            ..Params::default()
        };
        let all = [
            canvas(&session, 5, 24),
            canvas(&session, 33, 16),
            canvas(&session, 1, 30),
        ];
        let alone: Vec<Canvas> = all
            .iter()
            .flat_map(|c| run(&mut session, vec![c.clone()], &params).0)
            .collect();
        let together = run(&mut session, all.to_vec(), &params).0;
        assert_eq!(alone, together, "{cache:?}");
    }
}

#[test]
fn holes_between_fixed_text_are_filled_with_a_cache() {
    let mut session = session("llada-tiny", Flash::Off);
    let mut holes = canvas(&session, 12, 6);
    holes.push_fixed(&[50, 51, 52]);
    holes.push_masked(7).unwrap();
    holes.push_fixed(&[60, 61]);
    for cache in [Cache::Prefix, Cache::Dual, Cache::FEATURE] {
        let params = Params {
            cache,
            block_length: 6,
            suppress: vec![session.model().mask_token()],
            ..Params::default()
        };
        let (filled, reports) = run(&mut session, vec![holes.clone()], &params);
        assert_eq!(filled[0].n_masked(), 0);
        // The prompt is not computed in a cached step.
        assert_eq!(reports[1].sequences[0].window.start, 12);
        if cache == Cache::Dual {
            assert_eq!(reports[1].sequences[0].window, 12..18);
        }
    }
    let params = GenerateParams {
        denoise: Params {
            suffix_window: Some(4),
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    let error = session.start(vec![holes], &params).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("suffix_window"), "{error}");
}

#[test]
fn a_suffix_window_is_all_that_is_computed_and_a_wide_one_is_exact() {
    let mut session = session("llada-tiny", Flash::Off);
    let canvas = canvas(&session, 10, 32);
    let with = |suffix_window| Params {
        block_length: 8,
        suffix_window,
        ..Params::default()
    };
    let exact = run(&mut session, vec![canvas.clone()], &with(None));
    let wide = run(&mut session, vec![canvas.clone()], &with(Some(24)));
    assert_eq!(exact.0, wide.0);
    let narrow = run(&mut session, vec![canvas.clone()], &with(Some(4)));
    let windows: Vec<_> = narrow.1.iter().map(|r| r.sequences[0].window.end).collect();
    assert_eq!((windows[0], windows[8], windows[31]), (22, 30, 42));
    assert_eq!(narrow.0[0].n_masked(), 0);
}

#[test]
fn queries_with_a_cache_need_a_run() {
    let mut session = session("llada-tiny", Flash::Off);
    let query = Query {
        sequence: 0,
        branch: Branch::Conditional,
        tokens: &[1, 2, 3],
        rows: &[1],
        cache: CacheUse::Window { begin: 0, end: 2 },
    };
    let error = session.predict(&[query], &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn options_without_a_cache_to_act_on_are_refused_by_name() {
    let mut session = session("llada-tiny", Flash::Off);
    let canvas = canvas(&session, 4, 8);
    for (params, name) in [
        (
            Params {
                cache_refresh: 2,
                ..Params::default()
            },
            "cache_refresh",
        ),
        (
            Params {
                cache_type: CacheType::F16,
                ..Params::default()
            },
            "cache_type",
        ),
        (
            Params {
                fast_dllm: Some(remask::FastDllm::Main),
                suffix_window: Some(3),
                ..Params::default()
            },
            "suffix_window",
        ),
    ] {
        let params = GenerateParams {
            denoise: params,
            ..GenerateParams::default()
        };
        let error = session.start(vec![canvas.clone()], &params).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn a_cancelled_step_is_computed_again_from_the_start() {
    let mut session = session("llada-tiny", Flash::Off);
    let canvas = canvas(&session, 20, 24);
    let cancel = CancelToken::new();
    let denoise = Params {
        cache: Cache::Dual,
        block_length: 8,
        ..Params::default()
    };
    let calm = run(&mut session, vec![canvas.clone()], &denoise).0;
    let params = GenerateParams {
        denoise,
        cancel: Some(cancel.clone()),
        ..GenerateParams::default()
    };
    let mut run = session.start(vec![canvas], &params).unwrap();
    let mut n = 0;
    while !run.is_done() {
        cancel.set();
        assert_eq!(run.step().unwrap_err().kind(), ErrorKind::Cancelled);
        cancel.reset();
        run.step().unwrap();
        n += 1;
    }
    assert_eq!((run.into_canvases(), n), (calm, 24));
}
