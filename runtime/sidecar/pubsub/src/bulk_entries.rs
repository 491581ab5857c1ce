//! The body of an HTTP bulk publish, read as Go reads it (upstream `pkg/api/http/{http,util}.go`).

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use outrigger_component::Metadata;
use outrigger_engine_dispatch::{
    content_type,
    go_json::{Numbers, Scanner, transcode},
};
use serde::{
    Deserialize, Deserializer as _,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// An entry as the app sent it.
#[derive(Debug)]
pub(crate) struct BulkEntry<'a> {
    pub(crate) id: Cow<'a, str>,
    /// JSON text.
    event: &'a str,
    pub(crate) content_type: Cow<'a, str>,
    pub(crate) metadata: Option<Metadata>,
}

/// What apps send nearly always: these names, these types.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain<'a> {
    #[serde(rename = "entryId", borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(rename = "contentType", borrow)]
    content_type: Cow<'a, str>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

impl<'a> From<Plain<'a>> for BulkEntry<'a> {
    fn from(plain: Plain<'a>) -> Self {
        Self {
            id: plain.id,
            event: plain.event.get(),
            content_type: plain.content_type,
            metadata: plain.metadata,
        }
    }
}

/// Reads the entries; what follows the list is ignored, names of fields are taken in any case.
///
/// # Errors
/// The text of Go's decoder.
pub(crate) fn parse(body: &str) -> Result<Vec<BulkEntry<'_>>, String> {
    let mut json = serde_json::Deserializer::from_str(body);
    if let Ok(entries) = Vec::<Plain<'_>>::deserialize(&mut json) {
        return Ok(entries.into_iter().map(Into::into).collect());
    }
    // Go reads a whole value first, so bad syntax comes before bad types.
    Scanner::new(body.as_bytes(), Numbers::Verbatim)
        .value(None)
        .map_err(|error| error.in_decoder().to_string())?;
    let Shape::List(items) = shape(body)? else {
        return match shape(body)? {
            Shape::Null => Ok(Vec::new()),
            other => Err(format!(
                "json: cannot unmarshal {} into Go value of type []http.bulkPublishMessageEntry",
                other.name()
            )),
        };
    };
    items.into_iter().map(entry).collect()
}

fn entry(text: &str) -> Result<BulkEntry<'_>, String> {
    let mut entry = BulkEntry {
        id: Cow::Borrowed(""),
        event: "null",
        content_type: Cow::Borrowed(""),
        metadata: None,
    };
    let fields = match shape(text)? {
        Shape::Object(fields) => fields,
        Shape::Null => return Ok(entry),
        other => {
            return Err(format!(
                "json: cannot unmarshal {} into Go value of type http.bulkPublishMessageEntry",
                other.name()
            ));
        }
    };
    for (name, value) in fields {
        if name.eq_ignore_ascii_case("event") {
            entry.event = value;
        } else if name.eq_ignore_ascii_case("entryId") {
            string(value, "entryId", &mut entry.id)?;
        } else if name.eq_ignore_ascii_case("contentType") {
            string(value, "contentType", &mut entry.content_type)?;
        } else if name.eq_ignore_ascii_case("metadata") {
            match shape(value)? {
                Shape::Null => entry.metadata = None,
                Shape::Object(pairs) => {
                    let metadata = entry.metadata.get_or_insert_default();
                    for (key, value) in pairs {
                        let mut text = Cow::Borrowed("");
                        string(value, "metadata", &mut text)?;
                        metadata.insert(key.into_owned(), text.into_owned());
                    }
                }
                other => return Err(mismatch(&other, "metadata", "map[string]string")),
            }
        }
    }
    Ok(entry)
}

/// Go leaves a string alone where it finds null.
fn string<'a>(value: &'a str, field: &str, into: &mut Cow<'a, str>) -> Result<(), String> {
    match shape(value)? {
        Shape::Null => Ok(()),
        Shape::Text(text) => {
            *into = text;
            Ok(())
        }
        other => Err(mismatch(&other, field, "string")),
    }
}

fn mismatch(found: &Shape<'_>, field: &str, wanted: &str) -> String {
    format!(
        "json: cannot unmarshal {} into Go struct field bulkPublishMessageEntry.{field} of type {wanted}",
        found.name()
    )
}

