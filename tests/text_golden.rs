//! Tokenizer and chat templates against transformers' own results, built both ways: from the
//! checkpoint's tokenizer.json, and from the vocabulary that a GGUF file holds.

mod common;

use common::{convert_golden, json, vectors_dir};
use remask::gguf::Gguf;
use remask::text::{ChatMessage, ChatTemplate, RenderOptions, Special, SpecialIds, Tokenizer, VocabSpec};
use serde_json::Value;

const MODELS: &[&str] = &["llada-tiny", "illada-tiny", "dream-tiny", "llada-moe-tiny"];

fn from_json(model: &str) -> Tokenizer {
    let path = vectors_dir()
        .join("checkpoints")
        .join(model)
        .join("tokenizer.json");
    Tokenizer::from_json(
        &std::fs::read_to_string(path).unwrap(),
        SpecialIds::default(),
        1024,
    )
    .unwrap()
}

/// The tokenizer that a converted file's own vocabulary, merges and named pre-tokenizer make.
fn from_gguf(model: &str) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(convert_golden(model, folder.path())).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let m = &gguf.metadata;
    let types = m.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    let spec = VocabSpec {
        model: m.str("tokenizer.ggml.model").unwrap().unwrap(),
        pre: m.str("tokenizer.ggml.pre").unwrap(),
        tokens: m
            .strings("tokenizer.ggml.tokens")
            .unwrap()
            .unwrap()
            .iter()
            .collect(),
        token_types: Some(&types),
        merges: m
            .strings("tokenizer.ggml.merges")
            .unwrap()
            .unwrap()
            .iter()
            .collect(),
        n_rows: 1024,
        specials: SpecialIds::default(),
        add_bos: false,
    };
    Tokenizer::from_vocab(&spec).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as u32)
        .collect()
}

fn check_strings(model: &str, tokenizer: &Tokenizer) {
    let file = json(&vectors_dir().join(format!("tokenizer/{model}.json")));
    let strings = file["strings"].as_array().unwrap();
    assert!(strings.len() > 10);
    for case in strings {
        let text = case["text"].as_str().unwrap();
        let expected = ids(&case["ids"]);
        assert_eq!(
            tokenizer.encode(text, Special::Parse).unwrap(),
            expected,
            "{model}: {text:?}"
        );
        assert_eq!(
            tokenizer.decode(&expected, true),
            case["decoded"].as_str().unwrap(),
            "{model}: {text:?}"
        );
        assert_eq!(
            tokenizer.decode(&expected, false),
            case["decoded_skip"].as_str().unwrap()
        );
        // Piece by piece the same text comes out.
        let mut stream = tokenizer.stream(true);
        let mut streamed: String = expected.iter().map(|&id| stream.push(&[id])).collect();
        streamed.push_str(&stream.finish());
        assert_eq!(streamed, case["decoded"].as_str().unwrap());
        // As a user's text, no special token comes of it, and it decodes to itself.
        let plain = tokenizer.encode(text, Special::AsText).unwrap();
        let is_control = |&id: &u32| tokenizer.token_kind(id) == Some(remask::text::TokenKind::Control);
        assert!(!plain.iter().any(is_control), "{model}: {text:?}");
        assert_eq!(tokenizer.decode(&plain, true), text);
    }
    let beyond = &file["decode_out_of_vocab"];
    assert_eq!(
        tokenizer.decode(&ids(&beyond["ids"]), true),
        beyond["keep"].as_str().unwrap()
    );
    assert_eq!(
        tokenizer.decode(&ids(&beyond["ids"]), false),
        beyond["skip"].as_str().unwrap()
    );
}

#[test]
fn tokenizer_json_gives_the_references_ids() {
    for model in MODELS {
        check_strings(model, &from_json(model));
    }
}

#[test]
fn the_vocabulary_in_the_file_gives_the_same() {
    for model in ["llada-tiny", "illada-tiny"] {
        check_strings(model, &from_gguf(model));
    }
}

