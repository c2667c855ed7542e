//! Looking into JSON text without rewriting it.

use std::{collections::HashSet, fmt, ops::Range};

use serde::{
    Deserialize as _, Deserializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A member of an object, and where its value stands in the object's text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member<'a> {
    /// Its name, unescaped.
    pub name: String,
    /// Its value as JSON text.
    pub value: &'a str,
    /// Where the value stands in the text that was looked into.
    pub span: Range<usize>,
}

/// The members of the object that `text` is, in order. `None` if it is no object or has a member
/// twice. An empty text is an object without members.
pub fn object_members(text: &str) -> Option<Vec<Member<'_>>> {
    struct Members<'a>(&'a str);

    impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
        type Value = Vec<Member<'de>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            let mut names = HashSet::new();
            while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                if !names.insert(name.clone()) {
                    return Err(serde::de::Error::custom("a member twice"));
                }
                let value = value.get();
                members.push(Member { name, value, span: span_in(self.0, value) });
            }
            Ok(members)
        }
    }

    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = (&mut deserializer).deserialize_map(Members(text)).ok()?;
    deserializer.end().ok()?;
    Some(members)
}

/// The values of the array that `text` is, each with where it stands. `None` if it is no array.
pub fn array_items(text: &str) -> Option<Vec<(Range<usize>, &str)>> {
    let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(items.into_iter().map(|item| (span_in(text, item.get()), item.get())).collect())
}

/// The value of a member that is a string.
pub fn string_member(text: &str, name: &str) -> Option<String> {
    let members = object_members(text)?;
    let member = members.iter().find(|member| member.name == name)?;
    serde_json::from_str(member.value).ok()
}

/// A member of `_meta` of this object, its span counted in the object's text.
pub fn meta<'a>(text: &'a str, name: &str) -> Option<Member<'a>> {
    let outer = object_members(text)?.into_iter().find(|member| member.name == "_meta")?;
    let inner = object_members(outer.value)?.into_iter().find(|member| member.name == name)?;
    let span = outer.span.start + inner.span.start..outer.span.start + inner.span.end;
    Some(Member { span, ..inner })
}

/// Where `part`, a slice of `whole`, stands in it.
pub(super) fn span_in(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    debug_assert!(start + part.len() <= whole.len(), "not a part of the text");
    start..start + part.len()
}

/// A string as JSON text.
pub(super) fn quoted(string: &str) -> String {
    serde_json::Value::from(string).to_string()
}

/// How deep arrays and objects stand within one another. Right for JSON; for other text, any number.
pub(super) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' => return,
            _ => {}
        }
    }
}

/// A member that is there, `null` too.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
