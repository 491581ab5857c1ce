//! Subscriptions: keyspace events say which key changed, a read says to what.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::SelectAll};
use outrigger_component::Error;
use outrigger_configuration::{Items, UpdateHandler, Watching};
use parking_lot::Mutex;
use redis::{RedisResult, aio::PubSubStream};
use tokio::task::JoinHandle;

use super::store::Reader;
use crate::{
    failure::{failed, text},
    link::{Retries, Safety},
};

/// Events of strings, of keys that come and go, expire or are evicted (upstream's choice).
const EVENTS: &str = "Kg$xe";
/// The waits between attempts to listen again.
const RELISTEN: Retries = Retries {
    times: u32::MAX,
    least: Duration::from_millis(50),
    longest: Duration::from_secs(2),
};

/// Starts a subscription; it is in force when this returns.
pub(super) async fn start(
    reader: Reader,
    keys: Vec<String>,
    handler: Arc<dyn UpdateHandler>,
) -> Result<Box<dyn Watching>, Error> {
    let mut watch = Watch {
        // A cluster has the database 0 only.
        database: if reader.link.is_cluster() {
            0
        } else {
            reader.link.settings().database
        },
        reader,
        keys,
        handler,
        seen: Items::new(),
    };
    let events = watch.listen().await.map_err(|error| failed(&error))?;
    watch.seen = watch.reader.read(&watch.keys).await?;
    Ok(Box::new(Subscription(Mutex::new(Some(tokio::spawn(
        watch.run(events),
    ))))))
}

struct Watch {
    reader: Reader,
    /// None for all.
    keys: Vec<String>,
    database: i64,
    handler: Arc<dyn UpdateHandler>,
    /// What the named keys were, so that a change while nobody listened is found afterwards.
    seen: Items,
}

impl Watch {
    fn channel(&self, key: &str) -> String {
        format!("__keyspace@{}__:{key}", self.database)
    }

    async fn listen(&self) -> RedisResult<SelectAll<PubSubStream>> {
        let link = &self.reader.link;
        let mut switch_on = redis::cmd("CONFIG");
        switch_on.arg("SET").arg("notify-keyspace-events").arg(EVENTS);
        // The account may not be allowed to: somebody else may have switched them on.
        if let Ok(Err(error)) = link.raw(&switch_on, Safety::Repeatable).await {
            tracing::debug!(error = text(&error), "keyspace events were not switched on");
        }
        let mut events = SelectAll::new();
        for mut listener in link.listeners().await? {
            if self.keys.is_empty() {
                listener.psubscribe(self.channel("*")).await?;
            } else {
                let channels: Vec<_> = self.keys.iter().map(|key| self.channel(key)).collect();
                listener.subscribe(channels).await?;
            }
            events.push(listener.into_on_message());
        }
        Ok(events)
    }

    async fn run(mut self, mut events: SelectAll<PubSubStream>) {
        let mut nodes = events.len();
        loop {
            while let Some(event) = events.next().await {
                let channel = event.get_channel_name();
                if let Some(key) = channel.strip_prefix(&self.channel("")) {
                    self.changed(key.to_owned()).await;
                }
                // One node's connection is gone: listen to all anew.
                if events.len() < nodes {
                    break;
                }
            }
            let mut attempt = 0;
            events = loop {
                if self.reader.link.is_closed() {
                    return;
                }
                match self.listen().await {
                    Ok(events) => break events,
                    Err(error) => {
                        tracing::warn!(
                            error = text(&error),
                            "cannot listen to keyspace events, trying again"
                        );
                        tokio::time::sleep(RELISTEN.wait(attempt)).await;
                        attempt = attempt.saturating_add(1);
                    }
                }
            };
            nodes = events.len();
            self.catch_up().await;
        }
    }

    async fn changed(&mut self, key: String) {
        match self.reader.read(std::slice::from_ref(&key)).await {
            Ok(mut items) => {
                let item = items.remove(&key);
                if !self.keys.is_empty() {
                    match &item {
                        Some(item) => self.seen.insert(key.clone(), item.clone()),
                        None => self.seen.remove(&key),
                    };
                }
                let items = Items::from([(key, item.unwrap_or_default())]);
                self.handler.handle(items).await;
            }
            Err(error) => tracing::warn!(key, error = error.chain(), "a changed key cannot be read"),
        }
    }

    /// Reports the named keys that changed while nobody listened.
    async fn catch_up(&mut self) {
        let now = match self.reader.read(&self.keys).await {
            Ok(items) => items,
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "changes during a lost connection are not known"
                );
                return;
            }
        };
        for key in self.keys.clone() {
            if now.get(&key) != self.seen.get(&key) {
                let item = now.get(&key).cloned().unwrap_or_default();
                self.handler.handle(Items::from([(key, item)])).await;
            }
        }
        self.seen = now;
    }
}

/// The task that listens; gone with its handle.
struct Subscription(Mutex<Option<JoinHandle<()>>>);

impl Watching for Subscription {
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let task = self.0.lock().take();
            if let Some(task) = task {
                task.abort();
                let _ = task.await;
            }
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(task) = self.0.get_mut().take() {
            task.abort();
        }
    }
}
