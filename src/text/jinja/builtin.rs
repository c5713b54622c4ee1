//! Operators, functions, tests and filters.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::sync::Arc;

use super::method;
use super::parse::Op;
use super::value::{Meter, Value, wrong};
use crate::error::Result;

/// Arguments of a call.
pub(super) struct Given {
    pub pos: Vec<Value>,
    pub named: Vec<(Arc<String>, Value)>,
}

impl Given {
    pub fn name(&self, name: &str) -> Option<&Value> {
        self.named
            .iter()
            .find(|(k, _)| k.as_str() == name)
            .map(|(_, v)| v)
    }

    /// The argument at place `i`, or of this name.
    pub fn get(&self, i: usize, name: &str) -> Option<&Value> {
        self.pos.get(i).or_else(|| self.name(name))
    }

    /// A text at place `i`, or of this name.
    pub fn text(&self, i: usize, name: &str) -> Result<Option<&str>> {
        match self.get(i, name) {
            None | Some(Value::None) => Ok(None),
            Some(value) => match value.as_text() {
                Some(text) => Ok(Some(text)),
                None => Err(wrong(&format!(
                    "{} stands where a string is wanted",
                    value.kind()
                ))),
            },
        }
    }

    pub fn need(&self, i: usize, name: &str) -> Result<&str> {
        self.text(i, name)?
            .ok_or_else(|| wrong(&format!("the argument `{name}` is missing")))
    }

    pub fn int(&self, i: usize, name: &str) -> Result<Option<i64>> {
        match self.get(i, name) {
            None | Some(Value::None) => Ok(None),
            Some(value) => match value.as_int() {
                Some(n) => Ok(Some(n)),
                None => Err(wrong(&format!(
                    "{} stands where an integer is wanted",
                    value.kind()
                ))),
            },
        }
    }
}

/// Longest list that `range` makes.
const MAX_RANGE: i64 = 100_000;
const FUNCTIONS: &[&str] = &["namespace", "range", "dict", "raise_exception"];

/// The function of that name.
pub(super) fn function(name: &str) -> Option<&'static str> {
    FUNCTIONS.iter().find(|f| **f == name).copied()
}

/// What `namespace` and `dict` are given: a map, and names.
pub(super) fn pairs(given: Given, meter: &Meter) -> Result<Vec<(Arc<String>, Value)>> {
    let mut all = Vec::new();
    match given.pos.as_slice() {
        [] => {}
        [Value::Map(map)] => map
            .pairs
            .iter()
            .try_for_each(|p| meter.push(&mut all, p.clone()))?,
        _ => return Err(wrong("a map was expected")),
    }
    given
        .named
        .into_iter()
        .try_for_each(|p| meter.push(&mut all, p))?;
    Ok(all)
}

pub(super) fn call(name: &str, given: Given, meter: &Meter) -> Result<Value> {
    match name {
        "dict" => meter.map(pairs(given, meter)?),
        "range" => range(&given, meter),
        "raise_exception" => {
            let why: String = given.need(0, "message")?.chars().take(300).collect();
            Err(wrong(&why))
        }
        other => Err(wrong(&format!("`{other}` is no function"))),
    }
}

fn range(given: &Given, meter: &Meter) -> Result<Value> {
    let bound = |i: usize| given.int(i, "");
    let (begin, end) = match (bound(0)?, bound(1)?) {
        (Some(end), None) => (0, end),
        (Some(begin), Some(end)) => (begin, end),
        _ => return Err(wrong("range wants integers")),
    };
    let step = bound(2)?.unwrap_or(1);
    if step == 0 {
        return Err(wrong("range with steps of 0"));
    }
    let mut all = Vec::new();
    let mut at = begin;
    while (step > 0 && at < end) || (step < 0 && at > end) {
        if all.len() as i64 >= MAX_RANGE {
            return Err(wrong("range is too long"));
        }
        meter.push(&mut all, Value::Int(at))?;
        at = match at.checked_add(step) {
            Some(next) => next,
            None => break,
        };
    }
    meter.list(all)
}

