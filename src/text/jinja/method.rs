//! Methods of Python's strings, lists and dictionaries, and filters that put elements in order.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::builtin::{Given, cased, item, joined};
use super::value::{Meter, Value, wrong};
use crate::error::Result;

pub(super) fn call(value: &Value, name: &str, given: &Given, meter: &Meter) -> Result<Value> {
    let found = match value {
        Value::Text(text) => of_text(text, value, name, given, meter)?,
        Value::Map(map) => {
            let mut all = Vec::new();
            match name {
                "get" => {
                    let there = value.get(given.need(0, "key")?, meter)?;
                    let other = || given.get(1, "default").cloned();
                    return Ok(there.or_else(other).unwrap_or(Value::None));
                }
                "keys" => return meter.list(value.elements(meter)?),
                "values" => map
                    .pairs
                    .iter()
                    .try_for_each(|(_, v)| meter.push(&mut all, v.clone()))?,
                "items" => map.pairs.iter().try_for_each(|(k, v)| {
                    let pair = meter.list(vec![Value::Text(k.clone()), v.clone()])?;
                    meter.push(&mut all, pair)
                })?,
                _ => return Err(unknown(value, name)),
            }
            Some(meter.list(all)?)
        }
        Value::List(list) if matches!(name, "count" | "index") => {
            let wanted = given.get(0, "value").unwrap_or(&Value::Undefined);
            let (mut n, mut first) = (0i64, None);
            for (i, item) in (0i64..).zip(&list.items) {
                if item.equals(wanted, meter)? {
                    n += 1;
                    first = first.or(Some(i));
                }
            }
            match (name, first) {
                ("count", _) => Some(Value::Int(n)),
                (_, Some(first)) => Some(Value::Int(first)),
                _ => return Err(wrong("the list does not hold that")),
            }
        }
        _ => None,
    };
    found.ok_or_else(|| unknown(value, name))
}

fn unknown(value: &Value, name: &str) -> crate::error::Error {
    let name: String = name.chars().take(32).collect();
    wrong(&format!("{} has no method `{name}` that is served", value.kind()))
}

fn of_text(text: &str, value: &Value, name: &str, given: &Given, meter: &Meter) -> Result<Option<Value>> {
    // Each reads the text once.
    meter.pay(text.len())?;
    let bool = |b: bool| Ok(Some(Value::Bool(b)));
    let all = |is: fn(char) -> bool| bool(!text.is_empty() && text.chars().all(is));
    let kept = |text: &str| meter.text(text).map(Some);
    let spelled = |pieces: &mut dyn Iterator<Item = char>| {
        let mut made = String::new();
        let mut buffer = [0; 4];
        for c in pieces {
            meter.add(&mut made, c.encode_utf8(&mut buffer))?;
        }
        Ok(Some(Value::Text(Arc::new(made))))
    };
    match name {
        "upper" => spelled(&mut text.chars().flat_map(char::to_uppercase)),
        "lower" => spelled(&mut text.chars().flat_map(char::to_lowercase)),
        "capitalize" => {
            let mut chars = text.chars();
            let first = chars.next().into_iter().flat_map(char::to_uppercase);
            spelled(&mut first.chain(chars.flat_map(char::to_lowercase)))
        }
        "title" => {
            let mut inside = false;
            let mut cased = Vec::new();
            for c in text.chars() {
                match inside {
                    true => c.to_lowercase().try_for_each(|c| meter.push(&mut cased, c))?,
                    false => c.to_uppercase().try_for_each(|c| meter.push(&mut cased, c))?,
                }
                inside = c.is_alphabetic();
            }
            spelled(&mut cased.into_iter())
        }
        "strip" | "lstrip" | "rstrip" => {
            let set: Option<Vec<char>> = given.text(0, "chars")?.map(|t| t.chars().collect());
            meter.pay(
                set.as_ref()
                    .map_or(0, |s| s.len())
                    .saturating_mul(text.len().min(1 << 20)),
            )?;
            let gone = |c: char| set.as_ref().map_or(c.is_whitespace(), |s| s.contains(&c));
            kept(match name {
                "strip" => text.trim_matches(gone),
                "lstrip" => text.trim_start_matches(gone),
                _ => text.trim_end_matches(gone),
            })
        }
        "startswith" | "endswith" => {
            let is = |affix: &Value| -> Result<bool> {
                let affix = affix
                    .as_text()
                    .ok_or_else(|| wrong(&format!("{name} wants a string")))?;
                meter.pay(affix.len())?;
                Ok(match name {
                    "startswith" => text.starts_with(affix),
                    _ => text.ends_with(affix),
                })
            };
            match given.get(0, "prefix") {
                Some(Value::List(several)) => {
                    for affix in &several.items {
                        if is(affix)? {
                            return bool(true);
                        }
                    }
                    bool(false)
                }
                affix => bool(is(affix.unwrap_or(&Value::Undefined))?),
            }
        }
        "removeprefix" => kept(text.strip_prefix(given.need(0, "prefix")?).unwrap_or(text)),
        "removesuffix" => kept(text.strip_suffix(given.need(0, "suffix")?).unwrap_or(text)),
        "replace" => replaced(text, given, meter).map(Some),
        "split" | "rsplit" => split(text, name == "rsplit", given, meter).map(Some),
        "splitlines" => {
            let mut lines = Vec::new();
            text.lines()
                .try_for_each(|l| meter.push(&mut lines, meter.text(l)?))?;
            meter.list(lines).map(Some)
        }
        "join" => {
            let items = given
                .get(0, "iterable")
                .unwrap_or(&Value::Undefined)
                .elements(meter)?;
            joined(&items, text, meter).map(Some)
        }
        "find" | "rfind" => {
            let part = given.need(0, "sub")?;
            let at = if name == "find" {
                text.find(part)
            } else {
                text.rfind(part)
            };
            let place = at.and_then(|at| i64::try_from(text.get(..at)?.chars().count()).ok());
            Ok(Some(Value::Int(place.unwrap_or(-1))))
        }
        "count" => {
            let part = given.need(0, "sub")?;
            // Of nothing there is one before each character and one at the end.
            Ok(Some(Value::Int(
                i64::try_from(text.matches(part).count()).unwrap_or(i64::MAX),
            )))
        }
        "isspace" => all(char::is_whitespace),
        "isdigit" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isascii" => bool(text.is_ascii()),
        "islower" => bool(cased(value, char::is_lowercase, char::is_uppercase, meter)?),
        "isupper" => bool(cased(value, char::is_uppercase, char::is_lowercase, meter)?),
        _ => Ok(None),
    }
}

