//! CloudEvents 1.0 in their JSON form, as Dapr delivers them (E1.3).

pub(crate) mod grpc;

use base64::Engine;
use serde::de::DeserializeOwned;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// A checked event with data of type `T`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<T> {
    /// Identifies the event together with `source`; a repeated delivery has the same one.
    pub id: String,
    /// Who made it; Dapr puts the publisher's app-id here.
    pub source: String,
    /// What happened, such as `task.created`.
    pub kind: String,
    /// What it happened to, if told.
    pub subject: Option<String>,
    /// When it happened, RFC 3339, if told.
    pub time: Option<String>,
    /// The content type of the data, if told.
    pub content_type: Option<String>,
    /// The data.
    pub data: T,
    /// All other attributes: `topic`, `pubsubname`, `traceparent` and the publisher's own.
    pub extensions: Map<String, Value>,
}

/// Why something is no CloudEvent that the handler may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    NotAnObject(String),
    /// A required attribute is not there or empty.
    #[error("attribute {0:?} is missing or empty")]
    Missing(&'static str),
    /// An attribute has a value that CloudEvents 1.0 does not allow.
    #[error("attribute {name:?} is wrong: {why}")]
    Wrong {
        /// Which attribute.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The data is not what the handler expects.
    #[error("the data is not what the handler takes: {0}")]
    Data(String),
}

impl<T> Event<T> {
    /// A new event with a fresh id and the present time.
    pub fn new(kind: impl Into<String>, source: impl Into<String>, data: T) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            source: source.into(),
            kind: kind.into(),
            subject: None,
            time: Some(jiff::Timestamp::now().to_string()),
            content_type: Some("application/json".to_owned()),
            data,
            extensions: Map::new(),
        }
    }

    /// Says what it happened to.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// An attribute beyond those of the specification, if it is text.
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.get(name).and_then(Value::as_str)
    }

    fn with_data<U>(self, data: U) -> Event<U> {
        Event {
            id: self.id,
            source: self.source,
            kind: self.kind,
            subject: self.subject,
            time: self.time,
            content_type: self.content_type,
            data,
            extensions: self.extensions,
        }
    }
}

impl Event<Value> {
    /// Reads an event and checks it against CloudEvents 1.0. Names of extension attributes are not checked: Dapr's
    /// own outbox writes some that the specification would not allow.
    ///
    /// # Errors
    /// [`EventError`] with the first thing found wrong.
    pub fn from_json(body: &[u8]) -> Result<Self, EventError> {
        let map = serde_json::from_slice(body).map_err(|error| EventError::NotAnObject(error.to_string()))?;
        Self::from_map(map)
    }

    /// As [`from_json`](Self::from_json), of an object that is read already.
    ///
    /// # Errors
    /// [`EventError`] with the first thing found wrong.
    pub fn from_map(mut map: Map<String, Value>) -> Result<Self, EventError> {
        let version = required(&mut map, "specversion")?;
        if version != "1.0" {
            return Err(wrong("specversion", format!("{version:?} is not 1.0")));
        }
        let id = required(&mut map, "id")?;
        let source = required(&mut map, "source")?;
        let kind = required(&mut map, "type")?;
        let subject = optional(&mut map, "subject")?;
        let time = optional(&mut map, "time")?;
        if let Some(time) = &time {
            time.parse::<jiff::Timestamp>()
                .map_err(|error| wrong("time", format!("{time:?}: {error}")))?;
        }
        let content_type = optional(&mut map, "datacontenttype")?;
        if let Some(schema) = map.get("dataschema")
            && schema.as_str().is_none_or(str::is_empty)
        {
            return Err(wrong("dataschema", "it is not a URI".to_owned()));
        }
        let data = match (map.remove("data"), map.remove("data_base64")) {
            (Some(_), Some(_)) => {
                return Err(wrong("data_base64", "there is data beside it".to_owned()));
            }
            (Some(data), None) => data,
            (None, None) => Value::Null,
            (None, Some(Value::String(text))) => binary(&text, content_type.as_deref())?,
            (None, Some(_)) => return Err(wrong("data_base64", "it is not text".to_owned())),
        };
        Ok(Self {
            id,
            source,
            kind,
            subject,
            time,
            content_type,
            data,
            extensions: map,
        })
    }

    /// Reads the data as a `T`.
    ///
    /// # Errors
    /// [`EventError::Data`] if it is none.
    pub fn typed<T: DeserializeOwned>(mut self) -> Result<Event<T>, EventError> {
        let data = std::mem::take(&mut self.data);
        let data = serde_json::from_value(data).map_err(|error| EventError::Data(error.to_string()))?;
        Ok(self.with_data(data))
    }
}

impl<T: Serialize> Event<T> {
    /// The same event with its data as a JSON value, for publishing.
    ///
    /// # Errors
    /// [`EventError::Data`] if the data cannot be written as JSON.
    pub fn into_value(self) -> Result<Event<Value>, EventError> {
        let data = serde_json::to_value(&self.data).map_err(|error| EventError::Data(error.to_string()))?;
        Ok(self.with_data(data))
    }
}

