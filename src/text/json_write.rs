//! A `tokenizer.json` for a vocabulary that came without one.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::pre::Stage;
use super::vocab::{TokenKind, Vocabulary};
use crate::error::Result;

/// Text that grows, or says that it cannot.
struct Growing(Vec<u8>);

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.0.try_reserve(bytes.len());
        room.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file's text; reading it gives the vocabulary back.
///
/// # Errors
/// `Resource`.
pub(super) fn write(vocab: &Vocabulary) -> Result<String> {
    let mut out = Growing(Vec::new());
    // All that can fail is memory.
    write_all(vocab, &mut out).map_err(|_| crate::err!(Resource, "no memory for a tokenizer.json"))?;
    String::from_utf8(out.0).map_err(|_| crate::err!(Internal, "a tokenizer.json that is not UTF-8"))
}

/// The tables go out piece by piece: as one JSON value they would take many times the memory.
fn write_all(vocab: &Vocabulary, out: &mut Growing) -> io::Result<()> {
    out.write_all(br#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":["#)?;
    for (i, t) in vocab.added.iter().enumerate() {
        let token = json!({
            "id": t.id, "content": t.content, "single_word": false, "lstrip": t.lstrip,
            "rstrip": t.rstrip, "normalized": false, "special": t.special,
        });
        comma(i, out)?;
        put(&token, out)?;
    }
    let normalizer = match vocab.nfc {
        true => json!({"type": "NFC"}),
        false => Value::Null,
    };
    out.write_all(br#"],"normalizer":"#)?;
    put(&normalizer, out)?;
    out.write_all(br#","pre_tokenizer":"#)?;
    put(&stages(vocab), out)?;
    out.write_all(br#","post_processor":null,"decoder":"#)?;
    put(&byte_level(vocab, true), out)?;
    out.write_all(
        br#","model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":"#,
    )?;
    put(&vocab.ignore_merges, out)?;
    out.write_all(br#","vocab":{"#)?;
    let mut apart: Vec<u32> = vocab.added.iter().map(|t| t.id).collect();
    apart.sort_unstable();
    let mut n = 0;
    for (id, (text, kind)) in (0u32..).zip(vocab.tokens.iter().zip(&vocab.kinds)) {
        // Of tokens that are spelled alike the first is the one that text becomes.
        let listed = *kind != TokenKind::Unused && vocab.id(text) == Some(id);
        if listed && apart.binary_search(&id).is_err() {
            comma(n, out)?;
            put(text, out)?;
            out.write_all(b":")?;
            put(&id, out)?;
            n += 1;
        }
    }
    out.write_all(br#"},"merges":["#)?;
    for (i, &[left, right, _]) in vocab.merges.iter().enumerate() {
        let text = |id: u32| vocab.tokens.get(id as usize).map_or("", String::as_str);
        comma(i, out)?;
        put(&[text(left), text(right)], out)?;
    }
    out.write_all(b"]}}")
}

fn comma(i: usize, out: &mut Growing) -> io::Result<()> {
    match i {
        0 => Ok(()),
        _ => out.write_all(b","),
    }
}

fn put(value: &impl Serialize, out: &mut Growing) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(io::Error::from)
}

fn byte_level(vocab: &Vocabulary, use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": vocab.pre.add_prefix_space,
        "trim_offsets": true, "use_regex": use_regex,
    })
}

fn stages(vocab: &Vocabulary) -> Value {
    let mut stages = Vec::new();
    let mut gpt2 = false;
    for stage in &vocab.pre.stages {
        match stage {
            Stage::Regex(regex) => stages.push(json!({
                "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false,
            })),
            Stage::Digits { individual } => {
                stages.push(json!({"type": "Digits", "individual_digits": individual}));
            }
            Stage::Gpt2 => gpt2 = true,
        }
    }
    stages.push(byte_level(vocab, gpt2));
    json!({"type": "Sequence", "pretokenizers": stages})
}
