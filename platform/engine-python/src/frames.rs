//! The frames between host and worker (R7): a big-endian u32 length, then a JSON object with a `type`.

use bytes::Bytes;
use outrigger_kit::Event;
use outrigger_platform_engine::WorkerContext;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::codec::LengthDelimitedCodec;

use crate::imports::Imports;

/// The codec of frames up to `limit` bytes.
pub(crate) fn codec(limit: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .big_endian()
        .length_field_length(4)
        .max_frame_length(limit)
        .new_codec()
}

/// The first frame: the code and what it may do.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "load")]
pub(crate) struct Load<'a> {
    /// What the code's file is called in its error messages.
    pub(crate) name: &'a str,
    pub(crate) code: &'a str,
    pub(crate) imports: &'a Imports,
    pub(crate) readable: Vec<String>,
    pub(crate) path: Vec<String>,
    pub(crate) concurrency: usize,
    pub(crate) limit: usize,
}

/// A frame with an event.
pub(crate) fn process(id: u64, event: &Event<Value>) -> serde_json::Result<Bytes> {
    #[derive(Serialize)]
    #[serde(tag = "type", rename = "process", rename_all = "camelCase")]
    struct Process<'a> {
        id: String,
        cloud_event: &'a Event<Value>,
    }
    serde_json::to_vec(&Process {
        id: id.to_string(),
        cloud_event: event,
    })
    .map(Bytes::from)
}

/// A frame that asks whether the process lives.
pub(crate) fn ping() -> Bytes {
    Bytes::from_static(br#"{"type":"ping"}"#)
}

/// A frame that asks the process to end.
pub(crate) fn shutdown() -> Bytes {
    Bytes::from_static(br#"{"type":"shutdown"}"#)
}

/// What a worker says.
#[derive(Debug)]
pub(crate) enum FromWorker {
    /// The code is loaded.
    Ready,
    /// An event is processed.
    Result {
        /// Of the event's frame.
        id: String,
        /// What the code answered, if anything.
        cloud_event: Option<Value>,
    },
    /// It lives.
    Pong,
    /// The code could not be loaded (no id), or failed on an event.
    Error {
        /// Of the event's frame.
        id: Option<String>,
        /// In the language's words.
        message: String,
    },
}

/// Reads a frame's body. Takes it apart in one go: an enum tagged by `type` would be read into memory twice.
///
/// # Errors
/// If it is none of those there are.
pub(crate) fn parse(body: &[u8]) -> serde_json::Result<FromWorker> {
    use serde::de::Error as _;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Frame {
        r#type: String,
        id: Option<String>,
        cloud_event: Option<Value>,
        message: Option<String>,
    }
    let frame: Frame = serde_json::from_slice(body)?;
    match (frame.r#type.as_str(), frame.id, frame.cloud_event, frame.message) {
        ("ready", None, None, None) => Ok(FromWorker::Ready),
        ("pong", None, None, None) => Ok(FromWorker::Pong),
        ("result", Some(id), cloud_event, None) => Ok(FromWorker::Result { id, cloud_event }),
        ("error", id, None, Some(message)) => Ok(FromWorker::Error { id, message }),
        _ => Err(serde_json::Error::custom(
            "its fields belong to no frame of a worker",
        )),
    }
}

/// The file name of a worker's code.
pub(crate) fn file_name(context: &WorkerContext) -> String {
    format!("{}.py", context.id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_have_the_forms_of_the_contract() {
        let event = Event::new("tick", "exchange", json!({"price": 3}));
        let frame: Value = serde_json::from_slice(&process(7, &event).unwrap()).unwrap();
        assert_eq!(frame["type"], "process");
        assert_eq!(frame["id"], "7");
        assert_eq!(frame["cloudEvent"]["data"]["price"], 3);
        assert_eq!(frame["cloudEvent"]["specversion"], "1.0");
        let result = parse(br#"{"type":"result","id":"7","cloudEvent":{"type":"a"}}"#).unwrap();
        assert!(matches!(result, FromWorker::Result { id, cloud_event: Some(_) } if id == "7"));
        assert!(matches!(parse(br#"{"type":"ready"}"#), Ok(FromWorker::Ready)));
    }

    #[test]
    fn other_frames_are_refused() {
        for body in [
            &br#"{"type":"load"}"#[..],
            br#"{"type":"result"}"#,
            br#"{}"#,
            br#"[]"#,
            b"",
            b"\xff",
        ] {
            assert!(parse(body).is_err(), "{body:?}");
        }
    }
}
