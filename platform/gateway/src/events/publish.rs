//! Events that are published: the attributes in metadata, or as a CloudEvent message; both give the same event (F8, G8,
//! Z3).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outrigger_kit::client::Publication;
use outrigger_kit::{Client, Event};
use outrigger_platform_wire::io::cloudevents::v1::CloudEvent;
use outrigger_platform_wire::io::cloudevents::v1::cloud_event::{
    CloudEventAttributeValue, Data, cloud_event_attribute_value::Attr,
};
use serde_json::{Map, Value};
use tonic::Status;

use crate::services::Catalog;
use crate::state::failure;

/// Who publishes where nobody says so.
const SOURCE: &str = "urn:com.virtufin.gateway";
/// What happened where nobody says so; the sidecar's own default.
const TYPE: &str = "com.dapr.event.sent";
/// Also sent as metadata of the publication (G8).
const CORRELATION: &str = "correlationid";
/// Attributes that only the platform sets.
const RESERVED: [&str; 5] = ["data", "data_base64", "specversion", "topic", "pubsubname"];

/// An event on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// All but the data.
    pub attributes: Event<()>,
    /// The data.
    pub data: Bytes,
    /// Metadata of the publication, for the component.
    pub metadata: BTreeMap<String, String>,
}

impl Outgoing {
    /// A change of state (G4.3).
    pub(crate) fn state_change(service: &str, change: &Value) -> Self {
        let source = format!("urn:com.virtufin.{service}");
        Self {
            attributes: Event::new("com.virtufin.gateway.state.changed", source, ()),
            data: Bytes::from(change.to_string()),
            metadata: BTreeMap::new(),
        }
    }

    /// Data with its attributes in metadata: `ce-…` are attributes; names that CloudEvents allows become extensions,
    /// dots taken out (`market.lane` → `marketlane`, Z13); names with capitals (`ttlInSeconds`, `partitionKey`) go to
    /// the component.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the name that is none of these, or whose value cannot be.
    pub fn from_metadata(data: Bytes, metadata: BTreeMap<String, String>) -> Result<Self, Status> {
        let mut event = Event::new(TYPE, SOURCE, ());
        event.content_type = None;
        let mut extensions = Map::new();
        let mut publication = BTreeMap::new();
        for (name, value) in metadata {
            match name.strip_prefix("ce-") {
                Some("id") => event.id = value,
                Some("source") => event.source = value,
                Some("type") => event.kind = value,
                Some("time") => event.time = Some(value),
                Some("subject") => event.subject = Some(value),
                Some("datacontenttype") => event.content_type = Some(value),
                Some("specversion") if value == "1.0" => {}
                Some("specversion") => {
                    return Err(Status::invalid_argument(format!(
                        "ce-specversion {value:?} is not 1.0"
                    )));
                }
                // Others write extensions with the prefix too.
                Some(bare) => {
                    extensions.insert(extension(bare)?, Value::from(value));
                }
                None if name.contains(|c: char| c.is_ascii_uppercase()) => {
                    publication.insert(name, value);
                }
                None => {
                    extensions.insert(extension(&name)?, Value::from(value));
                }
            }
        }
        event.extensions = extensions;
        Self::checked(event, data, publication)
    }

