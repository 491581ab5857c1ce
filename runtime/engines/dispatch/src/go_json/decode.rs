//! Bodies decoded as Go's `json.Decoder` does: what is wrong with one is told in its words.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Numbers, Scanner};

/// A Go type, as far as its decoder's errors name it.
#[derive(Debug)]
pub enum Shape {
    /// Any value.
    Any,
    /// `string`.
    Text,
    /// `int`.
    Int,
    /// A slice: its name and its elements.
    List(&'static str, &'static Shape),
    /// A map: its name and its values.
    Map(&'static str, &'static Shape),
    /// A struct: its name with the package, and its fields.
    Struct(&'static str, &'static [(&'static str, &'static Shape)]),
}

impl Shape {
    /// `map[string]string`.
    pub const TEXTS: Self = Self::Map("map[string]string", &Self::Text);

    fn go_name(&self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Text => "string",
            Self::Int => "int",
            Self::List(name, _) | Self::Map(name, _) | Self::Struct(name, _) => name,
        }
    }
}

/// The first value of a body; what follows it is not looked at, `null` is the empty value, bytes that are not UTF-8
/// become U+FFFD. `shape` is Go's type of what `T` is.
///
/// # Errors
/// Go's text of what is wrong.
pub fn decode<T: DeserializeOwned + Default>(body: &[u8], shape: &Shape) -> Result<T, String> {
    if std::str::from_utf8(body).is_err() {
        return decode_text(String::from_utf8_lossy(body).as_bytes(), shape);
    }
    decode_text(body, shape)
}

fn decode_text<T: DeserializeOwned + Default>(body: &[u8], shape: &Shape) -> Result<T, String> {
    // Unlike Go, serde takes an array for a struct; within the document that is let pass.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') && matches!(shape, Shape::Struct(..)) {
        return Err(why(body, shape).unwrap_or_default());
    }
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Option<T>>();
    match values.next() {
        Some(Ok(value)) => Ok(value.unwrap_or_default()),
        Some(Err(error)) => Err(why(body, shape).unwrap_or_else(|| error.to_string())),
        None => Err("EOF".to_owned()),
    }
}

/// Go's complaint about a body, if it has one.
fn why(body: &[u8], shape: &Shape) -> Option<String> {
    // Go reads a value to its end before it looks at types.
    if let Err(error) = Scanner::new(body, Numbers::Verbatim).value(None) {
        return Some(error.in_decoder().to_string());
    }
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let value = values.next()?.ok()?;
    mismatch(&value, shape, &Place::default())
}

/// Where a value is: the innermost struct, and the names of fields from the outermost one.
#[derive(Default)]
struct Place {
    structure: &'static str,
    path: String,
}

