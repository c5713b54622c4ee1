//! Hostile checkpoints, tokenizers and texts give the trainer an error of an allowed kind, or are taken.

use std::path::Path;

use remask::{Error, ErrorKind};
use remask_trainer::data::{Encoder, Texts};
use remask_trainer::import::read_folder;

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
