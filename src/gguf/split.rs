//! Models split over several files, as llama.cpp splits them: `name-00001-of-00003.gguf`.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::limits::MAX_SPLITS;
use super::metadata::Metadata;
use super::read::Gguf;
use crate::error::Result;

/// The paths of the other parts, beside `first`; none for a whole model.
///
/// # Errors
/// `Unsupported`, when this file is a later part or its name does not follow the pattern; `Limit`.
pub fn split_paths(first: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>> {
    let Some((part, count)) = position(metadata)? else {
        return Ok(Vec::new());
    };
    if count <= 1 {
        return Ok(Vec::new());
    }
    if part != 0 {
        crate::bail!(
            Unsupported,
            "this is part {} of {count}; open the first part",
            part + 1
        );
    }
    let name = first.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some(stem) = name.strip_suffix(&format!("-00001-of-{count:05}.gguf")) else {
        crate::bail!(
            Unsupported,
            "this is part 1 of {count}, but its name does not end in `-00001-of-{count:05}.gguf`, so that the \
             others cannot be found"
        );
    };
    Ok((2..=count)
        .map(|i| first.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf")))
        .collect())
}

/// Which part of how many a file is.
fn position(metadata: &Metadata) -> Result<Option<(u16, u16)>> {
    let read = |key: &str| -> Result<Option<u16>> {
        match metadata.u64(key)? {
            None => Ok(None),
            Some(n) => match u16::try_from(n) {
                Ok(n) if n <= MAX_SPLITS => Ok(Some(n)),
                _ => crate::bail!(Limit, "key {key} is {n}; the limit is {MAX_SPLITS}"),
            },
        }
    };
    let Some(count) = read("split.count")? else {
        return Ok(None);
    };
    let part = read("split.no")?.unwrap_or(0);
    if count > 0 && part >= count {
        crate::bail!(Format, "key split.no is {part}, but split.count is {count}");
    }
    Ok(Some((part, count)))
}

impl Gguf {
    /// One model of its parts, in order. The first part's metadata is the model's.
    ///
    /// # Errors
    /// `Format`, when a part is another one's, a tensor is there twice, or tensors are missing.
    pub fn join(parts: Vec<Gguf>) -> Result<Gguf> {
        let n_parts = parts.len();
        let mut parts = parts.into_iter();
        let Some(mut whole) = parts.next() else {
            crate::bail!(Internal, "a model of no parts");
        };
        for (i, part) in (1u16..).zip(parts) {
            let found = position(&part.metadata)?;
            if found.is_none_or(|(no, count)| no != i || usize::from(count) != n_parts) {
                crate::bail!(Format, "part {} of {n_parts} says that it is another", i + 1);
            }
            for mut tensor in part.tensors {
                tensor.file = i;
                whole.tensors.push(tensor);
            }
        }
        whole.index = HashMap::new();
        for (i, tensor) in whole.tensors.iter().enumerate() {
            if whole.index.insert(tensor.name.clone(), i).is_some() {
                crate::bail!(Format, "tensor {} is in two parts", tensor.name);
            }
        }
        let n = whole.tensors.len() as u64;
        if let Some(stated) = whole.metadata.u64("split.tensors.count")?
            && stated != n
        {
            crate::bail!(
                Format,
                "key split.tensors.count is {stated}, but the parts hold {n} tensors"
            );
        }
        Ok(whole)
    }
}
