//! Moves events from the internal topic to the real one, once their transaction is known to be in the store.
//!
//! The order is: event to the internal topic, transaction with marker, event to the real topic, marker away,
//! internal message acknowledged. Wherever a process dies in between, the internal message comes back, and the
//! marker tells whether the transaction happened. Nothing is lost; an event may come twice.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use outrigger_component::{Error, Metadata};
use outrigger_engine_dispatch::{Envelope, Numbers, field};
use outrigger_pubsub::{Delivery, Handler, Verdict};
use outrigger_state::{Expect, Operation, ReadOptions, WriteOptions};
use outrigger_types::StateKey;

use super::{Channel, Route, Shared, ledger::Known};
use crate::gate::Gate;

/// How long a message waits for a transaction of this process that is on its way.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after a failure of the store its marker may still appear.
const DOUBT: Duration = Duration::from_secs(10);
/// Pauses between look-ups of a marker that is not there (upstream: 1 s, then 0.5 s growing to 3 s, for 10 s).
const LOOK_UPS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_millis(500),
    Duration::from_millis(1500),
    Duration::from_secs(3),
    Duration::from_secs(3),
];
/// Pauses between attempts to take a marker away.
const DELETES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1500),
    Duration::from_secs(3),
];

/// Takes the messages of one internal topic.
pub(super) struct Relay {
    pub(super) shared: Arc<Shared>,
    pub(super) channel: Channel,
    pub(super) gate: Arc<Gate>,
}

impl Handler for Relay {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            let Some(_flight) = self.gate.enter().await else {
                return Verdict::Release;
            };
            tokio::select! {
                biased;
                verdict = self.relay(&delivery) => verdict,
                () = self.gate.aborted() => Verdict::Release,
            }
        })
    }
}

/// What the stores say of a marker.
enum Found<'a> {
    In(&'a Route),
    Nowhere,
    Unreadable(String),
}

impl Relay {
    async fn relay(&self, delivery: &Delivery) -> Verdict {
        let event = match Envelope::parse(&delivery.data, Numbers::Verbatim) {
            Ok(event) => event,
            Err(error) => return Verdict::Retry(Error::invalid(error.to_string())),
        };
        let marker = event.id().to_owned();
        let known = tokio::select! {
            known = self.shared.ledger.outcome(&marker, PATIENCE) => known,
            // What waits holds no shutdown up: it comes back.
            () = self.gate.closing() => return Verdict::Release,
        };
        let found = match known {
            Known::Cancelled => {
                self.shared.ledger.forget(&marker);
                return Verdict::Ack;
            }
            Known::Published => {
                return match self.find(&marker).await {
                    Found::In(route) => self.clear(route, &marker).await,
                    Found::Nowhere => {
                        self.shared.ledger.forget(&marker);
                        Verdict::Ack
                    }
                    Found::Unreadable(_) => Verdict::Release,
                };
            }
            // One store per topic needs no look-up to know which it was.
            Known::Committed if self.channel.routes.len() == 1 => Found::In(&self.channel.routes[0]),
            Known::Failed(_) | Known::Committed => self.find(&marker).await,
            Known::Nothing | Known::Pending => self.search(&marker).await,
        };
        let route = match (found, known) {
            (Found::In(route), _) => route,
            (Found::Unreadable(error), _) => {
                tracing::warn!(target: "dapr.outbox", "cannot look outbox state up: {error}");
                return Verdict::Release;
            }
            (Found::Nowhere, Known::Failed(since)) if since.elapsed() < DOUBT => return Verdict::Release,
            (Found::Nowhere, Known::Failed(_)) => {
                // The store said so and time has shown it: the transaction did not happen.
                self.shared.ledger.forget(&marker);
                return Verdict::Ack;
            }
            (Found::Nowhere, _) => return self.missing(),
        };
        self.publish(event, route, &marker).await
    }

