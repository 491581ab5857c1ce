//! Who holds which connection: heartbeats, sweeps, taking over, giving up (I5, I6, Z21).
//!
//! - Each instance renews its record, which lists its connections, every so often. It is dead once the record has
//!   expired, and lost once the grace period is over too.
//! - A sweep reads one record per instance. For a lost one it goes through its connections and claims each by its
//!   ETag, so that of several survivors exactly one wins; only then it goes into the winner's list, and last out of
//!   the lost one's. A survivor that dies in between leaves a record that names it and a list that still has it: the
//!   next sweep goes by the record.
//! - An instance that was away for too long finds out with its next heartbeat, and lets go of what others hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use outrigger_kit::CancellationToken;
use outrigger_kit::health::HealthEntry;
use outrigger_platform_service::BackendError;

use crate::events;
use crate::link::Link;
use crate::manager::{Manager, Start};
use crate::names::HEARTBEAT_TOPIC;
use crate::record::{ConnectionRecord, InstanceRecord, Status};
use crate::registry::Beat;

/// How long the start waits for the first attempts of restored connections.
const FIRST_ATTEMPTS: Duration = Duration::from_secs(5);

impl Manager {
    /// Takes up the connections of this instance's earlier life (I1.1). May be repeated until it works.
    ///
    /// # Errors
    /// Those of the state store.
    pub async fn recover(&self) -> Result<(), BackendError> {
        let inner = &self.0;
        if inner.limits.clear_all && !inner.cleared.load(Ordering::Acquire) {
            inner.registry.clear().await?;
            inner.cleared.store(true, Ordering::Release);
            tracing::info!("all stored connections are removed");
        }
        let mut stale = Vec::new();
        let mut listed = inner.registry.enter().await?;
        listed.extend(inner.registry.migrate().await?);
        for id in listed {
            match inner.registry.get(&id).await? {
                Some((record, _)) if record.instance_id == self.instance() => self.adopt(&record).await?,
                Some(_) | None => stale.push(id),
            }
        }
        if !stale.is_empty() {
            inner.registry.remove(&stale).await?;
        }
        let links: Vec<_> = inner.links.lock().values().cloned().collect();
        let first = join_all(links.iter().map(|link| async move {
            if link.view.status() != Status::Disconnected {
                let _ = link.tried().await;
            }
        }));
        if tokio::time::timeout(FIRST_ATTEMPTS, first).await.is_err() {
            tracing::info!("some connections of an earlier life are not back yet");
        }
        Ok(())
    }

    /// Holds a connection that another life, or another instance, held before.
    async fn adopt(&self, record: &ConnectionRecord) -> Result<(), BackendError> {
        if self.has(&record.id) {
            return Ok(());
        }
        if record.was_never_open() {
            tracing::info!(
                connection = record.id,
                "forgetting a connection whose maker died over it"
            );
            return self.0.registry.delete(&record.id).await;
        }
        match self.0.limits.reach.parse(&record.url) {
            Ok(target) => {
                let start = if record.status == Status::Disconnected {
                    Start::Over
                } else {
                    Start::Restored
                };
                // Without path and query: some servers take their tokens there.
                tracing::info!(
                    connection = record.id,
                    host = target.host,
                    "taking up a connection"
                );
                self.hold(record, target, start);
            }
            // The settings changed since; it stays in the list until its user removes it.
            Err(error) => {
                tracing::warn!(connection = record.id, %error, "a connection may not be taken up");
            }
        }
        Ok(())
    }