pub(super) fn operate(op: Op, a: &Value, b: &Value, meter: &Meter) -> Result<Value> {
    let no = || wrong(&format!("{} and {} do not go with {op:?}", a.kind(), b.kind()));
    match (op, a, b) {
        (Op::Concat, ..) => {
            let mut text = String::new();
            a.print(&mut text, meter)?;
            b.print(&mut text, meter)?;
            return Ok(Value::Text(Arc::new(text)));
        }
        (Op::Add, Value::Text(a), Value::Text(b)) => {
            let mut text = String::new();
            meter.add(&mut text, a)?;
            meter.add(&mut text, b)?;
            return Ok(Value::Text(Arc::new(text)));
        }
        (Op::Add, Value::List(a), Value::List(b)) => {
            let mut all = Vec::new();
            let both = a.items.iter().chain(&b.items);
            both.cloned().try_for_each(|v| meter.push(&mut all, v))?;
            return meter.list(all);
        }
        (Op::Mul, Value::Text(_) | Value::List(_), n) => {
            return repeated(a, n.as_int().ok_or_else(no)?, meter);
        }
        (Op::Mul, n, Value::Text(_) | Value::List(_)) => {
            return repeated(b, n.as_int().ok_or_else(no)?, meter);
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        let too_large = || wrong("a number is too large");
        let whole = |n: Option<i64>| n.map(Value::Int).ok_or_else(too_large);
        return match op {
            Op::Add => whole(a.checked_add(b)),
            Op::Sub => whole(a.checked_sub(b)),
            Op::Mul => whole(a.checked_mul(b)),
            Op::Div | Op::FloorDiv | Op::Rem if b == 0 => Err(wrong("a division by 0")),
            Op::Div => Ok(Value::Float(a as f64 / b as f64)),
            // Towards minus infinity, as Python divides.
            Op::FloorDiv => whole(
                a.checked_div(b)
                    .map(|q| q - i64::from(a % b != 0 && (a < 0) != (b < 0))),
            ),
            Op::Rem => whole(
                a.checked_rem(b)
                    .map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            ),
            Op::Pow => match u32::try_from(b) {
                Ok(n) => whole(a.checked_pow(n)),
                Err(_) => Ok(Value::Float((a as f64).powf(b as f64))),
            },
            _ => Err(no()),
        };
    }
    let (Some(x), Some(y)) = (a.as_number(), b.as_number()) else {
        return Err(no());
    };
    Ok(Value::Float(match op {
        Op::Add => x + y,
        Op::Sub => x - y,
        Op::Mul => x * y,
        Op::Div | Op::FloorDiv | Op::Rem if y == 0.0 => return Err(wrong("a division by 0")),
        Op::Div => x / y,
        Op::FloorDiv => (x / y).floor(),
        Op::Rem => x - y * (x / y).floor(),
        Op::Pow => x.powf(y),
        _ => return Err(no()),
    }))
}

fn repeated(value: &Value, n: i64, meter: &Meter) -> Result<Value> {
    let n = usize::try_from(n).unwrap_or(0);
    match value {
        Value::Text(text) => {
            // All of it is paid for before the first piece is made.
            meter.pay(text.len().saturating_mul(n))?;
            let mut all = String::new();
            for _ in 0..if text.is_empty() { 0 } else { n } {
                meter.add(&mut all, text)?;
            }
            Ok(Value::Text(Arc::new(all)))
        }
        Value::List(list) => {
            meter.pay(list.items.len().saturating_mul(n))?;
            let mut all = Vec::new();
            for _ in 0..if list.items.is_empty() { 0 } else { n } {
                list.items
                    .iter()
                    .cloned()
                    .try_for_each(|v| meter.push(&mut all, v))?;
            }
            meter.list(all)
        }
        other => Err(wrong(&format!("{} cannot be repeated", other.kind()))),
    }
}

pub(super) fn compare(op: Op, a: &Value, b: &Value, meter: &Meter) -> Result<bool> {
    Ok(match op {
        Op::Eq => a.equals(b, meter)?,
        Op::Ne => !a.equals(b, meter)?,
        Op::Lt => a.order(b, meter)? == Ordering::Less,
        Op::Le => a.order(b, meter)? != Ordering::Greater,
        Op::Gt => a.order(b, meter)? == Ordering::Greater,
        Op::Ge => a.order(b, meter)? != Ordering::Less,
        Op::In => is_in(a, b, meter)?,
        Op::NotIn => !is_in(a, b, meter)?,
        _ => false,
    })
}

fn is_in(a: &Value, b: &Value, meter: &Meter) -> Result<bool> {
    match (a, b) {
        (_, Value::Undefined) => Ok(false),
        (Value::Text(a), Value::Text(b)) => {
            meter.pay(a.len() + b.len())?;
            Ok(b.contains(a.as_str()))
        }
        (_, Value::List(list)) => {
            for item in &list.items {
                meter.step()?;
                if a.equals(item, meter)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Text(key), Value::Map(_)) => Ok(b.get(key, meter)?.is_some()),
        (_, Value::Map(_)) => Ok(false),
        _ => Err(wrong(&format!("{} cannot be in {}", a.kind(), b.kind()))),
    }
}

/// An element of a list, a map or a text; what is not there is undefined.
pub(super) fn item(value: &Value, index: &Value, meter: &Meter) -> Result<Value> {
    if let (Value::Map(_), Some(key)) = (value, index.as_text()) {
        return Ok(value.get(key, meter)?.unwrap_or(Value::Undefined));
    }
    let place = |n: usize| {
        let i = index.as_int()?;
        let i = if i < 0 {
            i.checked_add(i64::try_from(n).ok()?)?
        } else {
            i
        };
        usize::try_from(i).ok()
    };
    let found = match value {
        Value::List(list) => place(list.items.len()).and_then(|i| list.items.get(i)).cloned(),
        Value::Text(text) => {
            meter.pay(text.len())?;
            let c = place(text.chars().count()).and_then(|i| text.chars().nth(i));
            match c {
                Some(c) => Some(meter.text(c.encode_utf8(&mut [0; 4]))?),
                None => None,
            }
        }
        _ => None,
    };
    Ok(found.unwrap_or(Value::Undefined))
}

/// As Python cuts: begin, end and step.
pub(super) fn slice(value: &Value, bounds: [Option<i64>; 3], meter: &Meter) -> Result<Value> {
    let items = match value {
        Value::List(_) | Value::Text(_) => value.elements(meter)?,
        Value::Undefined => return Err(wrong("a slice of what is undefined")),
        _ => return Ok(Value::Undefined),
    };
    let [begin, end, step] = bounds;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(wrong("a slice with steps of 0"));
    }
    let n = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let (least, most) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let place = |bound: i64| {
        let at = if bound < 0 { bound.saturating_add(n) } else { bound };
        at.clamp(least, most)
    };
    let (first, last) = if step > 0 { (0, n) } else { (n - 1, -1) };
    let (mut at, end) = (begin.map_or(first, place), end.map_or(last, place));
    let mut kept = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        if let Some(item) = usize::try_from(at).ok().and_then(|i| items.get(i)) {
            meter.push(&mut kept, item.clone())?;
        }
        at = at.saturating_add(step);
    }
    match value {
        Value::Text(_) => joined(&kept, "", meter),
        _ => meter.list(kept),
    }
}

