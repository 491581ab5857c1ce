//! State that was written under earlier key forms, moved once (Z9): with slashes, and with dashes.
//!
//! An index under an old form is a list of connection ids. Each record goes to its new key, if nobody else was
//! faster; then into the list of the instance that moved it; only then the old keys go.

use jiff::Timestamp;
use outrigger_platform_service::{Backend, BackendError, Expect};
use serde_json::{Map, Value};

use crate::names::connection_key;
use crate::record::ConnectionRecord;

/// What stands between the words of old keys.
const SEPARATORS: [char; 2] = ['/', '-'];

/// What was found under old keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Connections that are this instance's now.
    pub(crate) ids: Vec<String>,
    /// Keys that are of no use any more, once the connections are in the instance's list.
    pub(crate) old: Vec<String>,
}

/// Writes what there is under new keys. May be repeated until it works.
pub(crate) async fn migrate(backend: &Backend, instance: &str) -> Result<Moved, BackendError> {
    let mut moved = Moved::default();
    for separator in SEPARATORS {
        let old_key = |last: &str| format!("websocketmanager{separator}connection{separator}{last}");
        let index_key = old_key("index");
        let Some(index) = backend.get(&index_key).await? else {
            continue;
        };
        let ids: Vec<String> = index.read()?;
        for id in ids {
            let key = old_key(&id);
            let Some(stored) = backend.get(&key).await? else {
                continue;
            };
            match renewed(&id, &stored.value, instance) {
                Some(record) => {
                    if write(backend, &record).await? {
                        moved.ids.push(id);
                    }
                }
                None => tracing::warn!(key, "a record of an earlier version cannot be read; removing it"),
            }
            moved.old.push(key);
        }
        // The last to go: without it nobody looks for the others.
        moved.old.push(index_key);
    }
    Ok(moved)
}

/// False when another instance was faster.
async fn write(backend: &Backend, record: &ConnectionRecord) -> Result<bool, BackendError> {
    let key = connection_key(&record.id);
    match backend.save(&key, record, Expect::Absent).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_conflict() => {
            // Or this one, before it had to begin anew.
            let stored = backend.get(&key).await?;
            Ok(stored.is_some_and(|stored| stored.value["instance_id"] == record.instance_id.as_str()))
        }
        Err(error) => Err(error),
    }
}

/// An old record with what it lacks.
fn renewed(id: &str, old: &Value, instance: &str) -> Option<ConnectionRecord> {
    let mut fields: Map<String, Value> = old.as_object()?.clone();
    fields.insert("id".to_owned(), Value::from(id));
    fields.insert("instance_id".to_owned(), Value::from(instance));
    fields
        .entry("created_at")
        .or_insert_with(|| Value::from(Timestamp::now().to_string()));
    fields.entry("auto_reconnect").or_insert(Value::Bool(false));
    serde_json::from_value(Value::Object(fields)).ok()
}

#[cfg(test)]
mod tests {
    use outrigger_kit::testing::Cluster;
    use serde_json::json;

    use super::*;
    use crate::registry::Registry;

    #[tokio::test]
    async fn records_of_both_old_forms_are_moved_once() {
        let cluster = Cluster::new();
        let sidecar = cluster.sidecar("websocketmanager").await.unwrap();
        let backend = Backend::sidecar(sidecar.client(), "statestore", "pubsub");
        for (key, value) in [
            ("websocketmanager/connection/index", json!(["a", "lost"])),
            (
                "websocketmanager/connection/a",
                json!({"url": "ws://a/", "status": "Connected", "topic": "ticks", "auto_reconnect": true}),
            ),
            ("websocketmanager-connection-index", json!(["b", "bad"])),
            ("websocketmanager-connection-b", json!({"url": "ws://b/"})),
            ("websocketmanager-connection-bad", json!(7)),
        ] {
            backend.save(key, &value, Expect::Any).await.unwrap();
        }
        let registry = Registry::new(
            backend.clone(),
            "one".to_owned(),
            std::time::Duration::from_secs(30),
        );
        assert_eq!(registry.migrate().await.unwrap(), ["a", "b"]);
        let record = backend
            .get("websocketmanager.connection.a")
            .await
            .unwrap()
            .unwrap();
        let record: ConnectionRecord = record.read().unwrap();
        assert_eq!(
            (record.url.as_str(), record.instance_id.as_str()),
            ("ws://a/", "one")
        );
        assert_eq!(record.topic.as_deref(), Some("ticks"));
        assert!(
            backend
                .get("websocketmanager/connection/a")
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            backend
                .get("websocketmanager-connection-index")
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(
            registry.enter().await.unwrap(),
            ["a".to_owned(), "b".to_owned()].into()
        );
        assert_eq!(migrate(&backend, "two").await.unwrap(), Moved::default());
    }
}
