//! The key-value pairs of a file, in order, with typed access.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::HashMap;

use super::value::{Array, StringArray, Value};
use crate::error::Result;

/// Key-value pairs in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pairs: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// No pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.get(*self.index.get(key)?).map(|(_, value)| value)
    }

    /// Sets `key`, in place where it exists, at the end where it is new.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.index.get(&key).and_then(|&i| self.pairs.get_mut(i)) {
            Some(pair) => pair.1 = value,
            None => {
                self.index.insert(key.clone(), self.pairs.len());
                self.pairs.push((key, value));
            }
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        let (_, value) = self.pairs.remove(at);
        for i in self.index.values_mut().filter(|i| **i > at) {
            *i -= 1;
        }
        Some(value)
    }

    /// An unsigned integer of any width that fits.
    ///
    /// # Errors
    /// `Format`, when the value is of another type or out of range. Absent is `None`.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.integer(key, "an unsigned integer")
    }

    /// An unsigned integer that fits 32 bits.
    ///
    /// # Errors
    /// As [`u64`](Self::u64).
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.integer(key, "an unsigned integer of 32 bits")
    }

    /// An integer that fits 32 bits.
    ///
    /// # Errors
    /// As [`u64`](Self::u64).
    pub fn i32(&self, key: &str) -> Result<Option<i32>> {
        self.integer(key, "an integer of 32 bits")
    }

    /// A float of either width.
    ///
    /// # Errors
    /// `Format`, when the value is of another type. Absent is `None`.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(x)) => Ok(Some(*x)),
            Some(Value::F64(x)) => Ok(Some(*x as f32)),
            Some(other) => wrong(key, other, "a float"),
        }
    }

    /// A bool.
    ///
    /// # Errors
    /// As [`f32`](Self::f32).
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(x)) => Ok(Some(*x)),
            Some(other) => wrong(key, other, "a bool"),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// As [`f32`](Self::f32).
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(x)) => Ok(Some(x)),
            Some(other) => wrong(key, other, "a string"),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// As [`f32`](Self::f32).
    pub fn strings(&self, key: &str) -> Result<Option<&StringArray>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Strings(x))) => Ok(Some(x)),
            Some(other) => wrong(key, other, "an array of strings"),
        }
    }

    /// An array of integers of any width that fit 32 bits.
    ///
    /// # Errors
    /// As [`u64`](Self::u64).
    pub fn i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>> {
        fn fit<T: Copy + TryInto<i32>>(key: &str, values: &[T]) -> Result<Vec<i32>> {
            let fits = values
                .iter()
                .map(|&x| x.try_into().ok())
                .collect::<Option<Vec<_>>>();
            fits.ok_or_else(|| crate::err!(Format, "key {key} has an element that does not fit 32 bits"))
        }
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let values = match value {
            Value::Array(Array::I32(v)) => return Ok(Some(Cow::Borrowed(v))),
            Value::Array(Array::U8(v)) => fit(key, v)?,
            Value::Array(Array::I8(v)) => fit(key, v)?,
            Value::Array(Array::U16(v)) => fit(key, v)?,
            Value::Array(Array::I16(v)) => fit(key, v)?,
            Value::Array(Array::U32(v)) => fit(key, v)?,
            Value::Array(Array::U64(v)) => fit(key, v)?,
            Value::Array(Array::I64(v)) => fit(key, v)?,
            other => return wrong(key, other, "an array of integers"),
        };
        Ok(Some(Cow::Owned(values)))
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, wanted: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let Some(n) = value.as_integer() else {
            return wrong(key, value, wanted);
        };
        match T::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => crate::bail!(Format, "key {key} is {n}; it must be {wanted}"),
        }
    }
}

fn wrong<T>(key: &str, value: &Value, wanted: &str) -> Result<T> {
    crate::bail!(Format, "key {key} is {}; it must be {wanted}", value.type_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn integers_convert_when_they_fit() {
        let mut m = Metadata::new();
        m.insert("a", 7u8);
        m.insert("b", -1i64);
        m.insert("c", u64::from(u32::MAX) + 1);
        assert_eq!(m.u32("a").unwrap(), Some(7));
        assert_eq!(m.i32("b").unwrap(), Some(-1));
        for key in ["b", "c"] {
            assert_eq!(m.u32(key).unwrap_err().kind(), ErrorKind::Format);
        }
        assert_eq!(m.u32("absent").unwrap(), None);
    }

    #[test]
    fn a_wrong_type_is_named() {
        let mut m = Metadata::new();
        m.insert("k", "text");
        let error = m.u64("k").unwrap_err();
        assert_eq!(
            error.message(),
            "key k is a string; it must be an unsigned integer"
        );
    }

    #[test]
    fn removing_keeps_the_others_in_order() {
        let mut m = Metadata::new();
        for (i, key) in ["a", "b", "c"].into_iter().enumerate() {
            m.insert(key, i as u32);
        }
        m.remove("a");
        assert_eq!(m.u32("c").unwrap(), Some(2));
        assert_eq!(m.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["b", "c"]);
    }
}
