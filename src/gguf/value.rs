//! Metadata values.
#![forbid(unsafe_code)]

use std::fmt;

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // named for the types they hold
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // named for the types they hold
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Strings(StringArray),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Many strings in one piece of memory: 8 bytes each beside their own. Raw bytes, since tokens of a
/// vocabulary need not be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringArray {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl StringArray {
    /// An empty array.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `i`.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        let begin = if i == 0 { 0 } else { *self.ends.get(i - 1)? };
        self.bytes.get(begin..end)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }

    /// Appends a string.
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len());
    }

    /// As [`push`](Self::push), where memory may be short.
    pub(crate) fn try_push(&mut self, string: &[u8]) -> crate::error::Result<()> {
        let done = self
            .ends
            .try_reserve(1)
            .and_then(|()| self.bytes.try_reserve(string.len()));
        done.map_err(|_| crate::err!(Resource, "no memory for an array of {} strings", self.len()))?;
        self.push(string);
        Ok(())
    }

    pub(super) fn try_reserve(&mut self, n: usize, n_bytes: usize) -> crate::error::Result<()> {
        let done = self
            .ends
            .try_reserve_exact(n)
            .and_then(|()| self.bytes.try_reserve_exact(n_bytes));
        done.map_err(|_| crate::err!(Resource, "no memory for an array of {n} strings"))
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for StringArray {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut array = Self::new();
        for string in strings {
            array.push(string.as_ref());
        }
        array
    }
}

impl Value {
    /// The type in words, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "a u8",
            Self::I8(_) => "an i8",
            Self::U16(_) => "a u16",
            Self::I16(_) => "an i16",
            Self::U32(_) => "a u32",
            Self::I32(_) => "an i32",
            Self::F32(_) => "an f32",
            Self::Bool(_) => "a bool",
            Self::String(_) => "a string",
            Self::U64(_) => "a u64",
            Self::I64(_) => "an i64",
            Self::F64(_) => "an f64",
            Self::Array(array) => array.type_name(),
        }
    }

    /// The value as an integer, if it is one of any width.
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Self::U8(x) => Some(x.into()),
            Self::I8(x) => Some(x.into()),
            Self::U16(x) => Some(x.into()),
            Self::I16(x) => Some(x.into()),
            Self::U32(x) => Some(x.into()),
            Self::I32(x) => Some(x.into()),
            Self::U64(x) => Some(x.into()),
            Self::I64(x) => Some(x.into()),
            _ => None,
        }
    }

    /// GGUF's id of the type.
    pub fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }
}

/// As text: strings as they are, numbers in decimal, arrays as JSON, where bytes that are no UTF-8 become
/// U+FFFD.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(x) => x.fmt(f),
            Self::I8(x) => x.fmt(f),
            Self::U16(x) => x.fmt(f),
            Self::I16(x) => x.fmt(f),
            Self::U32(x) => x.fmt(f),
            Self::I32(x) => x.fmt(f),
            Self::F32(x) => x.fmt(f),
            Self::Bool(x) => x.fmt(f),
            Self::String(x) => f.write_str(x),
            Self::U64(x) => x.fmt(f),
            Self::I64(x) => x.fmt(f),
            Self::F64(x) => x.fmt(f),
            Self::Array(array) => array.fmt(f),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = T>) -> fmt::Result {
            f.write_str("[")?;
            for (i, item) in items.enumerate() {
                f.write_str(if i > 0 { "," } else { "" })?;
                item.fmt(f)?;
            }
            f.write_str("]")
        }
        match self {
            Self::U8(v) => list(f, v.iter()),
            Self::I8(v) => list(f, v.iter()),
            Self::U16(v) => list(f, v.iter()),
            Self::I16(v) => list(f, v.iter()),
            Self::U32(v) => list(f, v.iter()),
            Self::I32(v) => list(f, v.iter()),
            Self::F32(v) => list(f, v.iter()),
            Self::Bool(v) => list(f, v.iter()),
            Self::U64(v) => list(f, v.iter()),
            Self::I64(v) => list(f, v.iter()),
            Self::F64(v) => list(f, v.iter()),
            Self::Strings(v) => {
                let quoted = |s: &[u8]| serde_json::Value::from(String::from_utf8_lossy(s));
                list(f, v.iter().map(quoted))
            }
        }
    }
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::Strings(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Strings(_) => "an array of strings",
            Self::F32(_) | Self::F64(_) => "an array of floats",
            Self::Bool(_) => "an array of bools",
            _ => "an array of integers",
        }
    }

    /// GGUF's id of the element type.
    pub fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Strings(_) => 8,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })*
    };
}

from!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool,
      String => String, u64 => U64, i64 => I64, f64 => F64, Array => Array);

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<StringArray> for Value {
    fn from(value: StringArray) -> Self {
        Self::Array(Array::Strings(value))
    }
}
