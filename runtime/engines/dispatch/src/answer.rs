//! What the app's answer to an event means (A2.3; upstream `postman/http`, `postman/grpc`).

use serde::Deserialize;

use crate::go_json::{Numbers, Scanner};

/// What happens to the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Acknowledged.
    Ack,
    /// Tried again by policy, then by the component, or sent to the dead letter topic.
    Retry,
    /// Sent to the dead letter topic if there is one, and acknowledged.
    Drop,
}

/// The app's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Handled.
    Success,
    /// `RETRY`.
    Retry,
    /// `DROP`.
    Drop,
    /// A status Dapr does not know.
    Unknown(String),
    /// The app has no such route (HTTP 404).
    NotFound,
    /// The app does not serve events at all (gRPC UNIMPLEMENTED).
    Unimplemented,
    /// Another HTTP status; the resiliency policy judges the code.
    HttpStatus(u16),
    /// Another gRPC status; the resiliency policy judges the code.
    GrpcStatus(i32),
}

impl Answer {
    /// What happens to the message.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Success | Self::Unimplemented => Disposition::Ack,
            Self::Drop | Self::NotFound => Disposition::Drop,
            Self::Retry | Self::Unknown(_) | Self::HttpStatus(_) | Self::GrpcStatus(_) => Disposition::Retry,
        }
    }

    /// The `process_status` label of the ingress metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Drop | Self::NotFound | Self::Unimplemented => "drop",
            Self::Retry | Self::Unknown(_) | Self::HttpStatus(_) | Self::GrpcStatus(_) => "retry",
        }
    }
}

/// Reads the answer to an HTTP delivery.
#[must_use]
pub fn http(status: u16, body: &[u8]) -> Answer {
    match status {
        200..=299 => match status_of(body) {
            Some(text) => from_text(text),
            // An app that says nothing, or nothing that can be read, has handled the event.
            None => Answer::Success,
        },
        404 => Answer::NotFound,
        other => Answer::HttpStatus(other),
    }
}

fn from_text(text: String) -> Answer {
    match text.as_str() {
        "" | "SUCCESS" => Answer::Success,
        "RETRY" => Answer::Retry,
        "DROP" => Answer::Drop,
        _ => Answer::Unknown(text),
    }
}

/// Go matches names of fields without regard to case, and its decoder ignores what follows the first value.
#[derive(Deserialize)]
struct Body {
    #[serde(default, alias = "Status", alias = "STATUS")]
    status: Option<String>,
}

fn status_of(body: &[u8]) -> Option<String> {
    let value = first_value(body).filter(|value| !is_sequence(value))?;
    serde_json::from_slice::<Option<Body>>(value)
        .ok()?
        .and_then(|body| body.status)
}

/// The text of the first JSON value.
pub(crate) fn first_value(body: &[u8]) -> Option<&[u8]> {
    let mut scanner = Scanner::new(body, Numbers::Verbatim);
    scanner.value(None).ok()?;
    body.get(..scanner.position())
}

/// Whether a JSON text is an array, which serde would read as the fields of a struct in order.
pub(crate) fn is_sequence(value: &[u8]) -> bool {
    value.trim_ascii_start().first() == Some(&b'[')
}

/// Reads the answer to a gRPC delivery: the status of `TopicEventResponse`.
#[must_use]
pub fn grpc(status: i32) -> Answer {
    match status {
        0 => Answer::Success,
        1 => Answer::Retry,
        2 => Answer::Drop,
        other => Answer::Unknown(other.to_string()),
    }
}

/// The gRPC code that says that a method does not exist.
const UNIMPLEMENTED: i32 = 12;

/// Reads the failure of a gRPC delivery.
#[must_use]
pub fn grpc_failure(code: i32) -> Answer {
    if code == UNIMPLEMENTED {
        Answer::Unimplemented
    } else {
        Answer::GrpcStatus(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_answers() {
        for (status, body, answer, disposition) in [
            (200, "", Answer::Success, Disposition::Ack),
            (204, "", Answer::Success, Disposition::Ack),
            (200, "OK", Answer::Success, Disposition::Ack),
            (200, "[]", Answer::Success, Disposition::Ack),
            (200, r#"["RETRY"]"#, Answer::Success, Disposition::Ack),
            (200, "null", Answer::Success, Disposition::Ack),
            (200, "{}", Answer::Success, Disposition::Ack),
            (200, r#"{"status":5}"#, Answer::Success, Disposition::Ack),
            (200, r#"{"status":""}"#, Answer::Success, Disposition::Ack),
            (200, r#"{"status":null}"#, Answer::Success, Disposition::Ack),
            (200, r#"{"status":"SUCCESS"}"#, Answer::Success, Disposition::Ack),
            (200, r#"{"status":"RETRY"}"#, Answer::Retry, Disposition::Retry),
            (
                202,
                r#" {"x":1,"Status":"DROP"} trailing"#,
                Answer::Drop,
                Disposition::Drop,
            ),
            (
                200,
                r#"{"status":"retry"}"#,
                Answer::Unknown("retry".into()),
                Disposition::Retry,
            ),
            (404, "", Answer::NotFound, Disposition::Drop),
            (
                500,
                r#"{"status":"SUCCESS"}"#,
                Answer::HttpStatus(500),
                Disposition::Retry,
            ),
            (301, "", Answer::HttpStatus(301), Disposition::Retry),
        ] {
            let read = http(status, body.as_bytes());
            assert_eq!(read.disposition(), disposition, "{status} {body}");
            assert_eq!(read, answer, "{status} {body}");
        }
    }

    #[test]
    fn grpc_answers() {
        assert_eq!(
            [0, 1, 2].map(grpc),
            [Answer::Success, Answer::Retry, Answer::Drop]
        );
        assert_eq!(grpc(9).disposition(), Disposition::Retry);
        assert_eq!(grpc_failure(12).disposition(), Disposition::Ack);
        assert_eq!(grpc_failure(12).label(), "drop");
        assert_eq!(grpc_failure(14), Answer::GrpcStatus(14));
    }
}
