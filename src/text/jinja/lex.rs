//! A template in pieces: text as it is, and the tokens between `{{`, `{%` and their ends.
#![forbid(unsafe_code)]

use crate::error::{Error, Result, try_push};

/// A piece of a template, and the line it begins in.
pub(super) enum Piece {
    Text(String),
    /// `{{ ... }}`.
    Emit(usize, Vec<Token>),
    /// `{% ... %}`.
    Block(usize, Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Int(i64),
    Float(f64),
    Sign(&'static str),
}

/// Signs, longer ones before those that they begin with.
const SIGNS: &[&str] = &[
    "//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{",
    "}", ",", ".", ":", "|",
];

/// What a tag does to the text behind it.
#[derive(Clone, Copy, PartialEq)]
enum Trim {
    Nothing,
    /// `trim_blocks`: one end of line.
    Newline,
    /// `-%}`: all space.
    All,
}

/// Cuts `source` into pieces.
///
/// # Errors
/// `Template`, naming the line; `Resource`.
pub(super) fn split(source: &str) -> Result<Vec<Piece>> {
    let mut lexer = Lexer {
        rest: source.strip_suffix('\n').unwrap_or(source),
        line: 1,
        trim: Trim::Nothing,
        at_line_start: true,
        pieces: Vec::new(),
    };
    while lexer.piece()? {}
    Ok(lexer.pieces)
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    trim: Trim,
    /// Whether what comes next begins a line.
    at_line_start: bool,
    pieces: Vec<Piece>,
}

impl<'a> Lexer<'a> {
    fn bad(&self, what: &str) -> Error {
        bad(self.line, what)
    }

    /// Goes on by `n` bytes, which it returns.
    fn take(&mut self, n: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(n).unwrap_or((self.rest, ""));
        self.line += taken.bytes().filter(|&b| b == b'\n').count();
        self.rest = rest;
        taken
    }

    /// The text before the next tag, and that tag; false at the end.
    fn piece(&mut self) -> Result<bool> {
        let Some((at, kind)) = next_tag(self.rest) else {
            let text = self.take(self.rest.len());
            self.text(text, false, false)?;
            return Ok(false);
        };
        let text = self.take(at);
        self.take(2);
        let sign = self.rest.chars().next().filter(|c| matches!(c, '-' | '+'));
        self.take(sign.map_or(0, char::len_utf8));
        self.text(text, sign == Some('-'), kind != '{' && sign != Some('+'))?;
        match kind {
            '#' => {
                let Some(end) = self.rest.find("#}") else {
                    return Err(self.bad("a comment does not end"));
                };
                let inside = self.take(end);
                self.take(2);
                self.close(inside.chars().last(), true);
            }
            _ => self.tag(kind == '%')?,
        }
        Ok(true)
    }

    /// Adds text between two tags, without the space that they take: the one before by `self.trim`, the one
    /// behind all of it, or what stands before it in its line.
    fn text(&mut self, text: &str, all: bool, indent: bool) -> Result<()> {
        let mut text = match self.trim {
            Trim::Nothing => text,
            Trim::Newline => text.strip_prefix('\n').unwrap_or(text),
            Trim::All => text.trim_start(),
        };
        if all {
            text = text.trim_end();
        } else if indent {
            let line = text.rfind('\n').map_or(0, |at| at + 1);
            let begins = line > 0 || self.at_line_start;
            if begins && text.get(line..).is_some_and(|l| l.trim().is_empty()) {
                text = text.get(..line).unwrap_or(text);
            }
        }
        match text.is_empty() {
            true => Ok(()),
            false => try_push(&mut self.pieces, Piece::Text(text.to_owned()), "a chat template"),
        }
    }

    /// After a tag that ends with `sign` before its last two characters.
    fn close(&mut self, sign: Option<char>, is_block: bool) {
        self.trim = match sign {
            Some('-') => Trim::All,
            Some('+') => Trim::Nothing,
            _ if is_block => Trim::Newline,
            _ => Trim::Nothing,
        };
        let space: &str = match self.trim {
            Trim::Nothing => "",
            Trim::Newline => self.rest.get(..1).filter(|c| *c == "\n").unwrap_or_default(),
            Trim::All => {
                let n = self.rest.len() - self.rest.trim_start().len();
                self.rest.get(..n).unwrap_or_default()
            }
        };
        self.at_line_start = space.ends_with('\n');
    }

    fn tag(&mut self, is_block: bool) -> Result<()> {
        let line = self.line;
        let end = if is_block { "%}" } else { "}}" };
        let mut tokens = Vec::new();
        let mut open = 0usize;
        loop {
            let space = self.rest.len() - self.rest.trim_start().len();
            self.take(space);
            let unsigned = self.rest.strip_prefix(['-', '+']).unwrap_or(self.rest);
            if open == 0 && unsigned.starts_with(end) {
                let sign = self.take(self.rest.len() - unsigned.len()).chars().next();
                self.take(2);
                self.close(sign, is_block);
                break;
            }
            if self.rest.is_empty() {
                return Err(bad(line, &format!("`{end}` is missing")));
            }
            let token = self.token()?;
            match token {
                Token::Sign("(" | "[" | "{") => open += 1,
                Token::Sign(")" | "]" | "}") => open = open.saturating_sub(1),
                _ => {}
            }
            try_push(&mut tokens, token, "a chat template")?;
        }
        if is_block && tokens == [Token::Name("raw".to_owned())] {
            return self.raw();
        }
        let piece = match is_block {
            true => Piece::Block(line, tokens),
            false => Piece::Emit(line, tokens),
        };
        try_push(&mut self.pieces, piece, "a chat template")
    }

    /// What stands between `{% raw %}` and `{% endraw %}`.
    fn raw(&mut self) -> Result<()> {
        let rest = self.rest;
        let mut from = 0;
        for (end, _) in rest.match_indices("%}") {
            let before = rest.get(from..end).unwrap_or_default();
            if let Some(at) = before.rfind("{%")
                && let Some(inside) = before.get(at + 2..)
                && inside.trim_matches(['-', '+']).trim() == "endraw"
            {
                let (first, last) = (inside.chars().next(), inside.chars().last());
                let text = self.take(from + at);
                self.take(end + 2 - from - at);
                self.text(text, first == Some('-'), first != Some('+'))?;
                self.close(last, true);
                return Ok(());
            }
            from = end + 2;
        }
        Err(self.bad("`endraw` is missing"))
    }

    fn token(&mut self) -> Result<Token> {
        let first = self.rest.chars().next().unwrap_or_default();
        let run = |f: &dyn Fn(char) -> bool| self.rest.find(|c| !f(c)).unwrap_or(self.rest.len());
        match first {
            '"' | '\'' => self.string(first),
            '0'..='9' => self.number(),
            c if c.is_alphabetic() || c == '_' => {
                let n = run(&|c| c.is_alphanumeric() || c == '_');
                Ok(Token::Name(self.take(n).to_owned()))
            }
            c => match SIGNS.iter().find(|s| self.rest.starts_with(**s)) {
                Some(sign) => {
                    self.take(sign.len());
                    Ok(Token::Sign(sign))
                }
                None => Err(self.bad(&format!("`{c}` is not known"))),
            },
        }
    }

    fn number(&mut self) -> Result<Token> {
        let digits = |text: &str| {
            text.find(|c: char| !c.is_ascii_digit() && c != '_')
                .unwrap_or(text.len())
        };
        let bytes = self.rest;
        let mut n = digits(bytes);
        let mut float = false;
        let after = |n: usize| bytes.get(n..).unwrap_or_default();
        let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        if let Some(rest) = after(n).strip_prefix('.').filter(|r| begins(r)) {
            n += 1 + digits(rest);
            float = true;
        }
        if let Some(rest) = after(n).strip_prefix(['e', 'E']) {
            let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if begins(unsigned) {
                n = bytes.len() - unsigned.len() + digits(unsigned);
                float = true;
            }
        }
        let text: String = self.take(n).chars().filter(|&c| c != '_').collect();
        let number = match float {
            true => text.parse().ok().map(Token::Float),
            false => text.parse().ok().map(Token::Int),
        };
        number.ok_or_else(|| self.bad("a number is too large"))
    }

    fn string(&mut self, quote: char) -> Result<Token> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.take(at + 1);
                return Ok(Token::Text(text));
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let number = |c: char| match c {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            match self.rest.get(at + 1..).and_then(|r| r.chars().next()) {
                Some(c @ ('x' | 'u' | 'U')) => {
                    chars.next();
                    let digits: String = chars.by_ref().take(number(c)).map(|(_, c)| c).collect();
                    let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    text.push(c.ok_or_else(|| bad(self.line, "a string has a broken escape"))?);
                }
                Some(c) => {
                    chars.next();
                    match c {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        '0' => text.push('\0'),
                        'a' => text.push('\u{7}'),
                        'b' => text.push('\u{8}'),
                        'f' => text.push('\u{C}'),
                        'v' => text.push('\u{B}'),
                        '\n' => {}
                        '\\' | '\'' | '"' => text.push(c),
                        other => text.extend(['\\', other]),
                    }
                }
                None => break,
            }
        }
        Err(self.bad("a string does not end"))
    }
}

pub(super) fn bad(line: usize, what: &str) -> Error {
    crate::err!(Template, "the chat template does not parse: line {line}: {what}")
}

/// Where the next tag begins, and its second character.
fn next_tag(text: &str) -> Option<(usize, char)> {
    let kind = |at: usize| {
        text.get(at + 1..)?
            .chars()
            .next()
            .filter(|c| matches!(c, '{' | '%' | '#'))
    };
    text.match_indices('{').find_map(|(at, _)| Some((at, kind(at)?)))
}
