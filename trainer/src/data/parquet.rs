//! Rows of a Parquet file, of which only the columns with texts are read.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use remask::{Error, ErrorKind, Result};

use super::texts::{Line, Turn};

/// Columns that are read: those of a line of JSON.
const COLUMNS: &[&str] = &["text", "prompt", "response", "messages", "chosen", "rejected"];

/// The rows, one after the other.
pub(super) struct Rows {
    rows: RowIter<'static>,
}

fn broken(e: &ParquetError) -> Error {
    Error::new(ErrorKind::Data, format!("is no whole Parquet file: {e}"))
}

/// Runs a piece of the crate: what it does not return as an error on a broken file is one all the same.
fn guarded<T>(call: impl FnOnce() -> std::result::Result<T, ParquetError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(done) => done.map_err(|e| broken(&e)),
        Err(_) => Err(Error::new(ErrorKind::Data, "is no whole Parquet file")),
    }
}

impl Rows {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `Io`; `Data`, when it is no Parquet file or has no column with texts.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let reader = guarded(|| SerializedFileReader::new(file))?;
        let schema = reader.metadata().file_metadata().schema().clone();
        let fields = schema.get_fields().iter();
        let wanted: Vec<Arc<Type>> = fields.filter(|f| COLUMNS.contains(&f.name())).cloned().collect();
        if wanted.is_empty() {
            let there: Vec<&str> = schema.get_fields().iter().map(|f| f.name()).take(20).collect();
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "has the columns {}; none is one of {}",
                    there.join(", "),
                    COLUMNS.join(", ")
                ),
            ));
        }
        let name = schema.name().to_owned();
        let rows = guarded(|| {
            let projection = Type::group_type_builder(&name).with_fields(wanted).build()?;
            RowIter::from_file_into(Box::new(reader)).project(Some(projection))
        })?;
        Ok(Self { rows })
    }
}

impl Iterator for Rows {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        match guarded(|| self.rows.next().transpose()) {
            Ok(row) => row.map(|row| Ok(line(&row))),
            Err(e) => Some(Err(e)),
        }
    }
}

fn line(row: &Row) -> Line {
    let mut line = Line::default();
    for (name, field) in row.get_column_iter() {
        match name.as_str() {
            "text" => line.text = text(field),
            "prompt" => line.prompt = text(field),
            "response" => line.response = text(field),
            "chosen" => line.chosen = text(field),
            "rejected" => line.rejected = text(field),
            "messages" => line.messages = turns(field),
            _ => {}
        }
    }
    line
}

/// A string, also one that is stored without saying that it is one.
fn text(field: &Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).ok(),
        _ => None,
    }
}

fn turns(field: &Field) -> Option<Vec<Turn>> {
    let Field::ListInternal(list) = field else {
        return None;
    };
    let turn = |field: &Field| {
        let Field::Group(row) = field else {
            return None;
        };
        let of = |wanted: &str| {
            let mut columns = row.get_column_iter();
            columns
                .find(|(name, _)| *name == wanted)
                .and_then(|(_, f)| text(f))
        };
        Some(Turn {
            role: of("role")?,
            content: of("content")?,
        })
    };
    list.elements().iter().map(turn).collect()
}
