//! Requests and answers of state stores.

use std::{fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use outrigger_component::Metadata;
use outrigger_types::StateKey;

/// The version of a stored item, as its store writes it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Etag(Arc<str>);

impl Etag {
    /// Wraps the text of an etag.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A value as a store receives it. Stores that keep documents need to know which of both it is (wire.md §7).
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Canonical JSON text.
    Json(Bytes),
    /// Bytes of any kind.
    Binary(Bytes),
}

impl Value {
    /// The bytes, whichever kind.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
        }
    }

    /// The bytes, whichever kind.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Value {
    /// The size only: values are the app's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self, Self::Json(_)) {
            "Json"
        } else {
            "Binary"
        };
        write!(f, "{kind}({} bytes)", self.bytes().len())
    }
}

/// How fresh a read or how safe a write must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// The store's own default.
    #[default]
    Unspecified,
    /// A read may be stale; a write may be acknowledged before all replicas have it.
    Eventual,
    /// Reads see the last acknowledged write.
    Strong,
}

/// Which of two writers shall win, as the request says it. [`Expect`] holds what follows from it; stores whose format
/// keeps the word itself (`state.redis`) need it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Concurrency {
    /// The request does not say.
    #[default]
    Unspecified,
    /// The first one.
    FirstWrite,
    /// The last one.
    LastWrite,
}

/// What must hold for an operation to apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Expect {
    /// Nothing: last write wins.
    #[default]
    Any,
    /// The key does not exist (first-write without an etag).
    Absent,
    /// The stored etag equals this one.
    Match(Etag),
}

/// How long an item lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// As the store is configured; for ever where it is not.
    #[default]
    Default,
    /// For ever, also when an earlier write gave a time (`ttlInSeconds` -1).
    Never,
    /// This many seconds from the write.
    Seconds(u32),
}

/// Options of a read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// How fresh.
    pub consistency: Consistency,
    /// Request metadata for the backend (`partitionKey`, …).
    pub metadata: Metadata,
}

/// Options of a write that are not part of its core.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// How safe.
    pub consistency: Consistency,
    /// Which of two writers wins.
    pub concurrency: Concurrency,
    /// Request metadata for the backend.
    pub metadata: Metadata,
}

/// One operation of a transaction.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Creates or replaces an item.
    Set {
        /// The key.
        key: StateKey,
        /// The value.
        value: Value,
        /// What must hold.
        expect: Expect,
        /// How long it lives.
        ttl: Ttl,
        /// Further options.
        options: WriteOptions,
    },
    /// Removes an item; removing an absent one succeeds unless an etag is expected.
    Delete {
        /// The key.
        key: StateKey,
        /// What must hold.
        expect: Expect,
        /// Further options.
        options: WriteOptions,
    },
}

impl Operation {
    /// The key it touches.
    #[must_use]
    pub fn key(&self) -> &StateKey {
        match self {
            Self::Set { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

/// A stored item.
#[derive(Debug, Clone)]
pub struct Item {
    /// The value; JSON text of a document comes back as it was stored.
    pub value: Value,
    /// Its version, if the store keeps any.
    pub etag: Option<Etag>,
    /// When it will vanish.
    pub expires: Option<SystemTime>,
}

/// A search for keys (capability `keys_like`): SQL `LIKE` pattern, escape character `\`.
#[derive(Debug, Clone, Default)]
pub struct KeyPattern {
    /// The pattern.
    pub like: String,
    /// At most this many keys; `None` for all.
    pub page_size: Option<u32>,
    /// Where an earlier page ended.
    pub token: Option<String>,
}

/// A page of keys.
#[derive(Debug, Clone, Default)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<StateKey>,
    /// Where the next page begins; `None` at the end.
    pub token: Option<String>,
}
