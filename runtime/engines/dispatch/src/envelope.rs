//! A CloudEvent as a sorted map of attributes.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use crate::{
    content_type,
    go_json::{self, Error, Numbers, Scanner},
    time::parse_rfc3339,
};

/// Names of attributes, and the values Dapr gives them by itself.
pub mod field {
    /// Payload that is text or JSON.
    pub const DATA: &str = "data";
    /// Payload in base64.
    pub const DATA_BASE64: &str = "data_base64";
    /// Content type of the payload.
    pub const DATA_CONTENT_TYPE: &str = "datacontenttype";
    /// When the event stops being worth delivering.
    pub const EXPIRATION: &str = "expiration";
    /// Identity of the event.
    pub const ID: &str = "id";
    /// Component it went through.
    pub const PUBSUB_NAME: &str = "pubsubname";
    /// Who published it.
    pub const SOURCE: &str = "source";
    /// Version of CloudEvents.
    pub const SPEC_VERSION: &str = "specversion";
    /// What it is about.
    pub const SUBJECT: &str = "subject";
    /// When it was published.
    pub const TIME: &str = "time";
    /// Topic it went through.
    pub const TOPIC: &str = "topic";
    /// The trace, under its old name.
    pub const TRACE_ID: &str = "traceid";
    /// The trace (W3C).
    pub const TRACE_PARENT: &str = "traceparent";
    /// Vendor state of the trace (W3C).
    pub const TRACE_STATE: &str = "tracestate";
    /// What happened.
    pub const TYPE: &str = "type";

    /// Type of events whose publisher names none.
    pub const DEFAULT_TYPE: &str = "com.dapr.event.sent";
    /// Type of bulk deliveries.
    pub const DEFAULT_BULK_TYPE: &str = "com.dapr.event.sent.bulk";
    /// Source of events whose publisher names none.
    pub const DEFAULT_SOURCE: &str = "Dapr";
    /// The version Dapr writes.
    pub const DEFAULT_SPEC_VERSION: &str = "1.0";
    /// Content type of payloads whose publisher names none.
    pub const DEFAULT_DATA_CONTENT_TYPE: &str = "text/plain";
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<'a> {
    /// A string; Go's hold any bytes.
    Text(Cow<'a, [u8]>),
    /// Any other JSON, as checked source text.
    Json(Cow<'a, [u8]>),
    /// Bytes, which JSON carries in base64.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Field<'a> {
    /// A string.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }

    fn into_owned(self) -> Field<'static> {
        match self {
            Self::Text(text) => Field::Text(Cow::Owned(text.into_owned())),
            Self::Json(json) => Field::Json(Cow::Owned(json.into_owned())),
            Self::Bytes(bytes) => Field::Bytes(Cow::Owned(bytes.into_owned())),
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Json(json) if json.as_ref() == b"null")
    }

    pub(crate) fn write(&self, numbers: Numbers, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => go_json::write_string(text, out),
            Self::Json(json) => {
                let start = out.len();
                if go_json::transcode(json, numbers, out).is_err() {
                    // Checked on the way in; only a caller of `set_json` can get here.
                    out.truncate(start);
                    out.extend_from_slice(b"null");
                }
            }
            Self::Bytes(bytes) => go_json::write_string(STANDARD.encode(bytes).as_bytes(), out),
        }
    }
}

/// The payload is of a kind that does not go with its content type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnexpectedData {
    /// Text that is no string, or base64 that is none.
    #[error("unexpected data type encountered in envelope")]
    Kind,
    /// Broken base64.
    #[error("{0}")]
    Base64(String),
}

/// A CloudEvent between the API, the broker and the app. Attributes are kept in the order Go writes them, which is
/// that of their names; what was parsed stays borrowed from its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    fields: Vec<(Cow<'a, str>, Field<'a>)>,
    numbers: Numbers,
}

impl<'a> Envelope<'a> {
    /// Without attributes.
    #[must_use]
    pub fn new(numbers: Numbers) -> Self {
        Self {
            fields: Vec::with_capacity(16),
            numbers,
        }
    }

    /// Reads a JSON object. With [`Numbers::Verbatim`] it reads as a publisher's sidecar does (what follows the
    /// object is ignored), with [`Numbers::Doubles`] as a subscriber's.
    ///
    /// # Errors
    /// When the text is no JSON object.
    pub fn parse(json: &'a [u8], numbers: Numbers) -> Result<Self, Error> {
        Self::parse_words(json, numbers).map_err(|error| match numbers {
            Numbers::Verbatim => error.in_decoder(),
            Numbers::Doubles => error.in_unmarshal(),
        })
    }

