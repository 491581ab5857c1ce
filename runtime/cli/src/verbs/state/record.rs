//! The file format of exports: lines of JSON, a head first, an end last.
//!
//! ```text
//! {"outriggerState":1,"store":"statestore","type":"state.sqlite","prefix":"orders||","encrypted":false}
//! {"key":"order-1","value":{"paid":true}}
//! {"key":"picture","base64":"…","expires":"2026-11-21T18:00:00Z"}
//! {"end":true,"items":2}
//! ```
//!
//! `value` is JSON as it was stored, byte for byte; `base64` holds bytes, or, with `"json":true`, JSON that does not
//! fit on a line. Version 1; readers refuse others.

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use outrigger_state::{Item, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The format's version.
const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    outrigger_state: u32,
    pub(super) store: String,
    pub(super) r#type: String,
    /// What stood before each key; `None` when keys are as the store has them.
    pub(super) prefix: Option<String>,
    /// Whether values are encrypted by the sidecar that wrote them, and so only readable with its keys.
    pub(super) encrypted: bool,
}

impl Head {
    pub(super) fn new(store: &str, type_name: &str, prefix: Option<&str>, encrypted: bool) -> Self {
        Self {
            outrigger_state: VERSION,
            store: store.to_owned(),
            r#type: type_name.to_owned(),
            prefix: prefix.map(str::to_owned),
            encrypted,
        }
    }

    /// Reads the first line.
    ///
    /// # Errors
    /// When it is no head, or one of another version.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let head: Self =
            serde_json::from_str(line).context("line 1: this is no export of outrigger state export")?;
        if head.outrigger_state != VERSION {
            bail!(
                "line 1: the export has format version {}; this program reads {VERSION}",
                head.outrigger_state
            );
        }
        Ok(head)
    }
}

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) end: bool,
    pub(super) items: u64,
}

/// One item.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<'a> {
    pub(super) key: String,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    json: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
}

impl<'a> Record<'a> {
    /// The record of an item under the key it is exported as.
    pub(super) fn of(key: &str, item: &'a Item) -> Self {
        let bytes = item.value.bytes();
        let json = matches!(item.value, Value::Json(_));
        let line = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| json && !text.contains(['\n', '\r']))
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok())
            .filter(|raw| raw.get().len() == bytes.len());
        Self {
            key: key.to_owned(),
            value: line,
            base64: line.is_none().then(|| STANDARD.encode(bytes)),
            json: line.is_none() && json,
            expires: item.expires.and_then(|time| Timestamp::try_from(time).ok()),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// When the record has none, or it is damaged.
    pub(super) fn value(&self) -> Result<Value> {
        match (self.value, &self.base64) {
            (Some(raw), None) => Ok(Value::Json(Bytes::copy_from_slice(raw.get().as_bytes()))),
            (None, Some(text)) => {
                let bytes = Bytes::from(STANDARD.decode(text).context("base64 is damaged")?);
                Ok(if self.json {
                    Value::Json(bytes)
                } else {
                    Value::Binary(bytes)
                })
            }
            _ => bail!("a record has either value or base64"),
        }
    }

    /// Seconds left to live at a time: `None` for ever, zero when it is over.
    pub(super) fn seconds_left(&self, now: Timestamp) -> Option<u32> {
        let left = self.expires?.duration_since(now).as_secs_f64().ceil();
        // Clamped before the cast; a time in the past is over.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(left.clamp(0.0, f64::from(u32::MAX)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: Value) -> (String, Value) {
        let item = Item {
            value,
            etag: None,
            expires: None,
        };
        let line = serde_json::to_string(&Record::of("k", &item)).unwrap();
        let back = serde_json::from_str::<Record<'_>>(&line)
            .unwrap()
            .value()
            .unwrap();
        assert_eq!(back, item.value);
        (line, back)
    }

    #[test]
    fn every_value_comes_back_byte_for_byte_from_one_line() {
        let (line, _) = round_trip(Value::Json(Bytes::from_static(
            b"{\"n\":1.0,\"big\":12345678901234567890123}",
        )));
        assert_eq!(
            line,
            r#"{"key":"k","value":{"n":1.0,"big":12345678901234567890123}}"#
        );
        for value in [
            Value::Json(Bytes::from_static(b"{\n}")),
            Value::Json(Bytes::from_static(b"not json")),
            Value::Json(Bytes::from_static(b" 1 ")),
            Value::Json(Bytes::new()),
            Value::Binary(Bytes::from_static(&[0, 255, b'\n'])),
        ] {
            let (line, _) = round_trip(value);
            assert!(!line.contains('\n') && line.contains("base64"), "{line}");
        }
    }

    #[test]
    fn heads_of_other_versions_are_refused() {
        let head = Head::new("s", "state.sqlite", Some("a||"), false);
        let line = serde_json::to_string(&head).unwrap();
        assert_eq!(Head::parse(&line).unwrap(), head);
        let newer = line.replace(":1,", ":2,");
        assert!(
            Head::parse(&newer)
                .unwrap_err()
                .to_string()
                .contains("format version 2")
        );
        assert!(Head::parse("{}").unwrap_err().to_string().contains("no export"));
    }

    #[test]
    fn what_is_over_has_no_seconds_left() {
        let record: Record<'_> =
            serde_json::from_str(r#"{"key":"k","value":1,"expires":"2026-01-01T00:00:10Z"}"#).unwrap();
        let at = |text: &str| record.seconds_left(text.parse().unwrap());
        assert_eq!(at("2026-01-01T00:00:00Z"), Some(10));
        assert_eq!(at("2026-01-01T00:00:09.5Z"), Some(1));
        assert_eq!(at("2026-01-01T00:00:10Z"), Some(0));
        assert_eq!(at("2027-01-01T00:00:10Z"), Some(0));
    }
}