/// Texts of `items` with `between` them.
pub(super) fn joined(items: &[Value], between: &str, meter: &Meter) -> Result<Value> {
    let mut text = String::new();
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            meter.add(&mut text, between)?;
        }
        item.print(&mut text, meter)?;
    }
    Ok(Value::Text(Arc::new(text)))
}

pub(super) fn test(name: &str, value: &Value, given: &Given, meter: &Meter) -> Result<bool> {
    let other = || {
        given
            .get(0, "other")
            .ok_or_else(|| wrong(&format!("test `{name}` wants an argument")))
    };
    let int = || {
        value
            .as_int()
            .ok_or_else(|| wrong(&format!("{} is no integer", value.kind())))
    };
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined),
        "undefined" => matches!(value, Value::Undefined),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_number().is_some(),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Map(_)),
        "sequence" | "iterable" => matches!(value, Value::List(_) | Value::Map(_) | Value::Text(_)),
        "callable" => matches!(value, Value::Macro(_) | Value::Function(_)),
        "odd" => int()?.rem_euclid(2) == 1,
        "even" => int()?.rem_euclid(2) == 0,
        "divisibleby" => {
            let by = other()?.as_int().filter(|n| *n != 0);
            let by = by.ok_or_else(|| wrong("a number cannot be divided by that"))?;
            int()?.checked_rem(by).unwrap_or(0) == 0
        }
        "eq" | "equalto" | "sameas" => value.equals(other()?, meter)?,
        "ne" => !value.equals(other()?, meter)?,
        "lt" | "lessthan" => compare(Op::Lt, value, other()?, meter)?,
        "le" => compare(Op::Le, value, other()?, meter)?,
        "gt" | "greaterthan" => compare(Op::Gt, value, other()?, meter)?,
        "ge" => compare(Op::Ge, value, other()?, meter)?,
        "in" => is_in(value, other()?, meter)?,
        "lower" => cased(value, char::is_lowercase, char::is_uppercase, meter)?,
        "upper" => cased(value, char::is_uppercase, char::is_lowercase, meter)?,
        other => {
            let other: String = other.chars().take(32).collect();
            return Err(wrong(&format!("the test `{other}` is not served")));
        }
    })
}

