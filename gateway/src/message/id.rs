//! The id of a request.

use std::hash::{Hash, Hasher};

/// A request's id, as it was written: a string or an integer.
///
/// Two ids are equal if they have the same value, however it is written.
#[derive(Clone, Debug)]
pub struct Id {
    raw: Box<str>,
    value: Value,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Value {
    Integer(i128),
    Text(Box<str>),
}

impl Id {
    /// The id that this JSON text is; `None` if it is neither a string nor an integer.
    pub fn from_raw(raw: &str) -> Option<Self> {
        let value = if raw.starts_with('"') {
            Value::Text(serde_json::from_str(raw).ok()?)
        } else {
            Value::Integer(raw.parse().ok()?)
        };
        Some(Self { raw: raw.into(), value })
    }

    /// An id of our own.
    pub fn from_number(number: u64) -> Self {
        Self { raw: number.to_string().into(), value: Value::Integer(number.into()) }
    }

    /// As JSON text.
    pub const fn as_raw(&self) -> &str {
        &self.raw
    }

    /// As the number that [`Id::from_number`] was given.
    pub fn as_number(&self) -> Option<u64> {
        match &self.value {
            Value::Integer(integer) => u64::try_from(*integer).ok(),
            Value::Text(_) => None,
        }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}
