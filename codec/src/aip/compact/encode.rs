//! JSON text to compact bytes.

use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};

use super::{
    DEPTH_MAX, Structure, body, head, id, kind,
    number::Number,
    registry::{INLINE, Seen, number_of},
    scan::{Scan, Token},
};
use crate::moqt::varint;

/// Why a text has no compact form that would come back as the same value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unencodable {
    /// It is no JSON.
    #[error("it is no JSON")]
    NotJson,
    /// It is no JSON-RPC 2.0 message.
    #[error("it is no JSON-RPC 2.0 message")]
    NotMessage,
    /// A member of an object stands twice.
    #[error("a member stands twice")]
    Twice,
    /// A number that neither a 64-bit integer nor a 64-bit float says exactly.
    #[error("a number is neither a 64-bit integer nor exactly a 64-bit float")]
    Number,
    /// A string with half a character.
    #[error("a string is no valid Unicode")]
    NotText,
    /// Arrays and objects deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

/// Appends the compact form of a JSON-RPC message.
///
/// # Errors
/// If it has none; `out` is as it was.
pub fn encode(text: &str, out: &mut BytesMut) -> Result<(), Unencodable> {
    let start = out.len();
    let encoded = Envelope::of(text).and_then(|envelope| envelope.encode(&mut Encoder { out }));
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

/// The members of a message, each at the beginning of its value.
#[derive(Default)]
struct Envelope<'a> {
    version: Option<Scan<'a>>,
    id: Option<Scan<'a>>,
    method: Option<Scan<'a>>,
    params: Option<Scan<'a>>,
    result: Option<Scan<'a>>,
    error: Option<Scan<'a>>,
    others: Vec<(Cow<'a, str>, Scan<'a>)>,
}

impl<'a> Envelope<'a> {
    fn of(text: &'a str) -> Result<Self, Unencodable> {
        let mut scan = Scan::new(text);
        if !scan.skip(b'{') {
            return Err(Unencodable::NotMessage);
        }
        let mut envelope = Self::default();
        let mut first = true;
        while scan.goes_on(b'}', first)? {
            first = false;
            let name = scan.name()?;
            let value = scan.clone();
            pass(&mut scan, 0)?;
            let known = match &*name {
                "jsonrpc" => &mut envelope.version,
                "id" => &mut envelope.id,
                "method" => &mut envelope.method,
                "params" => &mut envelope.params,
                "result" => &mut envelope.result,
                "error" => &mut envelope.error,
                _ => {
                    envelope.others.push((name, value));
                    continue;
                }
            };
            if known.replace(value).is_some() {
                return Err(Unencodable::Twice);
            }
        }
        scan.end()?;
        Ok(envelope)
    }

    fn encode(mut self, out: &mut Encoder<'_>) -> Result<(), Unencodable> {
        let version = self.version.as_mut().ok_or(Unencodable::NotMessage)?;
        if version.token()? != Token::String(Cow::Borrowed("2.0")) {
            return Err(Unencodable::NotMessage);
        }
        match (self.method, self.params, self.result, self.error) {
            (Some(mut method), params, None, None) => {
                let is_request = self.id.is_some();
                out.integer(if is_request { kind::REQUEST } else { kind::NOTIFICATION });
                if is_request {
                    out.id(self.id)?;
                }
                let Token::String(method) = method.token()? else {
                    return Err(Unencodable::NotMessage);
                };
                out.bytes(&method);
                out.body(params, false)?;
            }
            (None, None, Some(result), None) => {
                out.integer(kind::RESULT);
                out.id(self.id)?;
                out.body(Some(result), true)?;
            }
            (None, None, None, Some(error)) => {
                out.integer(kind::ERROR);
                out.id(self.id)?;
                out.error(error)?;
            }
            _ => return Err(Unencodable::NotMessage),
        }
        out.integer(self.others.len() as u64);
        let mut seen = Seen::default();
        for (name, mut value) in self.others {
            out.name(name, &mut seen);
            out.value(&mut value, 1, None)?;
        }
        if seen.are_distinct() { Ok(()) } else { Err(Unencodable::Twice) }
    }
}

/// Goes past a value.
fn pass(scan: &mut Scan<'_>, depth: usize) -> Result<(), Unencodable> {
    if DEPTH_MAX < depth {
        return Err(Unencodable::TooDeep);
    }
    let close = match scan.token()? {
        Token::Object => b'}',
        Token::Array => b']',
        Token::Null | Token::False | Token::True | Token::Number(_) | Token::String(_) => {
            return Ok(());
        }
    };
    let mut first = true;
    while scan.goes_on(close, first)? {
        first = false;
        if close == b'}' {
            scan.name()?;
        }
        pass(scan, depth + 1)?;
    }
    Ok(())
}