/// Whether a text has letters of one case and none of the other.
pub(super) fn cased(
    value: &Value,
    is: fn(char) -> bool,
    is_not: fn(char) -> bool,
    meter: &Meter,
) -> Result<bool> {
    let text = value.as_text().unwrap_or_default();
    meter.pay(text.len())?;
    Ok(text.chars().any(is) && !text.chars().any(is_not))
}

/// The text of a value, of which some filters make one.
fn text_of(value: &Value, meter: &Meter) -> Result<Arc<String>> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        other => {
            let mut text = String::new();
            other.print(&mut text, meter)?;
            Ok(Arc::new(text))
        }
    }
}

pub(super) fn filter(name: &str, value: &Value, given: &Given, meter: &Meter) -> Result<Value> {
    match name {
        "upper" | "lower" | "title" | "capitalize" | "replace" => {
            let text = Value::Text(text_of(value, meter)?);
            method::call(&text, name, given, meter)
        }
        "trim" => {
            let text = Value::Text(text_of(value, meter)?);
            method::call(&text, "strip", given, meter)
        }
        "string" | "safe" => Ok(Value::Text(text_of(value, meter)?)),
        "length" | "count" => {
            let n = match value {
                Value::Undefined => 0,
                Value::List(list) => list.items.len(),
                Value::Map(map) => map.pairs.len(),
                Value::Text(text) => {
                    meter.pay(text.len())?;
                    text.chars().count()
                }
                other => return Err(wrong(&format!("{} has no length", other.kind()))),
            };
            Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))
        }
        "default" | "d" => {
            let also_false = given.get(1, "boolean").is_some_and(Value::is_true);
            match matches!(value, Value::Undefined) || (also_false && !value.is_true()) {
                true => match given.get(0, "default_value") {
                    Some(other) => Ok(other.clone()),
                    None => meter.text(""),
                },
                false => Ok(value.clone()),
            }
        }
        "first" => item(&elements_of(value, meter)?, &Value::Int(0), meter),
        "last" => item(&elements_of(value, meter)?, &Value::Int(-1), meter),
        "list" => meter.list(value.elements(meter)?),
        "join" => joined(
            &value.elements(meter)?,
            given.text(0, "d")?.unwrap_or_default(),
            meter,
        ),
        "int" => Ok(Value::Int(match value {
            Value::Float(x) => *x as i64,
            Value::Text(text) => text
                .trim()
                .parse()
                .unwrap_or(given.int(0, "default")?.unwrap_or(0)),
            other => other.as_int().unwrap_or(given.int(0, "default")?.unwrap_or(0)),
        })),
        "float" => Ok(Value::Float(match value {
            Value::Text(text) => text.trim().parse().unwrap_or(0.0),
            other => other.as_number().unwrap_or(0.0),
        })),
        "abs" => match (value.as_int().and_then(i64::checked_abs), value) {
            (Some(n), _) => Ok(Value::Int(n)),
            (None, Value::Float(x)) => Ok(Value::Float(x.abs())),
            _ => Err(wrong(&format!("{} has no absolute value", value.kind()))),
        },
        "items" => match value {
            Value::Undefined => meter.list(Vec::new()),
            map => method::call(map, "items", given, meter),
        },
        "dictsort" | "sort" | "unique" | "reverse" => method::ordered(name, value, given, meter),
        "map" | "select" | "reject" | "selectattr" | "rejectattr" => chosen(name, value, given, meter),
        "min" | "max" | "sum" => folded(name, value, meter),
        "tojson" => {
            let indent = given
                .int(1, "indent")?
                .map(|n| usize::try_from(n).unwrap_or(0).min(16));
            let mut text = String::new();
            value.json(&mut text, indent, 0, meter)?;
            Ok(Value::Text(Arc::new(text)))
        }
        "indent" => indented(&text_of(value, meter)?, given, meter),
        other => {
            let other: String = other.chars().take(32).collect();
            Err(wrong(&format!("the filter `{other}` is not served")))
        }
    }
}

