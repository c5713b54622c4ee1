//! Pre-tokenizers: how text is cut into words before merging.
#![forbid(unsafe_code)]

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::error::Result;

/// One stage of cutting.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// Matches of a regex are words, and what is between them.
    Regex(String),
    /// Each digit is a word, or each run of digits.
    Digits { individual: bool },
    /// GPT-2's own regex.
    Gpt2,
}

/// All stages, and whether a space goes before the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PreTokenizer {
    pub stages: Vec<Stage>,
    pub add_prefix_space: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// Names that files use (`tokenizer.ggml.pre`) and their regex; digits apart where `true`.
const NAMED: &[(&str, &str, bool)] = &[
    ("default", GPT2, false),
    ("gpt-2", GPT2, false),
    ("phi-2", GPT2, false),
    ("roberta-bpe", GPT2, false),
    ("mpt", GPT2, false),
    ("olmo", GPT2, false),
    ("jais", GPT2, false),
    ("trillion", GPT2, false),
    ("starcoder", GPT2, true),
    ("refact", GPT2, true),
    ("command-r", GPT2, true),
    ("smollm", GPT2, true),
    ("codeshell", GPT2, true),
    ("exaone", GPT2, true),
    ("llama3", LLAMA3, false),
    ("llama-v3", LLAMA3, false),
    ("llama-bpe", LLAMA3, false),
    ("falcon3", LLAMA3, false),
    ("lfm2", LLAMA3, false),
    ("dbrx", LLAMA3, false),
    ("smaug-bpe", LLAMA3, false),
    ("chatglm-bpe", LLAMA3, false),
    ("glm4", LLAMA3, false),
    ("qwen2", QWEN2, false),
    ("deepseek-r1-qwen", QWEN2, false),
    ("stablelm2", QWEN2, false),
    ("hunyuan", QWEN2, false),
    ("megrez", QWEN2, false),
    ("bailingmoe", BAILING, false),
    ("bailingmoe2", BAILING, false),
    ("llada-moe", BAILING, false),
];

/// The pre-tokenizer that a file names.
///
/// # Errors
/// `Tokenizer`, for a name that is not known.
pub(super) fn named(name: &str) -> Result<PreTokenizer> {
    let Some((_, regex, digits)) = NAMED.iter().find(|(known, _, _)| *known == name) else {
        crate::bail!(
            Tokenizer,
            "pre-tokenizer `{}` is not known; convert the model with its tokenizer.json, which is then used",
            name.chars().take(64).collect::<String>()
        );
    };
    let mut stages = Vec::new();
    if *digits {
        stages.push(Stage::Digits { individual: true });
    }
    stages.push(if *regex == GPT2 {
        Stage::Gpt2
    } else {
        Stage::Regex((*regex).to_owned())
    });
    Ok(PreTokenizer {
        stages,
        add_prefix_space: false,
    })
}

/// The name of a known pre-tokenizer, for files that other programs read.
pub(super) fn name_of(pre: &PreTokenizer) -> Option<&'static str> {
    let found = NAMED.iter().filter(|(name, _, _)| *name != "default");
    found
        .map(|(name, _, _)| *name)
        .find(|name| named(name).is_ok_and(|known| known.stages == pre.stages))
}

impl PreTokenizer {
    /// As the crate wants it. The last stage spells bytes.
    pub fn build(&self) -> Result<PreTokenizerWrapper> {
        let mut built: Vec<PreTokenizerWrapper> = Vec::new();
        let mut gpt2 = false;
        for stage in &self.stages {
            match stage {
                Stage::Regex(regex) => {
                    check_regex(regex)?;
                    let pattern = SplitPattern::Regex(regex.clone());
                    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                        .map_err(|e| crate::err!(Tokenizer, "pre-tokenizer regex does not compile: {e}"))?;
                    built.push(split.into());
                }
                Stage::Digits { individual } => built.push(Digits::new(*individual).into()),
                Stage::Gpt2 => gpt2 = true,
            }
        }
        let bytes = ByteLevel::new(self.add_prefix_space, true, gpt2);
        built.push(bytes.into());
        Ok(Sequence::new(built).into())
    }
}

/// Longest regex taken.
const MAX_REGEX: usize = 8 << 10;

/// Refuses regexes that can take exponential time: an unbounded repetition of a group that itself
/// holds one, such as `(a+)+`, and back-references. None of the published tokenizers has them.
fn check_regex(regex: &str) -> Result<()> {
    if regex.len() > MAX_REGEX {
        crate::bail!(
            Tokenizer,
            "a pre-tokenizer regex has {} bytes; the limit is {MAX_REGEX}",
            regex.len()
        );
    }
    // One entry per open group: whether it holds an unbounded repetition.
    let mut groups = vec![false];
    let mut closed = false;
    let mut in_class = false;
    let mut chars = regex.chars().peekable();
    while let Some(c) = chars.next() {
        let after_group = std::mem::take(&mut closed);
        match c {
            '\\' => {
                let named = |c: char| matches!(c, '1'..='9' | 'k' | 'g');
                let next = chars.next();
                if !in_class && next.is_some_and(named) {
                    crate::bail!(Unsupported, "a pre-tokenizer regex has a back-reference");
                }
            }
            '[' => in_class = true,
            ']' => in_class = false,
            _ if in_class => {}
            '(' => groups.push(false),
            ')' => {
                let inner = groups.pop().unwrap_or(false);
                closed = inner;
                match groups.last_mut() {
                    Some(outer) => *outer |= inner,
                    None => crate::bail!(Tokenizer, "a pre-tokenizer regex has an unmatched bracket"),
                }
            }
            '*' | '+' | '{' => {
                let bounded = c == '{' && {
                    let inside: String = chars.clone().take_while(|&c| c != '}').collect();
                    !inside.ends_with(',')
                };
                if after_group && !bounded {
                    crate::bail!(
                        Unsupported,
                        "a pre-tokenizer regex repeats a repetition, which can take exponential time"
                    );
                }
                if !bounded && let Some(group) = groups.last_mut() {
                    *group = true;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_regexes_pass() {
        for (name, regex, _) in NAMED {
            check_regex(regex).unwrap_or_else(|e| panic!("{name}: {e}"));
            named(name).unwrap().build().unwrap();
        }
    }

    #[test]
    fn explosive_regexes_are_refused() {
        for regex in [
            "(a+)+$",
            "((a*)b)*",
            "(x+y?)*",
            r"(a)\1",
            "(?:a{2,})+",
            "(a|b+){3,}",
        ] {
            assert!(check_regex(regex).is_err(), "{regex}");
        }
        for regex in ["(ab)+", "(a+)?", "(a+){2}", "[(a+)+]", r"\(a+\)+"] {
            check_regex(regex).unwrap();
        }
    }

    #[test]
    fn names_are_found_again() {
        assert_eq!(name_of(&named("llada-moe").unwrap()), Some("bailingmoe"));
        assert_eq!(name_of(&named("llama-bpe").unwrap()), Some("llama3"));
        assert!(named("nonsense").unwrap_err().message().contains("nonsense"));
    }
}
