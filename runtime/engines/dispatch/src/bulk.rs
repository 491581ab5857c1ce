//! Bulk deliveries: the request to the app and its answer entry by entry (A2.4).

use std::collections::{HashMap, HashSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{
    Metadata,
    answer::{first_value, is_sequence},
    content_type,
    envelope::{Envelope, field},
    go_json,
};

/// What an entry carries.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// An event.
    Envelope(Envelope<'a>),
    /// Bytes of a raw subscription.
    Raw(&'a [u8]),
}

impl Event<'_> {
    /// The content type of an entry that names none.
    #[must_use]
    pub fn default_content_type(&self) -> &'static str {
        match self {
            Self::Envelope(_) => content_type::CLOUD_EVENT,
            Self::Raw(_) => content_type::OCTET_STREAM,
        }
    }
}

/// One message of a bulk delivery.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Identity within the bulk.
    pub id: &'a str,
    /// What it carries.
    pub event: Event<'a>,
    /// Its content type; empty for the default of its event.
    pub content_type: &'a str,
    /// Its metadata.
    pub metadata: Option<&'a Metadata>,
}

/// Writes the body of an HTTP bulk delivery, as Go would.
#[must_use]
pub fn to_json(
    id: &str,
    topic: &str,
    pubsub: &str,
    metadata: Option<&Metadata>,
    entries: &[Entry<'_>],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + entries.len() * 512);
    out.extend_from_slice(b"{\"entries\":[");
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        // Entries are a Go struct, so their fields stand in its order.
        named(&mut out, "{\"entryId\":", entry.id);
        out.extend_from_slice(b",\"event\":");
        match &entry.event {
            Event::Envelope(envelope) => envelope.write_json(&mut out),
            Event::Raw(bytes) => go_json::write_string(STANDARD.encode(bytes).as_bytes(), &mut out),
        }
        out.extend_from_slice(b",\"metadata\":");
        map(&mut out, entry.metadata);
        let content_type = if entry.content_type.is_empty() {
            entry.event.default_content_type()
        } else {
            entry.content_type
        };
        named(&mut out, ",\"contentType\":", content_type);
        out.push(b'}');
    }
    named(&mut out, "],\"id\":", id);
    out.extend_from_slice(b",\"metadata\":");
    map(&mut out, metadata);
    named(&mut out, ",\"pubsubname\":", pubsub);
    named(&mut out, ",\"topic\":", topic);
    named(&mut out, ",\"type\":", field::DEFAULT_BULK_TYPE);
    out.push(b'}');
    out
}

fn named(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    go_json::write_string(value.as_bytes(), out);
}

/// Go writes a map that was never made as null.
fn map(out: &mut Vec<u8>, metadata: Option<&Metadata>) {
    let Some(metadata) = metadata else {
        out.extend_from_slice(b"null");
        return;
    };
    out.push(b'{');
    for (index, (key, value)) in metadata.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        go_json::write_string(key.as_bytes(), out);
        out.push(b':');
        go_json::write_string(value.as_bytes(), out);
    }
    out.push(b'}');
}

/// What becomes of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryOutcome {
    /// Handled.
    Success,
    /// To be delivered again; the text is upstream's.
    Retry(String),
    /// To the dead letter topic if there is one, and done.
    Drop,
}

/// The app's answer to a bulk delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkAnswer {
    /// One outcome per delivered entry, in the order of delivery; ids the app made up are listed apart.
    Entries {
        /// Outcomes.
        outcomes: Vec<EntryOutcome>,
        /// Ids in the answer that were not delivered.
        strangers: Vec<String>,
    },
    /// The app has no such route: every entry is dropped (not even to the dead letter topic).
    NotFound,
    /// Every entry is to be delivered again.
    Failed(String),
}

#[derive(Deserialize)]
struct Answers {
    #[serde(default, alias = "Statuses")]
    statuses: Option<Vec<Option<OneAnswer>>>,
}

#[derive(Deserialize)]
struct OneAnswer {
    #[serde(default, rename = "entryId", alias = "entryid", alias = "EntryId")]
    entry_id: Option<String>,
    #[serde(default, alias = "Status")]
    status: Option<String>,
}

/// Reads the answer to an HTTP bulk delivery of these entries.
#[must_use]
pub fn http(status: u16, body: &[u8], topic: &str, entries: &[&str]) -> BulkAnswer {
    match status {
        200..=299 => {
            let Some(value) = first_value(body) else {
                let error = go_json::transcode_prefix(body, go_json::Numbers::Verbatim, &mut Vec::new())
                    .err()
                    .map_or_else(String::new, |error| error.in_decoder().to_string());
                return BulkAnswer::Failed(format!(
                    "failed unmarshalling app response for bulk subscribe: {error}"
                ));
            };
            if is_sequence(value) {
                return BulkAnswer::Failed(
                    "failed unmarshalling app response for bulk subscribe: json: cannot unmarshal array into Go value of type pubsub.AppBulkResponse".to_owned(),
                );
            }
            match serde_json::from_slice::<Option<Answers>>(value) {
                Ok(answers) => {
                    let answers = answers.and_then(|answers| answers.statuses).unwrap_or_default();
                    sort(
                        entries,
                        answers.into_iter().flatten().map(|one| {
                            let id = one.entry_id.unwrap_or_default();
                            let outcome = from_text(&id, one.status.as_deref().unwrap_or_default());
                            (id, outcome)
                        }),
                    )
                }
                Err(error) => BulkAnswer::Failed(format!(
                    "failed unmarshalling app response for bulk subscribe: {error}"
                )),
            }
        }
        404 => BulkAnswer::NotFound,
        other => BulkAnswer::Failed(format!(
            "Retriable error returned from app while processing bulk pub/sub event, topic: {topic}. status code returned: {other}"
        )),
    }
}

