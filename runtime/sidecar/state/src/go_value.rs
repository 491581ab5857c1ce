//! Go's `%v` of a decoded JSON value.
//!
//! Upstream encrypts that text of values that came in as JSON, so data written by either runtime reads the same in
//! the other (wire.md §7, "a quirk to reproduce").

use serde_json::Value;

/// The text of a value.
pub(crate) fn format(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

fn push(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&float(number.as_f64().unwrap_or(0.0))),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                push(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push_str("map[");
            for (i, (name, item)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                out.push_str(name);
                out.push(':');
                push(out, item);
            }
            out.push(']');
        }
    }
}

/// `%v` of a `float64`: shortest digits, exponent form below 1e-4 and from 1e6 on.
fn float(value: f64) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let magnitude = value.abs();
    if (1e-4..1e6).contains(&magnitude) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prints_as_go_does() {
        for (value, wanted) in [
            (json!({"b": 2, "a": [1, "x", null]}), "map[a:[1 x <nil>] b:2]"),
            (json!("text"), "text"),
            (json!(1.5), "1.5"),
            (json!(1e21), "1e+21"),
            (json!(100_000), "100000"),
            (json!(2_097_152), "2.097152e+06"),
            (json!(0.00001), "1e-05"),
            (json!(123_456_789), "1.23456789e+08"),
            (json!(true), "true"),
        ] {
            assert_eq!(format(&value), wanted);
        }
    }
}