fn mismatch(value: &Value, shape: &Shape, place: &Place) -> Option<String> {
    let found = match (shape, value) {
        (_, Value::Null) | (Shape::Any, _) | (Shape::Text, Value::String(_)) => return None,
        (Shape::Int, Value::Number(number)) if number.is_i64() => return None,
        (Shape::List(_, item), Value::Array(items)) => {
            return items.iter().find_map(|value| mismatch(value, item, place));
        }
        (Shape::Map(_, item), Value::Object(members)) => {
            return members.values().find_map(|value| mismatch(value, item, place));
        }
        (Shape::Struct(name, fields), Value::Object(members)) => {
            return members.iter().find_map(|(key, value)| {
                let (field, shape) = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(key))?;
                let dot = if place.path.is_empty() { "" } else { "." };
                let place = Place {
                    structure: name.rsplit('.').next().unwrap_or(name),
                    path: format!("{}{dot}{field}", place.path),
                };
                mismatch(value, shape, &place)
            });
        }
        (Shape::Int, Value::Number(number)) => format!("number {number}"),
        (_, Value::Bool(_)) => "bool".to_owned(),
        (_, Value::Number(_)) => "number".to_owned(),
        (_, Value::String(_)) => "string".to_owned(),
        (_, Value::Array(_)) => "array".to_owned(),
        (_, Value::Object(_)) => "object".to_owned(),
    };
    let wanted = shape.go_name();
    Some(if place.path.is_empty() {
        format!("json: cannot unmarshal {found} into Go value of type {wanted}")
    } else {
        format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
            place.structure, place.path
        )
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Item {
        key: String,
        metadata: Option<std::collections::BTreeMap<String, String>>,
    }

    const ITEM: Shape = Shape::Struct(
        "state.SetRequest",
        &[("key", &Shape::Text), ("metadata", &Shape::TEXTS)],
    );
    const ITEMS: Shape = Shape::List("[]state.SetRequest", &ITEM);
    const OUTER: Shape = Shape::Struct(
        "http.body",
        &[("operations", &ITEMS), ("parallelism", &Shape::Int)],
    );

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        operations: Option<Vec<Item>>,
        parallelism: Option<i64>,
    }

    /// Texts as measured beside daprd 1.18.2, at the routes of the state API.
    #[test]
    fn faults_are_told_in_the_words_of_go() {
        for (body, expected) in [
            (&b""[..], "EOF"),
            (b"hello", "invalid character 'h' looking for beginning of value"),
            (b"[{\"key\":\"a\"", "unexpected EOF"),
            (
                b"{}",
                "json: cannot unmarshal object into Go value of type []state.SetRequest",
            ),
            (
                b"5",
                "json: cannot unmarshal number into Go value of type []state.SetRequest",
            ),
            (
                b"[5]",
                "json: cannot unmarshal number into Go value of type state.SetRequest",
            ),
            (
                b"[{\"key\":5}]",
                "json: cannot unmarshal number into Go struct field SetRequest.key of type string",
            ),
            (
                b"[{\"metadata\":[]}]",
                "json: cannot unmarshal array into Go struct field SetRequest.metadata of type map[string]string",
            ),
            (
                b"[{\"metadata\":{\"a\":5}}]",
                "json: cannot unmarshal number into Go struct field SetRequest.metadata of type string",
            ),
            (
                b"[{\"key\":\"\\x\"}]",
                "invalid character 'x' in string escape code",
            ),
            (
                b"[{\"key\":\"a\x01\"}]",
                r"invalid character '\x01' in string literal",
            ),
            (b"[tru]", "invalid character ']' in literal true (expecting 'e')"),
            (
                b"[{\"key\":\"a\",}]",
                "invalid character '}' looking for beginning of object key string",
            ),
            (
                b"[{\"key\":\"a\"},]",
                "invalid character ']' looking for beginning of value",
            ),
        ] {
            let name = String::from_utf8_lossy(body);
            assert_eq!(decode::<Vec<Item>>(body, &ITEMS).unwrap_err(), expected, "{name}");
        }
        for (body, expected) in [
            (
                &b"[]"[..],
                "json: cannot unmarshal array into Go value of type http.body",
            ),
            (
                b"{\"operations\":\"a\"}",
                "json: cannot unmarshal string into Go struct field body.operations of type []state.SetRequest",
            ),
            (
                b"{\"operations\":[{\"key\":5}]}",
                "json: cannot unmarshal number into Go struct field SetRequest.operations.key of type string",
            ),
            (
                b"{\"parallelism\":\"x\"}",
                "json: cannot unmarshal string into Go struct field body.parallelism of type int",
            ),
        ] {
            let name = String::from_utf8_lossy(body);
            assert_eq!(decode::<Outer>(body, &OUTER).unwrap_err(), expected, "{name}");
        }
    }

    #[test]
    fn what_go_takes_is_taken() {
        assert_eq!(decode::<Vec<Item>>(b"null", &ITEMS), Ok(Vec::new()));
        assert_eq!(decode::<Outer>(b" null", &OUTER), Ok(Outer::default()));
        assert_eq!(decode::<Vec<Item>>(b"[] x", &ITEMS), Ok(Vec::new()));
        let items = decode::<Vec<Item>>(b"[{\"key\":\"\xff\"}]", &ITEMS).unwrap();
        assert_eq!(items[0].key, "\u{fffd}");
    }
}
