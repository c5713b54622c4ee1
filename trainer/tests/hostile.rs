//! Hostile checkpoints, tokenizers and texts give the trainer an error of an allowed kind, or are taken.

use std::path::Path;

use remask::{Error, ErrorKind};
use remask_trainer::config::Config;
use remask_trainer::data::{Encoder, Texts};
use remask_trainer::import::{read_folder, write_tokenizer};

#[path = "../../tests/common/vectors.rs"]
mod vectors;

fn open(folder: &Path) -> Result<(), Error> {
    read_folder(folder)?;
    let encoder = Encoder::open(folder)?;
    let text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaab Hello, <|mdm_mask|> world!".to_owned();
    encoder.encode(&remask_trainer::data::Document::Text(text))?;
    Ok(())
}

#[test]
fn every_hostile_input_is_refused_or_taken_whole() {
    let dir = vectors::hostile_dir();
    let scratch = tempfile::tempdir().unwrap();
    let manifest = std::fs::read_to_string(dir.join("MANIFEST.tsv")).unwrap();
    let mut n = 0;
    for line in manifest.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let name = fields[0].trim_end_matches('/');
        let kinds = ["st_", "cfg_", "tkz_", "ds_"];
        if !fields[0].ends_with('/') || !kinds.iter().any(|k| name.starts_with(k)) {
            continue;
        }
        n += 1;
        let done = match name.starts_with("ds_") {
            true => Texts::open(&dir.join(name).join("data.jsonl"))
                .and_then(|mut t| t.try_for_each(|d| d.map(|_| ()))),
            false => open(&vectors::lay_over(&dir, name, scratch.path())),
        };
        let said = done
            .as_ref()
            .err()
            .map_or("OK".to_owned(), |e| e.kind().name().to_owned());
        let allowed = fields[2].split('|').chain(fields[3].split('|'));
        // The trainer reads weights when it opens them, and wants a mask token by name or number.
        let also = match &done {
            Err(e) if e.kind() == ErrorKind::Numeric => name == "st_nan",
            Err(e) if e.kind() == ErrorKind::InvalidArgument => name.starts_with("cfg_"),
            _ => false,
        };
        assert!(
            also || allowed.into_iter().any(|a| a == said),
            "{name}: {said} ({}) for {}",
            done.err().map(|e| e.to_string()).unwrap_or_default(),
            fields[2]
        );
    }
    assert!(n >= 30, "{n}");
}

/// Runs `what` and its end is waited for, but not for ever.
#[cfg(unix)]
fn ends<T: Send + 'static>(name: &str, what: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(what()));
    let done = hear.recv_timeout(std::time::Duration::from_secs(60));
    done.unwrap_or_else(|_| panic!("{name} does not end"))
}

/// FIFOs, endless files and folders where files are expected: nothing waits, nothing is read without end.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() {
    let scratch = tempfile::tempdir().unwrap();
    let fifo = scratch.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    for odd in [fifo.as_path(), Path::new("/dev/zero"), scratch.path()] {
        for file in [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "tokenizer_config.json",
            "chat_template.jinja",
        ] {
            let folder = tempfile::tempdir_in(scratch.path()).unwrap();
            for entry in std::fs::read_dir(vectors::hostile_dir().join("hf_ok"))
                .unwrap()
                .flatten()
            {
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
            let _ = std::fs::remove_file(folder.path().join(file));
            std::os::unix::fs::symlink(odd, folder.path().join(file)).unwrap();
            let name = format!("{file} as {}", odd.display());
            let path = folder.path().to_owned();
            let opened = ends(&name, move || open(&path).err().map(|e| e.kind()));
            // What only names more may be absent, and so be anything.
            let needed = !["tokenizer_config.json", "chat_template.jinja"].contains(&file);
            assert!(!needed || opened == Some(ErrorKind::Io), "{name}: {opened:?}");
            let (path, to) = (folder.path().to_owned(), scratch.path().join("taken"));
            ends(&name, move || write_tokenizer(&path, "<mask>", &to).is_ok());
        }
        let source = odd.to_str().unwrap().to_owned();
        let read = ends("a configuration", move || {
            Config::read(&source, &[]).err().map(|e| e.kind())
        });
        assert_eq!(read, Some(ErrorKind::Io), "{}", odd.display());
        let path = odd.to_owned();
        let read = ends("a text", move || Texts::open(&path).err().map(|e| e.kind()));
        assert_eq!(read, Some(ErrorKind::Io), "{}", odd.display());
        let folder = tempfile::tempdir().unwrap();
        let manifest = r#"{"version":1,"tokenizer":"","n_vocab":8,"shards":[{"file":"s","n_documents":1,"n_tokens":1}],"counts":[],"n_bytes":1}"#;
        std::fs::write(folder.path().join("manifest.json"), manifest).unwrap();
        std::os::unix::fs::symlink(odd, folder.path().join("s")).unwrap();
        let path = folder.path().to_owned();
        let read = ends("a shard", move || {
            let unit = remask_trainer::data::Unit::Stream;
            let loader = remask_trainer::data::Loader::open(&[path], 8, unit, 0);
            loader.err().map(|e| e.kind())
        });
        assert_eq!(read, Some(ErrorKind::Io), "{}", odd.display());
    }
}
