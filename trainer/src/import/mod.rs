//! Networks to begin with: a checkpoint in the Hugging Face layout, or a GGUF file.
//!
//! LLaDA, iLLaDA, and autoregressive models of Llama's shape that are to become mask predictors.

mod folder;
mod gguf;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::Path;

use remask::text::Tokenizer;
use remask::{Error, ErrorKind, Result};

use crate::shape::{Shape, invalid};

pub use folder::{read_folder, read_json};
pub(crate) use gguf::{name_of, neighbours};
pub use tokenizer::write_tokenizer;
pub(crate) use tokenizer::{knows_its_mask, spelling};

/// A network as it was found.
pub struct Source {
    /// Its sizes.
    pub shape: Shape,
    /// Its weights, under LLaDA's names.
    pub weights: BTreeMap<String, Vec<f32>>,
    /// Whether it is a mask predictor whose predictions are read one slot before their own.
    pub shift: bool,
    /// Whether it is no mask predictor yet: it predicts the next token.
    pub autoregressive: bool,
    /// Its tokenizer, where it has one that can be read.
    pub tokenizer: Option<Tokenizer>,
}

/// Whether `path` names a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}

/// Reads a folder or a GGUF file.
///
/// # Errors
/// `Io`; `Format`, `Model`, `Numeric` or `Unsupported`, naming the file and the key or tensor.
pub fn read(path: &Path) -> Result<Source> {
    match is_gguf(path) {
        true => gguf::read(path).map_err(|e| e.context(path.display())),
        false => folder::read(path),
    }
}

impl Source {
    /// Adds rows to the vocabulary for tokens that `wanted` has and the network's own tokenizer has not:
    /// each begins as the mean of the others.
    ///
    /// # Errors
    /// `InvalidArgument`, when the two tokenizers differ in more than tokens at the end.
    pub fn grow(&mut self, wanted: &Tokenizer) -> Result<()> {
        let rows = self.shape.vocab_size;
        let known = self.tokenizer.as_ref().map_or(rows, |t| t.n_vocab().min(rows));
        if wanted.n_vocab() <= known {
            return Ok(());
        }
        let Some(own) = &self.tokenizer else {
            return Err(invalid(format!(
                "the tokenizer has {} tokens and the network {rows} rows",
                wanted.n_vocab()
            )));
        };
        let ids = 0..u32::try_from(known).unwrap_or(u32::MAX);
        if let Some(id) = ids
            .into_iter()
            .find(|&id| own.token_text(id) != wanted.token_text(id))
        {
            return Err(invalid(format!(
                "token {id} is `{}` in the tokenizer and `{}` in the network's own; `remask-train tokenizer --from` takes that",
                wanted.token_text(id).unwrap_or_default(),
                own.token_text(id).unwrap_or_default()
            )));
        }
        let (d, n) = (self.shape.d_model, wanted.n_vocab());
        for name in ["model.transformer.wte.weight", "model.transformer.ff_out.weight"] {
            let Some(table) = self.weights.get_mut(name) else {
                continue;
            };
            let mut mean = vec![0f64; d];
            for row in table.chunks_exact(d).take(known) {
                mean.iter_mut()
                    .zip(row)
                    .for_each(|(m, &x)| *m += f64::from(x) / known as f64);
            }
            table.resize(table.len().max(n * d), 0.0);
            for row in table.chunks_exact_mut(d).take(n).skip(known) {
                row.iter_mut().zip(&mean).for_each(|(x, &m)| *x = m as f32);
            }
        }
        self.shape.vocab_size = rows.max(n);
        Ok(())
    }
}

fn model(message: String) -> Error {
    Error::new(ErrorKind::Model, message)
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}