    fn parse_words(json: &'a [u8], numbers: Numbers) -> Result<Self, Error> {
        let mut scanner = Scanner::new(json, numbers);
        scanner.open_object()?;
        let mut fields: Vec<(Cow<'a, str>, Field<'a>)> = Vec::with_capacity(16);
        let mut sorted = true;
        while let Some(name) = scanner.next_key(fields.is_empty())? {
            let name = match name {
                // Decoded strings are UTF-8; the lossy call only borrows.
                Cow::Borrowed(name) => String::from_utf8_lossy(name),
                Cow::Owned(name) => Cow::Owned(String::from_utf8_lossy(&name).into_owned()),
            };
            let value = if scanner.peek() == Some(b'"') {
                Field::Text(go_json::decode_string(scanner.string()?))
            } else {
                let start = scanner.position();
                scanner.value(None)?;
                Field::Json(Cow::Borrowed(&json[start..scanner.position()]))
            };
            sorted &= fields.last().is_none_or(|(last, _)| *last < name);
            fields.push((name, value));
        }
        if numbers == Numbers::Doubles {
            scanner.finish()?;
        }
        if !sorted {
            // The last of equal names wins: it comes first after the reversal, and `dedup` keeps the first.
            fields.reverse();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            fields.dedup_by(|(later, _), (first, _)| later == first);
        }
        Ok(Self { fields, numbers })
    }

    /// Wraps the bytes of a publisher that sent no envelope, on the subscriber's side. The id is the caller's,
    /// another one with every delivery.
    #[must_use]
    pub fn from_raw(data: &'a [u8], id: &'a str, topic: &'a str, pubsub: &'a str) -> Self {
        let mut envelope = Self::new(Numbers::Doubles);
        envelope.fields.extend([
            (
                Cow::Borrowed(field::DATA_BASE64),
                Field::Bytes(Cow::Borrowed(data)),
            ),
            (
                Cow::Borrowed(field::DATA_CONTENT_TYPE),
                Field::text(content_type::OCTET_STREAM),
            ),
            (Cow::Borrowed(field::ID), Field::text(id)),
            (Cow::Borrowed(field::PUBSUB_NAME), Field::text(pubsub)),
            (Cow::Borrowed(field::SOURCE), Field::text(field::DEFAULT_SOURCE)),
            (
                Cow::Borrowed(field::SPEC_VERSION),
                Field::text(field::DEFAULT_SPEC_VERSION),
            ),
            (Cow::Borrowed(field::TOPIC), Field::text(topic)),
            (Cow::Borrowed(field::TYPE), Field::text(field::DEFAULT_TYPE)),
        ]);
        envelope
    }

