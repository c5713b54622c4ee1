//! The tokenizer against the `tokenizers` crate, which the checkpoints were made with: the same ids for
//! texts of every kind, for the vocabularies of all checkpoints at hand.

#[path = "../fuzz/src/bent.rs"]
#[allow(dead_code)]
mod bent;
mod common;

use std::path::PathBuf;

use bent::{Dice, mutate};
use remask::text::{Special, SpecialIds, Tokenizer};

const MODELS: &[&str] = &["llada-tiny", "illada-tiny", "dream-tiny", "llada-moe-tiny"];

/// Every piece of text that a pre-tokenizer, a normalizer or a merge may treat in its own way.
const PIECES: &[&str] = &[
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "a",
    "the",
    " the",
    "Once upon a time",
    "it's",
    "I'LL",
    "we've",
    "1",
    "12345",
    "\u{0664}\u{0665}",
    "\u{2167}",
    "!?",
    "...",
    "<|",
    "|>",
    "e\u{301}",
    "\u{e9}",
    "\u{1100}\u{1161}\u{11a8}",
    "\u{4e2d}\u{6587}",
    "\u{1f642}\u{200d}\u{1f525}",
    "\u{a0}",
    "\u{3000}",
    "\u{85}",
    "\u{0}",
    "\u{7f}",
    "\u{fffd}",
    "\u{e000}",
    "A\u{30a}",
    "\u{212b}",
    "\u{fb01}",
    "\u{df}",
    "\u{130}",
    "xyz_1",
    "://",
    "\u{ad}",
    "\u{1e9b}\u{323}",
];

fn file(model: &str) -> PathBuf {
    common::vectors_dir()
        .join("checkpoints")
        .join(model)
        .join("tokenizer.json")
}

/// Both tokenizers, the crate's without tokens that are matched as a whole: those are not its part here.
fn both(path: &PathBuf) -> (Tokenizer, tokenizers::Tokenizer) {
    let text = std::fs::read_to_string(path).unwrap();
    let ours = Tokenizer::from_json(&text, SpecialIds::default(), 1 << 20).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["added_tokens"] = serde_json::json!([]);
    json["post_processor"] = serde_json::Value::Null;
    let crates = json.to_string().parse().unwrap();
    (ours, crates)
}

fn texts(dice: &mut Dice, n: usize) -> Vec<String> {
    let mut texts: Vec<String> = PIECES.iter().map(|p| (*p).to_owned()).collect();
    for i in 0..n {
        let text: String = (0..dice.below(12))
            .map(|_| PIECES[dice.below(PIECES.len())])
            .collect();
        let text = match i % 3 {
            0 if !text.is_empty() => String::from_utf8_lossy(&mutate(text.as_bytes(), dice)).into_owned(),
            _ => text,
        };
        texts.push(text);
    }
    texts
}

fn compare(path: &PathBuf, n: usize) {
    let (ours, crates) = both(path);
    let mut dice = Dice(5);
    let mut n_tokens = 0;
    for text in texts(&mut dice, n) {
        let expected = crates.encode_fast(text.as_str(), false).unwrap();
        let ids = ours.encode(&text, Special::AsText);
        assert_eq!(ids.unwrap(), expected.get_ids(), "{}: {text:?}", path.display());
        n_tokens += expected.get_ids().len();
    }
    assert!(n_tokens > n, "{n_tokens}");
}

#[test]
fn ids_are_the_crates_for_every_checkpoint() {
    for model in MODELS {
        compare(&file(model), 3000);
    }
}

#[test]
fn long_texts_too() {
    let (ours, crates) = both(&file("llada-tiny"));
    let mut dice = Dice(9);
    let text: String = texts(&mut dice, 4000).join(" and ");
    assert!(text.len() > 60_000);
    let expected = crates.encode_fast(text.as_str(), false).unwrap();
    assert_eq!(ours.encode(&text, Special::AsText).unwrap(), expected.get_ids());
}

/// Other pre-tokenizers and vocabularies over the same tokens: every stage that is served, with and
/// without a space before the text, and `ignore_merges`.
#[test]
fn every_stage_cuts_as_the_crate_does() {
    let text = std::fs::read_to_string(file("llada-tiny")).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    let split = |regex: &str| serde_json::json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let digits = |each: bool| serde_json::json!({"type": "Digits", "individual_digits": each});
    let folder = tempfile::tempdir().unwrap();
    let mut n = 0;
    for stages in [
        vec![],
        vec![digits(true)],
        vec![digits(false)],
        vec![split(r"\s+"), digits(false)],
        vec![split(r"(?=[a-z])"), split(r"a*")],
        vec![
            split(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"),
            digits(true),
        ],
    ] {
        for (prefix, use_regex, ignore) in [
            (false, false, true),
            (true, false, false),
            (false, true, false),
            (true, true, true),
        ] {
            let mut json = whole.clone();
            let mut all = stages.clone();
            all.push(serde_json::json!({
                "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": use_regex,
            }));
            json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": all});
            json["normalizer"] = if n % 2 == 0 {
                serde_json::json!({"type": "NFC"})
            } else {
                serde_json::Value::Null
            };
            json["model"]["ignore_merges"] = ignore.into();
            let path = folder.path().join(format!("{n}.json"));
            std::fs::write(&path, json.to_string()).unwrap();
            compare(&path, 150);
            n += 1;
        }
    }
    assert_eq!(n, 24);
}