/// Attributes that fields of the event always hold.
const FIELDS: [&str; 5] = ["specversion", "id", "source", "type", "data"];

impl Serialize for Event<Value> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("source", &self.source)?;
        map.serialize_entry("type", &self.kind)?;
        for (name, value) in [
            ("subject", &self.subject),
            ("time", &self.time),
            ("datacontenttype", &self.content_type),
        ] {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        for (name, value) in &self.extensions {
            // An attribute that is there twice would be none that anybody may rely on.
            let is_set = match name.as_str() {
                "subject" => self.subject.is_some(),
                "time" => self.time.is_some(),
                "datacontenttype" => self.content_type.is_some(),
                name => FIELDS.contains(&name),
            };
            if !is_set {
                map.serialize_entry(name, value)?;
            }
        }
        map.serialize_entry("data", &self.data)?;
        map.end()
    }
}

fn wrong(name: &'static str, why: String) -> EventError {
    EventError::Wrong { name, why }
}

fn required(map: &mut Map<String, Value>, name: &'static str) -> Result<String, EventError> {
    match map.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        None | Some(Value::Null | Value::String(_)) => Err(EventError::Missing(name)),
        Some(_) => Err(wrong(name, "it is not text".to_owned())),
    }
}

fn optional(map: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, EventError> {
    match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        // Go's publishers write an empty string for what is not set.
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(wrong(name, "it is not text".to_owned())),
    }
}

/// Binary data: JSON if its content type says so, else kept as base64 text.
fn binary(text: &str, content_type: Option<&str>) -> Result<Value, EventError> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|error| wrong("data_base64", error.to_string()))?;
    let json = content_type.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
    });
    if json {
        return serde_json::from_slice(&bytes).map_err(|error| EventError::Data(error.to_string()));
    }
    Ok(Value::from(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn minimal() -> Value {
        json!({"specversion": "1.0", "id": "1", "source": "tasks", "type": "task.created"})
    }

    fn parse(value: &Value) -> Result<Event<Value>, EventError> {
        Event::from_json(&serde_json::to_vec(value).unwrap())
    }

    #[test]
    fn the_four_required_attributes_are_enough() {
        let event = parse(&minimal()).unwrap();
        assert_eq!((event.id.as_str(), event.kind.as_str()), ("1", "task.created"));
        for name in ["specversion", "id", "source", "type"] {
            let mut event = minimal();
            event.as_object_mut().unwrap().remove(name);
            assert_eq!(parse(&event), Err(EventError::Missing(name)));
            event[name] = json!("");
            assert_eq!(parse(&event), Err(EventError::Missing(name)));
        }
    }

    #[test]
    fn wrong_attributes_are_refused() {
        for (name, value) in [
            ("specversion", json!("0.3")),
            ("id", json!(7)),
            ("time", json!("yesterday")),
            ("data_base64", json!("***")),
            ("dataschema", json!(3)),
        ] {
            let mut event = minimal();
            event[name] = value;
            assert!(matches!(parse(&event), Err(EventError::Wrong { .. })), "{event}");
        }
        assert!(Event::from_json(b"[]").is_err());
    }

    #[test]
    fn data_is_read_by_type() {
        #[derive(serde::Deserialize)]
        struct Task {
            title: String,
        }
        let mut event = minimal();
        event["data"] = json!({"title": "Tea"});
        assert_eq!(parse(&event).unwrap().typed::<Task>().unwrap().data.title, "Tea");
        event["data"] = json!("Tea");
        assert!(matches!(
            parse(&event).unwrap().typed::<Task>(),
            Err(EventError::Data(_))
        ));
        let mut binary = minimal();
        binary["datacontenttype"] = json!("application/json; charset=utf-8");
        binary["data_base64"] = json!("eyJ0aXRsZSI6IlRlYSJ9");
        assert_eq!(parse(&binary).unwrap().typed::<Task>().unwrap().data.title, "Tea");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(
            kind in "[a-z.]{1,20}",
            subject in proptest::option::of("\\PC{1,20}"),
            text in "\\PC*",
        ) {
            let mut event = Event::new(kind, "test", json!({"text": text}));
            event.subject = subject;
            event.extensions.insert("topic".to_owned(), json!("tasks"));
            let written = serde_json::to_vec(&event).unwrap();
            prop_assert_eq!(Event::from_json(&written), Ok(event));
        }

        #[test]
        fn no_attribute_is_written_twice(name in "(subject|time|datacontenttype|id|data|other)", set in any::<bool>()) {
            let mut event = Event::new("kind", "test", json!(1));
            event.subject = set.then(|| "own".to_owned());
            event.extensions.insert(name.clone(), json!("other"));
            let text = serde_json::to_string(&event).unwrap();
            prop_assert_eq!(text.matches(&format!("\"{name}\":")).count(), 1);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::from_json(&bytes);
        }
    }
}
