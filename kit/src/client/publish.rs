//! Publishing (A2.1, A2.4).

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Call, Client, decode, encode, metadata_query, name};
use crate::{Error, Event};

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Publication {
    body: Result<Bytes, String>,
    content_type: String,
    metadata: BTreeMap<String, String>,
    /// Subscribers can tell a repeat by the event's own id.
    has_id: bool,
}

impl Publication {
    /// JSON data; the sidecar wraps it as a CloudEvent.
    pub fn json(data: &(impl Serialize + ?Sized)) -> Self {
        Self {
            body: encode(data).map_err(|error| error.to_string()),
            content_type: "application/json".to_owned(),
            metadata: BTreeMap::new(),
            has_id: false,
        }
    }

    /// Bytes of some content type; the sidecar wraps them as a CloudEvent.
    pub fn bytes(content_type: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self {
            body: Ok(data.into()),
            content_type: content_type.into(),
            metadata: BTreeMap::new(),
            has_id: false,
        }
    }

    /// A complete CloudEvent, passed on as it is. It may be retried, because its id tells a repeat.
    pub fn event(event: &Event<Value>) -> Self {
        Self {
            body: encode(event).map_err(|error| error.to_string()),
            content_type: "application/cloudevents+json".to_owned(),
            metadata: BTreeMap::new(),
            has_id: true,
        }
    }

    /// Adds metadata, such as `ttlInSeconds`, `rawPayload` or `partitionKey`.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }
}

/// One message of a bulk publish.
#[derive(Debug, Clone, Serialize)]
pub struct BulkEntry {
    /// Names the message in the answer; unique in the call.
    #[serde(rename = "entryId")]
    pub entry_id: String,
    /// The data.
    pub event: Value,
    /// Its content type.
    #[serde(rename = "contentType")]
    pub content_type: String,
    /// Its metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A message that a bulk publish could not send.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FailedEntry {
    /// Which one.
    #[serde(rename = "entryId")]
    pub entry_id: String,
    /// Why.
    #[serde(default)]
    pub error: String,
}

impl Client {
    /// Publishes one message to a topic.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such pub/sub component; those of the sidecar.
    pub async fn publish(&self, pubsub: &str, topic: &str, message: Publication) -> Result<(), Error> {
        let metadata = message
            .metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let path = format!(
            "/v1.0/publish/{}/{}{}",
            name("pubsub", pubsub)?,
            name("topic", topic)?,
            metadata_query(metadata)
        );
        let mut call = Call::new(Method::POST, path).header(header::CONTENT_TYPE, &message.content_type)?;
        call.body = message.body.map_err(Error::Invalid)?;
        call.idempotent = message.has_id;
        self.call(call).await.map(drop)
    }

    /// Publishes several messages in one call; tells those that could not be sent.
    ///
    /// # Errors
    /// Those of the call as a whole.
    pub async fn publish_bulk(
        &self,
        pubsub: &str,
        topic: &str,
        entries: &[BulkEntry],
    ) -> Result<Vec<FailedEntry>, Error> {
        self.bulk(pubsub, topic, entries).await
    }

    /// Publishes complete CloudEvents in one call; tells the places of those that could not be sent.
    ///
    /// # Errors
    /// Those of the call as a whole. It is not repeated; ids tell repeats where the caller does.
    pub async fn publish_events(
        &self,
        pubsub: &str,
        topic: &str,
        events: &[Event<Value>],
    ) -> Result<Vec<usize>, Error> {
        #[derive(Serialize)]
        struct Entry<'a> {
            #[serde(rename = "entryId")]
            entry_id: String,
            event: &'a Event<Value>,
            #[serde(rename = "contentType")]
            content_type: &'static str,
        }
        let entries: Vec<_> = events
            .iter()
            .enumerate()
            .map(|(place, event)| Entry {
                entry_id: place.to_string(),
                event,
                content_type: "application/cloudevents+json",
            })
            .collect();
        let failed = self.bulk(pubsub, topic, &entries).await?;
        let place = |failed: FailedEntry| {
            let place = failed.entry_id.parse().ok().filter(|place| *place < events.len());
            place.ok_or_else(|| {
                Error::Invalid(format!(
                    "the sidecar names an entry {:?} that was not sent",
                    failed.entry_id
                ))
            })
        };
        failed.into_iter().map(place).collect()
    }

    async fn bulk(
        &self,
        pubsub: &str,
        topic: &str,
        entries: &[impl Serialize],
    ) -> Result<Vec<FailedEntry>, Error> {
        #[derive(Deserialize, Default)]
        struct Body {
            #[serde(rename = "failedEntries", default)]
            failed: Vec<FailedEntry>,
        }
        let path = format!(
            "/v1.0-alpha1/publish/bulk/{}/{}",
            name("pubsub", pubsub)?,
            name("topic", topic)?
        );
        let call = Call::new(Method::POST, path).json(entries)?;
        // A partial failure is told by a 500 with the list in its body.
        let answer = self
            .call_accepting(call, |answer| {
                answer.status.is_success()
                    || serde_json::from_slice::<Body>(&answer.body).is_ok_and(|body| !body.failed.is_empty())
            })
            .await?;
        if answer.body.is_empty() {
            return Ok(Vec::new());
        }
        decode::<Body>("the bulk answer", &answer.body).map(|body| body.failed)
    }
}