    /// The marker is nowhere: the transaction did not happen, as far as anybody can tell.
    fn missing(&self) -> Verdict {
        let Some(route) = self.channel.routes.first() else {
            return Verdict::Release;
        };
        let text = format!(
            "cannot publish outbox message to topic {} with pubsub {}: outbox state not found",
            route.publish_topic, route.publish_pubsub
        );
        let pubsub = &route.publish_pubsub;
        if self.channel.routes.iter().any(|route| route.discards) {
            tracing::error!(target: "dapr.outbox", "failed to publish outbox topic to pubsub {pubsub}: {text}, discarding message");
            return Verdict::Ack;
        }
        tracing::error!(target: "dapr.outbox", "failed to publish outbox topic to pubsub {pubsub}: {text}, rejecting for later processing");
        Verdict::Retry(Error::internal(text))
    }

    async fn search(&self, marker: &str) -> Found<'_> {
        let mut found = self.find(marker).await;
        for pause in LOOK_UPS {
            if matches!(found, Found::In(_)) {
                break;
            }
            if !self.pause(pause).await {
                return Found::Unreadable("the subscription ends".to_owned());
            }
            found = self.find(marker).await;
        }
        found
    }

    /// Waits; `false` when the subscription ends first.
    async fn pause(&self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.gate.closing() => false,
        }
    }

    async fn find(&self, marker: &str) -> Found<'_> {
        let key = StateKey::from(marker);
        let mut unreadable = None;
        for route in &self.channel.routes {
            let answer = match self.shared.stores.get(&route.store).await {
                Ok(store) => store
                    .instance
                    .get(&key, &ReadOptions::default())
                    .await
                    .map_err(|error| error.chain()),
                Err(error) => Err(format!(
                    "cannot get outbox state: state store {} {error}",
                    route.store
                )),
            };
            match answer {
                Ok(Some(item)) if !item.value.bytes().is_empty() => return Found::In(route),
                Ok(_) => {}
                Err(error) => unreadable = Some(error),
            }
        }
        unreadable.map_or(Found::Nowhere, Found::Unreadable)
    }

    async fn publish(&self, mut event: Envelope<'_>, route: &Route, marker: &str) -> Verdict {
        let content_type = event.text(field::DATA_CONTENT_TYPE).map(str::to_owned);
        event.set_text(field::TOPIC, route.publish_topic.as_str());
        event.set_text(field::PUBSUB_NAME, route.publish_pubsub.as_str());
        let data = Bytes::from(event.to_json());
        let publisher = &self.shared.publisher;
        let published = publisher
            .publish(
                &route.publish_pubsub,
                &route.publish_topic,
                data,
                content_type,
                Metadata::new(),
            )
            .await;
        if let Err(error) = published {
            tracing::error!(target: "dapr.outbox", "failed to publish outbox topic to pubsub {}: {error}", route.publish_pubsub);
            // The broker keeps it: a refusal would use up deliveries that are not the event's fault.
            return Verdict::Release;
        }
        self.shared.ledger.published(marker);
        self.clear(route, marker).await
    }

    /// Takes the marker away. If that fails the message comes back, and only this is done again.
    async fn clear(&self, route: &Route, marker: &str) -> Verdict {
        let mut pauses = DELETES.iter();
        loop {
            let delete = Operation::Delete {
                key: StateKey::from(marker),
                expect: Expect::Any,
                options: WriteOptions::default(),
            };
            let answer = match self.shared.stores.get(&route.store).await {
                Ok(store) => store
                    .instance
                    .transact(vec![delete])
                    .await
                    .map_err(|error| error.chain()),
                Err(error) => Err(error.to_string()),
            };
            let Err(error) = answer else {
                self.shared.ledger.forget(marker);
                return Verdict::Ack;
            };
            let Some(pause) = pauses.next() else {
                tracing::warn!(target: "dapr.outbox", "cannot delete outbox state {marker}: {error}");
                return Verdict::Release;
            };
            if !self.pause(*pause).await {
                return Verdict::Release;
            }
        }
    }
}
