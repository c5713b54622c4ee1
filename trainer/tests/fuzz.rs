//! A short run of the body of the fuzz target `checkpoint_load`. `REMASK_FUZZ_SECONDS` makes it longer.

#[path = "../../fuzz/src/bent.rs"]
#[allow(dead_code)]
mod bent;
#[path = "../../fuzz/src/checkpoint.rs"]
mod checkpoint;
#[path = "../../tests/common/vectors.rs"]
mod vectors;

use std::time::{Duration, Instant};

use bent::{Dice, mutate, mutate_json};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

#[test]
fn checkpoints_of_any_bytes_are_refused_or_fit_the_network() {
    let mut run = checkpoint::Run::new(&vectors::hostile_dir().join("hf_ok"));
    let seeds = run.seeds();
    let mut accepted = seeds.iter().filter(|s| run.load(s)).count();
    assert_eq!(accepted, seeds.len(), "the files as they are were refused");
    let until = number("REMASK_FUZZ_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let mut dice = Dice(number("REMASK_FUZZ_SEED").unwrap_or(1));
    let mut done = seeds.len();
    let mut slowest = Duration::ZERO;
    while done < 1500 || until.is_some_and(|t| Instant::now() < t) {
        let seed = &seeds[dice.below(seeds.len())];
        let json = serde_json::from_slice(&seed[1..]);
        let input = match (json, dice.below(4) > 0) {
            (Ok(json), true) => [&seed[..1], mutate_json(&json, &mut dice).to_string().as_bytes()].concat(),
            _ => [&seed[..1], &mutate(&seed[1..], &mut dice)[..]].concat(),
        };
        let began = Instant::now();
        accepted += usize::from(run.load(&input));
        slowest = slowest.max(began.elapsed());
        done += 1;
    }
    println!(
        "checkpoint_load: {done} inputs, {accepted} taken, slowest {} ms",
        slowest.as_millis()
    );
    assert!(slowest < Duration::from_secs(5), "an input took {slowest:?}");
}

#[test]
fn what_once_crashed_does_not() {
    let mut run = checkpoint::Run::new(&vectors::hostile_dir().join("hf_ok"));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/checkpoint_load");
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        println!("{}", file.path().display());
        run.load(&std::fs::read(file.path()).unwrap());
    }
}
