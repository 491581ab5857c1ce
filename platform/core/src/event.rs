//! CloudEvents and workers' responses in the binary form of native workers (R7, `worker.fbs`).

use base64::Engine as _;
use outrigger_kit::Event;
use outrigger_platform_flatbuffers::{
    Invalid, WIPOffset,
    flatbuffers::FlatBufferBuilder,
    read_cloud_event, read_worker_response,
    worker::{self as fb, CloudEventArgs, ExtensionArgs, WorkerResponseArgs},
    write,
};
use serde_json::{Map, Value};

/// The extension that comes before all others.
const CORRELATION_ID: &str = "correlationid";
/// An attribute that the kit keeps among the extensions.
const DATA_SCHEMA: &str = "dataschema";

/// Why bytes are no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventBytesError {
    /// Not the table.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A required attribute is not there or empty.
    #[error("attribute {0:?} is missing or empty")]
    Missing(&'static str),
    /// Another version of CloudEvents.
    #[error("specversion {0:?} is not 1.0")]
    Version(String),
    /// An extension without a name.
    #[error("an extension has no name")]
    Nameless,
    /// The data is not what its content type says.
    #[error("the data is no {content_type}: {why}")]
    Data {
        /// What it should be.
        content_type: String,
        /// What is wrong.
        why: String,
    },
}

/// What a worker gives back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkerResponse {
    /// The reply; `None` for no reply.
    pub event: Option<Event<Value>>,
    /// What went wrong, for the lifecycle event; without a reply beside it, the call has failed.
    pub error: Option<String>,
}

/// The binary form of an event.
///
/// Data is JSON unless its content type says otherwise: text then stands as it is, and what is Base64 in the kit's event
/// is written as the bytes it stands for. Null data is left out. Extension values that are no text are written as JSON.
pub fn to_bytes(event: &Event<Value>) -> Vec<u8> {
    write(|builder| build(builder, event))
}

/// Reads the binary form of an event. Extensions are text, whatever they were before.
///
/// # Errors
/// [`EventBytesError`]; bytes of strangers do no harm.
pub fn from_bytes(bytes: &[u8]) -> Result<Event<Value>, EventBytesError> {
    read(read_cloud_event(bytes)?)
}

impl WorkerResponse {
    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(|builder| {
            let result_event = self.event.as_ref().map(|event| build(builder, event));
            let error_message = self.error.as_ref().map(|error| builder.create_string(error));
            fb::WorkerResponse::create(
                builder,
                &WorkerResponseArgs {
                    result_event,
                    error_message,
                },
            )
        })
    }

    /// Reads the binary form; an empty error is none.
    ///
    /// # Errors
    /// [`EventBytesError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EventBytesError> {
        let table = read_worker_response(bytes)?;
        Ok(Self {
            event: table.result_event().map(read).transpose()?,
            error: table
                .error_message()
                .filter(|error| !error.is_empty())
                .map(str::to_owned),
        })
    }
}

/// What data is, by its content type.
enum Form {
    Json,
    Text,
    Binary,
}

fn form(content_type: Option<&str>) -> Form {
    let Some(content_type) = content_type else {
        return Form::Json;
    };
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        Form::Json
    } else if essence.starts_with("text/") || essence.ends_with("+xml") || essence == "application/xml" {
        Form::Text
    } else {
        Form::Binary
    }
}

fn data_bytes(event: &Event<Value>) -> Option<Vec<u8>> {
    match (&event.data, form(event.content_type.as_deref())) {
        (Value::Null, _) => None,
        (Value::String(text), Form::Text) => Some(text.clone().into_bytes()),
        (Value::String(text), Form::Binary) => Some(
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .unwrap_or_else(|_| text.clone().into_bytes()),
        ),
        (value, _) => Some(value.to_string().into_bytes()),
    }
}