    /// Heartbeats and sweeps until `stop`, then gives everything up in order.
    pub async fn run(self, stop: CancellationToken) {
        let limits = &self.0.limits;
        let mut beats = tokio::time::interval(limits.heartbeat_every);
        let mut sweeps = tokio::time::interval(limits.sweep_every);
        for timer in [&mut beats, &mut sweeps] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    if let Err(error) = self.beat().await {
                        tracing::warn!(%error, "this instance cannot say that it is alive");
                    }
                    self.publish_heartbeats().await;
                }
                _ = sweeps.tick() => {
                    if let Err(error) = self.sweep().await {
                        tracing::warn!(%error, "connections of lost instances cannot be looked for");
                    }
                }
                () = stop.cancelled() => break,
            }
        }
        self.close().await;
    }

    /// Says that this instance is alive, and lets go of what it does not hold any more.
    async fn beat(&self) -> Result<(), BackendError> {
        let inner = &self.0;
        if inner.replaced.load(Ordering::Acquire) {
            return Ok(());
        }
        // What is held before the look; a connection that comes later may be missing in the list.
        let held: Vec<String> = inner.links.lock().keys().cloned().collect();
        match inner.registry.beat().await? {
            Beat::Replaced => {
                tracing::error!(
                    instance = self.instance(),
                    "another process has this instance's name; letting go of everything"
                );
                inner.replaced.store(true, Ordering::Release);
                self.let_go(held).await;
            }
            Beat::Alive(listed) => {
                let (mut mine, mut others) = (Vec::new(), Vec::new());
                for id in held.into_iter().filter(|id| !listed.contains(id)) {
                    match inner.registry.get(&id).await? {
                        Some((record, _)) if record.instance_id == self.instance() => mine.push(id),
                        Some(_) | None => others.push(id),
                    }
                }
                if !mine.is_empty() {
                    inner.registry.add(&mine).await?;
                }
                if !others.is_empty() {
                    tracing::warn!(
                        count = others.len(),
                        "letting go of connections that others hold now"
                    );
                    self.let_go(others).await;
                }
            }
        }
        Ok(())
    }

    async fn let_go(&self, ids: Vec<String>) -> Vec<Arc<Link>> {
        let links: Vec<_> = {
            let mut links = self.0.links.lock();
            ids.iter().filter_map(|id| links.remove(id)).collect()
        };
        join_all(links.iter().map(|link| link.retire())).await;
        links
    }

    async fn publish_heartbeats(&self) {
        let inner = &self.0;
        if !inner.limits.heartbeat_events {
            return;
        }
        let links: Vec<_> = {
            let links = inner.links.lock();
            links
                .iter()
                .map(|(id, link)| (id.clone(), link.clone()))
                .collect()
        };
        let now = Timestamp::now();
        let events: Vec<_> = links
            .iter()
            .filter(|(_, link)| link.view.status() != Status::Disconnected)
            .map(|(id, link)| {
                let (status, counts) = (link.view.status().name(), link.view.counters.read());
                events::heartbeat(id, link.url(), self.instance(), status, counts, now)
            })
            .collect();
        for chunk in events.chunks(inner.limits.batch.max(1)) {
            if let Err(error) = inner.backend.publish_all(HEARTBEAT_TOPIC, chunk).await {
                tracing::debug!(%error, "heartbeats of connections cannot be published");
                return;
            }
        }
    }

    /// Looks for connections of lost instances and takes them (I6.2).
    pub(crate) async fn sweep(&self) -> Result<(), BackendError> {
        let inner = &self.0;
        if inner.replaced.load(Ordering::Acquire) {
            return Ok(());
        }
        inner.registry.list_in_index().await?;
        let instances = inner.registry.instances().await?;
        let now = Timestamp::now();
        let grace = SignedDuration::try_from(inner.limits.grace).unwrap_or(SignedDuration::MAX);
        let (mut living, mut lost) = (BTreeMap::new(), Vec::new());
        for (name, record) in instances {
            match record {
                None if name != self.instance() => inner.registry.forget_instance(&name).await?,
                Some(record) if name != self.instance() && record.is_lost(now, grace) => lost.push(record),
                Some(record) => {
                    living.insert(name, record.connections);
                }
                None => {}
            }
        }
        for record in lost {
            self.take_over(&record, &living).await?;
        }
        self.forget_stillborn().await;
        self.take_up_own().await
    }

    /// Claims what a lost instance held.
    async fn take_over(
        &self,
        lost: &InstanceRecord,
        living: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<(), BackendError> {
        let inner = &self.0;
        let (mut won, mut settled) = (Vec::new(), BTreeSet::new());
        for id in &lost.connections {
            let Some((record, etag)) = inner.registry.get(id).await? else {
                settled.insert(id.clone());
                continue;
            };
            let owner = record.instance_id.as_str();
            if owner == self.instance() {
                won.push(record);
            } else if let Some(connections) = living.get(owner) {
                // Somebody else was first; it is settled once it is in the winner's list.
                if connections.contains(id) {
                    settled.insert(id.clone());
                }
            } else if inner.links.lock().len() + won.len() >= inner.limits.max_connections {
                tracing::warn!(
                    connection = id,
                    "there is no room for a connection of a lost instance"
                );
            } else if inner.registry.claim(record.clone(), &etag).await? {
                tracing::info!(
                    connection = id,
                    from = owner,
                    "took over a connection of an instance that is lost"
                );
                won.push(record);
            }
        }
        if !won.is_empty() {
            let ids: Vec<_> = won.iter().map(|record| record.id.clone()).collect();
            inner.registry.add(&ids).await?;
            settled.extend(ids);
            for record in &won {
                self.adopt(record).await?;
            }
        }
        if !settled.is_empty() {
            inner.registry.prune(&lost.instance_id, &settled).await?;
        }
        inner.registry.forget_instance(&lost.instance_id).await
    }

    /// Removes connections whose first attempt failed and whose removal did, too.
    async fn forget_stillborn(&self) {
        let stillborn: Vec<_> = {
            let links = self.0.links.lock();
            let failed = links.iter().filter(|(_, link)| link.is_stillborn());
            failed.map(|(id, link)| (id.clone(), link.clone())).collect()
        };
        for (id, link) in stillborn {
            self.forget(&id, &link).await;
        }
    }

    /// Takes up what is in this instance's list and not in its hands: it was claimed, and then something failed.
    async fn take_up_own(&self) -> Result<(), BackendError> {
        let inner = &self.0;
        let Beat::Alive(listed) = inner.registry.beat().await? else {
            return Ok(());
        };
        let held: BTreeSet<String> = inner.links.lock().keys().cloned().collect();
        for id in listed.difference(&held) {
            match inner.registry.get(id).await? {
                Some((record, _)) if record.instance_id == self.instance() => self.adopt(&record).await?,
                // Of another, or removed: a connection is written down before it is listed.
                Some(_) | None => inner.registry.remove(std::slice::from_ref(id)).await?,
            }
        }
        Ok(())
    }

    /// Closes all connections but keeps them written down, for the next life or for others.
    async fn close(&self) {
        let held: Vec<String> = self.0.links.lock().keys().cloned().collect();
        let links = self.let_go(held).await;
        join_all(links.iter().map(|link| link.drained())).await;
        if !self.0.replaced.load(Ordering::Acquire)
            && let Err(error) = self.0.registry.leave().await
        {
            tracing::warn!(%error, "this instance could not say that it goes");
        }
    }

    /// For the service's health: how many connections there are, and whether this instance is still itself.
    #[must_use]
    pub fn health(&self) -> HealthEntry {
        if self.0.replaced.load(Ordering::Acquire) {
            return HealthEntry::unhealthy("another process has this instance's name");
        }
        let links = self.0.links.lock();
        let open = links
            .values()
            .filter(|link| link.view.status() == Status::Connected)
            .count();
        HealthEntry::healthy(format!("{open} of {} connections are open", links.len()))
    }
}