    /// Cuts the tie to the source text.
    #[must_use]
    pub fn into_owned(self) -> Envelope<'static> {
        Envelope {
            fields: self
                .fields
                .into_iter()
                .map(|(name, value)| (Cow::Owned(name.into_owned()), value.into_owned()))
                .collect(),
            numbers: self.numbers,
        }
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.fields.binary_search_by(|(key, _)| key.as_ref().cmp(name))
    }

    /// An attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.position(name).ok().map(|at| &self.fields[at].1)
    }

    /// Whether there is such an attribute, be it null.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Whether the attribute is absent or null.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        self.get(name).is_none_or(Field::is_null)
    }

    /// An attribute that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Field::Text(text)) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// `id`; empty when it is no string.
    #[must_use]
    pub fn id(&self) -> &str {
        self.text(field::ID).unwrap_or_default()
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: Field<'a>) {
        let name = name.into();
        match self.position(&name) {
            Ok(at) => self.fields[at].1 = value,
            Err(at) => self.fields.insert(at, (name, value)),
        }
    }

    /// Sets an attribute to a string.
    pub fn set_text(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.set(name, Field::text(value));
    }

    /// Sets an attribute to JSON.
    ///
    /// # Errors
    /// When the text is not one JSON value; the envelope is then unchanged.
    pub fn set_json(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        json: impl Into<Cow<'a, [u8]>>,
    ) -> Result<(), Error> {
        let json = json.into();
        let mut scanner = Scanner::new(&json, self.numbers);
        scanner.value(None)?;
        scanner.finish()?;
        self.set(name, Field::Json(json));
        Ok(())
    }

    /// Takes an attribute out.
    pub fn remove(&mut self, name: &str) -> Option<Field<'a>> {
        self.position(name).ok().map(|at| self.fields.remove(at).1)
    }

    /// Attributes by name, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Field<'a>)> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Appends the JSON object as Go writes it.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_fields(out, |_| true);
    }

    /// The JSON object as Go writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.write_json(&mut out);
        out
    }

    fn write_fields(&self, out: &mut Vec<u8>, wanted: impl Fn(&str) -> bool) {
        out.push(b'{');
        let mut first = true;
        for (name, value) in self.iter().filter(|(name, _)| wanted(name)) {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            go_json::write_string(name.as_bytes(), out);
            out.push(b':');
            value.write(self.numbers, out);
        }
        out.push(b'}');
    }

    /// The event as a tree, for content rules.
    ///
    /// # Errors
    /// When it nests deeper than the tree's reader allows.
    pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.to_json())
    }

    /// Whether `expiration` has passed; one that cannot be read never does.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.text(field::EXPIRATION)
            .and_then(parse_rfc3339)
            .is_some_and(|expiration| expiration < now)
    }

    /// The trace the event belongs to: `traceparent`, or `traceid` when that is absent or null.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        if self.is_null(field::TRACE_PARENT) {
            self.text(field::TRACE_ID)
        } else {
            self.text(field::TRACE_PARENT)
        }
    }

    /// The payload as a gRPC app gets it: decoded base64, the bytes of a text, or JSON again. Empty for other
    /// content types. `base64` tells whether `data_base64` counts, which it does not in bulk deliveries.
    ///
    /// # Errors
    /// When the payload does not go with its content type; the event is then to be redelivered.
    pub fn grpc_data(&self, base64: bool) -> Result<Vec<u8>, UnexpectedData> {
        if base64 && !self.is_null(field::DATA_BASE64) {
            return match self.get(field::DATA_BASE64) {
                Some(Field::Bytes(bytes)) => Ok(bytes.clone().into_owned()),
                Some(Field::Text(text)) => decode_base64(text),
                _ => Err(UnexpectedData::Kind),
            };
        }
        let content_type = self.text(field::DATA_CONTENT_TYPE).unwrap_or_default();
        match self.get(field::DATA).filter(|data| !data.is_null()) {
            None => Ok(Vec::new()),
            Some(data) if content_type::is_text(content_type) => match data {
                Field::Text(data) | Field::Bytes(data) => Ok(data.clone().into_owned()),
                Field::Json(_) => Err(UnexpectedData::Kind),
            },
            Some(data)
                if content_type::is_json(content_type) || content_type::is_cloud_event(content_type) =>
            {
                let mut out = Vec::new();
                data.write(self.numbers, &mut out);
                Ok(out)
            }
            Some(_) => Ok(Vec::new()),
        }
    }

    /// The attributes that have no field of their own in a gRPC topic event, as a JSON object.
    #[must_use]
    pub fn extensions_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_fields(&mut out, |name| {
            !matches!(
                name,
                field::ID
                    | field::SOURCE
                    | field::DATA_CONTENT_TYPE
                    | field::TYPE
                    | field::SPEC_VERSION
                    | field::DATA
                    | field::DATA_BASE64
            )
        });
        out
    }
}

