//! What templates compute with, and the meter that they pay.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{Error, Result, try_push};

/// A value. Lists and maps never change once they are made, so that none holds itself.
#[derive(Clone)]
pub(super) enum Value {
    Undefined,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<String>),
    List(Rc<List>),
    Map(Rc<Map>),
    /// A number in the run's list of namespaces.
    Namespace(usize),
    /// A number in the run's list of macros.
    Macro(usize),
    Function(&'static str),
}

pub(super) struct List {
    pub items: Vec<Value>,
    pub size: Size,
}

pub(super) struct Map {
    /// Keys are texts, each once.
    pub pairs: Vec<(Arc<String>, Value)>,
    pub size: Size,
}

/// How much there is to walk through in a value, with everything that it holds as often as it holds it.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub bytes: usize,
    pub depth: usize,
}

/// Lists and maps inside one another, at most.
const MAX_DEPTH: usize = 32;
/// Bytes of a value, with everything that it holds as often as it holds it.
const MAX_BYTES: usize = 64 << 20;
/// What an element, or a text, costs beside what it holds.
const ELEMENT: usize = 64;

/// What is left of the work that a run may do.
pub(super) struct Meter {
    steps: Cell<u64>,
    bytes: Cell<usize>,
}

/// An error of a template at work.
pub(super) fn wrong(what: &str) -> Error {
    let what: String = what.chars().take(300).collect();
    crate::err!(Template, "the chat template fails: {what}")
}

fn no_memory() -> Error {
    crate::err!(Resource, "no memory for what a chat template makes")
}

impl Meter {
    pub fn new(steps: u64, bytes: usize) -> Self {
        Self {
            steps: Cell::new(steps),
            bytes: Cell::new(bytes),
        }
    }

    /// One step.
    pub fn step(&self) -> Result<()> {
        match self.steps.get() {
            0 => Err(crate::err!(
                Template,
                "the chat template did not end within {} steps",
                super::FUEL
            )),
            n => {
                self.steps.set(n - 1);
                Ok(())
            }
        }
    }

    /// Work on `n` bytes, or memory of as many: before it is done.
    pub fn pay(&self, n: usize) -> Result<()> {
        match self.bytes.get().checked_sub(n) {
            Some(left) => {
                self.bytes.set(left);
                Ok(())
            }
            None => Err(wrong("it makes or reads more text than is reasonable")),
        }
    }

    /// Appends `piece`.
    pub fn add(&self, to: &mut String, piece: &str) -> Result<()> {
        self.pay(piece.len())?;
        to.try_reserve(piece.len()).map_err(|_| no_memory())?;
        to.push_str(piece);
        Ok(())
    }

    /// A text, paid for.
    pub fn text(&self, text: &str) -> Result<Value> {
        self.pay(ELEMENT)?;
        let mut copy = String::new();
        self.add(&mut copy, text)?;
        Ok(Value::Text(Arc::new(copy)))
    }

    /// A list of `items`, which are paid for here.
    pub fn list(&self, items: Vec<Value>) -> Result<Value> {
        self.pay(items.len().saturating_mul(ELEMENT))?;
        let size = whole(items.iter())?;
        Ok(Value::List(Rc::new(List { items, size })))
    }

    /// A map of `pairs`, of which later ones replace earlier ones of the same key.
    pub fn map(&self, pairs: Vec<(Arc<String>, Value)>) -> Result<Value> {
        let mut kept: Vec<(Arc<String>, Value)> = Vec::new();
        for (key, value) in pairs {
            // A search for each.
            self.pay(ELEMENT + kept.len() + key.len())?;
            match kept.iter_mut().find(|(k, _)| *k == key) {
                Some(pair) => pair.1 = value,
                None => self.push(&mut kept, (key, value))?,
            }
        }
        let keys: usize = kept.iter().map(|(k, _)| k.len()).sum();
        let mut size = whole(kept.iter().map(|(_, v)| v))?;
        size.bytes = size.bytes.saturating_add(keys);
        Ok(Value::Map(Rc::new(Map { pairs: kept, size })))
    }

    /// Appends to a list that is being made.
    pub fn push<T>(&self, list: &mut Vec<T>, item: T) -> Result<()> {
        self.pay(ELEMENT)?;
        try_push(list, item, "what a chat template makes")
    }
}

