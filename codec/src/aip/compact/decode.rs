//! Compact bytes to JSON text.

use super::{
    DEPTH_MAX, Structure, body, head, id, kind, number,
    registry::{INLINE, Seen, name_of, number_of},
};
use crate::{
    error::{DecodeError, Violation},
    moqt::varint,
};

const MALFORMED: DecodeError = DecodeError::Violation(Violation::Compact);

/// The JSON text of the message that `bytes` are, of at most `length_max` bytes.
///
/// # Errors
/// [`DecodeError::Incomplete`] if they end inside it; [`Violation::Compact`] if they are none, or
/// more than one, and [`Violation::RecordTooLong`] if its text would be longer.
pub fn decode(bytes: &[u8], length_max: usize) -> Result<String, DecodeError> {
    let mut decoder = Decoder { rest: bytes, text: String::new(), length_max };
    decoder.message()?;
    if decoder.rest.is_empty() { Ok(decoder.text) } else { Err(MALFORMED) }
}

struct Decoder<'b> {
    rest: &'b [u8],
    text: String,
    length_max: usize,
}

impl<'b> Decoder<'b> {
    fn integer(&mut self) -> Result<u64, DecodeError> {
        let (value, size) = varint::decode(self.rest)?;
        self.rest = &self.rest[size..];
        Ok(value)
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Incomplete)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Incomplete)?;
        self.rest = rest;
        Ok(taken)
    }

    fn string(&mut self, length: u64) -> Result<&'b str, DecodeError> {
        std::str::from_utf8(self.take(length)?).map_err(|_| MALFORMED)
    }

    fn measured_string(&mut self) -> Result<&'b str, DecodeError> {
        let length = self.integer()?;
        self.string(length)
    }

    /// Appends text, unless it is too much.
    fn push(&mut self, text: &str) -> Result<(), DecodeError> {
        if self.length_max < self.text.len() + text.len() {
            return Err(Violation::RecordTooLong.into());
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Appends a string of JSON.
    fn quote(&mut self, string: &str) -> Result<(), DecodeError> {
        self.push("\"")?;
        let mut rest = string;
        while let Some(place) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
            self.push(&rest[..place])?;
            match rest.as_bytes()[place] {
                b'"' => self.push("\\\"")?,
                b'\\' => self.push("\\\\")?,
                b'\n' => self.push("\\n")?,
                b'\r' => self.push("\\r")?,
                b'\t' => self.push("\\t")?,
                0x08 => self.push("\\b")?,
                0x0c => self.push("\\f")?,
                control => self.push(&format!("\\u{control:04x}"))?,
            }
            rest = &rest[place + 1..];
        }
        self.push(rest)?;
        self.push("\"")
    }

    fn message(&mut self) -> Result<(), DecodeError> {
        self.push(r#"{"jsonrpc":"2.0""#)?;
        match self.integer()? {
            kind::REQUEST => {
                if !self.id()? {
                    return Err(MALFORMED);
                }
                self.method()?;
                self.body(r#","params":"#, true)?;
            }
            kind::NOTIFICATION => {
                self.method()?;
                self.body(r#","params":"#, true)?;
            }
            kind::RESULT => {
                self.id()?;
                self.body(r#","result":"#, false)?;
            }
            kind::ERROR => {
                self.id()?;
                self.error()?;
            }
            _ => return Err(MALFORMED),
        }
        self.others()?;
        self.push("}")
    }

    /// Whether there is one.
    fn id(&mut self) -> Result<bool, DecodeError> {
        match self.integer()? {
            id::ABSENT => return Ok(false),
            id::TEXT => {
                let text = self.measured_string()?;
                self.push(r#","id":"#)?;
                self.quote(text)?;
            }
            id::POSITIVE => {
                let number = self.integer()?;
                let number = positive(number)?;
                self.push(&format!(r#","id":{number}"#))?;
            }
            id::NEGATIVE => {
                let number = self.integer()?;
                let number = !positive(number)?;
                self.push(&format!(r#","id":{number}"#))?;
            }
            id::NULL => self.push(r#","id":null"#)?,
            _ => return Err(MALFORMED),
        }
        Ok(true)
    }

    fn method(&mut self) -> Result<(), DecodeError> {
        let method = self.measured_string()?;
        self.push(r#","method":"#)?;
        self.quote(method)
    }

    fn body(&mut self, name: &str, may_be_absent: bool) -> Result<(), DecodeError> {
        let form = self.integer()?;
        if form == body::ABSENT {
            return if may_be_absent { Ok(()) } else { Err(MALFORMED) };
        }
        self.push(name)?;
        if form == body::VALUE {
            return self.measured_value(0);
        }
        self.push("{")?;
        let mut seen = Seen::default();
        for index in 0..form - body::MEMBERS {
            self.name(index == 0, &mut seen)?;
            self.measured_value(1)?;
        }
        self.end_members(seen)
    }

    /// A value with its length before it.
    fn measured_value(&mut self, depth: usize) -> Result<(), DecodeError> {
        let length = self.integer()?;
        let value = self.take(length)?;
        let behind = std::mem::replace(&mut self.rest, value);
        self.value(depth).map_err(|error| error.or_if_incomplete(Violation::Compact))?;
        let left = std::mem::replace(&mut self.rest, behind);
        if left.is_empty() { Ok(()) } else { Err(MALFORMED) }
    }

    fn error(&mut self) -> Result<(), DecodeError> {
        let coded = self.integer()?;
        let code = positive(coded >> 1)?;
        let code = if coded & 1 == 0 { code } else { !code };
        let reason = self.measured_string()?;
        self.push(&format!(r#","error":{{"code":{code},"message":"#))?;
        self.quote(reason)?;
        let count = self.integer()?;
        let mut seen = Seen::default();
        for _ in 0..count {
            let name = self.name(false, &mut seen)?;
            if matches!(name, "code" | "message") {
                return Err(MALFORMED);
            }
            self.value(1)?;
        }
        self.end_members(seen)
    }

    /// Members of the message that JSON-RPC does not know.
    fn others(&mut self) -> Result<(), DecodeError> {
        let count = self.integer()?;
        let mut seen = Seen::default();
        for _ in 0..count {
            let name = self.name(false, &mut seen)?;
            if matches!(name, "jsonrpc" | "id" | "method" | "params" | "result" | "error") {
                return Err(MALFORMED);
            }
            self.value(1)?;
        }
        if seen.are_distinct() { Ok(()) } else { Err(MALFORMED) }
    }

    /// A member's name, after a comma unless it is the `first`.
    fn name(&mut self, first: bool, seen: &mut Seen<&'b str>) -> Result<&'b str, DecodeError> {
        let number = self.integer()?;
        let name = match name_of(number) {
            Some(name) => {
                seen.number(number);
                name
            }
            None => {
                let name = self.string(number - INLINE)?;
                match number_of(name) {
                    Some(number) => seen.number(number),
                    None => seen.name(name),
                }
                name
            }
        };
        if !first {
            self.push(",")?;
        }
        self.quote(name)?;
        self.push(":")?;
        Ok(name)
    }

    fn end_members(&mut self, seen: Seen<&'b str>) -> Result<(), DecodeError> {
        if !seen.are_distinct() {
            return Err(MALFORMED);
        }
        self.push("}")
    }

    fn value(&mut self, depth: usize) -> Result<(), DecodeError> {
        let first = *self.take(1)?.first().ok_or(DecodeError::Incomplete)?;
        match first {
            small @ 0..head::INTEGERS => self.push(&small.to_string()),
            head::STRING..head::OBJECT => {
                let string = self.string(u64::from(first - head::STRING))?;
                self.quote(string)
            }
            head::OBJECT..head::ARRAY => self.object(u64::from(first - head::OBJECT), depth),
            head::ARRAY..head::NULL => self.array(u64::from(first - head::ARRAY), depth),
            head::NULL => self.push("null"),
            head::FALSE => self.push("false"),
            head::TRUE => self.push("true"),
            head::POSITIVE => {
                let number = self.integer()?;
                self.push(&positive(number)?.to_string())
            }
            head::NEGATIVE => {
                let number = self.integer()?;
                self.push(&(!positive(number)?).to_string())
            }
            head::FLOAT => self.float(),
            head::LONG_STRING => {
                let string = self.measured_string()?;
                self.quote(string)
            }
            head::LONG_ARRAY => {
                let count = self.integer()?;
                self.array(count, depth)
            }
            head::LONG_OBJECT => {
                let count = self.integer()?;
                self.object(count, depth)
            }
            head::TOOL => self.structure(Structure::Tool, depth),
            head::PROMPT => self.structure(Structure::Prompt, depth),
            head::RESOURCE => self.structure(Structure::Resource, depth),
            _ => Err(MALFORMED),
        }
    }

    fn float(&mut self) -> Result<(), DecodeError> {
        let bytes = self.take(8)?;
        let bytes: [u8; 8] = bytes.try_into().map_err(|_| DecodeError::Incomplete)?;
        let float = f64::from_be_bytes(bytes);
        if !float.is_finite() {
            return Err(MALFORMED);
        }
        self.push(&number::text_of(float))
    }

    fn array(&mut self, count: u64, depth: usize) -> Result<(), DecodeError> {
        let depth = deeper(depth)?;
        self.push("[")?;
        for index in 0..count {
            if index != 0 {
                self.push(",")?;
            }
            self.value(depth)?;
        }
        self.push("]")
    }

    fn object(&mut self, count: u64, depth: usize) -> Result<(), DecodeError> {
        self.push("{")?;
        self.members(count, depth, true, Seen::default())
    }

    fn members(
        &mut self,
        count: u64,
        depth: usize,
        none_before: bool,
        mut seen: Seen<&'b str>,
    ) -> Result<(), DecodeError> {
        let depth = deeper(depth)?;
        for index in 0..count {
            self.name(none_before && index == 0, &mut seen)?;
            self.value(depth)?;
        }
        self.end_members(seen)
    }

    fn structure(&mut self, structure: Structure, depth: usize) -> Result<(), DecodeError> {
        let named = self.measured_string()?;
        self.push("{")?;
        self.quote(structure.first())?;
        self.push(":")?;
        self.quote(named)?;
        let count = self.integer()?;
        let mut seen = Seen::default();
        seen.number(number_of(structure.first()).unwrap_or(0));
        self.members(count, depth, false, seen)
    }
}

/// A number that a signed one can be.
fn positive(number: u64) -> Result<i64, DecodeError> {
    i64::try_from(number).map_err(|_| MALFORMED)
}

const fn deeper(depth: usize) -> Result<usize, DecodeError> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(MALFORMED) }
}
