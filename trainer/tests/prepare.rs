//! Texts of other kinds, and other programs that make shards.

use std::path::{Path, PathBuf};
use std::process::Command;

#[cfg(feature = "parquet")]
use remask_trainer::data::{Document, Texts};
use remask_trainer::data::{Manifest, PrepareOptions, prepare, train_tokenizer};

fn at(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/files")
        .join(name)
}

#[cfg(feature = "parquet")]
fn read(path: &Path) -> remask::Result<Vec<Document>> {
    Texts::open(path)?.collect()
}

/// The files were made by pyarrow (tests/files/make_parquet.py).
#[cfg(feature = "parquet")]
#[test]
fn columns_of_parquet_are_fields_of_lines() {
    let texts = read(&fixture("texts.parquet")).unwrap();
    assert_eq!(texts.len(), 40);
    for (i, text) in texts.iter().enumerate() {
        let expected = format!("The {i}th hen sat on the pen, and the pen was old. Ünïcode — {i}");
        assert_eq!(*text, Document::Text(expected));
    }
    let pairs = read(&fixture("pairs.parquet")).unwrap();
    assert_eq!(pairs.len(), 10);
    let Document::Chat(turns) = &pairs[3] else {
        panic!("{:?}", pairs[3]);
    };
    assert_eq!((&*turns[0].content, &*turns[1].content), ("Who sat 3?", "Hen 3."));
    let chats = read(&fixture("chat.parquet")).unwrap();
    let Document::Chat(turns) = &chats[2] else {
        panic!("{:?}", chats[2]);
    };
    let said: Vec<&str> = turns.iter().map(|t| t.content.as_str()).collect();
    assert_eq!(said, ["Hi", "Hello 2", "Bye", "So long"]);
    assert_eq!(turns[3].role, "assistant");
    let error = read(&fixture("other.parquet")).unwrap_err();
    assert!(error.message().contains("words"), "{error}");
}

#[cfg(feature = "parquet")]
#[test]
fn a_broken_parquet_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(folder.path(), "broken.parquet");
    let whole = std::fs::read(fixture("texts.parquet")).unwrap();
    for n in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..n]).unwrap();
        let error = read(&path).unwrap_err();
        assert!(!error.message().contains('\n') && error.message().contains("broken.parquet"));
    }
    // Bytes that were changed: an error, or texts; never the end of the process.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for at in (4..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xFF;
        std::fs::write(&path, &bytes).unwrap();
        let _ = read(&path);
    }
    std::panic::set_hook(before);
}

/// A Python that has Ray: `REMASK_RAY_PYTHON`, or the system's.
fn python_with_ray() -> Option<String> {
    let named = std::env::var("REMASK_RAY_PYTHON").ok();
    let python = named.unwrap_or_else(|| "python3".to_owned());
    let check = "import ray.data, tokenizers, jinja2";
    let done = Command::new(&python).args(["-c", check]).output().ok()?;
    done.status.success().then_some(python)
}

#[test]
fn ray_makes_the_same_shards() {
    let Some(python) = python_with_ray() else {
        println!("no Python with ray[data], tokenizers and jinja2 (REMASK_RAY_PYTHON names one): not tested");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| at(folder.path(), name);
    let line = |i: usize| match i % 4 {
        0 => format!(
            "{{\"text\": \"The {i}th hen sat <|endoftext|> on the pen.\\nÜber — {}\"}}\n",
            i * i
        ),
        1 => format!("{{\"prompt\": \" Who <|mdm_mask|> sat {i}? \", \"response\": \"Hen {i}.\"}}\n\n"),
        2 => format!("{{\"text\": \"{}\"}}\n", "a long walk in the wood ".repeat(1200)),
        _ => format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"Hi {i}\"}}, {{\"role\": \"assistant\", \"content\": \"Yes\"}}, \
             {{\"role\": \"user\", \"content\": \"And?\"}}, {{\"role\": \"assistant\", \"content\": \"No {i}\"}}]}}\n"
        ),
    };
    std::fs::write(at("mixed.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
    let pair = |i: usize| format!("{{\"prompt\": \"{i}?\", \"chosen\": \"{i}!\", \"rejected\": \"no\"}}\n");
    std::fs::write(at("pairs.jsonl"), (0..30).map(pair).collect::<String>()).unwrap();
    std::fs::write(
        at("known.jsonl"),
        "{\"text\": \"x The 8th hen sat <|endoftext|> on the pen. y\"}\n",
    )
    .unwrap();
    train_tokenizer(&[at("mixed.jsonl")], 400, &at("tok")).unwrap();
    let mut mixed = vec![at("mixed.jsonl")];
    if cfg!(feature = "parquet") {
        mixed.push(fixture("texts.parquet"));
    }
    for (name, files, options) in [
        (
            "mixed",
            mixed,
            PrepareOptions {
                shard_tokens: 20_000,
                exclude: vec![at("known.jsonl")],
                ngram: 8,
                ..PrepareOptions::default()
            },
        ),
        (
            "pairs",
            vec![at("pairs.jsonl")],
            PrepareOptions {
                shard_tokens: 300,
                ..PrepareOptions::default()
            },
        ),
    ] {
        let (ours, rays) = (at(name), at(&format!("{name}-ray")));
        let done = prepare(&files, &at("tok"), &ours, &options, &mut |_| ()).unwrap();
        assert!(done.manifest.shards.len() > 2, "{name}");
        assert_eq!(done.n_excluded > 0, name == "mixed");
        let mut command = Command::new(&python);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/prepare_ray.py"))
            .args(["--workers", "2", "--ngram", &options.ngram.to_string()])
            .args(["--shard-tokens", &options.shard_tokens.to_string(), "--tokenizer"])
            .arg(at("tok"))
            .arg("-o")
            .arg(&rays)
            .args(&files);
        for file in &options.exclude {
            command.arg("--exclude").arg(file);
        }
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(Manifest::read(&rays).unwrap(), done.manifest, "{name}");
        for shard in &done.manifest.shards {
            let bytes = |folder: &Path| std::fs::read(folder.join(&shard.file)).unwrap();
            assert!(bytes(&rays) == bytes(&ours), "{name}: {}", shard.file);
        }
    }
}
