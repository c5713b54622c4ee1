//! Pre-tokenizers: how text is cut into words before merging.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use onig::{MatchParam, Regex, Region, SearchOptions};

use crate::error::{Error, ErrorKind, Result};

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

/// A pre-tokenizer with its regexes compiled. Words are cut as the `tokenizers` crate cuts them: see there
/// `pre_tokenizers/split.rs`, `digits.rs` and `byte_level.rs`.
pub(super) struct Cutter {
    cuts: Vec<Cut>,
    add_prefix_space: bool,
    gpt2: Option<Regex>,
}

enum Cut {
    Regex(Regex),
    Digits { individual: bool },
}

/// Retries that a regex has for a text: so many, and so many for each byte. Published ones need a few for a byte.
const RETRIES: u64 = 100_000;
const RETRIES_PER_BYTE: u64 = 64;
/// What an attempt at a match may take before it is counted.
const RETRIES_AT_FIRST: u32 = 128;

/// Time that a text may take. Published regexes take 5 ms for the longest.
const MAX_TIME: Duration = Duration::from_secs(3);
/// What is counted of the time between two looks at the clock: less than a program may be held up.
const MAX_BETWEEN: Duration = Duration::from_millis(500);
/// Calls of the regex library between two looks.
const CALLS_BETWEEN: u32 = 16;

/// What is left for a text.
struct Budget {
    retries: Cell<u64>,
    calls: Cell<u32>,
    time: Cell<Duration>,
    looked: Cell<Instant>,
}

impl Budget {
    fn of(text: &str) -> Self {
        Self {
            retries: Cell::new(RETRIES + RETRIES_PER_BYTE * text.len() as u64),
            calls: Cell::new(0),
            time: Cell::new(MAX_TIME),
            looked: Cell::new(Instant::now()),
        }
    }

    /// Takes a call of the regex library.
    ///
    /// A regex can go forward over the whole text from each byte and match little: then there are no retries to
    /// count, and the time is with the square of the text.
    fn take_call(&self) -> Result<()> {
        let calls = self.calls.get() + 1;
        self.calls.set(calls);
        if calls < CALLS_BETWEEN {
            return Ok(());
        }
        self.calls.set(0);
        let now = Instant::now();
        let between = now.duration_since(self.looked.replace(now)).min(MAX_BETWEEN);
        match self.time.get().checked_sub(between) {
            Some(rest) => self.time.set(rest),
            None => crate::bail!(
                Tokenizer,
                "the pre-tokenizer regex takes more than {} s for a piece of text; it is not fit for text like this",
                MAX_TIME.as_secs()
            ),
        }
        Ok(())
    }

    fn take_retries(&self, n: u32) -> bool {
        let rest = self.retries.get().checked_sub(u64::from(n));
        self.retries.set(rest.unwrap_or(0));
        rest.is_some()
    }
}

/// What hears of words.
type Hear<'a> = dyn FnMut(&str) -> Result<()> + 'a;

impl PreTokenizer {
    /// Compiles it.
    ///
    /// # Errors
    /// `Tokenizer` or `Unsupported`, for a regex that cannot be served.
    pub fn build(&self) -> Result<Cutter> {
        let mut cutter = Cutter {
            cuts: Vec::new(),
            add_prefix_space: self.add_prefix_space,
            gpt2: None,
        };
        for stage in &self.stages {
            match stage {
                Stage::Regex(regex) => cutter.cuts.push(Cut::Regex(compile(regex)?)),
                Stage::Digits { individual } => cutter.cuts.push(Cut::Digits {
                    individual: *individual,
                }),
                // The stage that spells bytes has it, and comes last.
                Stage::Gpt2 => cutter.gpt2 = Some(compile(GPT2)?),
            }
        }
        Ok(cutter)
    }
}

fn compile(regex: &str) -> Result<Regex> {
    check_regex(regex)?;
    Regex::new(regex).map_err(|e| from_onig(&e, "does not compile"))
}

fn from_onig(error: &onig::Error, what: &str) -> Error {
    /// ONIGERR_MEMORY of oniguruma.h.
    const NO_MEMORY: i32 = -5;
    let kind = match error.code() {
        NO_MEMORY => ErrorKind::Resource,
        _ => ErrorKind::Tokenizer,
    };
    let why = error.description();
    Error::new(kind, format!("pre-tokenizer regex {what}: {why}"))
}

impl Cutter {
    /// Tells `hear` every word of `text`.
    ///
    /// # Errors
    /// `Tokenizer`, when a regex gives up or takes far more than linear time; `Resource`; what `hear` reports.
    pub fn words(&self, text: &str, hear: &mut Hear<'_>) -> Result<()> {
        self.cut(0, text, &Budget::of(text), hear)
    }

