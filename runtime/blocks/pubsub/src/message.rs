//! Messages on their way in and out.

use std::sync::Arc;

use bytes::Bytes;
use outrigger_component::{Error, Metadata};
use outrigger_types::Topic;

/// The id of an entry within a bulk request, unique there.
pub type EntryId = Arc<str>;

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub topic: Topic,
    /// The payload as the backend shall store it.
    pub data: Bytes,
    /// What the payload is, if known.
    pub content_type: Option<String>,
    /// Request metadata (`ttlInSeconds`, `partitionKey`, …).
    pub metadata: Metadata,
}

/// One message of a bulk publish.
#[derive(Debug, Clone)]
pub struct OutgoingEntry {
    /// Its id in this request.
    pub id: EntryId,
    /// The payload.
    pub data: Bytes,
    /// What the payload is.
    pub content_type: Option<String>,
    /// Its own metadata, already laid over the request's.
    pub metadata: Metadata,
}

/// An entry that could not be published.
#[derive(Debug)]
pub struct BulkFailure {
    /// Which.
    pub id: EntryId,
    /// Why.
    pub error: Error,
}

/// A message as it arrives.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The topic it came by.
    pub topic: Topic,
    /// The payload.
    pub data: Bytes,
    /// What the payload is, if the backend carries that.
    pub content_type: Option<String>,
    /// The backend's metadata of this message.
    pub metadata: Arc<Metadata>,
    /// The backend's own id of the message, if it has one.
    pub id: Option<Arc<str>>,
}

/// What became of a delivery.
#[derive(Debug)]
pub enum Verdict {
    /// Taken (or wilfully dropped, or dead-lettered): the backend forgets it.
    Ack,
    /// Not taken: the backend delivers it again by its own rules.
    Retry(Error),
    /// The consumer is going away before the app saw it: the backend keeps it without counting an attempt.
    Release,
}
