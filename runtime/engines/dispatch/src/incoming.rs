//! From what a component delivers to the event an app gets.

use std::borrow::Cow;

use crate::{
    Metadata, content_type,
    envelope::{Envelope, Field, field},
    go_json::{Error, Numbers},
    metadata::starts_with_ignore_case,
};

/// Prefix of the message metadata that carries the attributes of a binary CloudEvent.
const BINARY_PREFIX: &str = "ce_";

/// A message of a broker.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The body.
    pub data: &'a [u8],
    /// Content type, from the message or its metadata `content-type`; absent for an envelope.
    pub content_type: Option<&'a str>,
    /// Metadata of the message.
    pub metadata: &'a Metadata,
    /// The topic, without namespace.
    pub topic: &'a str,
    /// The component.
    pub pubsub: &'a str,
    /// Whether the subscription asks for `rawPayload`.
    pub raw: bool,
    /// A fresh id for raw messages.
    pub id: &'a str,
}

/// An event on its way to the app.
#[derive(Debug, Clone)]
pub struct Delivery<'a> {
    /// The event: expiry, routes, trace and gRPC fields are read from it.
    pub event: Envelope<'a>,
    /// The body of an HTTP delivery.
    pub body: Cow<'a, [u8]>,
}

impl<'a> Incoming<'a> {
    /// Reads the event.
    ///
    /// # Errors
    /// When it should be an envelope and is no JSON object: it goes to the dead letter topic, or back.
    pub fn read(&self) -> Result<Delivery<'a>, Error> {
        if self.raw {
            let mut event = Envelope::from_raw(self.data, self.id, self.topic, self.pubsub);
            self.trace(&mut event, true);
            let body = Cow::Owned(event.to_json());
            return Ok(Delivery { event, body });
        }
        let content_type = self.content_type.unwrap_or(content_type::CLOUD_EVENT);
        let event = if content_type::is_binary(content_type) {
            self.binary(content_type)
        } else {
            let mut event = Envelope::parse(self.data, Numbers::Doubles)?;
            self.trace(&mut event, false);
            event
        };
        Ok(Delivery {
            event,
            body: Cow::Borrowed(self.data),
        })
    }

    /// A CloudEvent in binary mode: attributes from metadata, the body as it is.
    fn binary(&self, content_type: &'a str) -> Envelope<'a> {
        let mut event = Envelope::new(Numbers::Doubles);
        for (key, value) in self.metadata {
            if starts_with_ignore_case(key, BINARY_PREFIX) {
                event.set_text(key[BINARY_PREFIX.len()..].to_lowercase(), value.as_str());
            }
        }
        event.set(field::DATA, Field::Bytes(Cow::Borrowed(self.data)));
        event.set_text(field::DATA_CONTENT_TYPE, content_type);
        event
    }

    /// Takes the trace from the message's metadata, where the event has none (or always, for raw ones).
    fn trace(&self, event: &mut Envelope<'a>, replace: bool) {
        let from = |name: &str| self.metadata.get(name).map(String::as_str);
        let open = |event: &Envelope<'_>, name: &str| replace || !event.contains(name);
        if let Some(trace_id) = from(field::TRACE_ID).filter(|_| open(event, field::TRACE_ID)) {
            event.set_text(field::TRACE_ID, trace_id);
        }
        if let Some(trace_parent) = from(field::TRACE_PARENT).filter(|_| open(event, field::TRACE_PARENT)) {
            event.set_text(field::TRACE_PARENT, trace_parent);
            event.set_text(field::TRACE_ID, trace_parent);
        }
        if let Some(trace_state) = from(field::TRACE_STATE).filter(|_| open(event, field::TRACE_STATE)) {
            event.set_text(field::TRACE_STATE, trace_state);
        }
    }
}

/// The topic as the app knows it: without the first occurrence of the namespace, where the component is scoped.
#[must_use]
pub fn strip_namespace<'a>(topic: &'a str, namespace: &str, scoped: bool) -> Cow<'a, str> {
    if !scoped {
        return Cow::Borrowed(topic);
    }
    match topic.strip_prefix(namespace) {
        Some(rest) => Cow::Borrowed(rest),
        None => Cow::Owned(topic.replacen(namespace, "", 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> Metadata {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn incoming<'a>(data: &'a [u8], metadata: &'a Metadata) -> Incoming<'a> {
        Incoming {
            data,
            content_type: None,
            metadata,
            topic: "t",
            pubsub: "p",
            raw: false,
            id: "i",
        }
    }

    #[test]
    fn envelopes_pass_as_they_are() {
        let none = Metadata::new();
        let body = br#"{ "id":"1", "data":{"b":1,"a":2} }"#;
        let delivery = incoming(body, &none).read().unwrap();
        assert_eq!(delivery.body.as_ref(), body);
        assert!(matches!(delivery.body, Cow::Borrowed(_)));
        assert_eq!(delivery.event.id(), "1");
        assert!(incoming(b"text", &none).read().is_err());
        assert!(
            incoming(b"text", &none)
                .read()
                .unwrap_err()
                .to_string()
                .starts_with("invalid character 'e' in literal true")
        );
    }

    #[test]
    fn traces_fill_gaps() {
        let traced = metadata(&[("traceid", "m1"), ("traceparent", "m2"), ("tracestate", "m3")]);
        let event = incoming(br#"{"traceid":"own","traceparent":"own"}"#, &traced)
            .read()
            .unwrap()
            .event;
        assert_eq!(
            String::from_utf8(event.to_json()).unwrap(),
            r#"{"traceid":"own","traceparent":"own","tracestate":"m3"}"#
        );
        let event = incoming(br#"{"traceid":"own"}"#, &traced).read().unwrap().event;
        assert_eq!(event.text("traceid"), Some("m2"), "traceparent supersedes");
    }

    #[test]
    fn raw_messages_are_wrapped() {
        let traced = metadata(&[("traceparent", "m2")]);
        let raw = Incoming {
            raw: true,
            ..incoming(b"{}", &traced)
        };
        assert_eq!(
            String::from_utf8(raw.read().unwrap().body.into_owned()).unwrap(),
            r#"{"data_base64":"e30=","datacontenttype":"application/octet-stream","id":"i","pubsubname":"p","source":"Dapr","specversion":"1.0","topic":"t","traceid":"m2","traceparent":"m2","type":"com.dapr.event.sent"}"#
        );
    }

    #[test]
    fn binary_events_have_their_attributes_in_metadata() {
        let headers = metadata(&[("ce_id", "7"), ("CE_Type", "t"), ("other", "x")]);
        let binary = Incoming {
            content_type: Some("application/octet-stream"),
            ..incoming(b"\xff", &headers)
        };
        let delivery = binary.read().unwrap();
        assert_eq!(delivery.body.as_ref(), b"\xff");
        assert_eq!(
            String::from_utf8(delivery.event.to_json()).unwrap(),
            r#"{"data":"/w==","datacontenttype":"application/octet-stream","id":"7","type":"t"}"#
        );
    }

    #[test]
    fn namespaces() {
        assert_eq!(strip_namespace("nsorders", "ns", true), "orders");
        assert_eq!(strip_namespace("xnsorders", "ns", true), "xorders");
        assert_eq!(strip_namespace("nsorders", "ns", false), "nsorders");
    }
}
