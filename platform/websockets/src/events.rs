//! The events that the service publishes: messages (I4.2), lifecycle (I7, F8), heartbeats.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use outrigger_kit::Event;
use serde_json::{Map, Value, json};

use crate::machine::Told;
use crate::names::{HEARTBEAT_TYPE, LIFECYCLE_TYPE, MESSAGE_TYPE, SOURCE};

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// What was in the frame.
    pub(crate) payload: bytes::Bytes,
    /// Whether it was a text frame.
    pub(crate) is_text: bool,
    /// When it was read.
    pub(crate) at: Timestamp,
    /// Counts the published messages of one opening of the connection, from 1.
    pub(crate) sequence: u64,
}

/// The content type of a text or a binary frame.
pub(crate) fn content_type(is_text: bool) -> &'static str {
    if is_text {
        "text/plain"
    } else {
        "application/octet-stream"
    }
}

/// The event of one message. `opening` tells this opening of the connection from others, so that the id, which
/// subscribers tell repeats by, is never used twice; `sequence` lets them see order and gaps.
pub(crate) fn message(id: &str, url: &str, opening: &str, received: &Received) -> Event<Value> {
    // This is done for every message: no fresh UUID, and the time is written once.
    let time = received.at.to_string();
    let data = Map::from_iter([
        ("WebSocketId".to_owned(), Value::from(id)),
        ("WebSocketUrl".to_owned(), Value::from(url)),
        ("Timestamp".to_owned(), Value::from(time.as_str())),
        (
            "Payload".to_owned(),
            Value::from(STANDARD.encode(&received.payload)),
        ),
        (
            "ContentType".to_owned(),
            Value::from(content_type(received.is_text)),
        ),
    ]);
    let sequence = received.sequence.to_string();
    Event {
        id: format!("{opening}-{sequence}"),
        source: SOURCE.to_owned(),
        kind: MESSAGE_TYPE.to_owned(),
        subject: Some(subject(id)),
        time: Some(time),
        content_type: Some("application/json".to_owned()),
        data: Value::Object(data),
        extensions: Map::from_iter([("sequence".to_owned(), Value::from(sequence))]),
    }
}

fn subject(id: &str) -> String {
    format!("connection/{id}")
}

/// The event of a change in a connection's life. Names as of R6: an error is `failed`, disconnected is `closed` (Z2).
pub(crate) fn lifecycle(told: &Told, id: &str, url: &str, instance: &str, at: Timestamp) -> Event<Value> {
    let mut data = Map::from_iter([
        ("connection_id".to_owned(), Value::from(id)),
        ("url".to_owned(), Value::from(url)),
        ("instance_id".to_owned(), Value::from(instance)),
        ("timestamp".to_owned(), Value::from(at.to_string())),
    ]);
    let mut add = |name: &str, value: Value| data.insert(name.to_owned(), value);
    let state = match told {
        Told::Registered => "registered",
        Told::Connecting(attempt) => {
            add("attempt", Value::from(*attempt));
            "connecting"
        }
        Told::Connected => "connected",
        Told::Degraded(trouble) => {
            add("cause", Value::from(trouble.name()));
            add("reason", Value::from(trouble.words()));
            "degraded"
        }
        // The platform has no name of its own for this. Whoever sends subscriptions after each opening needs to tell
        // them apart.
        Told::Recovered => {
            add("recovered", Value::Bool(true));
            "connected"
        }
        Told::Reconnecting(attempt) => {
            add("attempt", Value::from(*attempt));
            "reconnecting"
        }
        Told::Closed(reason) => {
            add("reason", Value::from(reason.as_str()));
            "closed"
        }
        Told::Failed(failure) => {
            add("error_type", Value::from(failure.kind));
            add("error_message", Value::from(failure.message.as_str()));
            "failed"
        }
    };
    add("state", Value::from(state));
    event(format!("{LIFECYCLE_TYPE}.{state}"), id, at, Value::Object(data))
}

