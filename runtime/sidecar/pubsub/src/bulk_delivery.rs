//! Batches from the broker to the app (A2.4; upstream `pkg/runtime/subscription/{bulksubscription,bulkresiliency}.go`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use outrigger_component::Error;
use outrigger_engine_dispatch::{
    Envelope, Numbers,
    bulk::{BulkAnswer, Entry, EntryOutcome, Event},
    field,
};
use outrigger_pubsub::{Delivery, OutgoingEntry, Verdict};
use outrigger_sidecar_resilience::RunError;
use outrigger_telemetry::metrics::ProcessStatus;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    delivery::{Deliverer, DeliveryError, PUBSUB_NAME, index},
    postman::{Batch, BatchError},
    publisher::Surface,
    service::FreshId,
};

/// What has become of a message so far.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Open,
    Done,
    Failed(String),
    /// The app was not there or the subscription ended: nothing is held against the message.
    Released,
}

/// The identity of a message in its batch.
enum EntryKey {
    Broker(Arc<str>),
    Fresh(FreshId),
}

impl EntryKey {
    fn new(delivery: &Delivery) -> Self {
        match &delivery.id {
            Some(id) if !id.is_empty() => Self::Broker(Arc::clone(id)),
            _ => Self::Fresh(FreshId::new()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Broker(id) => id,
            Self::Fresh(id) => id.as_str(),
        }
    }
}

/// Messages that go to one path.
struct Group<'a> {
    rule: usize,
    /// Positions in the batch, one for each entry.
    at: Vec<usize>,
    entries: Vec<Entry<'a>>,
}

#[derive(Default)]
struct Counts {
    success: u64,
    retry: u64,
    drop: u64,
    elapsed: Duration,
}

impl Deliverer {
    pub(crate) async fn process_bulk(&self, deliveries: &[Delivery]) -> Vec<Verdict> {
        let mut fates = vec![Fate::Open; deliveries.len()];
        let keys: Vec<EntryKey> = deliveries.iter().map(EntryKey::new).collect();
        let mut counts = Counts::default();
        match &self.spec.is_raw {
            Ok(is_raw) => {
                for group in self
                    .sort(deliveries, &keys, *is_raw, &mut fates, &mut counts)
                    .await
                {
                    self.hand_over_group(deliveries, group, &mut fates, &mut counts)
                        .await;
                }
            }
            Err(error) => {
                tracing::error!(target: "dapr.runtime.processor.subscription", "error deserializing pubsub metadata: {error}");
                fates.fill(Fate::Failed(error.to_string()));
                counts.retry += deliveries.len() as u64;
            }
        }
        self.dead_letter_failed(deliveries, &keys, &mut fates, &mut counts)
            .await;
        self.report(&counts);
        fates
            .into_iter()
            .map(|fate| match fate {
                Fate::Done => Verdict::Ack,
                Fate::Released => Verdict::Release,
                Fate::Failed(error) => Verdict::Retry(Error::internal(error)),
                Fate::Open => Verdict::Retry(Error::internal("no outcome for this message")),
            })
            .collect()
    }

