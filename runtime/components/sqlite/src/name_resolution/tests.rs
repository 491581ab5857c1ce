use std::time::Duration;

use outrigger_component::{ErrorKind, Host, Spec};
use outrigger_name_resolution::{Instance, SharedResolver, Target};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use super::{config::Config, properties, registration};

async fn open(folder: &TempDir) -> SharedResolver {
    let spec = Spec {
        name: "nr".into(),
        type_name: "nameresolution.sqlite".into(),
        version: String::new(),
        properties: properties(&json!({"connectionString": "hosts.db", "updateInterval": "2s"})).unwrap(),
    };
    (registration().validate)(&spec)
        .unwrap()
        .run(Host::new("app", folder.path()))
        .await
        .unwrap()
}

fn instance(app: &str, port: u16) -> Instance {
    Instance {
        app_id: app.into(),
        namespace: "default".into(),
        internal_address: ([127, 0, 0, 1], port).into(),
        http_port: 0,
        app_port: 0,
        instance_id: String::new(),
    }
}

fn target(app: &str) -> Target {
    Target {
        app_id: app.into(),
        namespace: "default".into(),
        port: 0,
    }
}

#[tokio::test]
async fn sidecars_find_each_other_until_they_close() {
    let folder = TempDir::new().unwrap();
    let (one, two) = (open(&folder).await, open(&folder).await);
    one.register(instance("app", 1)).await.unwrap();
    two.register(instance("app", 2)).await.unwrap();
    assert_eq!(
        two.resolve(&target("app")).await.unwrap(),
        ["127.0.0.1:1", "127.0.0.1:2"]
    );
    let error = one.resolve(&target("other")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::NotFound, "no host found with the given ID")
    );
    one.close().await.unwrap();
    assert_eq!(two.resolve(&target("app")).await.unwrap(), ["127.0.0.1:2"]);
}

#[tokio::test]
async fn rows_are_dapr_s_and_live_while_renewed() {
    let folder = TempDir::new().unwrap();
    let resolver = open(&folder).await;
    let peer = Connection::open(folder.path().join("hosts.db")).unwrap();
    peer.busy_timeout(Duration::from_secs(5)).unwrap();
    peer.execute_batch(
        "INSERT INTO hosts VALUES ('go', '127.0.0.1:9', 'peer', '', unixepoch(CURRENT_TIMESTAMP)),
         ('dead', '127.0.0.1:8', 'peer', '', unixepoch(CURRENT_TIMESTAMP) - 3),
         ('crashed', '127.0.0.1:1', 'app', '', 0);",
    )
    .unwrap();
    assert_eq!(resolver.resolve(&target("peer")).await.unwrap(), ["127.0.0.1:9"]);
    // The address of a dead registration is taken over.
    resolver.register(instance("app", 1)).await.unwrap();
    let last_update = |app: &str| {
        peer.query_row(
            "SELECT last_update, namespace FROM hosts WHERE app_id = ?1",
            [app],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
        )
        .ok()
    };
    let (first, namespace) = last_update("app").unwrap();
    assert_eq!(namespace, "");
    let renewed = async {
        while last_update("app").is_none_or(|(now, _)| now == first) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed)
        .await
        .unwrap();
    // A row that was cleaned up while its process slept comes back.
    peer.execute("DELETE FROM hosts WHERE app_id = 'app'", [])
        .unwrap();
    let back = async {
        while last_update("app").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back).await.unwrap();
}

#[test]
fn configuration_errors_have_upstreams_text() {
    for (configuration, text) in [
        (json!(null), "missing connection string"),
        (
            json!({"url": "a.db", "tableName": "a-b"}),
            "invalid identifier for table name: a-b",
        ),
        (
            json!({"url": "a.db", "updateInterval": "1500ms"}),
            "update interval must not contain fractions of seconds",
        ),
        (
            json!({"url": "a.db", "updateInterval": 1}),
            "update interval must be at least 1s greater than timeout",
        ),
    ] {
        let error = Config::from_properties(&properties(&configuration).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    assert!(properties(&json!(["a"])).is_err());
}
