//! What fuzz targets do with their bytes: plain functions, so that `cargo test` drives them too
//! (`tests/fuzz.rs`). Each returns whether the input was accepted; what must hold is asserted.

pub mod bent;
pub mod capi;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use remask::convert::{Checkpoint, ConvertOptions, plan_folder};
use remask::evaluate::Dataset;
use remask::gguf::{Gguf, Metadata, split_paths};
use remask::text::{ChatMessage, ChatTemplate, RenderOptions, Special, SpecialIds, StreamDecoder, Tokenizer};
use remask::{Canvas, GenerateParams, LoadOptions, Model, ModelFile, Params, Session, SessionOptions};

/// The valid files that inputs are laid over.
pub struct Valid {
    /// A whole model, small.
    pub gguf: Vec<u8>,
    /// A checkpoint's tokenizer.
    pub tokenizer: String,
    /// Its weights.
    pub safetensors: Vec<u8>,
}

impl Valid {
    /// Those of the folder that `REMASK_HOSTILE` names, `tests/data/hostile.tar.zst` unpacked.
    #[allow(dead_code)] // for targets, not for tests
    pub fn from_environment() -> Self {
        let folder = std::env::var_os("REMASK_HOSTILE").expect("REMASK_HOSTILE names no folder");
        Self::read(Path::new(&folder))
    }

    /// Those of the folder of hostile files.
    pub fn read(hostile: &Path) -> Self {
        let read = |name: &str| std::fs::read(hostile.join(name)).unwrap();
        let text = |name: &str| String::from_utf8(read(name)).unwrap();
        Self {
            gguf: read("ok_q8.gguf"),
            tokenizer: text("hf_ok/tokenizer.json"),
            safetensors: read("hf_ok/model.safetensors"),
        }
    }
}

/// Where inputs become files: in memory where the system offers it. One folder per thread.
fn folder() -> PathBuf {
    thread_local! {
        static FOLDER: tempfile::TempDir = {
            let base = Path::new("/dev/shm");
            let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
            tempfile::Builder::new().prefix("remask-fuzz-").tempdir_in(base).unwrap()
        };
    }
    FOLDER.with(|f| f.path().to_owned())
}

/// A GGUF file: what is accepted lies inside the file and survives being looked at from every side.
pub fn gguf_meta(bytes: &[u8]) -> bool {
    let Ok(file) = Gguf::parse(bytes) else {
        return false;
    };
    assert!(file.alignment.is_power_of_two());
    let mut end = file.data_offset;
    for t in &file.tensors {
        assert!(t.offset >= end, "{t:?}");
        end = t.offset + t.n_bytes;
        assert!(end <= bytes.len() as u64, "{t:?}");
        assert_eq!(t.ty.tensor_bytes(t.dims()), Some(t.n_bytes));
        assert_eq!(file.tensor(&t.name), Some(t));
    }
    for (key, value) in file.metadata.iter() {
        // A key is found again, by identity: NaN is not equal to itself.
        assert!(
            file.metadata
                .get(key)
                .is_some_and(|found| std::ptr::eq(found, value))
        );
        read_every_way(&file.metadata, key);
    }
    let _ = split_paths(Path::new("x-00001-of-00002.gguf"), &file.metadata);
    true
}

fn read_every_way(metadata: &Metadata, key: &str) {
    let _ = (metadata.u64(key), metadata.f32(key), metadata.str(key));
    let _ = (metadata.i32s(key), metadata.bool(key));
    if let Ok(Some(strings)) = metadata.strings(key) {
        assert_eq!(strings.iter().count(), strings.len());
    }
}

/// A program of edits to a valid model ([`bent::bend`]): refused, or loaded, and a few slots filled on
/// one thread.
pub fn gguf_load(valid: &Valid, program: &[u8]) -> bool {
    load_and_step(bent::bend(&valid.gguf, program))
}

