//! Chat templates: Jinja programs that come with a model, run in a sandbox.
#![forbid(unsafe_code)]

use super::jinja::{self, Input};
use super::tokenizer::{Special, Tokenizer};
use crate::error::{Result, try_text};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// What a template is told besides the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether the prompt ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Spelling of the begin-of-text token.
    pub bos: String,
    /// Spelling of the end-of-text token.
    pub eos: String,
}

/// A template that parses. It runs without files, clock or network, with bounded work and output.
pub struct ChatTemplate {
    template: jinja::Template,
    source: String,
}

/// Largest template taken, in bytes.
const MAX_TEMPLATE: usize = 1 << 20;

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// `Limit`, beyond 1 MiB; `Template`, naming the line.
    pub fn parse(source: &str) -> Result<Self> {
        if source.len() > MAX_TEMPLATE {
            crate::bail!(
                Limit,
                "the chat template has {} bytes; the limit is {MAX_TEMPLATE}",
                source.len()
            );
        }
        Ok(Self {
            template: jinja::parse(source)?,
            source: try_text(source, "the chat template")?,
        })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for `messages`.
    ///
    /// # Errors
    /// `Template`, when the template refuses the messages, is at fault, or takes too long.
    pub fn render(&self, messages: &[ChatMessage], options: &RenderOptions) -> Result<String> {
        let messages: Vec<(&str, &str)> = messages.iter().map(|m| (&*m.role, &*m.content)).collect();
        let input = Input {
            messages: &messages,
            texts: &[("bos_token", &options.bos), ("eos_token", &options.eos)],
            add_generation_prompt: options.add_generation_prompt,
        };
        jinja::render(&self.template, &input)
    }

    /// Ids of the prompt for `messages`. Special tokens that the template writes become ids; those that
    /// a message spells stay text.
    ///
    /// The template is run a second time with marks in the messages' places, to see where they go and
    /// whether it trims them. A template that changes messages in other ways hides where they went;
    /// then a message that spells a special token is refused.
    ///
    /// # Errors
    /// As [`render`](Self::render); `Template` also for the last case; `Tokenizer`.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        options: &RenderOptions,
    ) -> Result<Vec<u32>> {
        let whole = self.render(messages, options)?;
        let Some((contents, marked)) = self.locate(messages, options, &whole)? else {
            for message in messages {
                if let Some(token) = tokenizer.special_in(&message.content) {
                    crate::bail!(
                        Template,
                        "a message spells the special token `{token}`, and the chat template changes messages so that \
                         it cannot be kept apart; remove it from the message"
                    );
                }
            }
            return tokenizer.encode(&whole, Special::Parse);
        };
        let mut ids = Vec::new();
        let mut plain = String::new();
        for piece in pieces(&marked) {
            match piece {
                Piece::Message(i) => plain.push_str(contents.get(i).map_or("", |c| c)),
                Piece::Template(text) => {
                    let mut begin = 0;
                    for (range, id) in tokenizer.specials_in(text) {
                        plain.push_str(&text[begin..range.start]);
                        tokenizer.encode_into(&plain, Special::AsText, &mut ids)?;
                        plain.clear();
                        ids.push(id);
                        begin = range.end;
                    }
                    plain.push_str(&text[begin..]);
                }
            }
        }
        tokenizer.encode_into(&plain, Special::AsText, &mut ids)?;
        Ok(ids)
    }

    /// What each message became, and the prompt with marks in their places; `None` where putting them
    /// back does not give `whole`.
    fn locate(
        &self,
        messages: &[ChatMessage],
        options: &RenderOptions,
        whole: &str,
    ) -> Result<Option<(Vec<String>, String)>> {
        if whole.contains([OPEN, CLOSE]) {
            return Ok(None);
        }
        // Spaces around the mark tell whether the template trims.
        let stand_ins: Vec<ChatMessage> = messages
            .iter()
            .enumerate()
            .map(|(i, m)| ChatMessage::new(m.role.clone(), format!(" {OPEN}{i}{CLOSE} ")))
            .collect();
        let Ok(mut marked) = self.render(&stand_ins, options) else {
            return Ok(None);
        };
        let mut contents = Vec::new();
        for (i, message) in messages.iter().enumerate() {
            let mark = format!("{OPEN}{i}{CLOSE}");
            let mut content = message.content.as_str();
            if marked.contains(&format!(" {mark} ")) {
                marked = marked.replace(&format!(" {mark} "), &mark);
            } else if marked.contains(&format!("{mark} ")) {
                marked = marked.replace(&format!("{mark} "), &mark);
                content = content.trim_start();
            } else if marked.contains(&format!(" {mark}")) {
                marked = marked.replace(&format!(" {mark}"), &mark);
                content = content.trim_end();
            } else {
                content = content.trim();
            }
            contents.push(content.to_owned());
        }
        let mut back = String::new();
        for piece in pieces(&marked) {
            match piece {
                Piece::Template(text) => back.push_str(text),
                Piece::Message(i) => back.push_str(contents.get(i).map_or("", |c| c)),
            }
        }
        Ok((back == whole).then_some((contents, marked)))
    }
}

/// Marks around a message's number: private-use characters that no template writes.
const OPEN: char = '\u{F8F0}';
const CLOSE: char = '\u{F8F1}';

enum Piece<'a> {
    Template(&'a str),
    Message(usize),
}

fn pieces(marked: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = marked;
    while let Some((before, after)) = rest.split_once(OPEN) {
        pieces.push(Piece::Template(before));
        let (number, after) = after.split_once(CLOSE).unwrap_or((after, ""));
        pieces.push(Piece::Message(number.parse().unwrap_or(usize::MAX)));
        rest = after;
    }
    pieces.push(Piece::Template(rest));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn hello() -> Vec<ChatMessage> {
        vec![ChatMessage::new("user", " hello ")]
    }

    fn render(source: &str) -> Result<String> {
        ChatTemplate::parse(source)?.render(&hello(), &RenderOptions::default())
    }

    #[test]
    fn pythons_string_methods_are_there() {
        let source =
            "{% for m in messages %}{{ m.role.upper() }}:{{ m['content'].strip() | trim }};{% endfor %}";
        assert_eq!(render(source).unwrap(), "USER:hello;");
        assert_eq!(
            render("{{ messages[0].items() | length }}{{ {'a': 1} | tojson }}").unwrap(),
            "2{\"a\": 1}"
        );
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let error = render(
            "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = j %}{% endfor %}{% endfor %}",
        );
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Template);
    }

    #[test]
    fn recursion_is_bounded() {
        let error = render("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Template);
    }

    #[test]
    fn a_template_can_refuse() {
        let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert!(error.message().contains("roles must alternate"), "{error}");
    }

    #[test]
    fn files_cannot_be_reached() {
        for source in [
            "{% include '/etc/passwd' %}",
            "{% extends 'x' %}",
            "{% import 'x' as y %}",
        ] {
            assert!(render(source).is_err(), "{source}");
        }
    }

    #[test]
    fn nonsense_does_not_parse() {
        assert_eq!(
            ChatTemplate::parse("{% for %}").err().unwrap().kind(),
            ErrorKind::Template
        );
    }
}
