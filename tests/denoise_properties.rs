//! What holds for every canvas and every setting, with a predictor that is only a hash.

use proptest::prelude::*;
use remask::denoise::{
    Branch, CacheUse, Commit, CounterNoise, Order, Predictor, Query, Run, num_transfer_tokens,
};
use remask::{Cache, Canvas, EarlyCommit, Params, Slot};

const N_VOCAB: usize = 50;
const MASK: u32 = 49;

/// Logits that depend on the canvas and the slot. The mask token is as likely as any other.
struct Hashed;

impl Predictor for Hashed {
    fn n_vocab(&self) -> usize {
        N_VOCAB
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> remask::Result<()> {
        logits.clear();
        for q in queries {
            let canvas = q
                .tokens
                .iter()
                .fold(7u64, |h, &t| (h ^ u64::from(t)).wrapping_mul(0x0100_0000_01B3));
            for &row in q.rows {
                for token in 0..N_VOCAB as u64 {
                    let mut x = canvas ^ (u64::from(row) << 32) ^ (token << 8);
                    x = (x ^ (x >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    logits.push((x >> 40) as f32 / (1 << 22) as f32);
                }
            }
        }
        Ok(())
    }
}

fn canvases() -> impl Strategy<Value = Canvas> {
    proptest::collection::vec((0u32..MASK, 1usize..7, any::<bool>()), 1..9)
        .prop_map(|parts| {
            let mut canvas = Canvas::new(MASK);
            for (token, n, masked) in parts {
                if masked {
                    canvas.push_masked(n).unwrap()
                } else {
                    canvas.push_fixed(&vec![token; n])
                }
            }
            canvas
        })
        .prop_filter("something to fill", |c| c.n_masked() > 0)
}

fn settings() -> impl Strategy<Value = Params> {
    let order = prop_oneof![
        Just(Order::LowConfidence),
        Just(Order::Random),
        Just(Order::Margin),
        Just(Order::Entropy),
        Just(Order::LeftToRight),
        Just(Order::Origin),
    ];
    let commit = prop_oneof![
        4 => Just(Commit::Quota),
        1 => (0.0f64..1.0).prop_map(Commit::Threshold),
        1 => (0.1f64..4.0).prop_map(Commit::Factor),
        1 => (0.0f64..8.0).prop_map(Commit::EntropyBound),
        1 => (0.0f64..1.0, 0.0f64..0.3, 0usize..6).prop_map(|(anchor, relaxed, radius)| {
            Commit::Neighbours { anchor, relaxed, radius }
        }),
    ];
    let caching = (
        prop_oneof![
            2 => Just(Cache::None),
            2 => Just(Cache::Prefix),
            2 => Just(Cache::Dual),
            1 => (1usize..9, 1usize..5, 0.0f64..1.0).prop_map(|(prompt_interval, response_interval, update)| {
                Cache::Feature { prompt_interval, response_interval, update }
            }),
        ],
        0usize..4,
        proptest::option::weighted(0.2, 0usize..20),
        proptest::option::weighted(0.2, 0.0f64..0.3),
    );
    (
        order,
        commit,
        0usize..9,
        0usize..40,
        prop_oneof![Just(0.0), 0.1f64..2.0],
        any::<u64>(),
        any::<bool>(),
        0usize..20,
        caching,
    )
        .prop_map(
            |(order, commit, block_length, steps, temperature, seed, guided, top_k, caching)| Params {
                order: if commit == Commit::Quota {
                    order
                } else {
                    Order::LowConfidence
                },
                commit,
                block_length,
                steps: if commit == Commit::Quota { steps } else { 0 },
                temperature,
                seed,
                top_k,
                cache: caching.0,
                cache_refresh: match caching.0 {
                    Cache::Prefix | Cache::Dual => caching.1,
                    _ => 0,
                },
                suffix_window: caching.2,
                early_commit: caching.3.map(|x| EarlyCommit {
                    early: x,
                    middle: x / 2.0,
                    late: 0.0,
                }),
                guidance: if guided { 1.5 } else { 0.0 },
                ..Params::default()
            },
        )
}

/// As [`Hashed`], for queries that keep to the rules of caches.
#[derive(Default)]
struct Strict {
    /// Slots kept, by canvas and branch.
    kept: std::collections::BTreeMap<(usize, bool), usize>,
    n_computed: u64,
}

impl Predictor for Strict {
    fn n_vocab(&self) -> usize {
        N_VOCAB
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> remask::Result<()> {
        for q in queries {
            let key = (q.sequence, q.branch == Branch::Unconditional);
            let n = q.tokens.len();
            assert!(q.rows.is_sorted() && q.rows.iter().all(|&r| (r as usize) < n));
            self.n_computed += match q.cache {
                CacheUse::Off => n,
                CacheUse::Fill => {
                    self.kept.insert(key, n);
                    n
                }
                CacheUse::Window { begin, end } => {
                    assert!(begin < end && end <= n && n <= self.kept[&key]);
                    assert!(q.rows.iter().all(|&r| (begin..end).contains(&(r as usize))));
                    end - begin
                }
                CacheUse::Partial { begin, n_update } => {
                    assert!(begin < n && n <= self.kept[&key] && (1..=n - begin).contains(&n_update));
                    assert!(q.rows.iter().all(|&r| r as usize >= begin));
                    n_update
                }
            } as u64;
        }
        Hashed.predict(queries, logits)
    }
}

/// Runs to the end, checking every step; `None` when the settings do not suit the canvas.
fn run(canvas: &Canvas, params: &Params) -> Option<(Canvas, u64)> {
    let noise = CounterNoise::new(vec![params.seed], N_VOCAB);
    let mut run = Run::new(vec![canvas.clone()], params, N_VOCAB).ok()?;
    let n_steps = run.report().sequences[0].n_steps;
    let mut before = canvas.clone();
    let mut strict = Strict::default();
    for i in 0.. {
        if run.is_done() {
            break;
        }
        assert!(i <= n_steps, "more steps than planned");
        let report = run.step(&mut strict, &noise, None).unwrap().clone();
        assert_eq!(report.n_computed, strict.n_computed);
        let now = run.canvases().next().unwrap().clone();
        assert!(now.n_masked() <= before.n_masked(), "masks came back");
        assert_eq!(report.sequences[0].n_masked, now.n_masked());
        for slot in 0..now.len() {
            let changed = report.sequences[0].changed.iter().any(|c| c.slot == slot);
            assert_eq!(
                changed,
                now.tokens()[slot] != before.tokens()[slot],
                "slot {slot}"
            );
            if before.slots()[slot] != Slot::Masked {
                assert_eq!(now.slots()[slot], before.slots()[slot]);
            }
        }
        before = now;
    }
    let nfe = run.report().nfe;
    Some((run.into_canvases().remove(0), nfe))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn quotas_sum_to_the_masks(n in 0usize..500, steps in 1usize..200) {
        let table = num_transfer_tokens(n, steps);
        prop_assert_eq!(table.len(), steps);
        prop_assert_eq!(table.iter().sum::<usize>(), n);
        prop_assert!(table.windows(2).all(|w| w[0] >= w[1] && w[0] - w[1] <= 1));
    }

    #[test]
    fn runs_end_and_touch_masked_slots_only(canvas in canvases(), params in settings()) {
        let Some((filled, _)) = run(&canvas, &params) else { return Ok(()) };
        for slot in 0..canvas.len() {
            if canvas.slots()[slot] == Slot::Fixed {
                prop_assert_eq!(filled.tokens()[slot], canvas.tokens()[slot]);
                prop_assert_eq!(filled.slots()[slot], Slot::Fixed);
            }
        }
        // What is still masked is what the model insisted on masking, or what a quota spent on it.
        if params.order != Order::Origin && filled.n_masked() > 0 {
            let allowed = Params { suppress: vec![MASK], ..params.clone() };
            let (whole, _) = run(&canvas, &allowed).unwrap();
            prop_assert_eq!(whole.n_masked(), 0);
        }
    }

    #[test]
    fn one_seed_one_text_alone_and_in_a_batch(a in canvases(), b in canvases(), params in settings()) {
        let (Some(x), Some(y)) = (run(&a, &params), run(&b, &params)) else { return Ok(()) };
        prop_assert_eq!(&run(&a, &params).unwrap(), &x);
        let noise = CounterNoise::new(vec![params.seed; 2], N_VOCAB);
        let mut both = Run::new(vec![a, b], &params, N_VOCAB).unwrap();
        while !both.is_done() {
            both.step(&mut Hashed, &noise, None).unwrap();
        }
        let nfe = both.report().nfe;
        prop_assert_eq!(both.into_canvases(), [x.0, y.0]);
        prop_assert_eq!(nfe, x.1 + y.1);
    }

    #[test]
    fn idle_steps_change_nothing_but_the_work(canvas in canvases(), params in settings()) {
        let Some((skipped, few)) = run(&canvas, &params) else { return Ok(()) };
        let (all, many) = run(&canvas, &Params { idle_steps: true, ..params }).unwrap();
        prop_assert_eq!(skipped, all);
        prop_assert!(few <= many);
    }

    #[test]
    fn an_end_token_changes_nothing_before_it(n in 1usize..40, block_length in 0usize..9, eos in 0u32..MASK) {
        let mut canvas = Canvas::new(MASK);
        canvas.push_fixed(&[1, 2, 3]);
        canvas.push_masked(n).unwrap();
        let params = Params { block_length, suppress: vec![MASK], ..Params::default() };
        let (whole, full) = run(&canvas, &params).unwrap();
        let stopping = Params { stop_at_eos: true, eos: Some(eos), ..params };
        let noise = CounterNoise::new(vec![0], N_VOCAB);
        let mut run = Run::new(vec![canvas], &stopping, N_VOCAB).unwrap();
        while !run.is_done() {
            run.step(&mut Hashed, &noise, None).unwrap();
        }
        let end = run.report().sequences[0].end;
        prop_assert_eq!(end, whole.tokens()[3..].iter().position(|&t| t == eos).map(|i| i + 3));
        prop_assert!(run.report().nfe <= full);
        let cut = end.unwrap_or(whole.len());
        let stopped = run.into_canvases().remove(0);
        prop_assert_eq!(&stopped.tokens()[..cut], &whole.tokens()[..cut]);
    }
}

/// Tokens that a canvas of one block gets in its first step.
fn first_step(n: usize, params: &Params) -> usize {
    let mut canvas = Canvas::new(MASK);
    canvas.push_fixed(&[3]);
    canvas.push_masked(n).unwrap();
    let params = Params {
        suppress: vec![MASK],
        ..params.clone()
    };
    let noise = CounterNoise::new(vec![0], N_VOCAB);
    let mut run = Run::new(vec![canvas], &params, N_VOCAB).unwrap();
    let report = run.step(&mut Hashed, &noise, None).unwrap();
    report.sequences[0].changed.len()
}

proptest! {
    #[test]
    fn rules_that_ask_for_less_commit_no_less(n in 1usize..60, a in 0.0f64..1.0, b in 0.0f64..1.0) {
        let (low, high) = (a.min(b), a.max(b));
        let with = |commit| first_step(n, &Params { commit, ..Params::default() });
        prop_assert!(with(Commit::EntropyBound(40.0 * low)) <= with(Commit::EntropyBound(40.0 * high)));
        prop_assert!(with(Commit::Threshold(high)) <= with(Commit::Threshold(low)));
        let near = |relaxed, radius| with(Commit::Neighbours { anchor: 0.08, relaxed: 0.08 * relaxed, radius });
        prop_assert!(near(high, 3) <= near(low, 3));
        prop_assert!(near(high, 2) <= near(high, 5));
        // Anchors alone are the threshold rule.
        prop_assert_eq!(near(1.0, 5), with(Commit::Threshold(0.08)));
    }

    #[test]
    fn a_settled_block_is_filled_at_once_and_an_unsettled_one_is_not(n in 2usize..60) {
        let with = |x: f64| {
            let rule = EarlyCommit { early: x, middle: x, late: x };
            first_step(n, &Params { early_commit: Some(rule), ..Params::default() })
        };
        prop_assert_eq!(with(0.0), n);
        prop_assert_eq!(with(1e3), 1);
    }
}

#[test]
fn a_fault_of_the_predictor_leaves_the_canvas_and_can_be_tried_again() {
    struct Failing(usize);
    impl Predictor for Failing {
        fn n_vocab(&self) -> usize {
            N_VOCAB
        }
        fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> remask::Result<()> {
            self.0 += 1;
            Hashed.predict(queries, logits)?;
            match self.0 % 3 {
                0 => Err(remask::Error::new(remask::ErrorKind::Device, "gone")),
                1 => {
                    logits[3] = f32::NAN;
                    Ok(())
                }
                _ => Ok(()),
            }
        }
    }
    let mut canvas = Canvas::new(MASK);
    canvas.push_masked(9).unwrap();
    let noise = CounterNoise::new(vec![1], N_VOCAB);
    let params = Params {
        seed: 1,
        guidance: 0.5,
        ..Params::default()
    };
    let mut run = Run::new(vec![canvas.clone()], &params, N_VOCAB).unwrap();
    let mut failing = Failing(0);
    let mut faults = 0;
    while !run.is_done() {
        let before = run.canvases().next().unwrap().clone();
        if run.step(&mut failing, &noise, None).is_err() {
            faults += 1;
            assert_eq!(run.canvases().next().unwrap(), &before);
        }
    }
    assert!(faults > 10);
    let mut clean = Run::new(vec![canvas], &params, N_VOCAB).unwrap();
    while !clean.is_done() {
        clean.step(&mut Hashed, &noise, None).unwrap();
    }
    assert_eq!(run.into_canvases(), clean.into_canvases());
}
