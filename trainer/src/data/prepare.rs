//! From texts to a folder of shards: tokenized on all cores, in the order of the files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use remask::text::{ChatMessage, ChatTemplate, RenderOptions, Special, SpecialIds as TextIds, Tokenizer};
use remask::{Error, ErrorKind, Result, Token};
use serde::{Deserialize, Serialize};

use super::shard::{ShardWriter, data};
use super::texts::{Document, Texts, Turn};
use super::tokenizer::SpecialIds;
use crate::files::{create_folder, read_text, write_atomically};
use crate::import::read_json;
use crate::objective::Example;

/// What is made.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareOptions {
    /// Tokens of a shard.
    pub shard_tokens: u64,
    /// Conversations longer than this are left out; 0 is no limit.
    pub max_length: usize,
    /// Files whose texts must not be learned: documents that share a run of `ngram` tokens with one of
    /// them are left out.
    pub exclude: Vec<PathBuf>,
    /// See `exclude`. 13 is usual.
    pub ngram: usize,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        Self {
            shard_tokens: 1 << 26,
            max_length: 0,
            exclude: Vec::new(),
            ngram: 13,
        }
    }
}

/// `manifest.json` of a folder. Shards are independent: folders made on several machines are joined by
/// joining their lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub version: u32,
    /// A number that follows from the tokenizer's file.
    pub tokenizer: String,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// The shards.
    pub shards: Vec<ShardInfo>,
    /// How often each token occurs, what is learned alone.
    pub counts: Vec<u64>,
    /// Bytes of text that the tokens that are learned stand for.
    pub n_bytes: u64,
    /// Whether documents are pairs of answers to one prompt: the chosen one, then the rejected.
    #[serde(default)]
    pub pairs: bool,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// File in the folder.
    pub file: String,
    /// Documents in it.
    pub n_documents: u64,
    /// Tokens in it.
    pub n_tokens: u64,
}

impl Manifest {
    /// Reads that of `folder`.
    ///
    /// # Errors
    /// `Io`, `Format`, naming it.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let json = read_json(&path).map_err(|e| match e.kind() {
            ErrorKind::Io => e.context("no prepared folder (`remask-train prepare` makes one)"),
            _ => e,
        })?;
        let manifest: Self = serde_json::from_value(json)
            .map_err(|e| Error::new(ErrorKind::Format, format!("{}: {e}", path.display())))?;
        if manifest.version != 1 {
            let message = format!(
                "{}: is of version {}; 1 is read",
                path.display(),
                manifest.version
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let outside = |s: &&ShardInfo| Path::new(&s.file).components().count() != 1;
        if let Some(shard) = manifest.shards.iter().find(outside) {
            let message = format!("{}: `{}` is no file beside it", path.display(), shard.file);
            return Err(Error::new(ErrorKind::Format, message));
        }
        Ok(manifest)
    }

    /// Tokens of all shards.
    pub fn n_tokens(&self) -> u64 {
        self.shards.iter().map(|s| s.n_tokens).sum()
    }

    /// Documents of all shards.
    pub fn n_documents(&self) -> u64 {
        self.shards.iter().map(|s| s.n_documents).sum()
    }

    /// Bytes of text per learned token, to go from nats per token to bits per byte.
    pub fn bytes_per_token(&self) -> f64 {
        self.n_bytes as f64 / self.counts.iter().sum::<u64>().max(1) as f64
    }
}

/// What `prepare` did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prepared {
    /// What was written.
    pub manifest: Manifest,
    /// Documents left out because they share text with `exclude`.
    pub n_excluded: u64,
    /// Conversations left out because they are too long.
    pub n_too_long: u64,
}

/// Largest vocabulary taken.
const MAX_VOCAB: u32 = 1 << 22;

/// A tokenizer as training uses it.
pub struct Encoder {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    ids: SpecialIds,
    bos: String,
    eos: String,
    fingerprint: String,
}

