//! Values: a text in a call, JSON in the store.
//!
//! An object or a list is stored as such, so that others who read the store find JSON. So is a number or a truth value
//! that JSON writes in no other way. Anything else is stored as text and comes back to the letter.

use serde_json::Value;

/// What is stored for a text.
pub(crate) fn stored(text: &str) -> Value {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return Value::from(text);
    };
    let as_json = match &value {
        Value::Object(_) | Value::Array(_) => true,
        Value::Number(_) | Value::Bool(_) => {
            let written = value.to_string();
            written == text
        }
        Value::String(_) | Value::Null => false,
    };
    if as_json { value } else { Value::from(text) }
}

/// The text of what is stored.
pub(crate) fn text(stored: Value) -> String {
    match stored {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Whether a store gave back what it was given. Numbers are compared by value: stores may write `1.0` as `1`.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_comes_back_to_the_letter() {
        for value in [
            "hello",
            "",
            "\"quoted\"",
            "null",
            "1e5",
            "1.50",
            "01",
            "{not json",
            "42",
            "-1",
            "true",
            "ü\n",
            "123456789012345678901234567890",
        ] {
            assert_eq!(text(stored(value)), value);
        }
    }

    #[test]
    fn json_is_stored_as_json() {
        assert_eq!(stored(r#"{"b": 1, "a": [true]}"#), json!({"a": [true], "b": 1}));
        assert_eq!(stored("42"), json!(42));
        assert_eq!(text(json!({"a": 1})), r#"{"a":1}"#);
    }

    #[test]
    fn stores_may_write_numbers_in_their_way() {
        assert!(same(&json!({"a": [1.0]}), &json!({"a": [1]})));
        assert!(!same(&json!({"a": 1}), &json!({"a": 2})));
        assert!(!same(&json!([1]), &json!([1, 2])));
        assert!(!same(&json!("1"), &json!(1)));
    }
}
