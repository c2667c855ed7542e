//! Arguments for a tool, made from its JSON Schema.

use serde_json::{Map, Value, json};

/// How deep arguments are made; deeper is null or empty.
const DEPTH_MAX: usize = 8;
/// Characters of a string for which the schema says nothing.
const WORD: usize = 12;

/// A value that a schema allows, as far as the usual keywords say; the same seed makes the same.
///
/// Known: `const`, `enum`, `default`, `examples`, `type` (also several), `properties`, `required`,
/// `items`, `minItems`, `minLength`, `maxLength`, `minimum`, `maximum`, `exclusiveMinimum`,
/// `exclusiveMaximum`, `multipleOf`, `format`, `anyOf`, `oneOf`, `allOf` and `$ref` within the
/// schema. Members that are not required are left out: what they do is not known.
pub fn generate(schema: &Value, random: &mut fastrand::Rng) -> Value {
    value(schema, schema, random, 0)
}

fn value(schema: &Value, root: &Value, random: &mut fastrand::Rng, depth: usize) -> Value {
    if DEPTH_MAX < depth {
        return Value::Null;
    }
    let Value::Object(members) = schema else {
        // `true` allows anything.
        return json!(word(random, WORD));
    };
    if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
        let found = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(Value::Null, |schema| value(schema, root, random, depth + 1));
    }
    if let Some(only) = members.get("const").or_else(|| members.get("default")) {
        return only.clone();
    }
    for list in ["enum", "examples"] {
        if let Some(Value::Array(all)) = members.get(list)
            && let Some(one) = random.choice(all)
        {
            return one.clone();
        }
    }
    for list in ["anyOf", "oneOf"] {
        if let Some(Value::Array(all)) = members.get(list)
            && let Some(first) = all.first()
        {
            return value(first, root, random, depth + 1);
        }
    }
    if let Some(Value::Array(all)) = members.get("allOf") {
        let mut whole = members.clone();
        whole.remove("allOf");
        for part in all.iter().filter_map(Value::as_object) {
            merge(&mut whole, part);
        }
        return value(&Value::Object(whole), root, random, depth + 1);
    }
    typed(members, root, random, depth)
}

/// Adds a part of `allOf` to the whole.
fn merge(whole: &mut Map<String, Value>, part: &Map<String, Value>) {
    for (key, value) in part {
        match (whole.get_mut(key), value) {
            (Some(Value::Object(before)), Value::Object(more)) => {
                before.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            (Some(Value::Array(before)), Value::Array(more)) => before.extend(more.iter().cloned()),
            _ => _ = whole.insert(key.clone(), value.clone()),
        }
    }
}

fn typed(
    members: &Map<String, Value>,
    root: &Value,
    random: &mut fastrand::Rng,
    depth: usize,
) -> Value {
    let named = match members.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => names.first().and_then(Value::as_str).unwrap_or("null"),
        _ if members.contains_key("properties") => "object",
        _ if members.contains_key("items") => "array",
        _ => "string",
    };
    match named {
        "object" => object(members, root, random, depth),
        "array" => {
            let least = members.get("minItems").and_then(Value::as_u64).unwrap_or(1).min(1_000);
            let any = Value::Bool(true);
            let items = members.get("items").unwrap_or(&any);
            (0..least).map(|_| value(items, root, random, depth + 1)).collect()
        }
        "integer" => number(members, random, true),
        "number" => number(members, random, false),
        "boolean" => json!(random.bool()),
        "null" => Value::Null,
        _ => string(members, random),
    }
}

fn object(
    members: &Map<String, Value>,
    root: &Value,
    random: &mut fastrand::Rng,
    depth: usize,
) -> Value {
    let mut made = Map::new();
    let any = Value::Bool(true);
    let properties = members.get("properties").and_then(Value::as_object);
    let required = members.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        let schema = properties.and_then(|all| all.get(name)).unwrap_or(&any);
        made.insert(name.to_owned(), value(schema, root, random, depth + 1));
    }
    Value::Object(made)
}

