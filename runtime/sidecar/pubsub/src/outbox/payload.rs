//! What an outbox event carries (upstream `outbox.go`, `PublishInternal`).

use std::fmt::Write as _;

use bytes::Bytes;
use outrigger_component::Metadata;
use outrigger_state::Value;
use serde_json::Value as Json;

/// Metadata of an operation that names its content type.
const CONTENT_TYPE: &str = "contentType";

/// Content type (empty for none) and bytes of the value of an operation.
pub(super) fn of<'a>(value: &Value, metadata: &'a Metadata) -> (&'a str, Bytes) {
    let content_type = metadata.get(CONTENT_TYPE).map(String::as_str).unwrap_or_default();
    let data = match value {
        Value::Binary(bytes) => bytes.clone(),
        Value::Json(json) if content_type.eq_ignore_ascii_case("application/json") => json.clone(),
        // Without a content type upstream prints the value as Go does, and so do we.
        Value::Json(json) => match serde_json::from_slice(json) {
            Ok(value) => {
                let mut text = String::with_capacity(json.len());
                print(&value, &mut text);
                Bytes::from(text)
            }
            Err(_) => json.clone(),
        },
    };
    (content_type, data)
}

/// Go's `%v` of a decoded JSON value.
fn print(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("<nil>"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(number) => print_float(number.as_f64().unwrap_or_default(), out),
        Json::String(text) => out.push_str(text),
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                print(item, out);
            }
            out.push(']');
        }
        Json::Object(fields) => {
            let mut names: Vec<_> = fields.keys().collect();
            names.sort_unstable();
            out.push_str("map[");
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                out.push_str(name);
                out.push(':');
                print(&fields[name], out);
            }
            out.push(']');
        }
    }
}

/// The shortest decimal; with an exponent below -4 and from 6 on (`%g`).
fn print_float(number: f64, out: &mut String) {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = if number != 0.0 && !(-4..6).contains(&power) {
        let sign = if power < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", power.abs())
    } else {
        write!(out, "{number}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_in_go() {
        for (json, text) in [
            (r#""3""#, "3"),
            ("1000000", "1e+06"),
            ("5", "5"),
            ("1.5", "1.5"),
            ("0.00001", "1e-05"),
            ("null", "<nil>"),
            (r#"{"b":[1,true],"a":"x"}"#, "map[a:x b:[1 true]]"),
        ] {
            let none = Metadata::new();
            let (content_type, data) = of(&Value::Json(Bytes::from_static(json.as_bytes())), &none);
            assert_eq!(content_type, "");
            assert_eq!(data, text, "{json}");
        }
        let metadata: Metadata = [(CONTENT_TYPE.to_owned(), "application/json".to_owned())].into();
        let (content_type, data) = of(&Value::Json(Bytes::from_static(b"{\"a\":1}")), &metadata);
        assert_eq!((content_type, &data[..]), ("application/json", &b"{\"a\":1}"[..]));
    }
}