    /// From stage `i` on, with so much left. There are few stages: see `MAX_STAGES`.
    fn cut(&self, i: usize, text: &str, left: &Budget, hear: &mut Hear<'_>) -> Result<()> {
        match self.cuts.get(i) {
            None => self.finish(text, left, hear),
            Some(Cut::Regex(regex)) => {
                matches(regex, text, left, &mut |piece| self.cut(i + 1, piece, left, hear))
            }
            Some(Cut::Digits { individual }) => {
                let mut begin = 0;
                let mut before = None;
                for (at, c) in text.char_indices() {
                    let digit = c.is_numeric();
                    let apart = before.is_some_and(|b| b != digit || (digit && *individual));
                    if apart {
                        self.cut(i + 1, text.get(begin..at).unwrap_or_default(), left, hear)?;
                        begin = at;
                    }
                    before = Some(digit);
                }
                self.cut(i + 1, text.get(begin..).unwrap_or_default(), left, hear)
            }
        }
    }

    fn finish(&self, text: &str, left: &Budget, hear: &mut Hear<'_>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut spaced = String::new();
        let text = match self.add_prefix_space && !text.starts_with(' ') {
            true => {
                let room = spaced.try_reserve_exact(text.len() + 1);
                room.map_err(|_| crate::err!(Resource, "no memory for a text of {} bytes", text.len()))?;
                spaced.push(' ');
                spaced.push_str(text);
                &spaced
            }
            false => text,
        };
        match &self.gpt2 {
            Some(regex) => matches(regex, text, left, hear),
            None => hear(text),
        }
    }
}

/// Tells `hear` the matches of `regex` and what is between them, none of them empty.
fn matches(regex: &Regex, text: &str, left: &Budget, hear: &mut Hear<'_>) -> Result<()> {
    let mut region = Region::new();
    // Where the last match ended; at first nowhere.
    let (mut from, mut done, mut last) = (0, 0, usize::MAX);
    let mut tell = |begin: usize, end: usize| match text.get(begin..end) {
        None | Some("") => Ok(()),
        Some(piece) => hear(piece),
    };
    while from <= text.len() {
        let found = search(regex, text, from, left, &mut region)?;
        let Some((begin, end)) = found else {
            break;
        };
        if begin == end && last == end {
            // Nothing, where the last match ended: go on behind the next character.
            let next = text.get(from..).and_then(|rest| rest.chars().next());
            from += next.map_or(1, char::len_utf8);
            continue;
        }
        tell(done, begin)?;
        tell(begin, end)?;
        (from, done, last) = (end, end, end);
    }
    tell(done, text.len())
}

/// The next match from `from` on: each place where one could begin is tried by itself, so that time can be told in
/// between.
fn search(
    regex: &Regex,
    text: &str,
    from: usize,
    left: &Budget,
    region: &mut Region,
) -> Result<Option<(usize, usize)>> {
    let starts = text
        .get(from..)
        .unwrap_or_default()
        .char_indices()
        .map(|(i, _)| from + i);
    for start in starts.chain([text.len()]) {
        left.take_call()?;
        if match_at(regex, text, start, left, region)? {
            return Ok(region.pos(0));
        }
    }
    Ok(None)
}

/// Whether there is a match that begins at `start`. Few retries at first; where that is not enough, more are taken from what is
/// left for the text, so that a regex that goes back and forth gives up in time linear in the text.
fn match_at(regex: &Regex, text: &str, start: usize, left: &Budget, region: &mut Region) -> Result<bool> {
    /// ONIGERR_RETRY_LIMIT_IN_MATCH_OVER of oniguruma.h.
    const TOO_MANY: i32 = -17;
    let mut limit = RETRIES_AT_FIRST;
    loop {
        region.clear();
        let mut limits = MatchParam::default();
        limits.set_retry_limit_in_match(limit);
        let options = SearchOptions::SEARCH_OPTION_NONE;
        let error = match regex.match_with_param(text, start, options, Some(region), limits) {
            Ok(found) => return Ok(found.is_some()),
            Err(error) => error,
        };
        limit = limit.saturating_mul(16);
        if error.code() != TOO_MANY || !left.take_retries(limit) {
            return Err(from_onig(&error, "gives up"));
        }
    }
}

/// Longest regex taken.
const MAX_REGEX: usize = 8 << 10;

/// How a group may begin: as one without a number, as one that looks around, or with switches.
const GROUPS: &[&str] = &[
    ":", "=", "!", "<=", "<!", "i:", "i)", "s:", "s)", "m:", "m)", "x:", "x)",
];