struct Encoder<'o> {
    out: &'o mut BytesMut,
}

impl Encoder<'_> {
    fn integer(&mut self, integer: u64) {
        varint::encode(integer, self.out);
    }

    fn bytes(&mut self, text: &str) {
        self.integer(text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Puts what `insert` writes before everything from `start` on.
    fn insert(&mut self, start: usize, insert: impl FnOnce(&mut Self)) {
        let end = self.out.len();
        insert(self);
        let inserted = self.out.len() - end;
        self.out[start..].rotate_right(inserted);
    }

    fn id(&mut self, id: Option<Scan<'_>>) -> Result<(), Unencodable> {
        let Some(mut id) = id else {
            self.integer(id::ABSENT);
            return Ok(());
        };
        match id.token()? {
            Token::Null => self.integer(id::NULL),
            Token::String(text) => {
                self.integer(id::TEXT);
                self.bytes(&text);
            }
            Token::Number(Number::Integer(number)) => {
                let negative = number < 0;
                self.integer(if negative { id::NEGATIVE } else { id::POSITIVE });
                self.integer(magnitude(number));
            }
            _ => return Err(Unencodable::NotMessage),
        }
        Ok(())
    }

    /// `params` or a result: each member's value with its length before it.
    fn body(&mut self, body: Option<Scan<'_>>, is_result: bool) -> Result<(), Unencodable> {
        let Some(mut scan) = body else {
            self.integer(body::ABSENT);
            return Ok(());
        };
        if !scan.skip(b'{') {
            self.integer(body::VALUE);
            return self.measured(|out| out.value(&mut scan, 0, None));
        }
        let start = self.out.len();
        let (mut count, mut seen) = (0, Seen::default());
        while scan.goes_on(b'}', count == 0)? {
            count += 1;
            let name = scan.name()?;
            let list = if is_result { Structure::of_list(&name) } else { None };
            self.name(name, &mut seen);
            self.measured(|out| out.value(&mut scan, 1, list))?;
        }
        self.insert(start, |out| out.integer(body::MEMBERS + count));
        if seen.are_distinct() { Ok(()) } else { Err(Unencodable::Twice) }
    }

    /// Code and reason, then the other members.
    fn error(&mut self, error: Scan<'_>) -> Result<(), Unencodable> {
        let mut scan = error.clone();
        let (mut code, mut reason) = (None, None);
        if !scan.skip(b'{') {
            return Err(Unencodable::NotMessage);
        }
        let mut first = true;
        while scan.goes_on(b'}', first)? {
            first = false;
            let name = scan.name()?;
            let twice = match (&*name, scan.clone().token()?) {
                ("code", Token::Number(Number::Integer(number))) => code.replace(number).is_some(),
                ("message", Token::String(text)) => reason.replace(text).is_some(),
                ("code" | "message", _) => return Err(Unencodable::NotMessage),
                _ => false,
            };
            if twice {
                return Err(Unencodable::Twice);
            }
            pass(&mut scan, 1)?;
        }
        let (Some(code), Some(reason)) = (code, reason) else {
            return Err(Unencodable::NotMessage);
        };
        // The sign in the last bit.
        self.integer((magnitude(code) << 1) | u64::from(code < 0));
        self.bytes(&reason);
        let mut scan = error;
        scan.skip(b'{');
        let start = self.out.len();
        let (mut count, mut first, mut seen) = (0, true, Seen::default());
        while scan.goes_on(b'}', first)? {
            first = false;
            let name = scan.name()?;
            if matches!(&*name, "code" | "message") {
                pass(&mut scan, 1)?;
                continue;
            }
            count += 1;
            self.name(name, &mut seen);
            self.value(&mut scan, 1, None)?;
        }
        self.insert(start, |out| out.integer(count));
        if seen.are_distinct() { Ok(()) } else { Err(Unencodable::Twice) }
    }

    /// What `write` writes, with its length before it.
    fn measured(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), Unencodable>,
    ) -> Result<(), Unencodable> {
        let start = self.out.len();
        write(self)?;
        let length = (self.out.len() - start) as u64;
        self.insert(start, |out| out.integer(length));
        Ok(())
    }

    fn name<'a>(&mut self, name: Cow<'a, str>, seen: &mut Seen<Cow<'a, str>>) {
        if let Some(number) = number_of(&name) {
            self.integer(number);
            seen.number(number);
            return;
        }
        self.integer(INLINE + name.len() as u64);
        self.out.extend_from_slice(name.as_bytes());
        seen.name(name);
    }

    fn value(
        &mut self,
        scan: &mut Scan<'_>,
        depth: usize,
        list: Option<Structure>,
    ) -> Result<(), Unencodable> {
        match scan.token()? {
            Token::Null => self.out.put_u8(head::NULL),
            Token::False => self.out.put_u8(head::FALSE),
            Token::True => self.out.put_u8(head::TRUE),
            Token::Number(number) => self.number(number),
            Token::String(string) => self.string(&string),
            Token::Array => return self.array(scan, depth, list),
            Token::Object => return self.object(scan, depth),
        }
        Ok(())
    }

    fn number(&mut self, number: Number) {
        match number {
            Number::Integer(integer) => {
                if let Some(small) = u8::try_from(integer).ok().filter(|n| *n < head::INTEGERS) {
                    return self.out.put_u8(small);
                }
                let negative = integer < 0;
                self.out.put_u8(if negative { head::NEGATIVE } else { head::POSITIVE });
                self.integer(magnitude(integer));
            }
            Number::Float(float) => {
                self.out.put_u8(head::FLOAT);
                self.out.put_f64(float);
            }
        }
    }

    fn string(&mut self, string: &str) {
        match u8::try_from(string.len()) {
            Ok(length) if length < head::OBJECT - head::STRING => {
                self.out.put_u8(head::STRING + length);
                self.out.extend_from_slice(string.as_bytes());
            }
            _ => {
                self.out.put_u8(head::LONG_STRING);
                self.bytes(string);
            }
        }
    }

    fn array(
        &mut self,
        scan: &mut Scan<'_>,
        depth: usize,
        list: Option<Structure>,
    ) -> Result<(), Unencodable> {
        let (start, depth) = (self.out.len(), deeper(depth)?);
        let mut count = 0u64;
        while scan.goes_on(b']', count == 0)? {
            count += 1;
            match list {
                Some(structure) if self.structure(scan, depth, structure)? => {}
                _ => self.value(scan, depth, None)?,
            }
        }
        self.counted(start, count, head::ARRAY, head::LONG_ARRAY);
        Ok(())
    }

    fn object(&mut self, scan: &mut Scan<'_>, depth: usize) -> Result<(), Unencodable> {
        let start = self.out.len();
        let count = self.members(scan, depth, true, Seen::default())?;
        self.counted(start, count, head::OBJECT, head::LONG_OBJECT);
        Ok(())
    }

    /// The members of an object up to its end; how many they are.
    fn members<'a>(
        &mut self,
        scan: &mut Scan<'a>,
        depth: usize,
        mut first: bool,
        mut seen: Seen<Cow<'a, str>>,
    ) -> Result<u64, Unencodable> {
        let depth = deeper(depth)?;
        let mut count = 0u64;
        while scan.goes_on(b'}', first)? {
            (first, count) = (false, count + 1);
            self.name(scan.name()?, &mut seen);
            self.value(scan, depth, None)?;
        }
        if seen.are_distinct() { Ok(count) } else { Err(Unencodable::Twice) }
    }

    /// A structure, if that is next: an object whose first member names it. Whether it was.
    fn structure(
        &mut self,
        scan: &mut Scan<'_>,
        depth: usize,
        structure: Structure,
    ) -> Result<bool, Unencodable> {
        let mut ahead = scan.clone();
        if !ahead.skip(b'{') || !ahead.goes_on(b'}', true)? || ahead.name()? != structure.first() {
            return Ok(false);
        }
        let Token::String(named) = ahead.token()? else { return Ok(false) };
        self.out.put_u8(structure.head());
        self.bytes(&named);
        let mut seen = Seen::default();
        seen.number(number_of(structure.first()).unwrap_or(0));
        let start = self.out.len();
        let count = self.members(&mut ahead, depth, false, seen)?;
        self.insert(start, |out| out.integer(count));
        *scan = ahead;
        Ok(true)
    }

    /// Puts a head with a count before what was written from `start` on.
    fn counted(&mut self, start: usize, count: u64, short: u8, long: u8) {
        self.insert(start, |out| match u8::try_from(count) {
            Ok(count) if count < 0x20 => out.out.put_u8(short + count),
            _ => {
                out.out.put_u8(long);
                out.integer(count);
            }
        });
    }
}

/// n, or -1 - n if that is negative.
const fn magnitude(number: i64) -> u64 {
    (if number < 0 { !number } else { number }).cast_unsigned()
}

const fn deeper(depth: usize) -> Result<usize, Unencodable> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(Unencodable::TooDeep) }
}
