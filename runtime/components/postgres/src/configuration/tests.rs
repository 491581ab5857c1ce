use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use outrigger_component::{Error, ErrorKind, Host, Metadata, Properties, Spec};
use outrigger_configuration::{Item, Items, SharedConfigurationStore, UpdateHandler};
use tokio::sync::mpsc;

use super::registration;
use crate::testing::{self, Server};

/// A table with a trigger that speaks as Dapr's documentation has it.
const TABLE: &str = "
    CREATE TABLE config (key VARCHAR NOT NULL, value VARCHAR NOT NULL, version VARCHAR NOT NULL, metadata JSON);
    CREATE FUNCTION notify_event() RETURNS TRIGGER AS $$
    DECLARE
        data json;
    BEGIN
        IF TG_OP = 'DELETE' THEN data = row_to_json(OLD); ELSE data = row_to_json(NEW); END IF;
        PERFORM pg_notify(TG_ARGV[0], json_build_object('table', TG_TABLE_NAME, 'action', TG_OP, 'data', data)::text);
        RETURN NULL;
    END;
    $$ LANGUAGE plpgsql;";

async fn try_open(pairs: &[(&str, &str)]) -> Result<SharedConfigurationStore, Error> {
    let spec = Spec {
        name: "store".into(),
        type_name: "configuration.postgresql".into(),
        version: "v1".into(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    (registration().validate)(&spec)?.run(Host::new("app", "/")).await
}

fn item(value: &str, version: &str) -> Item {
    Item {
        value: value.into(),
        version: version.into(),
        ..Item::default()
    }
}

struct Channel(mpsc::UnboundedSender<Items>);

impl UpdateHandler for Channel {
    fn handle(&self, items: Items) -> BoxFuture<'_, ()> {
        self.0.send(items).unwrap();
        Box::pin(std::future::ready(()))
    }
}

async fn next(updates: &mut mpsc::UnboundedReceiver<Items>) -> Items {
    tokio::time::timeout(Duration::from_secs(20), updates.recv())
        .await
        .unwrap()
        .unwrap()
}

fn one(key: &str, item: Item) -> Items {
    Items::from([(key.to_owned(), item)])
}

#[tokio::test]
async fn reads_some_or_all() {
    let Some(url) = testing::url("reads_some_or_all") else {
        return;
    };
    let here = testing::schema(&url, "config_read").await;
    testing::peer(&here)
        .await
        .batch_execute(&format!(
            "{TABLE} INSERT INTO config VALUES
                ('one', '1', '2', NULL), ('one', 'old', '1', NULL), ('two', '2', 'v2', '{{\"a\":\"b\"}}')"
        ))
        .await
        .unwrap();
    for mode in ["cache_statement", "simple_protocol"] {
        let store = try_open(&[
            ("connectionString", &here),
            ("table", "config"),
            ("queryExecMode", mode),
        ])
        .await
        .unwrap();
        let metadata = Metadata::new();
        let all = store.get(&[], &metadata).await.unwrap();
        assert_eq!((all.len(), &all["one"]), (2, &item("1", "2")));
        let some = store
            .get(&["two".into(), "absent".into()], &metadata)
            .await
            .unwrap();
        let with_metadata = Item {
            metadata: Metadata::from([("a".into(), "b".into())]),
            ..item("2", "v2")
        };
        assert_eq!(some, one("two", with_metadata));
        let error = store.get(&["a b".into()], &metadata).await.unwrap_err();
        assert_eq!(error.to_string(), "invalid key : 'a b'");
        store.close().await.unwrap();
        let error = store.get(&[], &metadata).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    let error = try_open(&[("connectionString", &here), ("table", "absent")])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "postgreSQL configuration table 'absent' does not exist"
    );
    testing::drop_schema(&url, "config_read").await;
}

#[tokio::test]
async fn wrong_metadata_is_refused_with_upstreams_texts() {
    for (pairs, text) in [
        (
            &[("url", "host=x")][..],
            "missing postgreSQL configuration table name",
        ),
        (
            &[("url", "host=x"), ("table", "Config")],
            "invalid table name 'Config'. non-alphanumerics or upper cased table names are not supported",
        ),
        (
            &[("url", "host=x"), ("table", "config"), ("notifyChannel", "a-b")],
            "invalid notifyChannel name \"a-b\". non-alphanumerics or upper cased names are not supported",
        ),
        (&[("table", "config")], "failed to build connection string"),
    ] {
        assert_eq!(try_open(pairs).await.unwrap_err().to_string(), text);
    }
}

#[tokio::test]
async fn subscribers_learn_of_the_changes_they_want() {
    let Some(url) = testing::url("subscribers_learn_of_the_changes_they_want") else {
        return;
    };
    let here = testing::schema(&url, "config_watch").await;
    let channel = format!("config_{}", std::process::id());
    let peer = testing::peer(&here).await;
    peer.batch_execute(&format!(
        "{TABLE} CREATE TRIGGER config AFTER INSERT OR UPDATE OR DELETE ON config
             FOR EACH ROW EXECUTE PROCEDURE notify_event('{channel}')"
    ))
    .await
    .unwrap();
    let store = try_open(&[("connectionString", &here), ("table", "config")])
        .await
        .unwrap();
    let (sender, mut updates) = mpsc::unbounded_channel();
    let (all_sender, mut all) = mpsc::unbounded_channel();
    let error = store
        .subscribe(Vec::new(), Metadata::new(), Arc::new(Channel(sender.clone())))
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "unable to subscribe to \"config\". notifyChannel must be set in component metadata or request metadata"
    );
    let metadata = Metadata::from([("PgNotifyChannel".into(), channel.clone())]);
    let watching = store
        .subscribe(vec!["key".into()], metadata.clone(), Arc::new(Channel(sender)))
        .await
        .unwrap();
    let _watching_all = store
        .subscribe(Vec::new(), metadata.clone(), Arc::new(Channel(all_sender)))
        .await
        .unwrap();
    peer.execute("INSERT INTO config VALUES ('other', '1', '1', NULL)", &[])
        .await
        .unwrap();
    assert_eq!(next(&mut all).await, one("other", item("1", "1")));
    peer.execute(
        "INSERT INTO config VALUES ('key', '1', '1', '{\"a\":\"b\"}')",
        &[],
    )
    .await
    .unwrap();
    let with_metadata = Item {
        metadata: Metadata::from([("a".into(), "b".into())]),
        ..item("1", "1")
    };
    assert_eq!(next(&mut updates).await, one("key", with_metadata.clone()));
    assert_eq!(next(&mut all).await, one("key", with_metadata));
    peer.execute(
        "UPDATE config SET value = '2', version = '2', metadata = NULL WHERE key = 'key'",
        &[],
    )
    .await
    .unwrap();
    assert_eq!(next(&mut updates).await, one("key", item("2", "2")));
    // What is no row is nobody's.
    peer.execute(&format!("NOTIFY {channel}, 'hello'"), &[])
        .await
        .unwrap();
    peer.execute("DELETE FROM config WHERE key = 'key'", &[])
        .await
        .unwrap();
    // The row as it was, as upstream has it.
    assert_eq!(next(&mut updates).await, one("key", item("2", "2")));
    watching.close().await;
    watching.close().await;
    assert!(
        updates.recv().await.is_none(),
        "a closed subscription lets go of its handler"
    );
    store.close().await.unwrap();
    let again = store.subscribe(
        Vec::new(),
        metadata,
        Arc::new(Channel(mpsc::unbounded_channel().0)),
    );
    assert_eq!(again.await.err().unwrap().kind(), ErrorKind::Closed);
    testing::drop_schema(&url, "config_watch").await;
}

