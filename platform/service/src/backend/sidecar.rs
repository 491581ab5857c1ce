//! By the sidecar's state and pub/sub APIs.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use outrigger_kit::client::{Operation, Publication, StateStore, StreamOptions};
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
                .map_err(not_published)
        }
        .boxed()
    }

    fn publish_all<'a>(
        &'a self,
        topic: &'a str,
        events: &'a [Event<Value>],
    ) -> BoxFuture<'a, Result<Vec<usize>, BackendError>> {
        async move {
            let failed = self.client.publish_events(&self.pubsub, topic, events).await;
            failed.map_err(not_published)
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

/// An error of publishing. A sidecar whose broker is away answers 500, and an event's id tells a repeat.
fn not_published(error: Error) -> BackendError {
    match error {
        Error::Status { status, .. } if status.is_server_error() => {
            BackendError::Unavailable(error.to_string())
        }
        error => failure(error),
    }
}

fn failure(error: Error) -> BackendError {
    match error {
        Error::Conflict { message } => BackendError::Conflict(message),
        Error::Json { .. } => BackendError::Malformed(error.to_string()),
        // What a store or broker behind the sidecar fails with for the moment is a 500, too.
        Error::Status { status, .. } if status.is_server_error() => {
            BackendError::Unavailable(error.to_string())
        }
        error if error.is_retryable() => BackendError::Unavailable(error.to_string()),
        error => BackendError::Refused(error.to_string()),
    }
}
