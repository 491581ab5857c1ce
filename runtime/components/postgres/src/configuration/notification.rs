//! What the trigger says.

use outrigger_component::Metadata;
use outrigger_configuration::Item;
use serde_json::{Map, Value as Json};

/// A row that was written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    /// As the row is, or was before it was deleted.
    pub(super) item: Item,
    pub(super) is_deleted: bool,
}

/// Reads a notification: the changed row is under `data`, its columns by name without case. `None` for what is no such
/// thing.
pub(super) fn parse(payload: &str) -> Option<Change> {
    let Json::Object(whole) = serde_json::from_str(payload).ok()? else {
        return None;
    };
    let Some(Json::Object(row)) = whole.get("data") else {
        return None;
    };
    let key = text(column(row, "key")?)?;
    let is_deleted = column(&whole, "action")
        .and_then(Json::as_str)
        .is_some_and(|action| action.eq_ignore_ascii_case("delete"));
    let metadata = match column(row, "metadata") {
        Some(Json::Object(pairs)) => pairs
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
            .collect(),
        _ => Metadata::new(),
    };
    let item = Item {
        value: column(row, "value").and_then(text).unwrap_or_default(),
        version: column(row, "version").and_then(text).unwrap_or_default(),
        metadata,
    };
    Some(Change {
        key,
        item,
        is_deleted,
    })
}

fn column<'a>(row: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    row.iter()
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Columns may be of other types than text; `NULL` is none.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let change = parse(
            r#"{"table":"config","action":"UPDATE","data":{"KEY":"k","value":"v","version":3,"metadata":{"a":"b","n":null}}}"#,
        )
        .unwrap();
        let item = &change.item;
        assert_eq!((change.key.as_str(), change.is_deleted), ("k", false));
        assert_eq!((item.value.as_str(), item.version.as_str()), ("v", "3"));
        assert_eq!(item.metadata, Metadata::from([("a".into(), "b".into())]));
        let item = parse(r#"{"data":{"key":"k","value":null,"version":"1","metadata":null}}"#)
            .unwrap()
            .item;
        assert_eq!((item.value.as_str(), item.version.as_str()), ("", "1"));
        let change = parse(r#"{"action":"DELETE","data":{"key":"k","value":"v"}}"#).unwrap();
        assert_eq!((change.item.value.as_str(), change.is_deleted), ("v", true));
        for other in [
            "",
            "1",
            r#"{"data":1}"#,
            r#"{"data":{"value":"v"}}"#,
            r#"{"key":"k"}"#,
        ] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