/// Go's decoder passes over line ends.
fn decode_base64(text: &[u8]) -> Result<Vec<u8>, UnexpectedData> {
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|b| !matches!(b, b'\r' | b'\n'))
        .collect();
    STANDARD.decode(text).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(at) => at,
            base64::DecodeError::InvalidPadding => 0,
        };
        UnexpectedData::Base64(format!("illegal base64 data at input byte {at}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Envelope<'_> {
        Envelope::parse(json.as_bytes(), Numbers::Doubles).unwrap()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_map_in_order() {
        let mut envelope = parse(r#"{"b":"1","a":{"y":1e2,"x":[]},"b":"2","n":null}"#);
        assert_eq!(envelope.text("b"), Some("2"));
        assert!(envelope.contains("n") && envelope.is_null("n") && envelope.is_null("zz"));
        envelope.set_text("aa", "<");
        envelope.set_json("c", b" [ 1 ] ".as_slice()).unwrap();
        assert!(envelope.set_json("c", b"[".as_slice()).is_err());
        assert!(envelope.remove("n").is_some());
        assert_eq!(
            text(envelope.to_json()),
            r#"{"a":{"x":[],"y":100},"aa":"\u003c","b":"2","c":[1]}"#
        );
        assert_eq!(envelope.clone().into_owned().to_json(), envelope.to_json());
        assert_eq!(envelope.to_value().unwrap()["a"]["y"], 100);
    }

    #[test]
    fn reads_objects_only() {
        let error = |json: &str, numbers| Envelope::parse(json.as_bytes(), numbers).unwrap_err().to_string();
        assert_eq!(error("", Numbers::Doubles), "unexpected end of JSON input");
        assert_eq!(error("", Numbers::Verbatim), "EOF");
        assert_eq!(error("{", Numbers::Verbatim), "unexpected EOF");
        assert_eq!(
            error("[1]", Numbers::Doubles),
            "json: cannot unmarshal array into Go value of type map[string]interface {}"
        );
        assert_eq!(
            error("hi", Numbers::Doubles),
            "invalid character 'h' looking for beginning of value"
        );
        assert_eq!(
            error("{} x", Numbers::Doubles),
            "invalid character 'x' after top-level value"
        );
        assert!(Envelope::parse(b"{} x", Numbers::Verbatim).is_ok());
    }

    #[test]
    fn raw_bytes_wrapped() {
        let envelope = Envelope::from_raw(b"\x00\xff", "i", "t", "p");
        assert_eq!(
            text(envelope.to_json()),
            r#"{"data_base64":"AP8=","datacontenttype":"application/octet-stream","id":"i","pubsubname":"p","source":"Dapr","specversion":"1.0","topic":"t","type":"com.dapr.event.sent"}"#
        );
        assert_eq!(envelope.grpc_data(true).unwrap(), b"\x00\xff");
    }

    #[test]
    fn expiration() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let expired = |value: &str| parse(&format!(r#"{{"expiration":{value}}}"#)).has_expired(now);
        assert!(expired(r#""2025-12-31T23:59:59Z""#) && expired(r#""2026-01-01T00:59:59+01:00""#));
        assert!(
            !expired(r#""2026-01-01T00:00:00Z""#)
                && !expired(r#""tomorrow""#)
                && !expired("5")
                && !expired("\"\"")
        );
        assert!(!parse("{}").has_expired(now));
    }

    #[test]
    fn traces() {
        assert_eq!(parse(r#"{"traceid":"a","traceparent":"b"}"#).trace(), Some("b"));
        assert_eq!(parse(r#"{"traceid":"a","traceparent":null}"#).trace(), Some("a"));
        assert_eq!(parse(r#"{"traceid":5}"#).trace(), None);
    }

    #[test]
    fn payloads_of_grpc_apps() {
        let data = |json: &str| parse(json).grpc_data(true).map(text);
        assert_eq!(
            data(r#"{"datacontenttype":"application/json","data":{"b":1.0,"a":"<"}}"#).unwrap(),
            r#"{"a":"\u003c","b":1}"#
        );
        assert_eq!(
            data(r#"{"datacontenttype":"application/json","data":"x"}"#).unwrap(),
            "\"x\""
        );
        assert_eq!(
            data(r#"{"datacontenttype":"text/plain","data":"x<"}"#).unwrap(),
            "x<"
        );
        assert_eq!(
            data(r#"{"datacontenttype":"text/plain","data":5}"#),
            Err(UnexpectedData::Kind)
        );
        assert_eq!(data(r#"{"datacontenttype":"image/png","data":"x"}"#).unwrap(), "");
        assert_eq!(data(r#"{"data_base64":"aGk=","data":"x"}"#).unwrap(), "hi");
        assert_eq!(data(r#"{"data_base64":7}"#), Err(UnexpectedData::Kind));
        assert!(matches!(
            data(r#"{"data_base64":"?"}"#),
            Err(UnexpectedData::Base64(_))
        ));
        assert_eq!(parse(r#"{"data_base64":"aGk="}"#).grpc_data(false).unwrap(), b"");
        let event = parse(
            r#"{"id":"1","source":"s","type":"t","specversion":"1.0","data":1,"datacontenttype":"x","topic":"o","n":1.50}"#,
        );
        assert_eq!(text(event.extensions_json()), r#"{"n":1.5,"topic":"o"}"#);
    }
}