fn from_text(id: &str, status: &str) -> EntryOutcome {
    match status {
        // Unlike for single events, silence is not success.
        "" | "RETRY" => EntryOutcome::Retry(format!(
            "RETRY required while processing bulk subscribe event for entry id: {id}"
        )),
        "SUCCESS" => EntryOutcome::Success,
        "DROP" => EntryOutcome::Drop,
        other => EntryOutcome::Retry(format!(
            "unknown status returned from app while processing bulk subscribe event {id}: {other}"
        )),
    }
}

/// Reads the answer to a gRPC bulk delivery of these entries: ids and statuses of `TopicEventBulkResponse`.
#[must_use]
pub fn grpc(entries: &[&str], answers: impl IntoIterator<Item = (String, i32)>) -> BulkAnswer {
    sort(
        entries,
        answers.into_iter().map(|(id, status)| {
            let outcome = match status {
                0 => EntryOutcome::Success,
                1 => EntryOutcome::Retry(format!(
                    "RETRY status returned from app while processing pub/sub event for entry id: {id}"
                )),
                2 => EntryOutcome::Drop,
                other => EntryOutcome::Retry(format!(
                    "unknown status returned from app while processing pub/sub event  for entry id {id}: {other}"
                )),
            };
            (id, outcome)
        }),
    )
}

fn sort(entries: &[&str], answers: impl Iterator<Item = (String, EntryOutcome)>) -> BulkAnswer {
    let known: HashSet<&str> = entries.iter().copied().collect();
    let mut by_id: HashMap<String, EntryOutcome> = HashMap::with_capacity(entries.len());
    let mut strangers = Vec::new();
    for (id, outcome) in answers {
        if known.contains(id.as_str()) {
            by_id.insert(id, outcome);
        } else {
            strangers.push(id);
        }
    }
    let outcomes = entries
        .iter()
        .map(|id| {
            by_id.remove(*id).unwrap_or_else(|| {
                EntryOutcome::Retry(format!(
                    "response not received, RETRY required while processing bulk subscribe event for entry id: {id}"
                ))
            })
        })
        .collect();
    BulkAnswer::Entries { outcomes, strangers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Numbers;

    #[test]
    fn the_request() {
        let metadata: Metadata = [("k<".to_owned(), "v".to_owned())].into();
        let entries = [
            Entry {
                id: "1",
                event: Event::Envelope(
                    Envelope::parse(br#"{"id":"x","data":{"b":1.0,"a":2}}"#, Numbers::Doubles).unwrap(),
                ),
                content_type: "",
                metadata: Some(&metadata),
            },
            Entry {
                id: "2",
                event: Event::Raw(b"hi"),
                content_type: "",
                metadata: None,
            },
        ];
        assert_eq!(
            String::from_utf8(to_json("b", "t", "p", Some(&metadata), &entries)).unwrap(),
            r#"{"entries":[{"entryId":"1","event":{"data":{"a":2,"b":1},"id":"x"},"metadata":{"k\u003c":"v"},"contentType":"application/cloudevents+json"},{"entryId":"2","event":"aGk=","metadata":null,"contentType":"application/octet-stream"}],"id":"b","metadata":{"k\u003c":"v"},"pubsubname":"p","topic":"t","type":"com.dapr.event.sent.bulk"}"#
        );
    }

    #[test]
    fn answers_entry_by_entry() {
        let body = br#"{"statuses":[{"entryId":"3","status":"DROP"},{"entryId":"1","status":"SUCCESS"},{"entryId":"2","status":""},{"entryId":"9","status":"SUCCESS"},{"entryId":"4","status":"HUH"}]}"#;
        let BulkAnswer::Entries { outcomes, strangers } = http(200, body, "t", &["1", "2", "3", "4", "5"])
        else {
            panic!("statuses")
        };
        assert_eq!(strangers, ["9"]);
        assert_eq!(
            (&outcomes[0], &outcomes[2]),
            (&EntryOutcome::Success, &EntryOutcome::Drop)
        );
        for at in [1, 3, 4] {
            assert!(matches!(outcomes[at], EntryOutcome::Retry(_)), "{at}");
        }
    }

    #[test]
    fn answers_about_all() {
        assert!(
            matches!(http(200, b"", "t", &["1"]), BulkAnswer::Failed(text) if text.ends_with("subscribe: EOF"))
        );
        assert!(matches!(
            http(200, b"[]", "t", &["1"]),
            BulkAnswer::Entries { .. } | BulkAnswer::Failed(_)
        ));
        assert!(
            matches!(http(200, b"{}", "t", &["1"]), BulkAnswer::Entries { outcomes, .. } if outcomes.len() == 1)
        );
        assert_eq!(http(404, b"", "t", &["1"]), BulkAnswer::NotFound);
        assert!(matches!(http(500, b"", "t", &["1"]), BulkAnswer::Failed(_)));
    }

    #[test]
    fn grpc_answers() {
        let answer = grpc(&["a", "b"], [("a".to_owned(), 0)]);
        assert!(
            matches!(answer, BulkAnswer::Entries { outcomes, .. } if outcomes[0] == EntryOutcome::Success && matches!(outcomes[1], EntryOutcome::Retry(_)))
        );
    }
}
