//! Steps that are begun before they are asked for.

use remask::denoise::{Branch, CacheUse, CounterNoise, Predictor, Query, Reduction, RowPeak, Run};
use remask::{Cache, Canvas, Commit, EarlyCommit, ErrorKind, Order, Params, Result, Token};

const N_VOCAB: usize = 40;
const MASK: Token = 39;

/// A query, owned.
type Asked = (usize, Branch, Vec<Token>, Vec<u32>, CacheUse);

fn owned(queries: &[Query<'_>]) -> Vec<Asked> {
    let one = |q: &Query<'_>| (q.sequence, q.branch, q.tokens.to_vec(), q.rows.to_vec(), q.cache);
    queries.iter().map(one).collect()
}

/// Logits that depend on what is on the canvas. Notes what it was told in advance.
#[derive(Default)]
struct Told {
    begun: Option<(Vec<Asked>, bool, Vec<[f64; 2]>)>,
    n_begun: usize,
}

impl Told {
    fn asked(&mut self, queries: &[Query<'_>], reduced: bool, uniform: &[[f64; 2]]) {
        if let Some(begun) = self.begun.take() {
            assert_eq!(begun, (owned(queries), reduced, uniform.to_vec()));
        }
    }

    fn logits(queries: &[Query<'_>]) -> Vec<f32> {
        let mut logits = Vec::new();
        for query in queries {
            let sum: usize = query
                .tokens
                .iter()
                .enumerate()
                .map(|(i, &t)| (i + 3) * t as usize)
                .sum();
            let logit =
                |row: u32, token: usize| ((sum + 31 * row as usize) * (token + 7) % 101) as f32 * 0.07;
            for &row in query.rows {
                // The mask token is never drawn.
                let of = |token| {
                    if token == MASK as usize {
                        -50.0
                    } else {
                        logit(row, token)
                    }
                };
                logits.extend((0..N_VOCAB).map(of));
            }
        }
        logits
    }
}

impl Predictor for Told {
    fn n_vocab(&self) -> usize {
        N_VOCAB
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
        self.asked(queries, false, &[]);
        *logits = Self::logits(queries);
        Ok(())
    }

    fn predict_reduced(
        &mut self,
        queries: &[Query<'_>],
        reduction: &Reduction,
        uniform: &[[f64; 2]],
        peaks: &mut Vec<RowPeak>,
    ) -> Result<bool> {
        self.asked(queries, true, uniform);
        peaks.clear();
        for (i, row) in Self::logits(queries).chunks_exact(N_VOCAB).enumerate() {
            let best = |a: &usize, b: &usize| row[*a].total_cmp(&row[*b]);
            let token = match reduction.temperature > 0.0 {
                true => (uniform[i][0] * 38.0) as usize,
                false => (0..N_VOCAB).max_by(best).unwrap(),
            };
            peaks.push(RowPeak {
                token: token as Token,
                probability: 1.0 / (1.0 + row[token].abs()),
                largest: 0.5,
                gap: row[token].abs(),
                negative_entropy: -0.3,
            });
        }
        Ok(true)
    }

    fn begin(&mut self, queries: &[Query<'_>], reduction: Option<&Reduction>, uniform: &[[f64; 2]]) {
        let uniform = if reduction.is_some() { uniform } else { &[] };
        self.begun = Some((owned(queries), reduction.is_some(), uniform.to_vec()));
        self.n_begun += 1;
    }
}

fn canvases() -> Vec<Canvas> {
    let canvas = |n_fixed: u32, n_masked: usize| {
        let mut canvas = Canvas::new(MASK);
        canvas.push_fixed(&(1..=n_fixed).collect::<Vec<_>>());
        canvas.push_masked(n_masked).unwrap();
        canvas
    };
    vec![canvas(5, 24), canvas(2, 9)]
}

fn rules() -> Vec<Params> {
    let base = Params {
        block_length: 8,
        ..Params::default()
    };
    let change = |change: fn(&mut Params)| {
        let mut params = base.clone();
        change(&mut params);
        params
    };
    vec![
        base.clone(),
        change(|p| p.steps = 3),
        change(|p| (p.cache, p.temperature) = (Cache::Dual, 0.7)),
        change(|p| (p.cache, p.cache_refresh) = (Cache::Prefix, 2)),
        change(|p| (p.cache, p.early_commit) = (Cache::FEATURE, Some(EarlyCommit::default()))),
        change(|p| (p.commit, p.order) = (Commit::Threshold(0.4), Order::Margin)),
        change(|p| p.order = Order::Random),
        change(|p| (p.guidance, p.temperature) = (0.5, 0.4)),
        change(|p| (p.steps, p.idle_steps) = (40, true)),
        change(|p| (p.eos, p.stop_at_eos) = (Some(3), true)),
        change(|p| (p.top_k, p.temperature) = (4, 1.0)),
    ]
}

/// What a step left: the canvases, the function evaluations so far, and the rows that were asked for.
#[derive(Debug, PartialEq)]
struct Left {
    tokens: Vec<Vec<Token>>,
    nfe: u64,
    n_rows: usize,
}

/// What every step left, and how many steps the predictor was told of in advance.
fn steps(params: &Params, begins: bool) -> (Vec<Left>, usize) {
    let mut run = Run::new(canvases(), params, N_VOCAB).unwrap();
    let noise = CounterNoise::new(vec![3, 4], N_VOCAB);
    let mut predictor = Told::default();
    let mut seen = Vec::new();
    while !run.is_done() {
        let report = run.step(&mut predictor, &noise, None).unwrap();
        let (nfe, n_rows, done) = (report.nfe, report.n_rows, report.done);
        if begins {
            run.begin(&mut predictor, &noise);
            // Once is enough.
            run.begin(&mut predictor, &noise);
        }
        assert_eq!(run.is_done(), done);
        let tokens = run.canvases().map(|c| c.tokens().to_vec()).collect();
        seen.push(Left { tokens, nfe, n_rows });
    }
    assert!(predictor.begun.is_none());
    (seen, predictor.n_begun)
}

#[test]
fn what_was_begun_is_what_is_asked_and_changes_nothing() {
    for rule in rules() {
        let (plain, none) = steps(&rule, false);
        let (begun, n) = steps(&rule, true);
        assert_eq!(plain, begun, "{rule:?}");
        assert_eq!(none, 0);
        let asked = begun[1..].iter().filter(|step| step.n_rows > 0).count();
        assert!(n > 0 && n == asked, "{n} of {asked}: {rule:?}");
    }
}

#[test]
fn tokens_are_replaced_before_a_step_is_begun_or_after_it_is_done() {
    let mut run = Run::new(canvases(), &Params::default(), N_VOCAB).unwrap();
    let noise = CounterNoise::new(vec![3, 4], N_VOCAB);
    let mut predictor = Told::default();
    run.step(&mut predictor, &noise, None).unwrap();
    let mut tokens = run.canvases().next().unwrap().tokens().to_vec();
    tokens[20] = 17;
    run.begin(&mut predictor, &noise);
    let error = run.replace(0, &tokens).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    run.step(&mut predictor, &noise, None).unwrap();
    run.replace(0, &tokens).unwrap();
    assert_eq!(run.canvases().next().unwrap().tokens()[20], 17);
    assert!(predictor.begun.is_none());
}
