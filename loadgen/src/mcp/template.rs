//! `{{…}}` in arguments.

use serde_json::{Map, Value};

use super::schema::word;

/// What templates may say of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) sequence: u64,
    pub(super) agent: usize,
}

/// The arguments with every template filled in. The same seed and facts give the same, and so does
/// the same template anywhere in one request: what is expected of the answer can name it again.
pub(super) fn fill(arguments: &Map<String, Value>, facts: Facts, seed: u64) -> Map<String, Value> {
    arguments.iter().map(|(key, value)| (key.clone(), value_of(value, facts, seed))).collect()
}

fn value_of(value: &Value, facts: Facts, seed: u64) -> Value {
    match value {
        Value::String(text) => {
            let filled = fill_text(text, facts, seed);
            // A string that is one number's template is a number.
            let alone = text.starts_with("{{int:") && text.find("}}") == Some(text.len() - 2);
            match filled.parse::<i64>() {
                Ok(number) if alone => Value::from(number),
                _ => Value::String(filled),
            }
        }
        Value::Array(all) => all.iter().map(|value| value_of(value, facts, seed)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.clone(), value_of(value, facts, seed))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A text with every template filled in.
pub(super) fn fill_text(text: &str, facts: Facts, seed: u64) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, after)) = after.split_once("}}") else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        match one(name.trim(), facts, seed) {
            Some(value) => filled.push_str(&value),
            // What is not known stands as it was: it may be the tool's own.
            None => filled.push_str(&format!("{{{{{name}}}}}")),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// The longest text that a template makes.
const TEXT_MAX: u64 = 16 << 20;

fn one(name: &str, facts: Facts, seed: u64) -> Option<String> {
    match name {
        "sequence" => return Some(facts.sequence.to_string()),
        "agent" => return Some(facts.agent.to_string()),
        _ => {}
    }
    let which = u64::from(crc32fast::hash(name.as_bytes())) << 32;
    let request = facts.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = fastrand::Rng::with_seed(seed ^ request ^ which);
    if let Some(length) = name.strip_prefix("text:") {
        let (from, to) = length.split_once("..").unwrap_or((length, length));
        let (from, to) = (from.parse::<u64>().ok()?, to.parse::<u64>().ok()?);
        if to < from || TEXT_MAX < to {
            return None;
        }
        let length = usize::try_from(random.u64(from..=to)).ok()?;
        return Some(word(&mut random, length));
    }
    let (from, to) = name.strip_prefix("int:")?.split_once("..")?;
    let (from, to) = (from.parse::<i64>().ok()?, to.parse::<i64>().ok()?);
    (from <= to).then(|| random.i64(from..=to).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FACTS: Facts = Facts { sequence: 42, agent: 7 };

    #[test]
    fn templates_are_filled_in() {
        let arguments = json!({
            "text": "n{{sequence}} of {{ agent }}",
            "number": "{{int:5..5}}",
            "long": ["{{text:300}}"],
            "other": {"kept": "{{mustache}} {{", "is": true}
        });
        let filled = fill(arguments.as_object().unwrap(), FACTS, 1);
        assert_eq!(filled["text"], "n42 of 7");
        assert_eq!(filled["number"], 5);
        assert_eq!(filled["long"][0].as_str().unwrap().len(), 300);
        assert_eq!(filled["other"], json!({"kept": "{{mustache}} {{", "is": true}));
        assert_eq!(filled, fill(arguments.as_object().unwrap(), FACTS, 1));
        let next = Facts { sequence: 43, ..FACTS };
        assert_ne!(filled["long"], fill(arguments.as_object().unwrap(), next, 1)["long"]);
    }

    #[test]
    fn what_is_sent_can_be_expected_again() {
        let arguments = json!({"a": "{{int:1..9}} {{text:5..900}}", "b": "{{text:8}}"});
        let mut lengths = std::collections::BTreeSet::new();
        for sequence in 0..200 {
            let facts = Facts { sequence, ..FACTS };
            let filled = fill(arguments.as_object().unwrap(), facts, 3);
            let expected = fill_text("{{text:5..900}}", facts, 3);
            assert!((5..=900).contains(&expected.len()));
            assert!(filled["a"].as_str().unwrap().ends_with(&expected));
            assert_eq!(filled["b"], fill_text("{{text:8}}", facts, 3));
            lengths.insert(expected.len());
        }
        assert!(100 < lengths.len(), "sizes vary");
        assert_eq!(fill_text("{{text:9..1}}", FACTS, 3), "{{text:9..1}}", "no template at all");
    }
}