/// A whole model file: refused, or loaded, and two steps made on one thread.
pub fn load_and_step(file: Vec<u8>) -> bool {
    let mut none = |_| ControlFlow::Continue(());
    let model = ModelFile::from_memory(file);
    let Ok(model) = model.and_then(|f| Model::from_file(f, &LoadOptions::default(), &mut none)) else {
        return false;
    };
    let mut canvas = Canvas::new(model.mask_token());
    let Ok(tokens) = model.tokenizer().encode("hello \u{4E2D} world", Special::AsText) else {
        return false;
    };
    canvas.push_fixed(tokens.get(..4).unwrap_or(&tokens));
    canvas.push_masked(2).unwrap();
    let options = SessionOptions {
        n_threads: 1,
        ..SessionOptions::default()
    };
    let Ok(mut session) = Session::new(&model, &options) else {
        return false;
    };
    let params = GenerateParams {
        denoise: Params {
            steps: 2,
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    let done = session.generate(&mut canvas, &params, |_, _| ControlFlow::Continue(()));
    if done.is_ok() {
        assert!(
            canvas
                .tokens()
                .iter()
                .all(|&t| (t as usize) < model.sizes().n_vocab)
        );
        model.tokenizer().decode(canvas.tokens(), true);
    }
    done.is_ok()
}

/// A safetensors file: what is accepted can be read to its end.
pub fn safetensors_header(bytes: &[u8]) -> bool {
    std::fs::write(folder().join("x.safetensors"), bytes).unwrap();
    let Ok(file) = Checkpoint::open_file(&folder(), "x.safetensors") else {
        return false;
    };
    let mut total = 0;
    for name in file.names() {
        assert!(file.contains(name) && file.shape(name).is_some() && file.dtype(name).is_some());
        total += file.values(name).unwrap().len() * 2;
    }
    assert!(
        total <= bytes.len(),
        "{total} bytes of values in a file of {}",
        bytes.len()
    );
    true
}

/// A `tokenizer.json`, a NUL, a text: refused, or the text goes through it and ids are in range.
pub fn tokenizer_json(bytes: &[u8]) -> bool {
    const N_ROWS: u32 = 4096;
    let at = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let Ok(json) = std::str::from_utf8(&bytes[..at]) else {
        return false;
    };
    let Ok(tokenizer) = Tokenizer::from_json(json, SpecialIds::default(), N_ROWS) else {
        return false;
    };
    let text = String::from_utf8_lossy(bytes.get(at + 1..).unwrap_or_default());
    for special in [Special::AsText, Special::Parse] {
        let Ok(ids) = tokenizer.encode(&text, special) else {
            continue;
        };
        assert!(ids.iter().all(|&id| id < N_ROWS));
        tokenizer.decode(&ids, true);
    }
    let Ok(again) = Tokenizer::from_json(&tokenizer.to_json().unwrap(), SpecialIds::default(), N_ROWS) else {
        return true;
    };
    assert_eq!(
        again.encode(&text, Special::AsText).ok(),
        tokenizer.encode(&text, Special::AsText).ok()
    );
    true
}

/// Any bytes as text: they come back byte for byte, whole and piece by piece, and never become a
/// special token.
pub fn tokenizer_roundtrip(tokenizer: &Tokenizer, bytes: &[u8]) -> bool {
    let Ok(ids) = tokenizer.encode_bytes(bytes, Special::AsText) else {
        assert!(std::str::from_utf8(bytes).is_err(), "good text was refused");
        return false;
    };
    let specials = tokenizer.specials();
    let specials = [specials.bos, specials.eos, specials.eot, specials.mask];
    assert!(ids.iter().all(|&id| !specials.contains(&Some(id))), "{ids:?}");
    assert_eq!(tokenizer.decode_bytes(&ids, false), bytes);
    let mut stream: StreamDecoder = tokenizer.stream(false);
    let mut text = String::new();
    for id in ids {
        text.push_str(&stream.push(&[id]));
    }
    text.push_str(&stream.finish());
    assert_eq!(text.as_bytes(), bytes);
    true
}

/// A `config.json` over a valid checkpoint: refused, or a plan.
pub fn config_json(valid: &Valid, bytes: &[u8]) -> bool {
    let folder = folder().join("hf");
    if !folder.is_dir() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tokenizer.json"), &valid.tokenizer).unwrap();
        std::fs::write(folder.join("model.safetensors"), &valid.safetensors).unwrap();
    }
    std::fs::write(folder.join("config.json"), bytes).unwrap();
    plan_folder(&folder, &ConvertOptions::default()).is_ok()
}

/// A chat template: refused, or rendered within its limits; and what a user says in it never becomes a
/// special token.
pub fn chat_render(tokenizer: &Tokenizer, bytes: &[u8]) -> bool {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(template) = ChatTemplate::parse(source) else {
        return false;
    };
    let messages = [
        ChatMessage::new("system", "be brief"),
        ChatMessage::new("user", "hello \u{4E2D} world"),
    ];
    let options = RenderOptions {
        add_generation_prompt: true,
        ..RenderOptions::default()
    };
    let Ok(text) = template.render(&messages, &options) else {
        return false;
    };
    assert!(text.len() <= 16 << 20);
    // A prompt of megabytes is the tokenizer's test, not this one's.
    text.len() > 1 << 16 || template.encode(tokenizer, &messages, &options).is_ok()
}

/// Lines of a data set: every one is refused or taken, and reading ends.
pub fn dataset_line(bytes: &[u8]) -> bool {
    let path = folder().join("x.jsonl");
    std::fs::write(&path, bytes).unwrap();
    let Ok(lines) = Dataset::open(&path) else {
        return false;
    };
    let mut good = true;
    let mut n = 0;
    for line in lines {
        good &= line.is_ok();
        n += 1;
        assert!(n <= bytes.len() + 1, "more lines than bytes");
    }
    good
}

/// The tokenizer that texts and templates go through.
pub fn tokenizer(valid: &Valid) -> Tokenizer {
    Tokenizer::from_json(&valid.tokenizer, SpecialIds::default(), 4096).unwrap()
}
