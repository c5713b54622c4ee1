//! What a run measured: `metrics.jsonl`, `metrics.csv` and TensorBoard's events.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use remask::{Error, Result};
use serde_json::{Value, json};

use crate::files::{create_folder, write_atomically};
use crate::run::Step;

/// Columns of the table.
const COLUMNS: &[&str] = &[
    "step",
    "loss",
    "lr",
    "grad_norm",
    "tokens",
    "tokens_per_s",
    "flops",
    "seconds",
    "bound",
    "bound_error",
    "bits_per_byte",
    "score",
];

/// The three files.
#[derive(Default)]
pub struct Metrics {
    files: Option<Files>,
}

struct Files {
    json: (PathBuf, File),
    csv: (PathBuf, File),
    events: (PathBuf, File),
}

impl Metrics {
    /// Opens those of a run that has done `step` updates: what was written of later ones goes.
    ///
    /// # Errors
    /// `Io`, naming the file.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        create_folder(folder)?;
        let path = folder.join("metrics.jsonl");
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        let kept: Vec<Value> = old
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok())
            .filter(|v| v["step"].as_u64().is_some_and(|s| s <= step))
            .collect();
        let lines: String = kept.iter().map(|v| format!("{v}\n")).collect();
        write_atomically(&path, |file| file.write_all(lines.as_bytes()))?;
        let table: String = kept.iter().map(row).collect();
        let csv = folder.join("metrics.csv");
        write_atomically(&csv, |file| {
            file.write_all(format!("{}\n{table}", COLUMNS.join(",")).as_bytes())
        })?;
        let events = folder.join("events.out.tfevents.0.remask");
        write_atomically(&events, |file| {
            file.write_all(&record(&event(0.0, 0, &[], Some("brain.Event:2"))))?;
            kept.iter().try_for_each(|v| file.write_all(&record(&of_line(v))))
        })?;
        let append = |path: PathBuf| -> Result<(PathBuf, File)> {
            let file = OpenOptions::new().append(true).open(&path);
            let file = file.map_err(|e| Error::from(e).context(path.display()))?;
            Ok((path, file))
        };
        Ok(Self {
            files: Some(Files {
                json: append(path)?,
                csv: append(csv)?,
                events: append(events)?,
            }),
        })
    }

    fn line(&mut self, value: &Value) -> Result<()> {
        let Some(files) = &mut self.files else {
            return Ok(());
        };
        let text = [format!("{value}\n"), row(value)];
        let bytes = [text[0].as_bytes(), text[1].as_bytes(), &record(&of_line(value))];
        for ((path, file), bytes) in [&mut files.json, &mut files.csv, &mut files.events]
            .into_iter()
            .zip(bytes)
        {
            file.write_all(bytes)
                .map_err(|e| Error::from(e).context(path.display()))?;
        }
        Ok(())
    }

    /// Writes an update's line.
    ///
    /// # Errors
    /// `Io`, naming the file.
    pub fn step(&mut self, s: &Step) -> Result<()> {
        self.line(
            &json!({"step": s.step, "loss": s.loss, "score": s.score, "lr": s.lr, "grad_norm": s.grad_norm,
            "tokens": s.tokens, "tokens_per_s": s.tokens_per_s, "flops": s.flops, "seconds": s.seconds}),
        )
    }

    /// Writes an evaluation's line.
    ///
    /// # Errors
    /// `Io`, naming the file.
    pub fn evaluation(&mut self, step: u64, bound: f64, error: f64, bits_per_byte: f64) -> Result<()> {
        self.line(
            &json!({"step": step, "bound": bound, "bound_error": error, "bits_per_byte": bits_per_byte}),
        )
    }

    /// Brings all lines to the disk.
    ///
    /// # Errors
    /// `Io`, naming the file.
    pub fn flush(&mut self) -> Result<()> {
        for (path, file) in self.files.iter().flat_map(|f| [&f.json, &f.csv, &f.events]) {
            file.sync_all()
                .map_err(|e| Error::from(e).context(path.display()))?;
        }
        Ok(())
    }
}

fn row(value: &Value) -> String {
    let cells = COLUMNS.iter().map(|c| match &value[*c] {
        Value::Null => String::new(),
        v => v.to_string(),
    });
    format!("{}\n", cells.collect::<Vec<_>>().join(","))
}

fn of_line(value: &Value) -> Vec<u8> {
    let step = value["step"].as_u64().unwrap_or(0);
    let seconds = value["seconds"].as_f64().unwrap_or(0.0);
    let scalars = COLUMNS[1..]
        .iter()
        .filter_map(|c| Some((*c, value[*c].as_f64()? as f32)));
    event(seconds, step, &scalars.collect::<Vec<_>>(), None)
}

/// A message `tensorflow.Event` (tensorflow/core/util/event.proto): 1 wall_time, 2 step,
/// 3 file_version, 5 summary, of which 1 value: 1 tag, 2 simple_value.
fn event(time: f64, step: u64, scalars: &[(&str, f32)], version: Option<&str>) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend(time.to_le_bytes());
    out.push(0x10);
    varint(&mut out, step);
    if let Some(version) = version {
        bytes(&mut out, 0x1A, version.as_bytes());
    }
    if !scalars.is_empty() {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut one = Vec::new();
            bytes(&mut one, 0x0A, tag.as_bytes());
            one.push(0x15);
            one.extend(value.to_le_bytes());
            bytes(&mut summary, 0x0A, &one);
        }
        bytes(&mut out, 0x2A, &summary);
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// A TFRecord: length, its checksum, data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8);
    let length = (data.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked(data).to_le_bytes());
    out
}
