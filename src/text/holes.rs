//! Text with holes: `The [[4]] sat on the [[3]].` or `She said [[...]] and left.`
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};

/// A stretch of a text with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that stays as it is.
    Text(String),
    /// So many slots to fill.
    Hole(usize),
    /// Slots to fill, as many as suit best.
    Open,
}

/// Splits `text` at its holes. `[[[[` stands for a literal `[[`.
///
/// # Errors
/// `InvalidArgument`, when a hole is not closed or holds no number, or there is none.
pub fn parse_holes(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("[[") {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 2..];
        if let Some(after) = rest.strip_prefix("[[") {
            plain.push_str("[[");
            rest = after;
            continue;
        }
        let Some(end) = rest.find("]]") else {
            return Err(invalid(
                "a hole begins with `[[` and never ends; write `[[4]]` or `[[...]]`",
            ));
        };
        let inside = rest[..end].trim();
        rest = &rest[end + 2..];
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(match inside {
            "..." | "…" | "" => Piece::Open,
            number => match number.parse::<usize>() {
                Ok(n) if (1..=1 << 20).contains(&n) => Piece::Hole(n),
                _ => {
                    return Err(invalid(&format!(
                        "hole `[[{inside}]]` is neither a number of tokens from 1 on nor `...`"
                    )));
                }
            },
        });
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    if !pieces.iter().any(|p| !matches!(p, Piece::Text(_))) {
        return Err(invalid(
            "the text has no hole; write `[[4]]` where 4 tokens are to be filled in",
        ));
    }
    Ok(pieces)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found_with_their_lengths() {
        let pieces = parse_holes("The [[4]] sat on [[...]].").unwrap();
        let text = |s: &str| Piece::Text(s.to_owned());
        assert_eq!(
            pieces,
            [
                text("The "),
                Piece::Hole(4),
                text(" sat on "),
                Piece::Open,
                text(".")
            ]
        );
    }

    #[test]
    fn four_brackets_are_two() {
        let pieces = parse_holes("a[[[[0]] = [[1]]").unwrap();
        assert_eq!(pieces, [Piece::Text("a[[0]] = ".to_owned()), Piece::Hole(1)]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("none", "no hole"),
            ("a [[3", "never ends"),
            ("[[x]]", "[[x]]"),
            ("[[0]]", "[[0]]"),
        ] {
            let error = parse_holes(text).unwrap_err();
            assert!(error.message().contains(word), "{text}: {error}");
        }
    }
}
