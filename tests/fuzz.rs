//! A short run of each fuzz target's body over valid files, hostile files and what mutation makes of
//! them. `REMASK_FUZZ_SECONDS` makes each run longer, `REMASK_FUZZ_SEED` another one; `REMASK_FUZZ_CORPUS` names
//! the folder of a campaign, whose inputs are run too.

mod common;
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;
use std::time::{Duration, Instant};

use fuzz::Valid;
use fuzz::bent::{Dice, mutate, mutate_json};

/// Runs `body` over `seeds` and over mutations of them, at least `n` inputs, and says how many were
/// taken: a target that takes none tests nothing.
fn drive(what: &str, seeds: &[Vec<u8>], n: u64, body: impl FnMut(&[u8]) -> bool) {
    drive_with(what, seeds, n, mutate, body);
}

/// As [`drive`], half the time with values of the JSON that the seeds are.
fn drive_json(what: &str, seeds: &[Vec<u8>], n: u64, body: impl FnMut(&[u8]) -> bool) {
    let change = |seed: &[u8], dice: &mut Dice| match serde_json::from_slice(seed) {
        Ok(json) if dice.below(4) > 0 => mutate_json(&json, dice).to_string().into_bytes(),
        _ => mutate(seed, dice),
    };
    drive_with(what, seeds, n, change, body);
}

fn drive_with(
    what: &str,
    seeds: &[Vec<u8>],
    n: u64,
    change: impl Fn(&[u8], &mut Dice) -> Vec<u8>,
    mut body: impl FnMut(&[u8]) -> bool,
) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let until = number("REMASK_FUZZ_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let mut dice = Dice(number("REMASK_FUZZ_SEED").unwrap_or(1));
    let mut accepted = seeds.iter().filter(|s| body(s)).count() as u64;
    assert!(accepted > 0, "{what}: no seed is valid");
    let mut done = seeds.len() as u64;
    for input in kept(what) {
        accepted += u64::from(body(&input));
        done += 1;
    }
    let mut slowest = Duration::ZERO;
    while done < n || until.is_some_and(|t| Instant::now() < t) {
        let seed = &seeds[dice.below(seeds.len())];
        let input = change(seed, &mut dice);
        let began = Instant::now();
        accepted += u64::from(body(&input));
        slowest = slowest.max(began.elapsed());
        done += 1;
    }
    println!(
        "{what}: {done} inputs, {accepted} taken, slowest {} ms",
        slowest.as_millis()
    );
    assert!(
        slowest < Duration::from_secs(5),
        "{what}: an input took {slowest:?}"
    );
}

/// What a campaign kept for a target.
fn kept(what: &str) -> Vec<Vec<u8>> {
    let Some(campaign) = std::env::var_os("REMASK_FUZZ_CORPUS") else {
        return Vec::new();
    };
    let files = std::fs::read_dir(Path::new(&campaign).join(what).join("corpus"));
    let files = files.into_iter().flatten().flatten();
    files.map(|f| std::fs::read(f.path()).unwrap()).collect()
}

fn valid() -> Valid {
    Valid::read(&common::hostile_dir())
}

/// Files of the folder of hostile files, and files in its folders, that `choose` wants; not the largest.
fn files(choose: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let dir = common::hostile_dir();
    let mut names: Vec<String> = std::fs::read_to_string(dir.join("MANIFEST.tsv"))
        .unwrap()
        .lines()
        .filter_map(|l| l.split('\t').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let path = dir.join(name.trim_end_matches('/'));
        let inner: Vec<_> = match std::fs::read_dir(&path) {
            Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
            Err(_) => vec![path],
        };
        for file in inner.iter().filter(|f| f.to_str().is_some_and(&choose)) {
            let bytes = std::fs::read(file).unwrap_or_default();
            if (1..100_000).contains(&bytes.len()) {
                found.push(bytes);
            }
        }
    }
    found
}

#[test]
fn gguf_meta() {
    drive(
        "gguf_meta",
        &files(|f| f.ends_with(".gguf")),
        4000,
        fuzz::gguf_meta,
    );
}

#[test]
fn gguf_load_of_bent_files() {
    let seeds = files(|f| f.ends_with(".gguf") && f.contains("/ok_"));
    drive("gguf_load, bytes", &seeds, 300, |b| {
        fuzz::load_and_step(b.to_vec())
    });
}

#[test]
fn gguf_load_of_edited_models() {
    let valid = valid();
    let mut dice = Dice(7);
    let mut seeds = vec![Vec::new()];
    seeds.extend((0..64).map(|_| (0..3 + dice.below(12)).map(|_| dice.next() as u8).collect()));
    drive("gguf_load", &seeds, 600, |b| fuzz::gguf_load(&valid, b));
}