fn data_value(bytes: &[u8], content_type: Option<&str>) -> Result<Value, EventBytesError> {
    let wrong = |why: String| EventBytesError::Data {
        content_type: content_type.unwrap_or("application/json").to_owned(),
        why,
    };
    match form(content_type) {
        Form::Json => serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string())),
        Form::Text => std::str::from_utf8(bytes)
            .map(Value::from)
            .map_err(|error| wrong(error.to_string())),
        Form::Binary => Ok(base64::engine::general_purpose::STANDARD.encode(bytes).into()),
    }
}

fn build<'b>(builder: &mut FlatBufferBuilder<'b>, event: &Event<Value>) -> WIPOffset<fb::CloudEvent<'b>> {
    let mut names: Vec<_> = event
        .extensions
        .keys()
        .filter(|name| *name != DATA_SCHEMA)
        .collect();
    names.sort_by_key(|name| (*name != CORRELATION_ID, *name));
    let extensions: Vec<_> = names
        .into_iter()
        .map(|name| {
            let value = match &event.extensions[name] {
                Value::String(text) => builder.create_string(text),
                other => builder.create_string(&other.to_string()),
            };
            let name = builder.create_string(name);
            fb::Extension::create(
                builder,
                &ExtensionArgs {
                    name: Some(name),
                    value: Some(value),
                },
            )
        })
        .collect();
    let extensions = (!extensions.is_empty()).then(|| builder.create_vector(&extensions));
    let data = data_bytes(event).map(|bytes| builder.create_vector(&bytes));
    let schema = event.extension(DATA_SCHEMA);
    let mut text = |value: Option<&str>| value.map(|value| builder.create_string(value));
    let args = CloudEventArgs {
        id: text(Some(&event.id)),
        source: text(Some(&event.source)),
        type_: text(Some(&event.kind)),
        specversion: text(Some("1.0")),
        datacontenttype: text(event.content_type.as_deref()),
        dataschema: text(schema),
        subject: text(event.subject.as_deref()),
        time: text(event.time.as_deref()),
        data,
        extensions,
    };
    fb::CloudEvent::create(builder, &args)
}

