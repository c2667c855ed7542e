//! `{{…}}` in arguments.

use serde_json::{Map, Value};

use super::schema::word;

/// What templates may say of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) sequence: u64,
    pub(super) agent: usize,
}

/// The arguments with every template filled in. The same seed and facts give the same.
pub(super) fn fill(arguments: &Map<String, Value>, facts: Facts, seed: u64) -> Map<String, Value> {
    let mut random = fastrand::Rng::with_seed(seed ^ facts.sequence.wrapping_mul(0x9e37_79b9));
    arguments
        .iter()
        .map(|(key, value)| (key.clone(), value_of(value, facts, &mut random)))
        .collect()
}

/// A text with every template filled in.
pub(super) fn fill_text(text: &str, facts: Facts, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed ^ facts.sequence.wrapping_mul(0x9e37_79b9));
    text_of(text, facts, &mut random)
}

fn value_of(value: &Value, facts: Facts, random: &mut fastrand::Rng) -> Value {
    match value {
        Value::String(text) => {
            let filled = text_of(text, facts, random);
            // A string that is one number's template is a number.
            let alone = text.starts_with("{{int:") && text.find("}}") == Some(text.len() - 2);
            match filled.parse::<i64>() {
                Ok(number) if alone => Value::from(number),
                _ => Value::String(filled),
            }
        }
        Value::Array(all) => all.iter().map(|value| value_of(value, facts, random)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key.clone(), value_of(value, facts, random)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn text_of(text: &str, facts: Facts, random: &mut fastrand::Rng) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, after)) = after.split_once("}}") else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        match one(name.trim(), facts, random) {
            Some(value) => filled.push_str(&value),
            // What is not known stands as it was: it may be the tool's own.
            None => filled.push_str(&format!("{{{{{name}}}}}")),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn one(name: &str, facts: Facts, random: &mut fastrand::Rng) -> Option<String> {
    match name {
        "sequence" => return Some(facts.sequence.to_string()),
        "agent" => return Some(facts.agent.to_string()),
        _ => {}
    }
    if let Some(length) = name.strip_prefix("text:") {
        let length = length.parse().ok().filter(|length| *length <= 16 << 20)?;
        return Some(word(random, length));
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
}
