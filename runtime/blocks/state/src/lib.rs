//! The state building block: trait, requests, capabilities, in-memory backend and behaviour suite.
//!
//! Knows nothing of HTTP, gRPC, key prefixes or encryption: those are the sidecar's (`runtime/sidecar/state`).
//! The core of the trait is [`StateStore::transact`]: operations with the etags they expect in, new etags out
//! (design D3); everything else is a capability or can be built from it.

mod error;
mod like;
mod memory;
mod query;
mod query_json;
mod request;
mod search;
mod store;
pub mod suite;
mod ttl;

pub use error::{empty_pattern, empty_prefix, etag_mismatch};
pub use like::Like;
pub use memory::{MemoryStateStore, registration as memory_registration};
pub use query::{Filter, Page, Query, QueryItem, QueryResult, SortKey, SortOrder};
pub use request::{
    Concurrency, Consistency, Etag, Expect, Item, KeyPage, KeyPattern, Operation, ReadOptions, Ttl, Value,
    WriteOptions,
};
pub use search::search;
pub use store::{Capabilities, DynStateStore, SharedStateStore, StateStore};
pub use ttl::TtlDialect;