    /// Reads the messages and groups them by where they go.
    async fn sort<'a>(
        &self,
        deliveries: &'a [Delivery],
        keys: &'a [EntryKey],
        is_raw: bool,
        fates: &mut [Fate],
        counts: &mut Counts,
    ) -> Vec<Group<'a>> {
        let constant = self.spec.rules.constant().map(index);
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (at, delivery) in deliveries.iter().enumerate() {
            let route = || match (&constant, is_raw) {
                (Some(route), _) => Ok(*route),
                (None, true) => {
                    let text = serde_json::Value::from(String::from_utf8_lossy(&delivery.data).into_owned());
                    self.spec
                        .rules
                        .route(&text)
                        .map(index)
                        .map_err(|error| error.to_string())
                }
                (None, false) => Err(String::new()),
            };
            let (event, route) = if is_raw {
                (Event::Raw(&delivery.data), route())
            } else {
                let event = match Envelope::parse(&delivery.data, Numbers::Doubles) {
                    Ok(event) => event,
                    Err(error) => {
                        tracing::error!(target: "dapr.runtime.processor.subscription", "error deserializing one of the messages in bulk cloud event in pubsub {} and topic {}: {error}", self.spec.pubsub, self.spec.topic);
                        fates[at] = Fate::Failed(error.to_string());
                        counts.retry += 1;
                        continue;
                    }
                };
                if event.contains(field::EXPIRATION) && event.has_expired((self.options.clock)()) {
                    tracing::warn!(target: "dapr.runtime.processor.subscription", "dropping expired pub/sub event {}", event.id());
                    self.drop_one(delivery, &mut fates[at], counts).await;
                    continue;
                }
                let route = if constant.is_some() {
                    route()
                } else {
                    self.route(&event)
                };
                (Event::Envelope(event), route)
            };
            match route {
                Ok(Some(rule)) => {
                    let entry = Entry {
                        id: keys[at].as_str(),
                        event,
                        content_type: delivery.content_type.as_deref().unwrap_or_default(),
                        metadata: Some(&delivery.metadata),
                    };
                    match groups.iter_mut().find(|group| group.rule == rule) {
                        Some(group) => {
                            group.at.push(at);
                            group.entries.push(entry);
                        }
                        None => {
                            let room = deliveries.len() - at;
                            let mut group = Group {
                                rule,
                                at: Vec::with_capacity(room),
                                entries: Vec::with_capacity(room),
                            };
                            group.at.push(at);
                            group.entries.push(entry);
                            groups.push(group);
                        }
                    }
                }
                Ok(None) => {
                    tracing::warn!(target: "dapr.runtime.processor.subscription", "No matching route for event in pubsub {} and topic {}; skipping", self.spec.pubsub, self.spec.topic);
                    self.drop_one(delivery, &mut fates[at], counts).await;
                }
                Err(error) => {
                    tracing::error!(target: "dapr.runtime.processor.subscription", "Error finding matching route for event in bulk subscribe {} and topic {} for entry id {}: {error}", self.spec.pubsub, self.spec.topic, keys[at].as_str());
                    fates[at] = Fate::Failed(error);
                    counts.retry += 1;
                }
            }
        }
        groups
    }

    async fn drop_one(&self, delivery: &Delivery, fate: &mut Fate, counts: &mut Counts) {
        let _ = self.dead_letter(delivery).await;
        counts.drop += 1;
        *fate = Fate::Done;
    }

    /// Delivers a group under the policy; its retries carry only what failed before.
    async fn hand_over_group(
        &self,
        deliveries: &[Delivery],
        group: Group<'_>,
        fates: &mut [Fate],
        counts: &mut Counts,
    ) {
        let group = &group;
        let state = Mutex::new((vec![Fate::Open; group.at.len()], std::mem::take(counts)));
        loop {
            if !self.app_ready().await {
                break;
            }
            let policy = self.policy();
            let outcome = policy
                .run(|_| self.attempt_group(deliveries, group, &state))
                .await;
            match outcome {
                Ok(()) => break,
                Err(RunError::Op(DeliveryError::Unhealthy)) if !self.gate.is_closing() => {}
                Err(error) => {
                    // What a timeout or an open breaker left without an outcome has this one.
                    for fate in state.lock().0.iter_mut().filter(|fate| **fate == Fate::Open) {
                        *fate = Fate::Failed(error.to_string());
                    }
                    break;
                }
            }
        }
        let (outcomes, after) = std::mem::take(&mut *state.lock());
        *counts = after;
        let is_closing = self.gate.is_closing();
        for (at, fate) in group.at.iter().zip(outcomes) {
            fates[*at] = match fate {
                Fate::Open => Fate::Released,
                Fate::Failed(_) if is_closing => Fate::Released,
                fate => fate,
            };
        }
    }

    async fn attempt_group(
        &self,
        deliveries: &[Delivery],
        group: &Group<'_>,
        state: &Mutex<(Vec<Fate>, Counts)>,
    ) -> Result<(), DeliveryError> {
        let open: Vec<usize> = {
            let state = state.lock();
            state
                .0
                .iter()
                .enumerate()
                .filter(|(_, fate)| **fate != Fate::Done)
                .map(|(at, _)| at)
                .collect()
        };
        let some: Vec<Entry<'_>>;
        let entries = if open.len() == group.entries.len() {
            group.entries.as_slice()
        } else {
            some = open.iter().map(|at| group.entries[*at].clone()).collect();
            &some
        };
        let batch = Batch {
            pubsub: &self.spec.pubsub,
            topic: &self.spec.topic,
            path: self.path(group.rule),
            uri: &self.spec.paths[group.rule],
            entries,
        };
        let start = Instant::now();
        let answer = self.postman.deliver_bulk(&self.options, &batch).await;
        let elapsed = start.elapsed();
        let outcomes = match answer {
            Err(BatchError::Unhealthy) => return Err(DeliveryError::Unhealthy),
            Err(BatchError::Failed { text, verdict }) => {
                self.fail_all(&open, &text, elapsed, state);
                return Err(DeliveryError::Failed { text, verdict });
            }
            Ok(BulkAnswer::Failed(text)) => {
                tracing::warn!(target: "dapr.runtime.processor.subscription", "{text}");
                self.fail_all(&open, &text, elapsed, state);
                return Err(DeliveryError::transient(text));
            }
            Ok(BulkAnswer::NotFound) => {
                tracing::error!(target: "dapr.runtime.processor.subscription", "Non-retriable error returned from app while processing bulk pub/sub event");
                let mut state = state.lock();
                state.1.drop += open.len() as u64;
                state.1.elapsed = elapsed;
                for at in open {
                    state.0[at] = Fate::Done;
                }
                return Ok(());
            }
            Ok(BulkAnswer::Entries { outcomes, strangers }) => {
                for id in strangers {
                    tracing::warn!(target: "dapr.runtime.processor.subscription", "Invalid entry id received from app while processing pub/sub event {id}");
                }
                outcomes
            }
        };
        let mut dropped = Vec::new();
        let has_failed = {
            let mut state = state.lock();
            let (fates, counts) = &mut *state;
            counts.elapsed = elapsed;
            let mut has_failed = false;
            for (at, outcome) in open.into_iter().zip(outcomes) {
                fates[at] = match outcome {
                    EntryOutcome::Success => {
                        counts.success += 1;
                        Fate::Done
                    }
                    EntryOutcome::Drop => {
                        counts.drop += 1;
                        dropped.push(at);
                        Fate::Done
                    }
                    EntryOutcome::Retry(text) => {
                        counts.retry += 1;
                        has_failed = true;
                        Fate::Failed(text)
                    }
                };
            }
            has_failed
        };
        for at in dropped {
            tracing::warn!(target: "dapr.runtime.processor.subscription", "DROP status returned from app while processing pub/sub event {}", group.entries[at].id);
            let _ = self.dead_letter(&deliveries[group.at[at]]).await;
        }
        if has_failed {
            return Err(DeliveryError::transient(
                "few message(s) have failed during bulk subscribe operation",
            ));
        }
        Ok(())
    }

    fn fail_all(&self, open: &[usize], text: &str, elapsed: Duration, state: &Mutex<(Vec<Fate>, Counts)>) {
        let mut state = state.lock();
        state.1.retry += open.len() as u64;
        state.1.elapsed = elapsed;
        for at in open {
            state.0[*at] = Fate::Failed(text.to_owned());
        }
    }

    /// Sends what failed to the dead letter topic; all of it is acknowledged only when all of it got there.
    async fn dead_letter_failed(
        &self,
        deliveries: &[Delivery],
        keys: &[EntryKey],
        fates: &mut [Fate],
        counts: &mut Counts,
    ) {
        let Some(topic) = &self.spec.dead_letter else {
            return;
        };
        let failed: Vec<usize> = (0..fates.len())
            .filter(|at| matches!(fates[*at], Fate::Failed(_)))
            .collect();
        if failed.is_empty() {
            return;
        }
        let entries = failed
            .iter()
            .map(|at| OutgoingEntry {
                id: keys[*at].as_str().into(),
                data: deliveries[*at].data.clone(),
                content_type: deliveries[*at].content_type.clone(),
                metadata: outrigger_component::Metadata::clone(&deliveries[*at].metadata),
            })
            .collect();
        let metadata: BTreeMap<_, _> = [(PUBSUB_NAME.to_owned(), self.spec.pubsub.clone())].into();
        let publish = async {
            let broker = self
                .publisher
                .table
                .get(&self.spec.pubsub)
                .await
                .map_err(|error| error.to_string())?;
            let failed = self
                .publisher
                .publish_bulk_to(&broker, topic, entries, &metadata, Surface::Grpc)
                .await
                .map_err(|error| error.to_string())?;
            failed.into_iter().next().map_or(Ok(()), |entry| Err(entry.error))
        };
        let outcome = tokio::time::timeout(Duration::from_secs(30), publish)
            .await
            .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
        match outcome {
            Ok(()) => {
                let count = failed.len() as u64;
                counts.drop += count;
                counts.retry = counts.retry.saturating_sub(count);
                for at in failed {
                    fates[at] = Fate::Done;
                }
            }
            Err(error) => {
                tracing::error!(target: "dapr.runtime.processor.subscription", "error sending message to dead letter, origin topic: {} dead letter topic {topic} err: {error}", self.spec.topic);
            }
        }
    }

    fn report(&self, counts: &Counts) {
        let metrics = &self.options.metrics;
        let (pubsub, topic) = (self.spec.pubsub.as_str(), self.spec.topic.as_str());
        metrics.bulk_pubsub_ingress(pubsub, topic, counts.elapsed);
        metrics.bulk_pubsub_ingress_entries(pubsub, topic, ProcessStatus::Success, counts.success);
        metrics.bulk_pubsub_ingress_entries(pubsub, topic, ProcessStatus::Retry, counts.retry);
        metrics.bulk_pubsub_ingress_entries(pubsub, topic, ProcessStatus::Drop, counts.drop);
    }
}
