//! From a publish request to the bytes a component sends.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    Metadata, content_type,
    envelope::{Envelope, Field, field},
    go_json::{self, Error, Numbers},
    metadata::{Overrides, ttl},
    time::Now,
};

/// A publish request that is not raw.
#[derive(Debug, Clone)]
pub struct Publish<'a> {
    /// A fresh id, used when the request names none.
    pub id: &'a str,
    /// The publisher's app id.
    pub app_id: &'a str,
    /// The component.
    pub pubsub: &'a str,
    /// The topic, without namespace.
    pub topic: &'a str,
    /// Content type of `data`; empty for `text/plain`.
    pub content_type: &'a str,
    /// The payload, or a whole envelope if the content type says so.
    pub data: &'a [u8],
    /// The W3C trace parent of the request's span; may be empty.
    pub trace_parent: &'a str,
    /// The W3C trace state of the request's span; may be empty.
    pub trace_state: &'a str,
    /// Metadata of the request: overrides and the time to live.
    pub metadata: &'a Metadata,
    /// Whether the component itself lets messages expire; if not, the envelope says when.
    pub component_expires: bool,
    /// The present.
    pub now: Now,
}

impl<'a> Publish<'a> {
    /// The bytes to publish.
    ///
    /// # Errors
    /// When the payload claims to be an envelope and is no JSON object.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        if content_type::is_cloud_event(self.content_type) {
            return self.to_envelope().map(|envelope| envelope.to_json());
        }
        let time = self.now.rfc3339();
        let expiration = self.expiration();
        let mut out = Vec::with_capacity(self.data.len() + self.data.len() / 8 + 512);
        self.event(&time, expiration.as_deref()).write_json(&mut out);
        Ok(out)
    }

    /// The event as a map, for those who add to it (the outbox).
    ///
    /// # Errors
    /// As [`Publish::to_json`].
    pub fn to_envelope(&self) -> Result<Envelope<'a>, Error> {
        let time = self.now.rfc3339();
        if content_type::is_cloud_event(self.content_type) {
            return self.complete(time);
        }
        let expiration = self.expiration();
        // Everything in the map lives as long as the request, but these two texts.
        let mut envelope = self.event("", None).to_envelope();
        envelope.set_text(field::TIME, time);
        if let Some(expiration) = expiration {
            envelope.set_text(field::EXPIRATION, expiration);
        }
        Ok(envelope)
    }

    fn expiration(&self) -> Option<String> {
        if self.component_expires {
            return None;
        }
        // A time to live that cannot be read is ignored, as upstream does.
        ttl(self.metadata)
            .ok()
            .flatten()
            .map(|ttl| self.now.utc_after(ttl))
    }

    fn event<'t>(&self, time: &'t str, expiration: Option<&'t str>) -> NewEvent<'t>
    where
        'a: 't,
    {
        let overrides = Overrides::from_metadata(self.metadata);
        fn or<'x>(first: Option<&'x str>, default: &'x str) -> &'x str {
            first.filter(|text| !text.is_empty()).unwrap_or(default)
        }
        let trace_id = overrides.trace_id.unwrap_or(self.trace_parent);
        NewEvent {
            id: or(overrides.id, self.id),
            // An override may empty the source, and then Dapr's own name stands in.
            source: or(
                Some(overrides.source.unwrap_or(self.app_id)),
                field::DEFAULT_SOURCE,
            ),
            kind: or(overrides.kind, field::DEFAULT_TYPE),
            subject: overrides.subject.unwrap_or_default(),
            topic: self.topic,
            pubsub: self.pubsub,
            data_content_type: or(Some(self.content_type), field::DEFAULT_DATA_CONTENT_TYPE),
            data: self.data,
            trace: or(overrides.trace_parent, trace_id),
            trace_state: overrides.trace_state.unwrap_or(self.trace_state),
            time,
            expiration,
        }
    }

    /// Fills in what a publisher's own envelope leaves open.
    fn complete(&self, time: String) -> Result<Envelope<'a>, Error> {
        let mut envelope = Envelope::parse(self.data, Numbers::Verbatim)?;
        if !envelope.contains(field::TIME) {
            envelope.set_text(field::TIME, time);
        }
        if !envelope.contains(field::TRACE_ID) {
            envelope.set_text(field::TRACE_ID, self.trace_parent);
            envelope.set_text(field::TRACE_PARENT, self.trace_parent);
        }
        if !envelope.contains(field::TRACE_STATE) {
            envelope.set_text(field::TRACE_STATE, self.trace_state);
        }
        envelope.set_text(field::TOPIC, self.topic);
        envelope.set_text(field::PUBSUB_NAME, self.pubsub);
        for (name, default) in [
            (field::SOURCE, field::DEFAULT_SOURCE),
            (field::TYPE, field::DEFAULT_TYPE),
            (field::SPEC_VERSION, field::DEFAULT_SPEC_VERSION),
        ] {
            if envelope.is_null(name) {
                envelope.set_text(name, default);
            }
        }
        if let Some(expiration) = self.expiration() {
            envelope.set_text(field::EXPIRATION, expiration);
        }
        Ok(envelope)
    }
}

