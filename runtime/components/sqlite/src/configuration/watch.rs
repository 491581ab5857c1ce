//! Subscriptions: one poll for all of them sees commits of others, own commits ring at once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use outrigger_component::Error;
use outrigger_configuration::{Item, Items, UpdateHandler, Watching};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use super::store::Reader;

/// How often the file is asked whether another process has committed (A9.2 wants changes within a second). One
/// question costs some ten microseconds, and nobody asks while there are no subscriptions.
const POLL: Duration = Duration::from_millis(250);

/// Knows when rows may have changed.
#[derive(Debug)]
pub(super) struct Watcher {
    reader: Reader,
    /// Counts changes; its receivers are the subscriptions.
    changes: Arc<watch::Sender<u64>>,
    /// Rings when the first subscription comes; the poll sleeps while there are none.
    wanted: Arc<Notify>,
    poll: Mutex<Option<JoinHandle<()>>>,
}

impl Watcher {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            changes: Arc::new(watch::Sender::new(0)),
            wanted: Arc::default(),
            poll: Mutex::new(None),
        }
    }

    /// Starts a subscription that reports what differs from now on.
    pub(super) async fn subscribe(
        &self,
        keys: Vec<String>,
        handler: Arc<dyn UpdateHandler>,
    ) -> Result<Box<dyn Watching>, Error> {
        let changes = self.changes.subscribe();
        // The poll must know the file's version before the first look, or a change between the two is lost.
        let version = self.reader.database.data_version().await?;
        self.start_poll(version);
        let seen = self.reader.read(&keys).await?;
        let task = tokio::spawn(watch_keys(self.reader.clone(), keys, seen, changes, handler));
        Ok(Box::new(Subscription(task)))
    }

    fn start_poll(&self, version: i64) {
        self.wanted.notify_one();
        self.poll.lock().get_or_insert_with(|| {
            tokio::spawn(poll_file(
                self.reader.clone(),
                version,
                self.changes.clone(),
                self.wanted.clone(),
            ))
        });
    }

    pub(super) fn close(&self) {
        if let Some(poll) = self.poll.lock().take() {
            poll.abort();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.close();
    }
}

async fn poll_file(reader: Reader, mut version: i64, changes: Arc<watch::Sender<u64>>, wanted: Arc<Notify>) {
    let mut commits = reader.database.commits();
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while changes.receiver_count() == 0 {
            wanted.notified().await;
        }
        tokio::select! {
            () = changes.closed() => {}
            committed = commits.changed() => {
                if committed.is_err() {
                    return;
                }
                changes.send_modify(|count| *count += 1);
            }
            _ = ticks.tick() => match reader.database.data_version().await {
                Ok(found) if found == version => {}
                Ok(found) => {
                    version = found;
                    changes.send_modify(|count| *count += 1);
                }
                Err(error) => tracing::warn!(error = error.chain(), "cannot look for configuration changes"),
            },
        }
    }
}

async fn watch_keys(
    reader: Reader,
    keys: Vec<String>,
    mut seen: Items,
    mut changes: watch::Receiver<u64>,
    handler: Arc<dyn UpdateHandler>,
) {
    while changes.changed().await.is_ok() {
        let now = loop {
            match reader.read(&keys).await {
                Ok(now) => break now,
                Err(error) if error.kind() == outrigger_component::ErrorKind::Closed => return,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "cannot read changed configuration");
                    tokio::time::sleep(POLL).await;
                }
            }
        };
        let update = difference(&seen, &now);
        seen = now;
        if !update.is_empty() {
            handler.handle(update).await;
        }
    }
}

/// What changed; a removed key has an empty item.
fn difference(before: &Items, after: &Items) -> Items {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| (key.clone(), after.get(key).cloned().unwrap_or_else(Item::default)))
        .collect()
}

struct Subscription(JoinHandle<()>);

impl Watching for Subscription {
    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.abort();
        Box::pin(std::future::ready(()))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}
