//! JSON text, token by token. It is checked as far as it is read.

use std::borrow::Cow;

use super::{
    encode::Unencodable,
    number::{self, Number},
};

/// A place in JSON text.
#[derive(Clone, Debug)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// What a value begins with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Null,
    False,
    True,
    Number(Number),
    String(Cow<'a, str>),
    /// Members follow.
    Object,
    /// Values follow.
    Array,
}

impl<'a> Scan<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let blank = rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    /// Goes past this byte if it is next.
    pub(super) fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unencodable> {
        if self.skip(byte) { Ok(()) } else { Err(Unencodable::NotJson) }
    }

    /// Nothing but white space follows.
    pub(super) fn end(&mut self) -> Result<(), Unencodable> {
        if self.peek().is_none() { Ok(()) } else { Err(Unencodable::NotJson) }
    }

    /// What the next value begins with, or is.
    pub(super) fn token(&mut self) -> Result<Token<'a>, Unencodable> {
        match self.peek().ok_or(Unencodable::NotJson)? {
            b'{' => self.past(Token::Object),
            b'[' => self.past(Token::Array),
            b'"' => self.string().map(Token::String),
            b'n' => self.word("null", Token::Null),
            b'f' => self.word("false", Token::False),
            b't' => self.word("true", Token::True),
            b'-' | b'0'..=b'9' => self.number().map(Token::Number),
            _ => Err(Unencodable::NotJson),
        }
    }

    const fn past(&mut self, token: Token<'a>) -> Result<Token<'a>, Unencodable> {
        self.at += 1;
        Ok(token)
    }

    fn word(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, Unencodable> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Unencodable::NotJson);
        }
        self.at += word.len();
        Ok(token)
    }

    /// Whether another value or member follows in the array or object that `close` ends. `first`:
    /// none came yet.
    pub(super) fn goes_on(&mut self, close: u8, first: bool) -> Result<bool, Unencodable> {
        if self.skip(close) {
            return Ok(false);
        }
        if !first {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// A member's name and its colon.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, Unencodable> {
        if self.peek() != Some(b'"') {
            return Err(Unencodable::NotJson);
        }
        let name = self.string()?;
        self.expect(b':')?;
        Ok(name)
    }

    fn number(&mut self) -> Result<Number, Unencodable> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|b| b.is_ascii_digit() || b"+-.eE".contains(b));
        let literal = &rest[..length.count()];
        if !is_number(literal) {
            return Err(Unencodable::NotJson);
        }
        self.at += literal.len();
        number::of_literal(literal).ok_or(Unencodable::Number)
    }

    /// A string, from its first quotation mark on.
    fn string(&mut self) -> Result<Cow<'a, str>, Unencodable> {
        let start = self.at + 1;
        let plain = self.plain(start)?;
        if self.text.as_bytes()[plain] == b'"' {
            self.at = plain + 1;
            return Ok(Cow::Borrowed(&self.text[start..plain]));
        }
        let mut string = self.text[start..plain].to_owned();
        let mut at = plain;
        while self.text.as_bytes()[at] == b'\\' {
            at = self.escape(at + 1, &mut string)?;
            let end = self.plain(at)?;
            string.push_str(&self.text[at..end]);
            at = end;
        }
        self.at = at + 1;
        Ok(Cow::Owned(string))
    }

    /// Where the characters from `start` on end that stand for themselves: at `"` or `\`.
    fn plain(&self, start: usize) -> Result<usize, Unencodable> {
        let rest = self.text.as_bytes().get(start..).ok_or(Unencodable::NotJson)?;
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        let end = start + length.ok_or(Unencodable::NotJson)?;
        if self.text.as_bytes()[end] < 0x20 { Err(Unencodable::NotJson) } else { Ok(end) }
    }

    /// What stands behind a backslash; where it ends.
    fn escape(&self, at: usize, string: &mut String) -> Result<usize, Unencodable> {
        let plain = match self.text.as_bytes().get(at).ok_or(Unencodable::NotJson)? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(at + 1, string),
            _ => return Err(Unencodable::NotJson),
        };
        string.push(plain);
        Ok(at + 1)
    }

    fn unicode(&self, at: usize, string: &mut String) -> Result<usize, Unencodable> {
        let first = self.hexadecimal(at)?;
        if let Some(character) = char::from_u32(first) {
            string.push(character);
            return Ok(at + 4);
        }
        // Half of a character: the other half follows, or it is none.
        let follows = self.text.get(at + 4..at + 6) == Some("\\u");
        let second = if follows { self.hexadecimal(at + 6)? } else { 0 };
        if first < 0xdc00 && (0xdc00..0xe000).contains(&second) {
            let code = 0x1_0000 + (first - 0xd800) * 0x400 + (second - 0xdc00);
            string.push(char::from_u32(code).ok_or(Unencodable::NotText)?);
            return Ok(at + 10);
        }
        Err(Unencodable::NotText)
    }

    fn hexadecimal(&self, at: usize) -> Result<u32, Unencodable> {
        let digits = self.text.get(at..at + 4).ok_or(Unencodable::NotJson)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Unencodable::NotJson);
        }
        u32::from_str_radix(digits, 16).map_err(|_| Unencodable::NotJson)
    }
}

/// Whether this is a number as JSON writes it.
fn is_number(literal: &str) -> bool {
    let rest = literal.strip_prefix('-').unwrap_or(literal);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(rest);
    if whole == 0 || (1 < whole && rest.starts_with('0')) {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}
