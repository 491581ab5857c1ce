//! `configuration.in-memory`: items written in the component itself, changed by who holds the store (ours; D4, A9.1).

use std::sync::Arc;

use futures::future::BoxFuture;
use outrigger_component::{Error, Metadata, Open, Registration, Spec, open_with};
use parking_lot::Mutex;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinHandle,
};

use crate::{ConfigurationStore, DynConfigurationStore, Item, Items, UpdateHandler, Watching};

/// Changes that wait for a handler. A subscription that is further behind is told all its items as they are instead.
const MAX_WAITING: usize = 64;

/// `configuration.in-memory`. Every entry of the metadata is an item of version `1`, its name with case. Another value
/// comes with a changed file, which opens the component anew.
#[must_use]
pub fn registration() -> Registration<dyn DynConfigurationStore> {
    Registration {
        type_names: &["configuration.in-memory"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynConfigurationStore>, Error> {
    let item = |value: &str| Item {
        value: value.to_owned(),
        version: "1".to_owned(),
        ..Item::default()
    };
    let items: Items = spec
        .properties
        .iter()
        .map(|(key, value)| (key.to_owned(), item(value)))
        .collect();
    Ok(open_with(async move |_host| {
        Ok(Arc::new(MemoryConfigurationStore::new(items)) as Arc<dyn DynConfigurationStore>)
    }))
}

/// Items in memory; clones share them.
#[derive(Debug, Clone)]
pub struct MemoryConfigurationStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    items: Mutex<Items>,
    /// A key and what it is now, an empty item where it is gone.
    changes: broadcast::Sender<(String, Item)>,
}

impl MemoryConfigurationStore {
    /// A store with these items.
    #[must_use]
    pub fn new(items: Items) -> Self {
        Self(Arc::new(Shared {
            items: Mutex::new(items),
            changes: broadcast::Sender::new(MAX_WAITING),
        }))
    }

    /// Writes an item, or deletes it, and tells who watches it.
    pub fn set(&self, key: &str, item: Option<Item>) {
        let mut items = self.0.items.lock();
        let now = match item {
            Some(item) => {
                items.insert(key.to_owned(), item.clone());
                item
            }
            None => {
                items.remove(key);
                Item::default()
            }
        };
        // Under the lock, so that changes are told in their order. Nobody may listen.
        let _ = self.0.changes.send((key.to_owned(), now));
    }

    fn read(&self, keys: &[String]) -> Items {
        let items = self.0.items.lock();
        if keys.is_empty() {
            return items.clone();
        }
        let found = |key: &String| Some((key.clone(), items.get(key)?.clone()));
        keys.iter().filter_map(found).collect()
    }
}

impl ConfigurationStore for MemoryConfigurationStore {
    async fn get(&self, keys: &[String], _metadata: &Metadata) -> Result<Items, Error> {
        Ok(self.read(keys))
    }

    async fn subscribe(
        &self,
        keys: Vec<String>,
        _metadata: Metadata,
        handler: Arc<dyn UpdateHandler>,
    ) -> Result<Box<dyn Watching>, Error> {
        let mut changes = self.0.changes.subscribe();
        let store = Arc::downgrade(&self.0);
        let task = tokio::spawn(async move {
            loop {
                let items = match changes.recv().await {
                    Ok((key, item)) if keys.is_empty() || keys.contains(&key) => Items::from([(key, item)]),
                    Ok(_) => continue,
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(_)) => {
                        let Some(shared) = store.upgrade() else { return };
                        let mut now = Self(shared).read(&keys);
                        // A key that is gone meanwhile.
                        for key in &keys {
                            now.entry(key.clone()).or_default();
                        }
                        now
                    }
                };
                handler.handle(items).await;
            }
        });
        Ok(Box::new(Watch(Mutex::new(Some(task)))))
    }
}

/// A subscription's task.
struct Watch(Mutex<Option<JoinHandle<()>>>);

impl Watching for Watch {
    fn close(&self) -> BoxFuture<'_, ()> {
        let task = self.0.lock().take();
        Box::pin(async move {
            if let Some(task) = task {
                task.abort();
                let _ = task.await;
            }
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = self.0.get_mut() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures::future::BoxFuture;
    use outrigger_component::{Host, Metadata, Properties, Spec};
    use tokio::sync::mpsc;

    use super::{MAX_WAITING, MemoryConfigurationStore, registration};
    use crate::{ConfigurationStore as _, Item, Items, SharedConfigurationStore, UpdateHandler};

    struct Channel(mpsc::Sender<Items>);

    impl UpdateHandler for Channel {
        fn handle(&self, items: Items) -> BoxFuture<'_, ()> {
            Box::pin(async move { self.0.send(items).await.unwrap() })
        }
    }

    fn item(value: &str, version: &str) -> Item {
        Item {
            value: value.into(),
            version: version.into(),
            ..Item::default()
        }
    }

    async fn next(updates: &mut mpsc::Receiver<Items>) -> Items {
        tokio::time::timeout(Duration::from_secs(10), updates.recv())
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn the_component_brings_its_items() {
        let spec = Spec {
            name: "settings".into(),
            type_name: "configuration.in-memory".into(),
            version: "v1".into(),
            properties: Properties::from_pairs([("Colour", "red"), ("size", "2")]),
        };
        let open = (registration().validate)(&spec).unwrap();
        let store: SharedConfigurationStore = open.run(Host::new("app", "")).await.unwrap();
        let metadata = Metadata::new();
        let all = store.get(&[], &metadata).await.unwrap();
        assert_eq!(
            all,
            Items::from([
                ("Colour".into(), item("red", "1")),
                ("size".into(), item("2", "1"))
            ])
        );
        let keys = ["size".into(), "absent".into()];
        let some = store.get(&keys, &metadata).await;
        assert_eq!(some.unwrap(), Items::from([("size".into(), item("2", "1"))]));
    }

    #[tokio::test]
    async fn subscribers_learn_of_changes_in_their_order() {
        let store = MemoryConfigurationStore::new(Items::new());
        let (sender, mut some) = mpsc::channel(16);
        let watching = store.subscribe(vec!["key".into()], Metadata::new(), Arc::new(Channel(sender)));
        let watching = watching.await.unwrap();
        let (sender, mut all) = mpsc::channel(16);
        let watching_all = store.subscribe(Vec::new(), Metadata::new(), Arc::new(Channel(sender)));
        let watching_all = watching_all.await.unwrap();
        store.set("other", Some(item("x", "1")));
        store.set("key", Some(item("1", "1")));
        store.set("key", Some(item("2", "2")));
        store.set("key", None);
        for expected in [item("1", "1"), item("2", "2"), Item::default()] {
            assert_eq!(next(&mut some).await, Items::from([("key".into(), expected)]));
        }
        assert_eq!(
            next(&mut all).await,
            Items::from([("other".into(), item("x", "1"))])
        );
        watching.close().await;
        watching.close().await;
        assert!(
            some.recv().await.is_none(),
            "a closed subscription lets go of its handler"
        );
        drop(watching_all);
        while all.recv().await.is_some() {}
    }

    #[tokio::test]
    async fn who_is_far_behind_is_told_how_it_is() {
        let store = MemoryConfigurationStore::new(Items::from([("gone".into(), item("1", "1"))]));
        let (sender, mut updates) = mpsc::channel(1);
        let keys = vec!["key".into(), "gone".into()];
        let watching = store.subscribe(keys, Metadata::new(), Arc::new(Channel(sender)));
        let _watching = watching.await.unwrap();
        store.set("gone", None);
        // One task runs at a time here: the subscription does not see any of these before the last.
        for number in 0..=2 * MAX_WAITING {
            store.set("key", Some(item(&number.to_string(), "1")));
        }
        let now = next(&mut updates).await;
        let last = item(&(2 * MAX_WAITING).to_string(), "1");
        assert_eq!(
            now,
            Items::from([("key".into(), last), ("gone".into(), Item::default())])
        );
    }
}
