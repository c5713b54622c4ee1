//! `remask inspect`

use std::collections::BTreeMap;
use std::io::Write;

use remask::gguf::{Array, Value};
use remask::{ModelFile, Residence};
use serde_json::json;

use crate::args::InspectArgs;
use crate::output::{Outcome, bytes};

pub fn run(args: &InspectArgs) -> Outcome {
    let file = ModelFile::open(&args.file, Residence::Map)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", as_json(&file, args.canvas))?;
        return Ok(());
    }
    writeln!(
        out,
        "file        {} (GGUF version {})",
        escape_lines(&args.file.display().to_string()),
        file.gguf.version
    )?;
    match file.sizes() {
        Ok(s) => {
            writeln!(out, "family      {}", s.arch)?;
            writeln!(
                out,
                "network     {} layers, width {}, {} heads ({} for keys) of {}, feed-forward {}, {} tokens, context {}",
                s.n_layer, s.n_embd, s.n_head, s.n_head_kv, s.n_rot, s.n_ff, s.n_vocab, s.n_ctx
            )?;
        }
        Err(error) => writeln!(out, "family      {error}")?,
    }
    let n: u64 = file
        .gguf
        .tensors
        .iter()
        .map(|t| t.dims().iter().product::<u64>())
        .sum();
    writeln!(out, "parameters  {:.2} million", n as f64 / 1e6)?;
    let by_type: Vec<_> = types(&file)
        .into_iter()
        .map(|(name, (n, size))| format!("{name} {n} ({})", bytes(size)))
        .collect();
    writeln!(
        out,
        "tensors     {}: {}",
        file.gguf.tensors.len(),
        by_type.join(", ")
    )?;
    if let Ok(e) = file.estimate(args.canvas, args.canvas) {
        writeln!(
            out,
            "memory      {} of weights (mapped), about {} for a canvas of {} slots",
            bytes(e.weights),
            bytes(e.session),
            args.canvas
        )?;
    }
    writeln!(out, "\nmetadata")?;
    for (key, value) in file.gguf.metadata.iter() {
        writeln!(out, "  {} = {}", escape_lines(key), short(value))?;
    }
    writeln!(out, "\ntensors")?;
    for t in &file.gguf.tensors {
        writeln!(
            out,
            "  {:<32} {:<6} {:?} {}",
            escape_lines(&t.name),
            t.ty.name(),
            t.dims(),
            bytes(t.n_bytes)
        )?;
    }
    if let Ok(Some(template)) = file.gguf.metadata.str("tokenizer.chat_template") {
        writeln!(out, "\nchat template\n{}", escape_lines(template))?;
    }
    Ok(())
}

/// Number of tensors and bytes by type.
fn types(file: &ModelFile) -> BTreeMap<&'static str, (usize, u64)> {
    let mut types = BTreeMap::new();
    for t in &file.gguf.tensors {
        let entry: &mut (usize, u64) = types.entry(t.ty.name()).or_default();
        entry.0 += 1;
        entry.1 += t.n_bytes;
    }
    types
}

/// A value in one line, without control characters.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            let more = text.chars().nth(80).is_some();
            if more {
                format!("\"{shown}...\" ({} bytes)", text.len())
            } else {
                format!("\"{shown}\"")
            }
        }
        Value::Array(array) => format!("array of {}", array.len()),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::Bool(x) => x.to_string(),
        other => other.as_integer().map(|n| n.to_string()).unwrap_or_default(),
    }
}

/// Lines of a text from a file, without control characters but line ends.
fn escape_lines(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() && c != '\n' {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

fn as_json(file: &ModelFile, canvas: usize) -> serde_json::Value {
    let metadata: serde_json::Map<_, _> = file
        .gguf
        .metadata
        .iter()
        .map(|(key, value)| (key.to_owned(), json_value(value)))
        .collect();
    let tensors: Vec<_> = file
        .gguf
        .tensors
        .iter()
        .map(|t| json!({"name": t.name, "type": t.ty.name(), "dims": t.dims(), "bytes": t.n_bytes, "offset": t.offset, "part": t.file}))
        .collect();
    let family = match file.sizes() {
        Ok(s) => json!({"name": s.arch, "layers": s.n_layer, "width": s.n_embd, "heads": s.n_head,
            "key_heads": s.n_head_kv, "head_size": s.n_rot, "feed_forward": s.n_ff, "vocabulary": s.n_vocab,
            "context": s.n_ctx}),
        Err(error) => json!({"error": error.message()}),
    };
    let memory = file.estimate(canvas, canvas).ok();
    let memory = memory.map(|e| json!({"weights": e.weights, "session": e.session, "canvas": canvas}));
    json!({"version": file.gguf.version, "family": family, "memory": memory, "metadata": metadata, "tensors": tensors})
}

/// Scalars as they are, arrays by their length and type: vocabularies are long.
fn json_value(value: &Value) -> serde_json::Value {
    match value {
        Value::String(text) => json!(text),
        Value::Bool(x) => json!(x),
        Value::F32(x) => json!(x),
        Value::F64(x) => json!(x),
        Value::Array(Array::Strings(a)) => json!({"array": "strings", "length": a.len()}),
        Value::Array(a) => json!({"array": "numbers", "length": a.len()}),
        other => match other.as_integer().map(i64::try_from) {
            Some(Ok(n)) => json!(n),
            Some(Err(_)) => json!(other.as_integer().map(|n| n.to_string())),
            None => serde_json::Value::Null,
        },
    }
}
