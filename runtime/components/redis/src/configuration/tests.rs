use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use outrigger_component::Metadata;
use outrigger_configuration::{ConfigurationStore, Item, Items, UpdateHandler, Watching};
use tokio::sync::mpsc;

use super::RedisConfigurationStore;
use crate::{
    settings::{Purpose, Settings},
    testing::{Own, Raw, properties, server},
};

async fn open(server: &str, database: u8) -> RedisConfigurationStore {
    let settings = Settings::parse(&properties(server, database, &[]), Purpose::Configuration).unwrap();
    RedisConfigurationStore::open(settings).await.unwrap()
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

async fn watch(
    store: &RedisConfigurationStore,
    keys: &[&str],
) -> (Box<dyn Watching>, mpsc::UnboundedReceiver<Items>) {
    let (sender, updates) = mpsc::unbounded_channel();
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    let watching = ConfigurationStore::subscribe(store, keys, Metadata::new(), Arc::new(Channel(sender)))
        .await
        .unwrap();
    (watching, updates)
}

async fn next(updates: &mut mpsc::UnboundedReceiver<Items>) -> Items {
    tokio::time::timeout(Duration::from_secs(20), updates.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn reads_some_or_all() {
    let Some(server) = server("configuration.redis") else {
        return;
    };
    let raw = Raw::emptied(&server, 9).await;
    let store = open(&server, 9).await;
    raw.run(&["MSET", "one", "1||v1", "two", "2", "empty", ""]).await;
    raw.run(&["RPUSH", "list", "1"]).await;
    let metadata = Metadata::new();
    let all = store.get(&[], &metadata).await.unwrap();
    assert_eq!(
        all,
        Items::from([("one".into(), item("1", "v1")), ("two".into(), item("2", ""))])
    );
    let some = ["two", "absent", "list"].map(str::to_owned);
    let some = store.get(&some, &metadata).await.unwrap();
    assert_eq!(some, Items::from([("two".into(), item("2", ""))]));
}

#[tokio::test]
async fn changes_arrive_and_only_those_asked_for() {
    let Some(server) = server("configuration.redis and its subscriptions") else {
        return;
    };
    let raw = Raw::emptied(&server, 10).await;
    let store = open(&server, 10).await;
    let (named, mut of_named) = watch(&store, &["a", "b"]).await;
    let (all, mut of_all) = watch(&store, &[]).await;
    raw.run(&["SET", "other", "x"]).await;
    raw.run(&["SET", "a", "1||v1"]).await;
    raw.run(&["DEL", "a"]).await;
    assert_eq!(next(&mut of_named).await.keys().collect::<Vec<_>>(), ["a"]);
    // The read may be later than the deletion that follows the event.
    let second = next(&mut of_named).await;
    assert_eq!(second, Items::from([("a".into(), Item::default())]));
    assert_eq!(
        next(&mut of_all).await,
        Items::from([("other".into(), item("x", ""))])
    );
    named.close().await;
    named.close().await;
    all.close().await;
    raw.run(&["SET", "b", "1"]).await;
    assert!(of_named.recv().await.is_none(), "nothing after the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_while_the_server_was_away_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut own) = Own::start("configuration.redis across a restart", folder.path(), &arguments).await
    else {
        return;
    };
    let raw = Raw::open(&own.address, 0).await;
    raw.run(&["SET", "a", "1"]).await;
    let store = open(&own.address, 0).await;
    let (watching, mut updates) = watch(&store, &["a"]).await;
    own.kill();
    own.restart().await;
    Raw::open(&own.address, 0).await.run(&["SET", "a", "2"]).await;
    // It comes by the event, or by the look after it was missed.
    while next(&mut updates).await["a"] != item("2", "") {}
    Raw::open(&own.address, 0).await.run(&["SET", "a", "3"]).await;
    while next(&mut updates).await["a"] != item("3", "") {}
    watching.close().await;
}
