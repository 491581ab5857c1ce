//! Workers come back after a restart (H1.3, H1.5).
//!
//! Every instance runs every running worker, so every instance loads them all before its health passes. What only one
//! of them should do, moving records of former key forms and mending what a crash left half done, the *leader* does,
//! who holds a lease at `workmanager.recovery.leader`.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use outrigger_kit::health::HealthEntry;
use outrigger_platform_fetch::Fetcher;
use outrigger_platform_service::backend::{Backend, Expect};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::ManagerError;
use crate::local::Local;
use crate::migrate;
use crate::names::LEADER_KEY;
use crate::record::{Source, WorkerRecord};
use crate::settings::RecoveryOptions;
use crate::store::{Store, sha256};

/// Workers whose code is loaded at once.
const AT_ONCE: usize = 8;
/// The wait before the lease is asked for again after an error.
const PAUSE: Duration = Duration::from_millis(200);
/// Writes of the lease that others may be faster at, one after the other; then there is a pause.
const MOST_RACES: usize = 10;

/// The lease as it lies in the state store; without an owner between recoveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// Who leads; empty for nobody.
    pub owner_instance_id: String,
    /// RFC 3339.
    pub acquired_at: String,
    /// RFC 3339.
    pub lease_until: String,
    /// Names this lease, so that its owner knows its own write after the answer got lost.
    pub turn: String,
    /// How often there was a leader.
    pub terms: u64,
}

/// How the recovery stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting,
    Disabled,
    Running,
    Done { led: bool },
    Failed(String),
}