fn whole<'a>(items: impl Iterator<Item = &'a Value>) -> Result<Size> {
    let mut size = Size::default();
    for item in items {
        let own = item.size();
        size.bytes = size.bytes.saturating_add(own.bytes).saturating_add(ELEMENT);
        size.depth = size.depth.max(own.depth);
    }
    size.depth += 1;
    if size.depth > MAX_DEPTH || size.bytes > MAX_BYTES {
        return Err(wrong("a list or map holds too much"));
    }
    Ok(size)
}

impl Value {
    pub fn size(&self) -> Size {
        match self {
            Self::Text(text) => Size {
                bytes: text.len(),
                depth: 0,
            },
            Self::List(list) => list.size,
            Self::Map(map) => map.size,
            _ => Size { bytes: 8, depth: 0 },
        }
    }

    /// What it is, in Python's word where there is one.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::None => "none",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Namespace(_) => "a namespace",
            Self::Macro(_) | Self::Function(_) => "a function",
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined | Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(x) => *x != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.pairs.is_empty(),
            Self::Namespace(_) | Self::Macro(_) | Self::Function(_) => true,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer, as Python takes a bool for one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            other => other.as_int().map(|n| n as f64),
        }
    }

    /// What a map has under `key`.
    pub fn get(&self, key: &str, meter: &Meter) -> Result<Option<Self>> {
        let Self::Map(map) = self else {
            return Ok(None);
        };
        meter.pay(map.pairs.len())?;
        let found = map.pairs.iter().find(|(k, _)| k.as_str() == key);
        Ok(found.map(|(_, v)| v.clone()))
    }

    /// What a loop goes through: elements, keys, or characters.
    pub fn elements(&self, meter: &Meter) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        match self {
            Self::Undefined => {}
            Self::List(list) => list
                .items
                .iter()
                .try_for_each(|v| meter.push(&mut all, v.clone()))?,
            Self::Map(map) => map
                .pairs
                .iter()
                .try_for_each(|(k, _)| meter.push(&mut all, Self::Text(k.clone())))?,
            Self::Text(text) => text
                .chars()
                .try_for_each(|c| meter.push(&mut all, meter.text(c.encode_utf8(&mut [0; 4]))?))?,
            other => return Err(wrong(&format!("{} cannot be gone through", other.kind()))),
        }
        Ok(all)
    }

    pub fn equals(&self, other: &Self, meter: &Meter) -> Result<bool> {
        meter.pay(self.size().bytes.min(other.size().bytes))?;
        Ok(same(self, other))
    }

    /// The order of numbers, of texts and of lists of them.
    pub fn order(&self, other: &Self, meter: &Meter) -> Result<Ordering> {
        meter.pay(self.size().bytes.min(other.size().bytes))?;
        let order = match (self, other) {
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::List(a), Self::List(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    match a.order(b, meter)? {
                        Ordering::Equal => {}
                        other => return Ok(other),
                    }
                }
                Some(a.items.len().cmp(&b.items.len()))
            }
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => a
                    .as_number()
                    .zip(b.as_number())
                    .and_then(|(a, b)| a.partial_cmp(&b)),
            },
        };
        order.ok_or_else(|| wrong(&format!("{} and {} have no order", self.kind(), other.kind())))
    }

    /// How it reads in a prompt.
    pub fn print(&self, to: &mut String, meter: &Meter) -> Result<()> {
        match self {
            Self::Undefined => Ok(()),
            Self::Text(text) => meter.add(to, text),
            other => other.repr(to, meter),
        }
    }

    /// How Python shows it inside a list.
    fn repr(&self, to: &mut String, meter: &Meter) -> Result<()> {
        match self {
            Self::Undefined => meter.add(to, "Undefined"),
            Self::None => meter.add(to, "None"),
            Self::Bool(true) => meter.add(to, "True"),
            Self::Bool(false) => meter.add(to, "False"),
            Self::Int(n) => meter.add(to, &n.to_string()),
            Self::Float(x) => meter.add(to, &float(*x)),
            Self::Text(text) => quoted(text, to, meter),
            Self::List(list) => {
                meter.add(to, "[")?;
                for (i, item) in list.items.iter().enumerate() {
                    meter.add(to, if i > 0 { ", " } else { "" })?;
                    item.repr(to, meter)?;
                }
                meter.add(to, "]")
            }
            Self::Map(map) => {
                meter.add(to, "{")?;
                for (i, (key, value)) in map.pairs.iter().enumerate() {
                    meter.add(to, if i > 0 { ", " } else { "" })?;
                    quoted(key, to, meter)?;
                    meter.add(to, ": ")?;
                    value.repr(to, meter)?;
                }
                meter.add(to, "}")
            }
            other => Err(wrong(&format!("{} is no text", other.kind()))),
        }
    }

    /// As `json.dumps` writes it, without escapes for what is not ASCII; `indent` is of each level.
    pub fn json(&self, to: &mut String, indent: Option<usize>, level: usize, meter: &Meter) -> Result<()> {
        let line = |to: &mut String, level: usize| match indent {
            None => Ok(()),
            Some(n) => {
                meter.add(to, "\n")?;
                (0..level * n).try_for_each(|_| meter.add(to, " "))
            }
        };
        let comma = if indent.is_some() { "," } else { ", " };
        match self {
            Self::None => meter.add(to, "null"),
            Self::Bool(b) => meter.add(to, if *b { "true" } else { "false" }),
            Self::Int(_) | Self::Float(_) => self.repr(to, meter),
            Self::Text(text) => string(text, to, meter),
            Self::List(list) if list.items.is_empty() => meter.add(to, "[]"),
            Self::List(list) => {
                meter.add(to, "[")?;
                for (i, item) in list.items.iter().enumerate() {
                    meter.add(to, if i > 0 { comma } else { "" })?;
                    line(to, level + 1)?;
                    item.json(to, indent, level + 1, meter)?;
                }
                line(to, level)?;
                meter.add(to, "]")
            }
            Self::Map(map) if map.pairs.is_empty() => meter.add(to, "{}"),
            Self::Map(map) => {
                meter.add(to, "{")?;
                for (i, (key, value)) in map.pairs.iter().enumerate() {
                    meter.add(to, if i > 0 { comma } else { "" })?;
                    line(to, level + 1)?;
                    string(key, to, meter)?;
                    meter.add(to, ": ")?;
                    value.json(to, indent, level + 1, meter)?;
                }
                line(to, level)?;
                meter.add(to, "}")
            }
            other => Err(wrong(&format!("{} is no JSON", other.kind()))),
        }
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.items.len() == b.items.len() && a.items.iter().zip(&b.items).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            // In the same order, or not at all: maps of templates are short and made alike.
            let both = || a.pairs.iter().zip(&b.pairs);
            a.pairs.len() == b.pairs.len() && both().all(|((j, a), (k, b))| j == k && same(a, b))
        }
        (Value::Namespace(a), Value::Namespace(b)) | (Value::Macro(a), Value::Macro(b)) => a == b,
        (Value::Function(a), Value::Function(b)) => a == b,
        (a, b) => match (a.as_int(), b.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_number().zip(b.as_number()).is_some_and(|(a, b)| a == b),
        },
    }
}

