//! The query language of the state API (wire.md §7, alpha).

use std::collections::BTreeMap;

use bytes::Bytes;
use outrigger_types::StateKey;
use serde::{Deserialize, Serialize};

use crate::Etag;

/// A query.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Which items; `None` for all.
    pub filter: Option<Filter>,
    /// In which order.
    pub sort: Vec<SortKey>,
    /// Which part of them.
    pub page: Page,
}

/// A condition on the JSON document of an item; fields are dotted paths.
#[derive(Debug, Clone)]
pub enum Filter {
    /// Equal.
    Eq(String, serde_json::Value),
    /// Not equal.
    Neq(String, serde_json::Value),
    /// Greater.
    Gt(String, serde_json::Value),
    /// Greater or equal.
    Gte(String, serde_json::Value),
    /// Less.
    Lt(String, serde_json::Value),
    /// Less or equal.
    Lte(String, serde_json::Value),
    /// One of.
    In(String, Vec<serde_json::Value>),
    /// All hold.
    And(Vec<Filter>),
    /// One holds.
    Or(Vec<Filter>),
}

/// One sort key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SortKey {
    /// Dotted path.
    pub key: String,
    /// Direction.
    #[serde(default)]
    pub order: SortOrder,
}

/// Sort direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SortOrder {
    /// Smallest first.
    #[default]
    Asc,
    /// Largest first.
    Desc,
}

/// Which part of the result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Page {
    /// At most this many; 0 for no limit.
    #[serde(default)]
    pub limit: u32,
    /// Where an earlier page ended.
    #[serde(default)]
    pub token: String,
}

/// One found item.
#[derive(Debug, Clone)]
pub struct QueryItem {
    /// The key.
    pub key: StateKey,
    /// The document.
    pub data: Bytes,
    /// Its version.
    pub etag: Option<Etag>,
}

/// What a query found.
#[derive(Debug, Clone, Default)]
pub struct QueryResult {
    /// The items.
    pub items: Vec<QueryItem>,
    /// Where the next page begins; empty at the end.
    pub token: String,
    /// What the backend wants to add.
    pub metadata: BTreeMap<String, String>,
}