/// The recovery of one instance.
#[derive(Debug)]
pub struct Recovery {
    backend: Backend,
    store: Store,
    local: Arc<Local>,
    fetcher: Fetcher,
    instance: String,
    options: RecoveryOptions,
    state: Mutex<State>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Recovery {
    /// A recovery that has not begun.
    pub fn new(
        backend: Backend,
        store: Store,
        local: Arc<Local>,
        fetcher: Fetcher,
        instance: String,
        options: RecoveryOptions,
    ) -> Self {
        Self {
            backend,
            store,
            local,
            fetcher,
            instance,
            options,
            state: Mutex::new(State::Waiting),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The health entry `recovery`; once it is done, how the workers stand now.
    pub async fn entry(&self) -> HealthEntry {
        let state = self.state.lock().clone();
        match &state {
            State::Waiting => HealthEntry::degraded("not begun"),
            State::Running => HealthEntry::degraded("workers are being brought back"),
            State::Disabled => HealthEntry::healthy("disabled by WORKER_RECOVERY_ON_START"),
            State::Failed(why) => HealthEntry::unhealthy(why.as_str()),
            State::Done { led } => {
                let (running, problems) = self.local.standing().await;
                let who = if *led {
                    "as leader"
                } else {
                    "another instance leads"
                };
                if problems.is_empty() {
                    HealthEntry::healthy(format!("{running} workers run, {who}"))
                } else {
                    let some: Vec<_> = problems.iter().take(5).map(String::as_str).collect();
                    HealthEntry::degraded(format!(
                        "{running} workers run, {} cannot: {}",
                        problems.len(),
                        some.join(", ")
                    ))
                }
            }
        }
    }

    /// What the service does before its health passes: brings workers back, or, where that is turned off, takes note
    /// of them, so that only those that are changed from now on run.
    ///
    /// # Errors
    /// If the state store does not answer; to be tried again.
    pub async fn start(&self) -> Result<(), ManagerError> {
        if self.options.on_start {
            return self.run().await.map(drop);
        }
        for (id, revision) in self.store.index().await?.workers {
            self.local.pass_over(&id, revision).await;
        }
        *self.state.lock() = State::Disabled;
        Ok(())
    }

    /// Brings back every worker that should run here and does not. Answers how many those were.
    ///
    /// # Errors
    /// If the state store does not answer. One bad worker is no error: it is logged, told and left out.
    pub async fn run(&self) -> Result<usize, ManagerError> {
        let _turn = self.turn.lock().await;
        *self.state.lock() = State::Running;
        let outcome = self.carry_out().await;
        let state = match &outcome {
            Err(error) => State::Failed(error.to_string()),
            Ok((_, led)) => State::Done { led: *led },
        };
        *self.state.lock() = state;
        outcome.map(|(count, _)| count)
    }

    async fn carry_out(&self) -> Result<(usize, bool), ManagerError> {
        let lease = self.lead().await?;
        let outcome = self.bring_back(lease.is_some()).await;
        let led = lease.is_some();
        if let Some(turn) = lease {
            self.step_down(&turn).await;
        }
        outcome.map(|count| (count, led))
    }

    async fn bring_back(&self, leads: bool) -> Result<usize, ManagerError> {
        if leads {
            migrate::run(&self.backend, &self.store).await?;
            self.mend().await?;
        }
        let workers = self.store.workers().await?;
        let counts = futures::stream::iter(workers)
            .map(|worker| async move {
                self.local.again(&worker.id).await;
                let applied = self.local.apply(&worker, None).await;
                usize::from(applied.unwrap_or(false))
            })
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>();
        Ok(counts.await.into_iter().sum())
    }

    /// What a crash left half done: listed workers without a record, code that is not what it was.
    async fn mend(&self) -> Result<(), ManagerError> {
        for id in self.store.index().await?.workers.into_keys() {
            match self.store.worker(&id).await {
                // A record goes before its place in the list (`Store::remove`).
                Ok(None) => drop(self.store.unlist(&id).await?),
                Ok(Some(worker)) => self.mend_code(&worker).await,
                Err(error) => tracing::error!(worker = id, %error, "a worker cannot be read"),
            }
        }
        Ok(())
    }

    /// Fetches code again that is lost or spoilt; nothing but what it was is taken.
    async fn mend_code(&self, worker: &WorkerRecord) {
        let Some(entry) = worker.code() else { return };
        let Source::Url(url) = &entry.source else { return };
        if !matches!(
            self.store.code(&worker.id, entry).await,
            Err(ManagerError::Corrupt(_))
        ) {
            return;
        }
        match self.fetcher.get(url).await {
            Ok(fetched) if sha256(&fetched.bytes) == entry.sha256 => {
                tracing::warn!(target: "audit", worker = worker.id, "audit: lost code was fetched again");
                if let Err(error) = self.store.put_code(&worker.id, entry, &fetched.bytes).await {
                    tracing::error!(worker = worker.id, %error, "code that was fetched again was not kept");
                }
            }
            Ok(_) => tracing::error!(worker = worker.id, "what is at the URL now is other code"),
            Err(error) => tracing::error!(worker = worker.id, %error, "lost code cannot be fetched again"),
        }
    }

    /// Takes the lease; `None` if another instance holds it.
    async fn lead(&self) -> Result<Option<String>, ManagerError> {
        let deadline = Instant::now() + self.options.acquire_timeout;
        let turn = uuid::Uuid::new_v4().to_string();
        loop {
            let error = match self.try_lead(&turn).await {
                Ok(led) => return Ok(led.then_some(turn)),
                Err(error) => error,
            };
            if Instant::now() + PAUSE > deadline {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_lead(&self, turn: &str) -> Result<bool, ManagerError> {
        for _ in 0..MOST_RACES {
            let stored = self.backend.get(LEADER_KEY).await?;
            // One that nobody can read is nobody's.
            let record: Option<LeaderRecord> = stored.as_ref().and_then(|stored| stored.read().ok());
            let now = Timestamp::now();
            if let Some(record) = &record {
                if record.turn == turn {
                    return Ok(true);
                }
                let until: Timestamp = record.lease_until.parse().unwrap_or(Timestamp::UNIX_EPOCH);
                if !record.owner_instance_id.is_empty() && now < until {
                    return Ok(false);
                }
            }
            let next = LeaderRecord {
                owner_instance_id: self.instance.clone(),
                acquired_at: now.to_string(),
                lease_until: now
                    .checked_add(self.options.lease)
                    .unwrap_or(Timestamp::MAX)
                    .to_string(),
                turn: turn.to_owned(),
                terms: record.map_or(0, |record| record.terms) + 1,
            };
            let expect = stored
                .as_ref()
                .map_or(Expect::Absent, |stored| Expect::Etag(&stored.etag));
            match self.backend.save(LEADER_KEY, &next, expect).await {
                Ok(()) => return Ok(true),
                // Somebody was faster; a look tells who leads.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ManagerError::Exhausted(format!(
            "{LEADER_KEY} cannot be written: others, or a store that takes no conditional write, were first {MOST_RACES} times"
        )))
    }

    async fn step_down(&self, turn: &str) {
        let released = self.backend.update(LEADER_KEY, |record: Option<LeaderRecord>| {
            let mut record = record.filter(|record| record.turn == turn)?;
            record.owner_instance_id.clear();
            record.lease_until = Timestamp::now().to_string();
            record.turn.clear();
            Some(record)
        });
        if let Err(error) = released.await {
            tracing::warn!(%error, "the recovery leader's lease was not released; it ends by itself");
        }
    }
}
