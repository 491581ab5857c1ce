use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use outrigger_component::{Metadata, Properties};
use outrigger_configuration::{ConfigurationStore, Item, Items, UpdateHandler};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::SqliteConfigurationStore;
use crate::connection::{Defaults, Settings};

async fn open(folder: &TempDir) -> SqliteConfigurationStore {
    let properties = Properties::from_pairs([("connectionString", "configuration.db")]);
    let settings = Settings::from_properties(&properties, Defaults::default()).unwrap();
    SqliteConfigurationStore::open(settings, folder.path(), "configuration".into(), "metadata".into())
        .await
        .unwrap()
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
    tokio::time::timeout(Duration::from_secs(10), updates.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn reads_some_or_all() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let with_metadata = Item {
        metadata: Metadata::from([("a".into(), "b".into())]),
        ..item("2", "v2")
    };
    store.set("one", Some(item("1", "v1"))).await.unwrap();
    store.set("two", Some(with_metadata.clone())).await.unwrap();
    let metadata = Metadata::new();
    assert_eq!(store.get(&[], &metadata).await.unwrap().len(), 2);
    let some = store
        .get(&["two".into(), "absent".into()], &metadata)
        .await
        .unwrap();
    assert_eq!(some, Items::from([("two".into(), with_metadata)]));
}

#[tokio::test]
async fn subscribers_learn_of_changes_here_and_elsewhere() {
    let folder = TempDir::new().unwrap();
    let (store, elsewhere) = (open(&folder).await, open(&folder).await);
    store.set("before", Some(item("1", "1"))).await.unwrap();
    let (sender, mut updates) = mpsc::unbounded_channel();
    let (all_sender, mut all) = mpsc::unbounded_channel();
    let watching = store
        .subscribe(
            vec!["key".into(), "before".into()],
            Metadata::new(),
            Arc::new(Channel(sender)),
        )
        .await
        .unwrap();
    let watching_all = store
        .subscribe(Vec::new(), Metadata::new(), Arc::new(Channel(all_sender)))
        .await
        .unwrap();

    store.set("key", Some(item("1", "1"))).await.unwrap();
    assert_eq!(
        next(&mut updates).await,
        Items::from([("key".into(), item("1", "1"))])
    );
    assert_eq!(next(&mut all).await.len(), 1);
    elsewhere.set("other", Some(item("1", "1"))).await.unwrap();
    assert_eq!(
        next(&mut all).await,
        Items::from([("other".into(), item("1", "1"))])
    );
    elsewhere.set("key", Some(item("1", "2"))).await.unwrap();
    assert_eq!(
        next(&mut updates).await,
        Items::from([("key".into(), item("1", "2"))])
    );
    elsewhere.set("before", None).await.unwrap();
    assert_eq!(
        next(&mut updates).await,
        Items::from([("before".into(), Item::default())])
    );

    watching.close().await;
    watching.close().await;
    assert!(
        updates.recv().await.is_none(),
        "a closed subscription lets go of its handler"
    );
    // After a time without subscriptions a new one still sees changes.
    drop(watching_all);
    while all.recv().await.is_some() {}
    let (sender, mut updates) = mpsc::unbounded_channel();
    let _watching = store
        .subscribe(vec!["key".into()], Metadata::new(), Arc::new(Channel(sender)))
        .await
        .unwrap();
    elsewhere.set("key", Some(item("3", "3"))).await.unwrap();
    assert_eq!(
        next(&mut updates).await,
        Items::from([("key".into(), item("3", "3"))])
    );
}