/// As Python writes a float.
fn float(x: f64) -> String {
    let text = format!("{x:?}");
    match text.split_once('e') {
        None if x.is_nan() => "nan".to_owned(),
        None => text,
        Some((digits, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |p| ('-', p));
            format!(
                "{}e{sign}{power:0>2}",
                digits.strip_suffix(".0").unwrap_or(digits)
            )
        }
    }
}

fn quoted(text: &str, to: &mut String, meter: &Meter) -> Result<()> {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut buffer = [0; 4];
    meter.add(to, quote.encode_utf8(&mut buffer))?;
    for c in text.chars() {
        match c {
            '\n' => meter.add(to, "\\n"),
            '\r' => meter.add(to, "\\r"),
            '\t' => meter.add(to, "\\t"),
            '\\' => meter.add(to, "\\\\"),
            c if c == quote => {
                meter.add(to, "\\")?;
                meter.add(to, c.encode_utf8(&mut buffer))
            }
            c if c.is_control() => meter.add(to, &format!("\\x{:02x}", u32::from(c))),
            c => meter.add(to, c.encode_utf8(&mut buffer)),
        }?;
    }
    meter.add(to, quote.encode_utf8(&mut buffer))
}

fn string(text: &str, to: &mut String, meter: &Meter) -> Result<()> {
    meter.add(to, "\"")?;
    let mut buffer = [0; 4];
    for c in text.chars() {
        match c {
            '"' => meter.add(to, "\\\""),
            '\\' => meter.add(to, "\\\\"),
            '\n' => meter.add(to, "\\n"),
            '\r' => meter.add(to, "\\r"),
            '\t' => meter.add(to, "\\t"),
            '\u{8}' => meter.add(to, "\\b"),
            '\u{C}' => meter.add(to, "\\f"),
            c if u32::from(c) < 0x20 => meter.add(to, &format!("\\u{:04x}", u32::from(c))),
            c => meter.add(to, c.encode_utf8(&mut buffer)),
        }?;
    }
    meter.add(to, "\"")
}
