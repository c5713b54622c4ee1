//! Text that is made to hurt, on a small stack: time stays linear, and no text becomes a special token.

mod common;

use std::time::{Duration, Instant};

use remask::text::{Special, SpecialIds, Tokenizer};

/// Runs `body` on a thread with 256 KiB of stack, as a host's may have.
fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(body);
    thread.unwrap().join().unwrap();
}

fn tokenizer() -> Tokenizer {
    let folder = common::vectors_dir().join("checkpoints/llada-gqa-tiny");
    let json = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    Tokenizer::from_json(&json, SpecialIds::default(), 1 << 20).unwrap()
}

#[test]
fn a_mebibyte_of_anything_is_encoded_in_seconds_and_comes_back() {
    on_a_small_stack(|| {
        let tokenizer = tokenizer();
        let units = [
            "a",
            " ",
            "\n",
            "\u{4E2D}",
            "\u{1F642}",
            "'",
            "1",
            "\u{301}",
            "<|",
            "a ",
            "\u{0}",
        ];
        for unit in units {
            let text = unit.repeat((1 << 20) / unit.len());
            let began = Instant::now();
            let ids = tokenizer.encode(&text, Special::AsText).unwrap();
            let took = began.elapsed();
            assert!(took < Duration::from_secs(20), "{unit:?}: {took:?}");
            println!("{unit:?}: {} ms", took.as_millis());
            assert!(
                tokenizer.decode(&ids, false) == text,
                "{unit:?} does not come back"
            );
        }
    });
}

#[test]
fn special_tokens_in_a_users_text_stay_text() {
    on_a_small_stack(|| {
        let tokenizer = tokenizer();
        let mut n = 0;
        for id in 0..tokenizer.n_vocab() as u32 {
            let Some(spelled) = tokenizer.token_text(id) else {
                continue;
            };
            if tokenizer.encode(spelled, Special::Parse).unwrap() != [id] || !spelled.starts_with("<|") {
                continue;
            }
            n += 1;
            let ids = tokenizer
                .encode(&format!("{spelled}x{spelled}"), Special::AsText)
                .unwrap();
            assert!(!ids.contains(&id), "{spelled}");
        }
        assert!(n > 0, "the vocabulary has no special token");
    });
}

#[test]
fn bytes_that_are_no_text_come_back_or_are_refused() {
    let tokenizer = tokenizer();
    for bytes in [&b"\xFF\xFE"[..], b"a\xC3", b"\xED\xA0\x80", b"\0\0"] {
        if let Ok(ids) = tokenizer.encode_bytes(bytes, Special::AsText) {
            assert_eq!(tokenizer.decode_bytes(&ids, false), bytes);
        }
    }
}