/// One level of a JSON value.
enum Shape<'a> {
    Null,
    Bool,
    Number,
    Text(Cow<'a, str>),
    List(Vec<&'a str>),
    Object(Vec<(Cow<'a, str>, &'a str)>),
}

impl Shape<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Number => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

fn shape(text: &str) -> Result<Shape<'_>, String> {
    serde_json::Deserializer::from_str(text)
        .deserialize_any(ShapeVisitor)
        .map_err(|error| error.to_string())
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Shape::Null)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Shape::Bool)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Shape::Number)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Shape::Number)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Shape::Number)
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Shape::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Shape::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            list.push(item.get());
        }
        Ok(Shape::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = members.next_key::<Key<'de>>()? {
            fields.push((name.0, members.next_value::<&'de RawValue>()?.get()));
        }
        Ok(Shape::Object(fields))
    }
}

/// Borrows where it can; a plain `Cow` would always own.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

const MISMATCH: &str = "error: mismatch between contentType and event";

impl BulkEntry<'_> {
    /// The bytes that the event stands for, by its content type: base64, text, or JSON again.
    ///
    /// # Errors
    /// The text of upstream's converter.
    pub(crate) fn data(&self) -> Result<Bytes, String> {
        let text = || serde_json::from_str::<Cow<'_, str>>(self.event).map_err(|_| MISMATCH.to_owned());
        if content_type::is_binary(&self.content_type) {
            let mut encoded = text()?.into_owned().into_bytes();
            // Go's decoder passes over line ends.
            encoded.retain(|byte| !matches!(byte, b'\r' | b'\n'));
            return STANDARD.decode(&encoded).map(Bytes::from).map_err(|error| {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                    base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => encoded.len(),
                };
                format!(
                    "error: unable to decode base64 application/octect-stream data: illegal base64 data at input byte {at}"
                )
            });
        }
        if content_type::is_text(&self.content_type) {
            return Ok(Bytes::from(text()?.into_owned()));
        }
        if content_type::is_json(&self.content_type) || content_type::is_cloud_event(&self.content_type) {
            let mut out = Vec::with_capacity(self.event.len());
            transcode(self.event.as_bytes(), Numbers::Doubles, &mut out)
                .map_err(|error| format!("{MISMATCH}: {error}"))?;
            return Ok(Bytes::from(out));
        }
        Err(MISMATCH.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_entries_however_they_are_spelled() {
        let body = r#" [{"entryId":"1","event":{"b":1.0,"a":"x"},"contentType":"application/json"},
            {"ENTRYID":"2","event":"aGk=","contenttype":"application/octet-stream","metadata":{"k":"v"},"more":1},
            {"entryId":"3","event":"hi","contentType":"text/plain","metadata":null}] tail"#;
        let entries = parse(body).unwrap();
        let data: Vec<_> = entries.iter().map(|entry| entry.data().unwrap()).collect();
        assert_eq!(data, [r#"{"a":"x","b":1}"#, "hi", "hi"]);
        assert_eq!(entries[1].id, "2");
        assert_eq!(entries[1].metadata.as_ref().unwrap()["k"], "v");
        assert!(parse("null").unwrap().is_empty());
    }

    #[test]
    fn complains_as_go_does() {
        for (body, text) in [
            ("", "EOF"),
            (r#"{"entryID": "}"#, "unexpected EOF"),
            (
                r#"{"entryID": "x"}"#,
                "json: cannot unmarshal object into Go value of type []http.bulkPublishMessageEntry",
            ),
            (
                "[5]",
                "json: cannot unmarshal number into Go value of type http.bulkPublishMessageEntry",
            ),
            (
                r#"[{"entryId":5}]"#,
                "json: cannot unmarshal number into Go struct field bulkPublishMessageEntry.entryId of type string",
            ),
            ("[}", "invalid character '}' looking for beginning of value"),
        ] {
            assert_eq!(parse(body).unwrap_err(), text, "{body}");
        }
    }

    #[test]
    fn content_type_and_event_must_agree() {
        for (event, content_type) in [
            ("5", "text/plain"),
            ("{}", "application/octet-stream"),
            ("5", ""),
            ("5", "image/png"),
        ] {
            let entry = BulkEntry {
                id: Cow::Borrowed("1"),
                event,
                content_type: Cow::Borrowed(content_type),
                metadata: None,
            };
            assert_eq!(entry.data().unwrap_err(), MISMATCH, "{event} {content_type}");
        }
    }
}