impl Encoder {
    /// Opens `tokenizer.json` and its neighbours in `folder`.
    ///
    /// # Errors
    /// `Io`, `Tokenizer`, `Template`, naming the file.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let text = read_text(&path)?;
        let named = |e: Error| e.context(path.display());
        let plain = Tokenizer::from_json(&text, TextIds::default(), MAX_VOCAB).map_err(named)?;
        let ids = SpecialIds::find(folder, &|name| plain.token_id(name))?;
        for (what, id) in [("mask", ids.mask), ("end", ids.eos)] {
            if id as usize >= plain.n_vocab() {
                let n = plain.n_vocab();
                let message = format!(
                    "{}: the {what} token is {id}, but there are {n}",
                    folder.display()
                );
                return Err(Error::new(ErrorKind::Tokenizer, message));
            }
        }
        let config = read_json(&folder.join("tokenizer_config.json")).unwrap_or_default();
        let beside = read_text(&folder.join("chat_template.jinja")).ok();
        let template = beside.or_else(|| config["chat_template"].as_str().map(str::to_owned));
        let template = template
            .map(|t| ChatTemplate::parse(&t))
            .transpose()
            .map_err(named)?;
        let spelled = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            tokenizer: plain,
            template,
            ids,
            bos: spelled("bos_token"),
            eos: spelled("eos_token"),
            fingerprint: format!("{:016x}", fnv(text.as_bytes())),
        })
    }

    /// The mask and the end of text.
    pub fn ids(&self) -> SpecialIds {
        self.ids
    }

    /// The tokenizer itself.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.tokenizer.n_vocab()
    }

    /// A number that follows from the tokenizer's file.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The tokens of a document with its end, and the bytes of what is learned. A conversation of n
    /// answers gives n examples, each with what was said before as its prompt (LLaDA, appendix B.1).
    ///
    /// # Errors
    /// `Template`.
    pub fn encode(&self, document: &Document) -> Result<Vec<(Example, u64)>> {
        match document {
            Document::Text(text) => {
                let mut tokens = self.tokenizer.encode(text, Special::AsText)?;
                tokens.push(self.ids.eos);
                let example = Example { tokens, n_prompt: 0 };
                Ok(vec![(example, text.len() as u64)])
            }
            Document::Chat(turns) => {
                let answers = turns.iter().enumerate().filter(|(_, t)| t.role == "assistant");
                answers
                    .map(|(i, answer)| self.pair(&turns[..i], &answer.content))
                    .collect()
            }
            Document::Pair {
                prompt,
                chosen,
                rejected,
            } => {
                let asked = [Turn {
                    role: "user".to_owned(),
                    content: prompt.clone(),
                }];
                [chosen, rejected]
                    .map(|answer| self.pair(&asked, answer))
                    .into_iter()
                    .collect()
            }
        }
    }

    /// The text of tokens, without special ones.
    pub fn decode(&self, tokens: &[Token]) -> String {
        self.tokenizer.decode(tokens, false)
    }

    fn pair(&self, before: &[Turn], answer: &str) -> Result<(Example, u64)> {
        let mut tokens = match &self.template {
            Some(template) => {
                let said = before.iter().map(|t| ChatMessage::new(&*t.role, &*t.content));
                let options = RenderOptions {
                    add_generation_prompt: true,
                    bos: self.bos.clone(),
                    eos: self.eos.clone(),
                };
                template.encode(&self.tokenizer, &said.collect::<Vec<_>>(), &options)?
            }
            None => {
                let said: Vec<&str> = before.iter().map(|t| t.content.as_str()).collect();
                self.tokenizer.encode(&said.join("\n"), Special::AsText)?
            }
        };
        let n_prompt = tokens.len();
        tokens.extend(self.tokenizer.encode(answer, Special::AsText)?);
        tokens.push(self.ids.eos);
        Ok((Example { tokens, n_prompt }, answer.len() as u64))
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    let step = |h: u64, &b: &u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Documents that are tokenized together: enough for all cores, little memory.
const GROUP: usize = 256;

/// Tokenizes `files` with the tokenizer in `tokenizer` and writes shards and manifest to `folder`.
/// `progress` hears of the documents done.
///
/// # Errors
/// `InvalidArgument`, when the folder has a manifest already; what files and tokenizer report.
pub fn prepare(
    files: &[PathBuf],
    tokenizer: &Path,
    folder: &Path,
    options: &PrepareOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Prepared> {
    if folder.join("manifest.json").exists() {
        return Err(crate::shape::invalid(format!(
            "{} holds prepared data already; name another folder",
            folder.display()
        )));
    }
    let encoder = Encoder::open(tokenizer)?;
    let excluded = runs_of(&encoder, options)?;
    create_folder(folder)?;
    let mut out = Output {
        folder,
        writer: ShardWriter::new(encoder.n_vocab()),
        options,
        prepared: Prepared {
            manifest: Manifest {
                version: 1,
                tokenizer: encoder.fingerprint().to_owned(),
                n_vocab: encoder.n_vocab(),
                counts: vec![0; encoder.n_vocab()],
                ..Manifest::default()
            },
            ..Prepared::default()
        },
    };
    let mut done = 0;
    for file in files {
        let mut texts = Texts::open(file)?.peekable();
        while texts.peek().is_some() {
            let group: Result<Vec<Document>> = texts.by_ref().take(GROUP).collect();
            let group = group?;
            let encoded: Result<Vec<_>> = group.par_iter().map(|d| encoder.encode(d)).collect();
            done += group.len() as u64;
            for (document, examples) in group.iter().zip(encoded?) {
                let pair = matches!(document, Document::Pair { .. });
                out.takes(pair).map_err(|e| e.context(file.display()))?;
                match pair {
                    true => out.add(&examples, &excluded)?,
                    false => {
                        for example in examples.chunks(1) {
                            out.add(example, &excluded)?;
                        }
                    }
                }
            }
            progress(done);
        }
    }
    out.finish()
}

struct Output<'a> {
    folder: &'a Path,
    writer: ShardWriter,
    options: &'a PrepareOptions,
    prepared: Prepared,
}

impl Output<'_> {
    /// # Errors
    /// `Data`, where pairs and other documents would come together.
    fn takes(&mut self, pair: bool) -> Result<()> {
        let manifest = &mut self.prepared.manifest;
        let first = self.writer.n_documents() == 0 && manifest.shards.is_empty();
        if first {
            manifest.pairs = pair;
        }
        match manifest.pairs == pair {
            true => Ok(()),
            false => Err(data(
                "pairs of `chosen` and `rejected` are prepared apart from other documents".to_owned(),
            )),
        }
    }

    /// Adds examples that belong together, or leaves them out together.
    fn add(&mut self, examples: &[(Example, u64)], excluded: &HashSet<u64>) -> Result<()> {
        let o = self.options;
        let long = |e: &Example| o.max_length > 0 && e.n_prompt > 0 && e.tokens.len() > o.max_length;
        if examples.iter().any(|(e, _)| long(e)) {
            self.prepared.n_too_long += 1;
            return Ok(());
        }
        let shared = |e: &Example| runs(&e.tokens, o.ngram).any(|h| excluded.contains(&h));
        if !excluded.is_empty() && examples.iter().any(|(e, _)| shared(e)) {
            self.prepared.n_excluded += 1;
            return Ok(());
        }
        let manifest = &mut self.prepared.manifest;
        for (example, n_bytes) in examples {
            for &token in &example.tokens[example.n_prompt..] {
                if let Some(count) = manifest.counts.get_mut(token as usize) {
                    *count += 1;
                }
            }
            manifest.n_bytes += n_bytes;
            self.writer.push(example);
        }
        match self.writer.n_tokens() >= o.shard_tokens {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        let manifest = &mut self.prepared.manifest;
        let writer = std::mem::replace(&mut self.writer, ShardWriter::new(manifest.n_vocab));
        let file = format!("shard-{:05}.tokens", manifest.shards.len());
        manifest.shards.push(ShardInfo {
            file: file.clone(),
            n_documents: writer.n_documents(),
            n_tokens: writer.n_tokens(),
        });
        writer.finish(&self.folder.join(file))
    }

    fn finish(mut self) -> Result<Prepared> {
        if self.writer.n_documents() > 0 {
            self.write()?;
        }
        if self.prepared.manifest.shards.is_empty() {
            return Err(data("the files have no document that could be used".to_owned()));
        }
        let text = serde_json::to_string(&self.prepared.manifest).unwrap_or_default();
        let path = self.folder.join("manifest.json");
        write_atomically(&path, |file| std::io::Write::write_all(file, text.as_bytes()))?;
        Ok(self.prepared)
    }
}

/// Hashes of all runs of `n` tokens.
fn runs(tokens: &[Token], n: usize) -> impl Iterator<Item = u64> + '_ {
    tokens.windows(n.max(1)).map(|run| {
        let step = |h: u64, &t: &Token| {
            (h ^ u64::from(t))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29)
        };
        run.iter().fold(0x1234_5678_9ABC_DEF0, step)
    })
}

fn runs_of(encoder: &Encoder, options: &PrepareOptions) -> Result<HashSet<u64>> {
    let mut found = HashSet::new();
    for file in &options.exclude {
        for document in Texts::open(file)? {
            for (example, _) in encoder.encode(&document?)? {
                found.extend(runs(&example.tokens[example.n_prompt..], options.ngram));
                if example.n_prompt > 0 {
                    found.extend(runs(&example.tokens[..example.n_prompt], options.ngram));
                }
            }
        }
    }
    Ok(found)
}