fn read(table: fb::CloudEvent<'_>) -> Result<Event<Value>, EventBytesError> {
    let required = |value: Option<&str>, name| {
        value
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .ok_or(EventBytesError::Missing(name))
    };
    let optional = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
    let version = required(table.specversion(), "specversion")?;
    if version != "1.0" {
        return Err(EventBytesError::Version(version));
    }
    let content_type = optional(table.datacontenttype());
    let data = table
        .data()
        .map(|bytes| data_value(bytes.bytes(), content_type.as_deref()))
        .transpose()?;
    let mut extensions = Map::new();
    if let Some(schema) = optional(table.dataschema()) {
        extensions.insert(DATA_SCHEMA.to_owned(), schema.into());
    }
    for extension in table.extensions().into_iter().flatten() {
        let name = optional(extension.name()).ok_or(EventBytesError::Nameless)?;
        extensions.insert(name, extension.value().unwrap_or_default().into());
    }
    Ok(Event {
        id: required(table.id(), "id")?,
        source: required(table.source(), "source")?,
        kind: required(table.type_(), "type")?,
        subject: optional(table.subject()),
        time: optional(table.time()),
        content_type,
        data: data.unwrap_or(Value::Null),
        extensions,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event() -> Event<Value> {
        let mut event = Event::new(
            "com.virtufin.test",
            "urn:com.virtufin.test",
            json!({"n": [1, null]}),
        );
        event.subject = Some("s".to_owned());
        event.extensions.insert("abc".to_owned(), "x".into());
        event.extensions.insert("correlationid".to_owned(), "7".into());
        event
            .extensions
            .insert("dataschema".to_owned(), "urn:schema".into());
        event
    }

    #[test]
    fn an_event_comes_back_as_it_was() {
        let event = event();
        assert_eq!(from_bytes(&to_bytes(&event)), Ok(event));
    }

    #[test]
    fn the_correlation_id_comes_first_and_numbers_are_json() {
        let mut event = event();
        event.extensions.insert("aa".to_owned(), json!(7));
        event.extensions.insert("ab".to_owned(), json!({"k": true}));
        let bytes = to_bytes(&event);
        let table = read_cloud_event(&bytes).unwrap();
        let extensions: Vec<_> = table
            .extensions()
            .unwrap()
            .iter()
            .map(|extension| (extension.name().unwrap(), extension.value().unwrap()))
            .collect();
        assert_eq!(
            extensions,
            [
                ("correlationid", "7"),
                ("aa", "7"),
                ("ab", "{\"k\":true}"),
                ("abc", "x")
            ]
        );
        assert_eq!(table.dataschema(), Some("urn:schema"));
        assert_eq!(from_bytes(&bytes).unwrap().extension("aa"), Some("7"));
    }

    #[test]
    fn data_is_written_by_its_content_type() {
        for (content_type, data, bytes) in [
            (Some("application/json; charset=utf-8"), json!("t"), &b"\"t\""[..]),
            (None, json!(1), b"1"),
            (Some("text/plain"), json!("t"), b"t"),
            (Some("application/octet-stream"), json!("AP8="), b"\x00\xff"),
        ] {
            let mut event = event();
            event.content_type = content_type.map(str::to_owned);
            event.data = data;
            let written = to_bytes(&event);
            assert_eq!(read_cloud_event(&written).unwrap().data().unwrap().bytes(), bytes);
            assert_eq!(from_bytes(&written), Ok(event));
        }
        let mut event = event();
        event.data = Value::Null;
        assert!(read_cloud_event(&to_bytes(&event)).unwrap().data().is_none());
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let built = |id: &str, version: &str, data: &[u8]| {
            write(|builder| {
                let data = Some(builder.create_vector(data));
                let mut text = |text: &str| Some(builder.create_string(text));
                let args = CloudEventArgs {
                    id: text(id),
                    source: text("s"),
                    type_: text("t"),
                    specversion: text(version),
                    data,
                    ..CloudEventArgs::default()
                };
                fb::CloudEvent::create(builder, &args)
            })
        };
        assert!(from_bytes(&built("1", "1.0", b"{}")).is_ok());
        assert_eq!(
            from_bytes(&built("", "1.0", b"{}")),
            Err(EventBytesError::Missing("id"))
        );
        assert_eq!(
            from_bytes(&built("1", "0.3", b"{}")),
            Err(EventBytesError::Version("0.3".to_owned()))
        );
        assert!(matches!(
            from_bytes(&built("1", "1.0", b"{")),
            Err(EventBytesError::Data { .. })
        ));
        assert!(matches!(from_bytes(b"no"), Err(EventBytesError::Invalid(_))));
    }

    #[test]
    fn a_response_has_an_event_an_error_both_or_nothing() {
        for event in [None, Some(event())] {
            for error in [None, Some("broken".to_owned())] {
                let response = WorkerResponse {
                    event: event.clone(),
                    error,
                };
                assert_eq!(WorkerResponse::from_bytes(&response.to_bytes()), Ok(response));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(id in ".{1,9}", kind in ".{1,9}", text in ".*", name in "[a-z0-9]{1,9}") {
            let mut event = Event::new(kind, "test", json!({"text": text}));
            event.id = id;
            event.extensions.insert(name, text.into());
            prop_assume!(event.extensions.values().all(|value| value != ""));
            prop_assert_eq!(from_bytes(&to_bytes(&event)), Ok(event));
        }

        #[test]
        fn a_changed_byte_does_not_panic(place in any::<proptest::sample::Index>(), byte: u8) {
            let mut bytes = WorkerResponse { event: Some(event()), error: Some("e".to_owned()) }.to_bytes();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = WorkerResponse::from_bytes(&bytes);
            let _ = from_bytes(&bytes);
        }
    }
}