fn elements_of(value: &Value, meter: &Meter) -> Result<Value> {
    match value {
        Value::List(_) => Ok(value.clone()),
        other => meter.list(other.elements(meter)?),
    }
}

fn folded(name: &str, value: &Value, meter: &Meter) -> Result<Value> {
    let mut best: Option<Value> = (name == "sum").then_some(Value::Int(0));
    for item in value.elements(meter)? {
        best = Some(match &best {
            None => item,
            Some(sum) if name == "sum" => operate(Op::Add, sum, &item, meter)?,
            Some(other) => {
                let wanted = if name == "min" {
                    Ordering::Less
                } else {
                    Ordering::Greater
                };
                match item.order(other, meter)? == wanted {
                    true => item,
                    false => continue,
                }
            }
        });
    }
    Ok(best.unwrap_or(Value::Undefined))
}

/// `map`, and what keeps some elements.
fn chosen(name: &str, value: &Value, given: &Given, meter: &Meter) -> Result<Value> {
    let rest = |n: usize| -> Result<Given> {
        let mut pos = Vec::new();
        let after = given.pos.iter().skip(n);
        after.cloned().try_for_each(|v| meter.push(&mut pos, v))?;
        Ok(Given {
            pos,
            named: Vec::new(),
        })
    };
    let mut kept = Vec::new();
    for item in value.elements(meter)? {
        meter.step()?;
        if name == "map" {
            let attr = given.name("attribute");
            let made = match (attr, given.text(0, "")?) {
                (Some(attr), _) => match self::item(&item, attr, meter)? {
                    Value::Undefined => given.name("default").cloned().unwrap_or(Value::Undefined),
                    found => found,
                },
                (None, Some(by)) => filter(by, &item, &rest(1)?, meter)?,
                (None, None) => return Err(wrong("map wants an attribute or a filter")),
            };
            meter.push(&mut kept, made)?;
            continue;
        }
        let n = usize::from(name.ends_with("attr"));
        let looked_at = match n {
            0 => item.clone(),
            _ => item
                .get(given.need(0, "attribute")?, meter)?
                .unwrap_or(Value::Undefined),
        };
        let is = match given.text(n, "")? {
            None => looked_at.is_true(),
            Some(by) => test(by, &looked_at, &rest(n + 1)?, meter)?,
        };
        if is == name.starts_with("select") {
            meter.push(&mut kept, item)?;
        }
    }
    meter.list(kept)
}

fn indented(text: &str, given: &Given, meter: &Meter) -> Result<Value> {
    let width = match given.get(0, "width") {
        Some(Value::Text(text)) => text.to_string(),
        _ => {
            let n = usize::try_from(given.int(0, "width")?.unwrap_or(4)).unwrap_or(0);
            meter.pay(n)?;
            " ".repeat(n)
        }
    };
    let switch = |i: usize, name: &str| given.get(i, name).is_some_and(Value::is_true);
    let (first, blank) = (switch(1, "first"), switch(2, "blank"));
    let mut all = String::new();
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            meter.add(&mut all, "\n")?;
        }
        if (i > 0 || first) && (blank || i == 0 || !line.is_empty()) {
            meter.add(&mut all, &width)?;
        }
        meter.add(&mut all, line)?;
    }
    Ok(Value::Text(Arc::new(all)))
}
