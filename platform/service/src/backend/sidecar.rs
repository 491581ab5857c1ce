//! By the sidecar's state and pub/sub APIs.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use outrigger_kit::client::{BulkEntry, Operation, Publication, StateStore, StreamOptions};
use outrigger_kit::{Client, Error, Event};
use serde_json::Value;

use super::{BackendError, Deliveries, Expect, Source, Stored, Ways};

#[derive(Debug)]
pub(super) struct Sidecar {
    client: Client,
    state: StateStore,
    pubsub: String,
}

impl Sidecar {
    pub(super) fn new(client: Client, state_store: &str, pubsub: &str) -> Self {
        Self {
            state: client.state(state_store),
            client,
            pubsub: pubsub.to_owned(),
        }
    }
}

impl Ways for Sidecar {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, BackendError>> {
        async move {
            let found = self.state.get::<Value>(key).await.map_err(failure)?;
            Ok(found.map(|item| Stored {
                value: item.value,
                etag: item.etag.unwrap_or_default(),
            }))
        }
        .boxed()
    }

    fn save<'a>(
        &'a self,
        key: &'a str,
        value: Value,
        expect: Expect<'a>,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        async move {
            let write = Operation::upsert(key, &value).map_err(failure)?;
            let write = match expect {
                Expect::Any => write,
                Expect::Absent => write.if_match(None),
                Expect::Etag(etag) => write.if_match(Some(etag)),
            };
            self.state.save(&[write]).await.map_err(failure)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, etag: Option<&'a str>) -> BoxFuture<'a, Result<(), BackendError>> {
        async move { self.state.delete(key, etag).await.map_err(failure) }.boxed()
    }

    fn publish<'a>(
        &'a self,
        topic: &'a str,
        event: &'a Event<Value>,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        async move {
            self.client
                .publish(&self.pubsub, topic, Publication::event(event))
                .await
                .map_err(failure)
        }
        .boxed()
    }

    fn publish_all<'a>(
        &'a self,
        topic: &'a str,
        events: &'a [Event<Value>],
    ) -> BoxFuture<'a, Result<Vec<usize>, BackendError>> {
        async move {
            let entry = |(place, event): (usize, &Event<Value>)| {
                Ok(BulkEntry {
                    entry_id: place.to_string(),
                    event: serde_json::to_value(event)
                        .map_err(|error| BackendError::Malformed(error.to_string()))?,
                    content_type: "application/cloudevents+json".to_owned(),
                    metadata: BTreeMap::new(),
                })
            };
            let entries: Vec<_> = events
                .iter()
                .enumerate()
                .map(entry)
                .collect::<Result<_, BackendError>>()?;
            let failed = self.client.publish_bulk(&self.pubsub, topic, &entries).await;
            let places = failed.map_err(failure)?.into_iter().map(|failed| {
                failed.entry_id.parse().map_err(|_| {
                    BackendError::Malformed(format!("no event has the number {:?}", failed.entry_id))
                })
            });
            places.collect()
        }
        .boxed()
    }

    fn subscribe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Deliveries, BackendError>> {
        async move {
            let read = self
                .client
                .subscribe(&self.pubsub, topic, StreamOptions::default())
                .await;
            Ok(Deliveries(Source::Sidecar(read.map_err(failure)?)))
        }
        .boxed()
    }
}

fn failure(error: Error) -> BackendError {
    match error {
        Error::Conflict { message } => BackendError::Conflict(message),
        Error::Json { .. } => BackendError::Malformed(error.to_string()),
        error if error.is_retryable() => BackendError::Unavailable(error.to_string()),
        error => BackendError::Refused(error.to_string()),
    }
}