/// The attributes of a new envelope, all decided.
#[derive(Debug, Clone)]
pub struct NewEvent<'a> {
    /// `id`.
    pub id: &'a str,
    /// `source`.
    pub source: &'a str,
    /// `type`.
    pub kind: &'a str,
    /// `subject`; left out when empty.
    pub subject: &'a str,
    /// `topic`.
    pub topic: &'a str,
    /// `pubsubname`.
    pub pubsub: &'a str,
    /// `datacontenttype`, which decides how `data` is carried.
    pub data_content_type: &'a str,
    /// The payload.
    pub data: &'a [u8],
    /// `traceid` and `traceparent`.
    pub trace: &'a str,
    /// `tracestate`.
    pub trace_state: &'a str,
    /// `time`.
    pub time: &'a str,
    /// `expiration`; left out when absent.
    pub expiration: Option<&'a str>,
}

impl<'a> NewEvent<'a> {
    fn is_base64(&self) -> bool {
        content_type::is_binary(self.data_content_type)
            || content_type::is_cloud_event_protobuf(self.data_content_type, self.data)
    }

    /// Appends the envelope, straight from the parts: no map, and JSON payloads are rewritten in one pass.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        // The names below stand in the order of Go's sorted keys.
        if content_type::is_json(self.data_content_type) {
            out.extend_from_slice(b"{\"data\":");
            let start = out.len();
            if go_json::transcode_prefix(self.data, Numbers::Verbatim, out).is_err() {
                out.truncate(start);
                go_json::write_string(self.data, out);
            }
        } else if self.is_base64() {
            out.extend_from_slice(b"{\"data_base64\":\"");
            let start = out.len();
            out.resize(
                start + base64::encoded_len(self.data.len(), true).unwrap_or_default(),
                0,
            );
            // The room is exactly what the encoder needs, so it cannot fail.
            let written = STANDARD
                .encode_slice(self.data, &mut out[start..])
                .unwrap_or_default();
            out.truncate(start + written);
            out.push(b'"');
        } else {
            out.extend_from_slice(b"{\"data\":");
            go_json::write_string(self.data, out);
        }
        let mut text = |name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            go_json::write_string(value.as_bytes(), out);
        };
        text(",\"datacontenttype\":", self.data_content_type);
        if let Some(expiration) = self.expiration {
            text(",\"expiration\":", expiration);
        }
        text(",\"id\":", self.id);
        text(",\"pubsubname\":", self.pubsub);
        text(",\"source\":", self.source);
        text(",\"specversion\":", field::DEFAULT_SPEC_VERSION);
        if !self.subject.is_empty() {
            text(",\"subject\":", self.subject);
        }
        text(",\"time\":", self.time);
        text(",\"topic\":", self.topic);
        text(",\"traceid\":", self.trace);
        text(",\"traceparent\":", self.trace);
        text(",\"tracestate\":", self.trace_state);
        text(",\"type\":", self.kind);
        out.push(b'}');
    }

    /// The envelope as a map.
    #[must_use]
    pub fn to_envelope(&self) -> Envelope<'a> {
        let mut envelope = Envelope::new(Numbers::Verbatim);
        for (name, value) in [
            (field::DATA_CONTENT_TYPE, self.data_content_type),
            (field::ID, self.id),
            (field::PUBSUB_NAME, self.pubsub),
            (field::SOURCE, self.source),
            (field::SPEC_VERSION, field::DEFAULT_SPEC_VERSION),
            (field::TIME, self.time),
            (field::TOPIC, self.topic),
            (field::TRACE_ID, self.trace),
            (field::TRACE_PARENT, self.trace),
            (field::TRACE_STATE, self.trace_state),
            (field::TYPE, self.kind),
        ] {
            envelope.set_text(name, value);
        }
        if !self.subject.is_empty() {
            envelope.set_text(field::SUBJECT, self.subject);
        }
        if let Some(expiration) = self.expiration {
            envelope.set_text(field::EXPIRATION, expiration);
        }
        let text = || Field::Text(Cow::Borrowed(self.data));
        if content_type::is_json(self.data_content_type) {
            let mut json = Vec::new();
            let data = match go_json::transcode_prefix(self.data, Numbers::Verbatim, &mut json) {
                Ok(()) => Field::Json(Cow::Owned(json)),
                Err(_) => text(),
            };
            envelope.set(field::DATA, data);
        } else if self.is_base64() {
            envelope.set(field::DATA_BASE64, Field::Bytes(Cow::Borrowed(self.data)));
        } else {
            envelope.set(field::DATA, text());
        }
        envelope
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Now {
        Now {
            at: "2026-08-01T12:00:00Z".parse().unwrap(),
            offset_seconds: 3600,
        }
    }

    fn publish<'a>(content_type: &'a str, data: &'a [u8], metadata: &'a Metadata) -> Publish<'a> {
        Publish {
            id: "fresh",
            app_id: "app",
            pubsub: "ps",
            topic: "orders",
            content_type,
            data,
            trace_parent: "00-a-b-01",
            trace_state: "",
            metadata,
            component_expires: false,
            now: now(),
        }
    }

    fn json(content_type: &str, data: &[u8], metadata: &[(&str, &str)]) -> String {
        let metadata = metadata
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let publish = publish(content_type, data, &metadata);
        let fast = publish.to_json().unwrap();
        assert_eq!(
            fast,
            publish.to_envelope().unwrap().to_json(),
            "the map says the same"
        );
        String::from_utf8(fast).unwrap()
    }

    const TAIL: &str = r#""id":"fresh","pubsubname":"ps","source":"app","specversion":"1.0","time":"2026-08-01T13:00:00+01:00","topic":"orders","traceid":"00-a-b-01","traceparent":"00-a-b-01","tracestate":"","type":"com.dapr.event.sent"}"#;

    #[test]
    fn payload_by_content_type() {
        for (content_type, data, head) in [
            (
                "application/json",
                br#" {"b":1.0,"a":"<x>"} "#.as_slice(),
                r#""data":{"a":"\u003cx\u003e","b":1.0}"#,
            ),
            ("application/json", b"{broken", r#""data":"{broken""#),
            ("application/json", b"", r#""data":"""#),
            (
                "application/json",
                b"12345678901234567890",
                r#""data":12345678901234567890"#,
            ),
            ("text/plain", b"a \"b\"", r#""data":"a \"b\"""#),
            (
                "application/octet-stream",
                b"\x00\x01\x02\x03",
                r#""data_base64":"AAECAw==""#,
            ),
            (
                "application/cloudevents+protobuf",
                b"x",
                r#""data_base64":"eA==""#,
            ),
            ("application/x-protobuf", b"hello", r#""data":"hello""#),
            ("image/png", b"\xff", r#""data":"\ufffd""#),
        ] {
            let expected = format!(r#"{{{head},"datacontenttype":"{content_type}",{TAIL}"#);
            assert_eq!(json(content_type, data, &[]), expected);
        }
        assert_eq!(
            json("", b"x", &[]),
            format!(r#"{{"data":"x","datacontenttype":"text/plain",{TAIL}"#)
        );
    }

    #[test]
    fn overrides_and_expiration() {
        assert_eq!(
            json(
                "text/plain",
                b"x",
                &[
                    ("cloudevent.id", "i"),
                    ("cloudevent.SOURCE", "s"),
                    ("cloudevent.type", "t"),
                    ("cloudevent.subject", "j"),
                    ("cloudevent.traceid", "1"),
                    ("cloudevent.traceparent", "2"),
                    ("cloudevent.tracestate", "3"),
                    ("ttlInSeconds", "60"),
                ]
            ),
            r#"{"data":"x","datacontenttype":"text/plain","expiration":"2026-08-01T12:01:00Z","id":"i","pubsubname":"ps","source":"s","specversion":"1.0","subject":"j","time":"2026-08-01T13:00:00+01:00","topic":"orders","traceid":"2","traceparent":"2","tracestate":"3","type":"t"}"#
        );
        let emptied = json(
            "text/plain",
            b"x",
            &[
                ("cloudevent.source", ""),
                ("cloudevent.traceid", "1"),
                ("ttl", "bad"),
            ],
        );
        assert!(emptied.contains(r#""source":"Dapr""#) && emptied.contains(r#""traceparent":"1""#));
        assert!(!emptied.contains("expiration"));
        let metadata = [("ttl".to_owned(), "1s".to_owned())].into();
        let native = Publish {
            component_expires: true,
            ..publish("text/plain", b"x", &metadata)
        };
        assert!(
            !String::from_utf8(native.to_json().unwrap())
                .unwrap()
                .contains("expiration")
        );
    }

    #[test]
    fn envelopes_of_publishers_are_completed() {
        let own =
            br#"{"specversion":null,"id":"mine","topic":"x","data":{"z":1.50,"a":1},"source":"s","ext":"e"}"#;
        assert_eq!(
            json(
                "application/cloudevents+json; charset=utf-8",
                own,
                &[("cloudevent.id", "ignored"), ("ttl", "1s")]
            ),
            r#"{"data":{"a":1,"z":1.50},"expiration":"2026-08-01T12:00:01Z","ext":"e","id":"mine","pubsubname":"ps","source":"s","specversion":"1.0","time":"2026-08-01T13:00:00+01:00","topic":"orders","traceid":"00-a-b-01","traceparent":"00-a-b-01","tracestate":"","type":"com.dapr.event.sent"}"#
        );
        let traced = json(
            "application/cloudevents+json",
            br#"{"traceid":"t","time":null}"#,
            &[],
        );
        assert!(
            traced.contains(r#""time":null"#)
                && traced.contains(r#""traceid":"t""#)
                && !traced.contains("traceparent")
        );
        let metadata = Metadata::new();
        assert!(
            publish("application/cloudevents+json", b"[]", &metadata)
                .to_json()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn fast_equals_slow(
            data in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                "\\{\"[a-c<]{1,3}\":[0-9]{1,3},\"[a-c]{1,2}\":\"\\PC{0,4}\"\\}".prop_map(String::into_bytes),
            ],
            content_type in prop_oneof![
                Just("application/json".to_owned()), Just("application/octet-stream".to_owned()), Just("text/plain".to_owned()),
                Just(String::new()), Just("application/x-protobuf".to_owned()), "\\PC{0,12}"
            ],
            key in "cloudevent\\.(id|source|type|subject|traceid|traceparent|tracestate)|ttl",
            value in "\\PC{0,8}",
            topic in "\\PC{0,8}",
        ) {
            prop_assume!(!content_type::is_cloud_event(&content_type));
            let metadata: Metadata = [(key, value)].into();
            let publish = Publish { topic: &topic, ..publish(&content_type, &data, &metadata) };
            let fast = publish.to_json().unwrap();
            prop_assert_eq!(&fast, &publish.to_envelope().unwrap().to_json());
            // Only the escape of bytes that are no text changes, once, as in Go.
            let again = Envelope::parse(&fast, Numbers::Verbatim).unwrap().to_json();
            prop_assert_eq!(&Envelope::parse(&again, Numbers::Verbatim).unwrap().to_json(), &again);
        }
    }
}