    /// A CloudEvent message. What the metadata says besides goes to the component.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an event that CloudEvents does not allow.
    pub fn from_cloud_event(event: CloudEvent, metadata: BTreeMap<String, String>) -> Result<Self, Status> {
        let mut made = Event::new(event.r#type, event.source, ());
        made.content_type = None;
        if !event.id.is_empty() {
            made.id = event.id;
        }
        if !matches!(event.spec_version.as_str(), "" | "1.0") {
            return Err(Status::invalid_argument(format!(
                "spec_version {:?} is not 1.0",
                event.spec_version
            )));
        }
        for (name, value) in event.attributes {
            match (name.as_str(), attribute(value)) {
                (_, None) => {}
                ("time", Some(value)) => made.time = Some(text(&value)),
                ("subject", Some(value)) => made.subject = Some(text(&value)),
                ("datacontenttype", Some(value)) => made.content_type = Some(text(&value)),
                (name, Some(value)) => {
                    made.extensions.insert(extension(name)?, value);
                }
            }
        }
        let data = match event.data {
            None => Bytes::new(),
            Some(Data::BinaryData(data)) => data,
            Some(Data::TextData(data)) => Bytes::from(data),
            Some(Data::ProtoData(any)) => {
                made.content_type
                    .get_or_insert_with(|| "application/protobuf".to_owned());
                any.value.into()
            }
        };
        let mut publication = metadata;
        publication.retain(|name, _| name != CORRELATION && !name.starts_with("ce-"));
        Self::checked(made, data, publication)
    }

    fn checked(
        mut event: Event<()>,
        data: Bytes,
        mut metadata: BTreeMap<String, String>,
    ) -> Result<Self, Status> {
        for (name, value) in [
            ("id", &event.id),
            ("source", &event.source),
            ("type", &event.kind),
        ] {
            if value.is_empty() {
                return Err(Status::invalid_argument(format!("the event has no {name}")));
            }
        }
        if let Some(time) = &event.time {
            time.parse::<jiff::Timestamp>()
                .map_err(|error| Status::invalid_argument(format!("time {time:?}: {error}")))?;
        }
        if event.content_type.as_deref().is_none_or(str::is_empty) {
            event.content_type = Some(guess(&data).to_owned());
        }
        if let Some(id) = event.extension(CORRELATION) {
            metadata.insert(CORRELATION.to_owned(), id.to_owned());
        }
        Ok(Self {
            attributes: event,
            data,
            metadata,
        })
    }

    /// As the sidecar takes it: JSON data as JSON, text as text, anything else in Base64.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for data that is not the JSON that it says it is.
    fn publication(self) -> Result<Publication, Status> {
        let kind = self.attributes.content_type.clone().unwrap_or_default();
        let event = &self.attributes;
        let json = is_json(&kind);
        let publication = match std::str::from_utf8(&self.data) {
            Ok(text) if !json => Publication::event(&with_data(event, Value::from(text))),
            Ok("") => Publication::event(&with_data(event, Value::Null)),
            Ok(text) => {
                let data = serde_json::from_str(text).map_err(|error| {
                    Status::invalid_argument(format!("the data is {kind} but no JSON: {error}"))
                })?;
                Publication::event(&with_data(event, data))
            }
            Err(_) if json => {
                return Err(Status::invalid_argument(format!(
                    "the data is {kind} but no text"
                )));
            }
            Err(_) => {
                let mut map = serde_json::to_value(with_data(event, Value::Null)).unwrap_or_default();
                if let Some(map) = map.as_object_mut() {
                    map.remove("data");
                    map.insert("data_base64".to_owned(), Value::from(STANDARD.encode(&self.data)));
                }
                Publication::bytes("application/cloudevents+json", map.to_string())
            }
        };
        Ok(self
            .metadata
            .into_iter()
            .fold(publication, |publication, (name, value)| {
                publication.metadata(name, value)
            }))
    }
}

fn with_data(event: &Event<()>, data: Value) -> Event<Value> {
    Event {
        id: event.id.clone(),
        source: event.source.clone(),
        kind: event.kind.clone(),
        subject: event.subject.clone(),
        time: event.time.clone(),
        content_type: event.content_type.clone(),
        data,
        extensions: event.extensions.clone(),
    }
}

pub(crate) fn is_json(content_type: &str) -> bool {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

fn guess(data: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok() {
        "application/json"
    } else if std::str::from_utf8(data).is_ok() {
        "text/plain"
    } else {
        "application/octet-stream"
    }
}

/// An extension's name: lower-case letters and digits (CloudEvents 1.0, "Naming conventions").
fn extension(name: &str) -> Result<String, Status> {
    let bare: String = name.chars().filter(|c| *c != '.').collect();
    let right = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !right || RESERVED.contains(&bare.as_str()) {
        return Err(Status::invalid_argument(format!(
            "metadata {name:?} is neither an attribute (ce-…), an extension (lower-case letters and digits) nor the component's (with capitals)"
        )));
    }
    Ok(bare)
}

fn attribute(value: CloudEventAttributeValue) -> Option<Value> {
    Some(match value.attr? {
        Attr::CeBoolean(value) => Value::from(value),
        Attr::CeInteger(value) => Value::from(value),
        Attr::CeString(value) | Attr::CeUri(value) | Attr::CeUriRef(value) => Value::from(value),
        Attr::CeBytes(value) => Value::from(STANDARD.encode(value)),
        Attr::CeTimestamp(value) => {
            let at = jiff::Timestamp::new(value.seconds, value.nanos).ok()?;
            Value::from(at.to_string())
        }
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Publishes by the sidecar.
#[derive(Debug, Clone)]
pub struct Publisher {
    client: Client,
    catalog: Catalog,
    pubsub: String,
}

impl Publisher {
    /// By a client; `pubsub` is the component of topics that are no service's.
    pub fn new(client: Client, catalog: Catalog, pubsub: String) -> Self {
        Self {
            client,
            catalog,
            pubsub,
        }
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The component of a topic: that of the service whose name the topic begins with (`orders.…`), else the gateway's
    /// own.
    pub fn component(&self, topic: &str) -> String {
        let service = topic.split('.').next().unwrap_or_default();
        self.catalog
            .service(service)
            .map(|service| service.pubsub.pubsub_name.clone())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| self.pubsub.clone())
    }

    /// Publishes an event.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an event that cannot be sent; those of the sidecar.
    pub async fn publish(&self, topic: &str, event: Outgoing) -> Result<(), Status> {
        if topic.is_empty() {
            return Err(Status::invalid_argument("topic is missing"));
        }
        let publication = event.publication()?;
        self.client
            .publish(&self.component(topic), topic, publication)
            .await
            .map_err(|error| failure(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn both_forms_give_the_same_event() {
        let plain = Outgoing::from_metadata(
            Bytes::from_static(b"{\"a\":1}"),
            metadata(&[
                ("ce-id", "1"),
                ("ce-source", "urn:x"),
                ("ce-type", "t"),
                ("ce-time", "2026-11-22T00:00:00Z"),
                ("ce-subject", "s"),
                ("ce-specversion", "1.0"),
                ("ce-datacontenttype", "application/json"),
                ("correlationid", "c"),
                ("market.lane", "fast"),
            ]),
        )
        .unwrap();
        let string = |text: &str| CloudEventAttributeValue {
            attr: Some(Attr::CeString(text.to_owned())),
        };
        let message = CloudEvent {
            id: "1".to_owned(),
            source: "urn:x".to_owned(),
            spec_version: "1.0".to_owned(),
            r#type: "t".to_owned(),
            attributes: [
                ("time".to_owned(), string("2026-11-22T00:00:00Z")),
                ("subject".to_owned(), string("s")),
                ("datacontenttype".to_owned(), string("application/json")),
                ("correlationid".to_owned(), string("c")),
                ("marketlane".to_owned(), string("fast")),
            ]
            .into(),
            data: Some(Data::TextData("{\"a\":1}".to_owned())),
        };
        let message = Outgoing::from_cloud_event(message, BTreeMap::new()).unwrap();
        assert_eq!(plain, message);
        assert_eq!(plain.metadata, metadata(&[("correlationid", "c")]));
        assert_eq!(plain.attributes.extension("marketlane"), Some("fast"));
    }

    #[test]
    fn what_is_not_said_is_not_added() {
        let event = Outgoing::from_metadata(Bytes::from_static(b"hello"), metadata(&[("ttlInSeconds", "5")]))
            .unwrap();
        assert!(event.attributes.extensions.is_empty());
        assert_eq!(event.metadata, metadata(&[("ttlInSeconds", "5")]));
        assert_eq!(event.attributes.content_type.as_deref(), Some("text/plain"));
        assert_eq!(event.attributes.kind, TYPE);
        let binary = Outgoing::from_metadata(Bytes::from_static(&[0xFF]), BTreeMap::new()).unwrap();
        assert_eq!(
            binary.attributes.content_type.as_deref(),
            Some("application/octet-stream")
        );
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for pairs in [
            [("ce-id", "")],
            [("ce-time", "yesterday")],
            [("ce-specversion", "0.3")],
            [("with-dash", "x")],
            [("data", "x")],
            [("topic", "x")],
            [("", "x")],
        ] {
            assert!(
                Outgoing::from_metadata(Bytes::new(), metadata(&pairs)).is_err(),
                "{pairs:?}"
            );
        }
        let event = Outgoing::from_metadata(
            Bytes::from_static(b"{"),
            metadata(&[("ce-datacontenttype", "application/json")]),
        );
        assert!(event.unwrap().publication().is_err());
    }
}