/// What changed while the server could not say so is told when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_survive_a_restart_of_the_server() {
    let Some(server) = Server::start("subscriptions_survive_a_restart_of_the_server") else {
        return;
    };
    let url = server.url();
    testing::peer(&url)
        .await
        .batch_execute(&format!(
            "{TABLE} INSERT INTO config VALUES ('key', '1', '1', NULL)"
        ))
        .await
        .unwrap();
    let pairs = [
        ("connectionString", url.as_str()),
        ("table", "config"),
        ("notifyChannel", "config"),
    ];
    let store = try_open(&pairs).await.unwrap();
    let (sender, mut updates) = mpsc::unbounded_channel();
    let _watching = store
        .subscribe(Vec::new(), Metadata::new(), Arc::new(Channel(sender)))
        .await
        .unwrap();
    server.down();
    server.up();
    // No trigger yet: nobody is notified of this one, at whatever moment the listener is back.
    let peer = testing::peer(&url).await;
    peer.execute("UPDATE config SET value = '2', version = '2'", &[])
        .await
        .unwrap();
    server.down();
    server.up();
    assert_eq!(next(&mut updates).await, one("key", item("2", "2")));
    let peer = testing::peer(&url).await;
    peer.batch_execute(
        "CREATE TRIGGER config AFTER INSERT OR UPDATE OR DELETE ON config
             FOR EACH ROW EXECUTE PROCEDURE notify_event('config');
         UPDATE config SET value = '3', version = '3'",
    )
    .await
    .unwrap();
    assert_eq!(next(&mut updates).await, one("key", item("3", "3")));
}