fn number(members: &Map<String, Value>, random: &mut fastrand::Rng, whole: bool) -> Value {
    let of = |key: &str| members.get(key).and_then(Value::as_f64);
    let step = of("multipleOf").filter(|step| 0.0 < *step).unwrap_or(1.0);
    let least = of("minimum").or_else(|| Some(of("exclusiveMinimum")? + step));
    let most = of("maximum").or_else(|| Some(of("exclusiveMaximum")? - step));
    let (least, most) = match (least, most) {
        (Some(least), Some(most)) => (least, most.max(least)),
        (Some(least), None) => (least, least + 100.0 * step),
        (None, Some(most)) => (most - 100.0 * step, most),
        (None, None) => (0.0, 100.0 * step),
    };
    let first = (least / step).ceil();
    let steps = ((most / step).floor() - first).max(0.0);
    let number = (first + (random.f64() * (steps + 1.0)).floor().min(steps)) * step;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "floats beyond it become the largest integer"
    )]
    let made = if whole { json!(number as i64) } else { json!(number) };
    made
}

fn string(members: &Map<String, Value>, random: &mut fastrand::Rng) -> Value {
    let known = match members.get("format").and_then(Value::as_str) {
        Some("uri" | "url" | "iri") => Some("https://example.org/".to_owned()),
        Some("date-time") => Some("2026-01-01T00:00:00Z".to_owned()),
        Some("date") => Some("2026-01-01".to_owned()),
        Some("time") => Some("00:00:00Z".to_owned()),
        Some("email") => Some(format!("{}@example.org", word(random, 6))),
        Some("uuid") => Some(format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            random.u32(..),
            random.u16(..),
            random.u16(..0x1000),
            random.u16(..0x1000),
            random.u64(..1 << 48)
        )),
        Some("ipv4") => Some("192.0.2.1".to_owned()),
        _ => None,
    };
    let of = |key: &str| {
        let length = members.get(key).and_then(Value::as_u64)?;
        usize::try_from(length).ok()
    };
    let least = of("minLength").unwrap_or(1).min(1 << 20);
    let most = of("maxLength").unwrap_or(usize::MAX);
    json!(known.unwrap_or_else(|| word(random, WORD.max(least).min(most))))
}

/// Letters.
pub fn word(random: &mut fastrand::Rng, length: usize) -> String {
    std::iter::repeat_with(|| random.lowercase()).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(schema: &Value) -> Value {
        let made = generate(schema, &mut fastrand::Rng::with_seed(3));
        assert_eq!(made, generate(schema, &mut fastrand::Rng::with_seed(3)), "the seed decides");
        made
    }

    #[test]
    fn required_members_are_made_and_others_left_out() {
        let made = make(&json!({
            "type": "object",
            "properties": {
                "text": {"type": "string", "minLength": 20},
                "count": {"type": "integer", "minimum": 3, "maximum": 5},
                "ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "multipleOf": 0.25},
                "mode": {"enum": ["a", "b"]},
                "extra": {"type": "boolean"}
            },
            "required": ["text", "count", "ratio", "mode"]
        }));
        assert_eq!(made.as_object().unwrap().len(), 4);
        assert_eq!(made["text"].as_str().unwrap().len(), 20);
        assert!((3..=5).contains(&made["count"].as_i64().unwrap()));
        assert!([0.25, 0.5, 0.75, 1.0].contains(&made["ratio"].as_f64().unwrap()));
        assert!(made["mode"] == "a" || made["mode"] == "b");
    }

    #[test]
    fn references_lists_and_combinations_are_followed() {
        let made = make(&json!({
            "$defs": {"item": {"allOf": [
                {"properties": {"a": {"const": 1}}, "required": ["a"]},
                {"properties": {"b": {"type": ["null", "string"]}}, "required": ["b"]}
            ], "type": "object"}},
            "type": "object",
            "properties": {"items": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/item"}}},
            "required": ["items"]
        }));
        assert_eq!(made, json!({"items": [{"a": 1, "b": null}, {"a": 1, "b": null}]}));
    }

    #[test]
    fn a_schema_that_holds_itself_comes_to_an_end() {
        let schema =
            json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]});
        assert!(make(&schema).is_object());
    }

    #[test]
    fn strings_have_their_format() {
        assert_eq!(make(&json!({"type": "string", "format": "date"})), "2026-01-01");
        assert_eq!(make(&json!({"type": "string", "maxLength": 3})).as_str().unwrap().len(), 3);
        assert_eq!(make(&json!({"type": "string", "default": "x"})), "x");
    }
}
