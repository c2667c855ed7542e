//! Numbers of JSON: which of them an integer or a float says exactly.

/// A number that can be said exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    Float(f64),
}

/// The number that a literal of JSON is; `None` if neither form has its value.
pub(super) fn of_literal(literal: &str) -> Option<Number> {
    if !literal.contains(['.', 'e', 'E']) && literal != "-0" {
        return literal.parse().ok().map(Number::Integer);
    }
    let float: f64 = literal.parse().ok().filter(|float: &f64| float.is_finite())?;
    let written = text_of(float);
    (Digits::of(literal)? == Digits::of(&written)?).then_some(Number::Float(float))
}

/// A float as JSON text: the shortest that is read as the same float.
pub(super) fn text_of(float: f64) -> String {
    format!("{float:?}")
}

/// A decimal number: sign, digits without zeros at either end, and the power of ten of the last.
#[derive(Debug, Eq, PartialEq)]
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Digits {
    fn of(literal: &str) -> Option<Self> {
        let (mantissa, exponent) = match literal.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (literal, 0),
        };
        let negative = mantissa.starts_with('-');
        let mantissa = mantissa.trim_start_matches('-');
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let mut exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        while digits.last() == Some(&b'0') {
            digits.pop();
            exponent = exponent.checked_add(1)?;
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        if digits.is_empty() {
            exponent = 0;
        }
        Some(Self { negative, digits, exponent })
    }
}