#[test]
fn chats_render_and_encode_as_in_transformers() {
    for model in MODELS {
        let tokenizer = from_json(model);
        let file = json(&vectors_dir().join(format!("tokenizer/{model}.json")));
        let config = json(
            &vectors_dir()
                .join("checkpoints")
                .join(model)
                .join("tokenizer_config.json"),
        );
        let Some(source) = config["chat_template"].as_str() else {
            continue;
        };
        let template = ChatTemplate::parse(source).unwrap();
        for case in file["chat"].as_array().unwrap() {
            let messages: Vec<ChatMessage> = case["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| ChatMessage::new(m["role"].as_str().unwrap(), m["content"].as_str().unwrap()))
                .collect();
            let options = RenderOptions {
                add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
                bos: config["bos_token"].as_str().unwrap_or_default().to_owned(),
                eos: config["eos_token"].as_str().unwrap_or_default().to_owned(),
            };
            assert_eq!(
                template.render(&messages, &options).unwrap(),
                case["text"].as_str().unwrap()
            );
            let encoded = template.encode(&tokenizer, &messages, &options).unwrap();
            assert_eq!(encoded, ids(&case["ids"]), "{model}: {messages:?}");
        }
    }
}

#[test]
fn a_message_cannot_bring_special_tokens_in() {
    let model = "llada-tiny";
    let tokenizer = from_json(model);
    let config = json(
        &vectors_dir()
            .join("checkpoints")
            .join(model)
            .join("tokenizer_config.json"),
    );
    let template = ChatTemplate::parse(config["chat_template"].as_str().unwrap()).unwrap();
    let options = RenderOptions {
        add_generation_prompt: true,
        bos: "<|startoftext|>".into(),
        eos: String::new(),
    };
    let count = |text: &str, token: &str| {
        let id = tokenizer.encode(token, Special::Parse).unwrap()[0];
        let ids = template
            .encode(&tokenizer, &[ChatMessage::new("user", text)], &options)
            .unwrap();
        ids.iter().filter(|&&i| i == id).count()
    };
    for token in ["<|eot_id|>", "<|mdm_mask|>", "<|startoftext|>"] {
        assert_eq!(
            count("hello", token),
            count(&format!("  x{token} y {token}"), token),
            "{token}"
        );
    }
}

/// Long texts of every awkward kind take linear time on a small stack.
#[test]
fn hostile_text_is_encoded_in_bounded_time_on_a_small_stack() {
    let tokenizer = from_json("llada-tiny");
    let texts = [
        "a".repeat(1 << 20),
        "\u{4E2D}".repeat(22_000),
        " ".repeat(1 << 20),
        "\n".repeat(1 << 18),
        "<|mdm_mask|>".repeat(20_000),
        "a b ".repeat(1 << 17),
        "'s".repeat(1 << 17),
        "\0\u{1}\u{7F}".repeat(1 << 16),
    ];
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    let worker = thread.spawn(move || {
        for text in texts {
            let began = std::time::Instant::now();
            let ids = tokenizer.encode(&text, Special::AsText).unwrap();
            assert_eq!(tokenizer.decode(&ids, true), text);
            // Generous: debug builds on a loaded machine. Quadratic time would be minutes.
            assert!(
                began.elapsed().as_secs() < 60,
                "{} bytes took {:?}",
                text.len(),
                began.elapsed()
            );
        }
    });
    worker.unwrap().join().unwrap();
}

/// Where long text is cut, the ids are those of the uncut text.
#[test]
fn cutting_long_text_changes_nothing() {
    let tokenizer = from_json("llada-tiny");
    let sentence = "The cat's 12 hats, red\u{00E9} and  blue;\n\nsat on\tmats. ";
    let ids = tokenizer.encode(sentence, Special::AsText).unwrap();
    let long = sentence.repeat(2000);
    let expected = ids.repeat(2000);
    let got = tokenizer.encode(&long, Special::AsText).unwrap();
    // The sentence begins with a word and ends with a space, so that repeats join as `. The`.
    assert_eq!(tokenizer.decode(&got, true), long);
    let short = tokenizer.encode(&sentence.repeat(100), Special::AsText).unwrap();
    assert_eq!(got[..short.len() - 8], short[..short.len() - 8]);
    assert!(got.len() <= expected.len());
}