/// Refuses regexes that can take exponential time: an unbounded repetition of a group that itself
/// holds one, such as `(a+)+`, and back-references; and what takes time that is not counted as retries: looking
/// around without bound, atomic groups, absences and callouts. None of the published tokenizers has them.
fn check_regex(regex: &str) -> Result<()> {
    if regex.len() > MAX_REGEX {
        crate::bail!(
            Tokenizer,
            "a pre-tokenizer regex has {} bytes; the limit is {MAX_REGEX}",
            regex.len()
        );
    }
    // One entry per open group: whether it holds an unbounded repetition, and whether it looks around.
    let mut groups = vec![(false, false)];
    let mut closed = false;
    let mut in_class = false;
    let mut chars = regex.chars().peekable();
    while let Some(c) = chars.next() {
        let after_group = std::mem::take(&mut closed);
        match c {
            '\\' => {
                let named = |c: char| matches!(c, '1'..='9' | 'k' | 'g');
                let next = chars.next();
                // Every place is the first that is tried.
                if !in_class && next == Some('G') {
                    crate::bail!(
                        Unsupported,
                        "a pre-tokenizer regex has \\G, where the last match ended"
                    );
                }
                if !in_class && next.is_some_and(named) {
                    crate::bail!(Unsupported, "a pre-tokenizer regex has a back-reference");
                }
            }
            '[' => in_class = true,
            ']' => in_class = false,
            _ if in_class => {}
            '(' => {
                let rest = chars.clone().collect::<String>();
                let special = rest.strip_prefix('?');
                if rest.starts_with('*') || special.is_some_and(|s| !GROUPS.iter().any(|g| s.starts_with(g)))
                {
                    crate::bail!(
                        Unsupported,
                        "a pre-tokenizer regex has a group of a kind that is not served"
                    );
                }
                let around = special.is_some_and(|s| s.starts_with(['=', '!', '<']));
                groups.push((false, around));
                if special.is_some() {
                    chars.next();
                }
            }
            ')' => {
                let (inner, around) = groups.pop().unwrap_or_default();
                closed = inner;
                if inner && around {
                    crate::bail!(Unsupported, "a pre-tokenizer regex looks around without bound");
                }
                match groups.last_mut() {
                    Some(outer) => outer.0 |= inner,
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
                    group.0 = true;
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

    /// The words that one regex cuts `text` into.
    fn words(regex: &str, text: &str) -> Result<Vec<String>> {
        let pre = PreTokenizer {
            stages: vec![Stage::Regex(regex.to_owned())],
            add_prefix_space: false,
        };
        let mut words = Vec::new();
        let mut hear = |word: &str| {
            words.push(word.to_owned());
            Ok(())
        };
        pre.build()?.words(text, &mut hear)?;
        Ok(words)
    }

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
            "a(?=.*b)",
            "(?<!a+)b",
            "(?>a+)b",
            "(?~ab)",
            "(?{x})a",
            "(*FAIL)",
            "(?(1)a|b)",
            r"\Ga",
        ] {
            assert!(check_regex(regex).is_err(), "{regex}");
        }
        for regex in [
            "(ab)+", "(a+)?", "(a+){2}", "[(a+)+]", r"\(a+\)+", "(?i:a)+", "(?!a)b+", "a(?=bc)",
        ] {
            check_regex(regex).unwrap();
        }
    }

    #[test]
    fn a_regex_that_goes_back_and_forth_gives_up_soon() {
        let text = "a".repeat(20_000) + " b";
        // A hundred thousand retries for each byte and more, of each attempt less than the library takes.
        for regex in [
            "(a|a){0,20}[bc]|a",
            "((a?){6}){6}[bc]|a",
            "a*a*a*[bc]|a",
            "(a|aa)*[bc]|a",
            "(a|a)*b",
        ] {
            let began = std::time::Instant::now();
            // What it cuts into words is no matter.
            let done = words(regex, &text);
            assert!(done.is_err_and(|e| e.kind() == ErrorKind::Tokenizer), "{regex}");
            assert!(began.elapsed().as_secs() < 20, "{regex}: {:?}", began.elapsed());
        }
    }

    #[test]
    fn a_regex_that_only_goes_forward_gives_up_too() {
        let text = "a".repeat(64 << 10);
        // From each byte to the end, many times for no match at all, or for one of a byte.
        let many: String = ('b'..='z').map(|c| format!("[^{c}]+{c}|")).collect();
        for regex in [
            format!("{many}a"),
            format!("{many}b"),
            r"\p{L}+[0-9]|\p{L}".to_owned(),
        ] {
            let began = std::time::Instant::now();
            let done = words(&regex, &text).map(|words| words.len());
            println!("{regex}: {:?} {done:?}", began.elapsed());
            if let Err(error) = done {
                assert!(error.message().contains("more than 3 s"), "{error}");
            }
            assert!(began.elapsed().as_secs() < 60, "{regex}: {:?}", began.elapsed());
        }
    }

    #[test]
    fn matches_are_found_wherever_they_begin() {
        // Far from the last one, and at the end of the text.
        for gap in [0, 1, 1000] {
            for filler in ["x", "é"] {
                let text = format!("{}ab{}abb", filler.repeat(gap), filler.repeat(gap));
                let words = words("(?<=a)b+$|ab|$", &text).unwrap();
                let n = filler.repeat(gap);
                let expected: Vec<&str> = [&n, "ab", &n, "ab", "b"]
                    .into_iter()
                    .filter(|w| !w.is_empty())
                    .collect();
                assert_eq!(words, expected, "{gap} {filler}");
            }
        }
    }

    #[test]
    fn names_are_found_again() {
        assert_eq!(name_of(&named("llada-moe").unwrap()), Some("bailingmoe"));
        assert_eq!(name_of(&named("llama-bpe").unwrap()), Some("llama3"));
        assert!(named("nonsense").unwrap_err().message().contains("nonsense"));
    }
}