#[test]
fn capi_sequence() {
    let begin = fuzz::capi::Begin::new(&valid().gguf);
    let mut dice = Dice(3);
    let mut seeds = Vec::new();
    seeds.extend((0..64).map(|_| (0..200 + dice.below(800)).map(|_| dice.next() as u8).collect()));
    drive("capi_sequence", &seeds, 400, |b| {
        fuzz::capi::capi_sequence(&begin, b)
    });
}

#[test]
fn safetensors_header() {
    let seeds = files(|f| f.ends_with(".safetensors"));
    // Most of the file is values: the header alone with few of them is bent more often where it matters.
    drive("safetensors_header", &seeds, 2000, fuzz::safetensors_header);
}

#[test]
fn tokenizer_json() {
    let seeds = files(|f| f.ends_with("tokenizer.json"));
    let text = b"\0Hello, aaaaaaaaaaaaaaaaaaaaab <|endoftext|> \xE4\xB8\xAD";
    drive_json("tokenizer_json", &seeds, 800, |json| {
        fuzz::tokenizer_json(&[json, text].concat())
    });
}

#[test]
fn tokenizer_roundtrip() {
    let tokenizer = fuzz::tokenizer(&valid());
    let texts: [&[u8]; 6] = [
        b"",
        b"Hello, world! <|endoftext|> <|mdm_mask|>\r\n\t  12345",
        "\u{4E2D}\u{6587}\u{1F642}\u{E4}a\u{308}".as_bytes(),
        b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\0\x01\x7F",
        b"it's we'll    \n\n x",
    ];
    let seeds: Vec<Vec<u8>> = texts.iter().map(|t| t.to_vec()).collect();
    drive("tokenizer_roundtrip", &seeds, 4000, |b| {
        fuzz::tokenizer_roundtrip(&tokenizer, b)
    });
}

#[test]
fn config_json() {
    let valid = valid();
    let seeds = files(|f| f.ends_with("/config.json"));
    drive_json("config_json", &seeds, 600, |b| fuzz::config_json(&valid, b));
}

#[test]
fn chat_render() {
    let tokenizer = fuzz::tokenizer(&valid());
    let templates = [
        "{% for m in messages %}<|{{ m.role }}|>{{ m['content'].strip() }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "{% macro f(x) %}{{ x | upper }}{% endmacro %}{{ f(messages[0].content) }}{{ messages | tojson }}",
        "{% set ns = namespace(n=0) %}{% for m in messages if m.role != 'system' %}{% set ns.n = ns.n + 1 %}{{ loop.index }}:{{ m.content * ns.n }}{% endfor %}",
        "{{ range(9999) | join(',') }}{{ 'a' * 10000 }}{{ messages | map(attribute='role') | list }}",
        "{{ 'x'.join(messages[0].content.split(' ')) }}{{ messages[1:] }}{{ 1 ** 9 }}{{ 7 // 2 }}{{ -1 % 3 }}",
    ];
    let seeds: Vec<Vec<u8>> = templates.iter().map(|t| t.as_bytes().to_vec()).collect();
    drive("chat_render", &seeds, 2000, |b| fuzz::chat_render(&tokenizer, b));
}

#[test]
fn dataset_line() {
    let mut seeds = files(|f| f.ends_with(".jsonl"));
    seeds.push(
        b"{\"text\": \"good\"}\n{\"prompt\": \"a\", \"response\": \"b\"}\n\n{\"text\": \"\\u00e4\"}".to_vec(),
    );
    drive_json("dataset_line", &seeds, 2000, fuzz::dataset_line);
}

/// Every crash that was ever found, under `fuzz/regressions/TARGET/`.
#[test]
fn what_once_crashed_does_not() {
    let valid = valid();
    let tokenizer = fuzz::tokenizer(&valid);
    let begin = fuzz::capi::Begin::new(&valid.gguf);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let folders = std::fs::read_dir(root).unwrap().flatten();
    for folder in folders.filter(|f| f.path().is_dir()) {
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let bytes = std::fs::read(file.path()).unwrap();
            println!("{}", file.path().display());
            match folder.file_name().to_str().unwrap() {
                "gguf_meta" => fuzz::gguf_meta(&bytes),
                "gguf_load" => fuzz::gguf_load(&valid, &bytes),
                "capi_sequence" => fuzz::capi::capi_sequence(&begin, &bytes),
                // The trainer's own test has it.
                "checkpoint_load" => continue,
                "safetensors_header" => fuzz::safetensors_header(&bytes),
                "tokenizer_json" => fuzz::tokenizer_json(&bytes),
                "tokenizer_roundtrip" => fuzz::tokenizer_roundtrip(&tokenizer, &bytes),
                "config_json" => fuzz::config_json(&valid, &bytes),
                "chat_render" => fuzz::chat_render(&tokenizer, &bytes),
                "dataset_line" => fuzz::dataset_line(&bytes),
                other => panic!("{other} is no target"),
            };
        }
    }
}