fn replaced(text: &str, given: &Given, meter: &Meter) -> Result<Value> {
    let (old, new) = (given.need(0, "old")?, given.need(1, "new")?);
    let most = given.int(2, "count")?.and_then(|n| usize::try_from(n).ok());
    let mut made = String::new();
    let mut done = 0;
    for (at, found) in text.match_indices(old).take(most.unwrap_or(usize::MAX)) {
        meter.add(&mut made, text.get(done..at).unwrap_or_default())?;
        meter.add(&mut made, new)?;
        done = at + found.len();
    }
    meter.add(&mut made, text.get(done..).unwrap_or_default())?;
    Ok(Value::Text(Arc::new(made)))
}

fn split(text: &str, from_end: bool, given: &Given, meter: &Meter) -> Result<Value> {
    let most = given.int(1, "maxsplit")?.and_then(|n| usize::try_from(n).ok());
    let n = most.map_or(usize::MAX, |n| n.saturating_add(1));
    let mut parts = Vec::new();
    let mut add = |part: &str| meter.push(&mut parts, meter.text(part)?);
    match given.text(0, "sep")? {
        Some("") => return Err(wrong("split at nothing")),
        Some(sep) if from_end => text.rsplitn(n, sep).try_for_each(&mut add)?,
        Some(sep) => text.splitn(n, sep).try_for_each(&mut add)?,
        None if most.is_none() => text.split_whitespace().try_for_each(&mut add)?,
        None if from_end => return Err(wrong("rsplit at space is not served")),
        None => {
            let mut rest = text.trim_start();
            let mut left = n;
            while !rest.is_empty() {
                left -= 1;
                let end = rest
                    .find(char::is_whitespace)
                    .filter(|_| left > 0)
                    .unwrap_or(rest.len());
                let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
                add(word)?;
                rest = after.trim_start();
            }
        }
    }
    if from_end {
        parts.reverse();
    }
    meter.list(parts)
}

/// `sort`, `dictsort`, `unique` and `reverse`.
pub(super) fn ordered(name: &str, value: &Value, given: &Given, meter: &Meter) -> Result<Value> {
    let items = match name {
        "dictsort" => call(value, "items", given, meter)?.elements(meter)?,
        _ => value.elements(meter)?,
    };
    let attribute = given.name("attribute");
    let key = |item_of: &Value| -> Result<Value> {
        let key = match attribute {
            Some(attr) => item(item_of, attr, meter)?,
            None => item_of.clone(),
        };
        match key.as_text() {
            // As Jinja sorts, but where it is told not to.
            Some(text) if !given.name("case_sensitive").is_some_and(Value::is_true) => {
                meter.text(&text.to_lowercase())
            }
            _ => Ok(key),
        }
    };
    let mut keyed: Vec<(Value, Value)> = Vec::new();
    for item in items {
        let key = match (name, &item) {
            ("reverse", _) => Value::None,
            ("dictsort", Value::List(pair)) => key(pair.items.first().unwrap_or(&Value::Undefined))?,
            _ => key(&item)?,
        };
        match name {
            "unique" => {
                let mut known = false;
                for (other, _) in &keyed {
                    meter.step()?;
                    known |= other.equals(&key, meter)?;
                }
                if !known {
                    meter.push(&mut keyed, (key, item))?;
                }
            }
            _ => meter.push(&mut keyed, (key, item))?,
        }
    }
    if name == "sort" || name == "dictsort" {
        keyed = sorted(keyed, meter)?;
    }
    if name == "reverse" || given.get(0, "reverse").is_some_and(Value::is_true) {
        keyed.reverse();
    }
    if let ("reverse", Value::Text(_)) = (name, value) {
        let items: Vec<Value> = keyed.into_iter().map(|(_, v)| v).collect();
        return joined(&items, "", meter);
    }
    meter.list(keyed.into_iter().map(|(_, v)| v).collect())
}

/// By key, texts or numbers; those of the same key stay in their order.
fn sorted(mut keyed: Vec<(Value, Value)>, meter: &Meter) -> Result<Vec<(Value, Value)>> {
    let texts = keyed.iter().all(|(k, _)| k.as_text().is_some());
    let numbers = keyed
        .iter()
        .all(|(k, _)| k.as_number().is_some_and(|x| !x.is_nan()));
    if !texts && !numbers {
        return Err(wrong("only texts, or only numbers, can be sorted"));
    }
    let bytes: usize = keyed.iter().map(|(k, _)| k.size().bytes).sum();
    meter.pay(bytes.saturating_mul(keyed.len().max(1).ilog2() as usize + 1))?;
    match texts {
        true => keyed.sort_by(|(a, _), (b, _)| a.as_text().cmp(&b.as_text())),
        false => keyed.sort_by(|(a, _), (b, _)| {
            let x = |v: &Value| v.as_number().unwrap_or(0.0);
            x(a).total_cmp(&x(b))
        }),
    }
    Ok(keyed)
}