/// What a connection did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub(crate) struct Counts {
    /// Messages that came.
    pub(crate) received: u64,
    /// Messages that were published.
    pub(crate) published: u64,
    /// Messages that came while publishing was on and were not published: it was stopped before their turn, or whoever
    /// passes events on refused them for good. The log says which.
    pub(crate) dropped: u64,
    /// Answers to requests.
    pub(crate) answers: u64,
}

/// The event that says that a connection lives.
pub(crate) fn heartbeat(
    id: &str,
    url: &str,
    instance: &str,
    status: &str,
    counts: Counts,
    at: Timestamp,
) -> Event<Value> {
    let data = json!({
        "connection_id": id,
        "url": url,
        "instance_id": instance,
        "status": status,
        "counts": counts,
        "timestamp": at.to_string(),
    });
    event(HEARTBEAT_TYPE.to_owned(), id, at, data)
}

fn event(kind: String, id: &str, at: Timestamp, data: Value) -> Event<Value> {
    let mut event = Event::new(kind, SOURCE, data).about(subject(id));
    event.time = Some(at.to_string());
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Failure, Trouble};

    fn at() -> Timestamp {
        "2026-01-02T03:04:05.000000006Z".parse().unwrap()
    }

    #[test]
    fn a_message_has_the_published_envelope() {
        let received = Received {
            payload: bytes::Bytes::from_static(b"\x00\xff"),
            is_text: false,
            at: at(),
            sequence: 7,
        };
        let event = message("c1", "ws://h/x", "o1", &received);
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            json!({
                "specversion": "1.0",
                "id": "o1-7",
                "source": "urn:com.virtufin.websocketmanager",
                "type": "com.virtufin.websocketmanager.message",
                "subject": "connection/c1",
                "time": "2026-01-02T03:04:05.000000006Z",
                "datacontenttype": "application/json",
                "sequence": "7",
                "data": {
                    "WebSocketId": "c1",
                    "WebSocketUrl": "ws://h/x",
                    "Timestamp": "2026-01-02T03:04:05.000000006Z",
                    "Payload": "AP8=",
                    "ContentType": "application/octet-stream"
                }
            })
        );
    }

    #[test]
    fn lifecycle_events_tell_what_belongs_to_them() {
        let tell = |told| {
            let event = lifecycle(&told, "c1", "ws://h/x", "i1", at());
            assert_eq!(event.data["connection_id"], "c1");
            assert_eq!(event.data["url"], "ws://h/x");
            assert_eq!(event.data["instance_id"], "i1");
            (event.kind, event.data)
        };
        assert_eq!(
            tell(Told::Connected).0,
            "com.virtufin.websocketmanager.lifecycle.connected"
        );
        assert_eq!(
            tell(Told::Registered).0,
            "com.virtufin.websocketmanager.lifecycle.registered"
        );
        let (kind, data) = tell(Told::Connecting(3));
        assert_eq!(
            (kind.as_str(), &data["attempt"]),
            ("com.virtufin.websocketmanager.lifecycle.connecting", &json!(3))
        );
        let (kind, data) = tell(Told::Degraded(Trouble::Silent));
        assert_eq!(kind, "com.virtufin.websocketmanager.lifecycle.degraded");
        assert_eq!(
            (&data["cause"], &data["reason"]),
            (&json!("silent"), &json!("the server does not answer a ping"))
        );
        let (kind, data) = tell(Told::Recovered);
        assert_eq!(
            (kind.as_str(), &data["recovered"]),
            ("com.virtufin.websocketmanager.lifecycle.connected", &json!(true))
        );
        let (kind, data) = tell(Told::Reconnecting(2));
        assert_eq!(
            (kind.as_str(), &data["attempt"]),
            ("com.virtufin.websocketmanager.lifecycle.reconnecting", &json!(2))
        );
        let (kind, data) = tell(Told::Failed(Failure {
            kind: "reset",
            message: "gone".to_owned(),
        }));
        assert_eq!(kind, "com.virtufin.websocketmanager.lifecycle.failed");
        assert_eq!(
            (&data["error_type"], &data["error_message"]),
            (&json!("reset"), &json!("gone"))
        );
        let (kind, _) = tell(Told::Closed(String::new()));
        assert_eq!(kind, "com.virtufin.websocketmanager.lifecycle.closed");
    }
}
