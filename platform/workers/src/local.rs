//! The workers that this instance runs, kept as the state store says.
//!
//! Every instance runs every running worker. A change of this instance's own is applied at once; those of others are
//! found by a look at the list, which holds a revision for each worker, every `WORKER_SYNC_INTERVAL_MS`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use outrigger_platform_engine::{Engine, Engines, WorkerContext};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::ManagerError;
use crate::hub::Hub;
use crate::lock::GroupLocks;
use crate::names::Transition;
use crate::outlet::{Outlet, Subject};
use crate::record::{Status, WorkerRecord};
use crate::runner::Runner;
use crate::settings::Options;
use crate::store::Store;

/// The wait before a worker that could not be run is tried again: the first, doubling, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How long a deleted worker is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Workers that are looked at at once.
const AT_ONCE: usize = 8;
/// Longest wait for workers that are being changed when it is told how all of them stand.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest wait for calls under way when a worker is stopped; then they go on in the background.
const DRAIN: Duration = Duration::from_secs(10);

/// The workers that run here.
#[derive(Debug)]
pub struct Local {
    store: Store,
    engines: Engines,
    options: Options,
    hub: Hub,
    locks: Arc<GroupLocks>,
    outlet: Outlet,
    workers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
}

/// What is known of one worker. Its lock makes changes of it one after the other.
#[derive(Debug, Default)]
struct Known {
    /// The revision that is applied.
    revision: u64,
    runner: Option<Arc<Runner>>,
    problem: Option<Problem>,
    /// When it was deleted. It is remembered for a while, as a look may be under way that still saw it.
    gone: Option<Instant>,
}

/// Why a worker does not run.
#[derive(Debug)]
struct Problem {
    why: String,
    /// Of which revision.
    revision: u64,
    /// When to try again, and how long that wait was.
    again: Instant,
    wait: Duration,
}

impl Problem {
    /// The next one after `before`. A change of the worker begins with the first wait.
    fn after(before: Option<&Self>, revision: u64, why: String) -> Self {
        let wait = before
            .filter(|before| before.revision == revision)
            .map_or(RETRY.0, |before| (before.wait * 2).min(RETRY.1));
        Self {
            why,
            revision,
            again: Instant::now() + wait,
            wait,
        }
    }
}

impl Known {
    /// Whether a record of this revision is to be applied: for the first time, or again after a failure.
    fn is_due(&self, revision: u64) -> bool {
        if self.gone.is_some_and(|since| since.elapsed() < REMEMBERED) {
            return false;
        }
        let again = self
            .problem
            .as_ref()
            .is_some_and(|problem| problem.again <= Instant::now());
        revision > self.revision || (revision == self.revision && again)
    }
}

/// A worker that nobody else applies.
#[derive(Debug)]
pub struct Held(tokio::sync::OwnedMutexGuard<Known>);

/// An engine that was loaded before its worker was written.
#[derive(Debug)]
pub struct Prepared {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Which version of the code it has.
    pub version: String,
}

impl Local {
    /// Nothing runs yet.
    pub fn new(
        store: Store,
        engines: Engines,
        options: Options,
        hub: Hub,
        locks: Arc<GroupLocks>,
        outlet: Outlet,
    ) -> Self {
        Self {
            store,
            engines,
            options,
            hub,
            locks,
            outlet,
            workers: Mutex::default(),
        }
    }

    /// The engines there are.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    fn known(&self, id: &str) -> Arc<tokio::sync::Mutex<Known>> {
        self.workers.lock().entry(id.to_owned()).or_default().clone()
    }

    /// Ids of the workers that are known here.
    fn ids(&self) -> Vec<String> {
        self.workers.lock().keys().cloned().collect()
    }

    /// Ids of the workers that run here.
    pub async fn running(&self) -> Vec<String> {
        let mut running = Vec::new();
        for id in self.ids() {
            if self.known(&id).lock().await.runner.is_some() {
                running.push(id);
            }
        }
        running
    }

    /// Has a worker that does not run here tried again at once, whatever was tried or passed over before.
    pub async fn again(&self, id: &str) {
        let known = self.known(id);
        let mut known = known.lock().await;
        if known.runner.is_none() {
            known.revision = 0;
            known.gone = None;
        }
    }

    /// Takes a revision for applied without applying it: a worker that shall not run until it is changed.
    pub async fn pass_over(&self, id: &str, revision: u64) {
        self.known(id).lock().await.revision = revision;
    }

    /// Does what a record says, unless a later one was applied already. `prepared` is used if it has the record's
    /// code; else the code is read and loaded. Answers whether the worker runs now and did not before.
    ///
    /// # Errors
    /// Why the worker does not run, or runs its former code; it is tried again later.
    pub async fn apply(
        &self,
        worker: &WorkerRecord,
        prepared: Option<Prepared>,
    ) -> Result<bool, ManagerError> {
        let held = self.hold(&worker.id).await;
        self.apply_held(held, worker, prepared).await
    }

    /// Keeps others from applying a worker while it is written, so that its prepared engine is the one that runs.
    pub async fn hold(&self, id: &str) -> Held {
        Held(self.known(id).lock_owned().await)
    }

    /// As [`apply`](Self::apply), for a worker that is held.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub async fn apply_held(
        &self,
        held: Held,
        worker: &WorkerRecord,
        prepared: Option<Prepared>,
    ) -> Result<bool, ManagerError> {
        let Held(mut known) = held;
        if !known.is_due(worker.revision) {
            if let Some(prepared) = prepared {
                prepared.engine.close().await;
            }
            return Ok(false);
        }
        let applied = match worker.status {
            Status::Running => self.run(&mut known, worker, prepared).await,
            Status::Stopped => {
                self.halt(&mut known, &worker.topic, &worker.id).await;
                if let Some(prepared) = prepared {
                    prepared.engine.close().await;
                }
                Ok(false)
            }
        };
        known.revision = worker.revision;
        known.gone = None;
        let before = known.problem.take();
        if let Err(error) = &applied {
            let why = error.to_string();
            let told = before
                .as_ref()
                .is_some_and(|before| (before.revision, &before.why) == (worker.revision, &why));
            let problem = Problem::after(before.as_ref(), worker.revision, why);
            tracing::error!(
                worker = worker.id,
                %error,
                retry_in_seconds = problem.wait.as_secs(),
                "a worker cannot be run here"
            );
            // Once: the same is not told at every try.
            if !told {
                let subject = Subject::from(worker);
                self.outlet.failed(&subject, error.kind(), &problem.why).await;
            }
            known.problem = Some(problem);
        }
        applied
    }

    async fn run(
        &self,
        known: &mut Known,
        worker: &WorkerRecord,
        prepared: Option<Prepared>,
    ) -> Result<bool, ManagerError> {
        let entry = worker
            .code()
            .ok_or_else(|| ManagerError::Corrupt(format!("worker {:?} has no code", worker.id)))?;
        if let Some(runner) = &known.runner
            && runner.version() == entry.version
        {
            return Ok(false);
        }
        let engine = match prepared {
            Some(prepared) if prepared.version == entry.version => prepared.engine,
            other => {
                if let Some(stale) = other {
                    stale.engine.close().await;
                }
                let code = self.store.code(&worker.id, entry).await?;
                self.load(worker, code).await?
            }
        };
        if let Some(runner) = &known.runner {
            runner.swap(engine, &entry.version);
            return Ok(false);
        }
        let runner = Arc::new(Runner::new(
            worker,
            engine,
            &entry.version,
            &self.options,
            self.locks.clone(),
            self.outlet.clone(),
        ));
        known.runner = Some(runner.clone());
        self.hub.add(runner).await;
        self.outlet
            .lifecycle(Transition::Online, &Subject::from(worker))
            .await;
        Ok(true)
    }

    /// Loads code for a worker.
    pub async fn load(
        &self,
        worker: &WorkerRecord,
        code: bytes::Bytes,
    ) -> Result<Arc<dyn Engine>, ManagerError> {
        let context = WorkerContext {
            id: worker.id.clone(),
            group: worker.group.clone(),
            topic: worker.topic.clone(),
        };
        let factory = self.engines.find(&worker.mime_type)?;
        Ok(factory.load(context, code).await?)
    }

    async fn halt(&self, known: &mut Known, topic: &str, id: &str) {
        self.hub.remove(topic, id);
        let Some(runner) = known.runner.take() else { return };
        let closing = tokio::spawn(async move { runner.close().await });
        if tokio::time::timeout(DRAIN, closing).await.is_err() {
            tracing::warn!(worker = id, "a stopped worker still has events under way");
        }
    }

    /// Ends a worker that is no more.
    pub async fn forget(&self, id: &str) {
        let known = self.known(id);
        let mut known = known.lock().await;
        let topic = known.runner.as_ref().map(|runner| runner.subject().topic.clone());
        self.halt(&mut known, &topic.unwrap_or_default(), id).await;
        known.problem = None;
        // If it is there after all when that is over, it is run again.
        known.revision = 0;
        known.gone = Some(Instant::now());
    }

    /// Looks at what is known of a worker that is not listed.
    async fn unlisted(&self, id: &str) -> Result<(), ManagerError> {
        let gone = self.known(id).lock().await.gone;
        match gone {
            Some(since) if since.elapsed() < REMEMBERED => {}
            Some(_) => drop(self.workers.lock().remove(id)),
            // One that was made here a moment ago may not have been listed yet when the list was read.
            None if self.store.worker(id).await?.is_some() => {}
            None => self.forget(id).await,
        }
        Ok(())
    }

    /// Looks for what other instances changed, and applies it. One bad worker does not keep the others.
    ///
    /// # Errors
    /// If the list cannot be read.
    pub async fn sync(&self) -> Result<(), ManagerError> {
        let mut gone = self.ids();
        let index = self.store.index().await?;
        gone.retain(|id| !index.workers.contains_key(id));
        futures::stream::iter(gone)
            .for_each_concurrent(AT_ONCE, |id| async move {
                if let Err(error) = self.unlisted(&id).await {
                    tracing::warn!(worker = id, %error, "a worker that is not listed cannot be read");
                }
            })
            .await;
        futures::stream::iter(index.workers)
            .for_each_concurrent(AT_ONCE, |(id, revision)| async move {
                let known = self.known(&id);
                if !known.lock().await.is_due(revision) {
                    return;
                }
                match self.store.worker(&id).await {
                    // What went wrong was logged and told.
                    Ok(Some(worker)) => drop(self.apply(&worker, None).await),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(worker = id, %error, "a worker cannot be read"),
                }
            })
            .await;
        Ok(())
    }

    /// Says of the workers that run here that they do, where nobody has said so for a while.
    pub async fn heartbeat(&self) {
        let every = jiff::SignedDuration::try_from(self.options.heartbeat).unwrap_or_default();
        for id in self.running().await {
            let now = jiff::Timestamp::now();
            let mut subject = None;
            let written = self
                .store
                .update(&id, |worker| {
                    let last = worker.last_heartbeat.as_deref().and_then(|at| at.parse().ok());
                    let is_due = last.is_none_or(|last: jiff::Timestamp| now.duration_since(last) >= every);
                    subject = is_due.then(|| Subject::from(&*worker));
                    worker.last_heartbeat = Some(now.to_string());
                    is_due
                })
                .await;
            match (written, subject) {
                (Ok(_), Some(subject)) => self.outlet.heartbeat(&subject).await,
                (Ok(_), None) => {}
                // Deleted by an instance that did not get to the list.
                (Err(ManagerError::NotFound(_)), _) => self.forget(&id).await,
                (Err(error), _) => tracing::warn!(worker = id, %error, "a heartbeat was not written"),
            }
        }
    }

    /// How many workers run here, and the ids of those that should and cannot. One that is being changed for longer
    /// than health answers may take is left out.
    pub async fn standing(&self) -> (usize, Vec<String>) {
        let all: BTreeMap<_, _> = self
            .workers
            .lock()
            .iter()
            .map(|(id, known)| (id.clone(), known.clone()))
            .collect();
        let deadline = Instant::now() + PATIENCE;
        let (mut running, mut problems) = (0, Vec::new());
        for (id, known) in all {
            let Ok(known) = tokio::time::timeout_at(deadline, known.lock()).await else {
                continue;
            };
            running += usize::from(known.runner.is_some());
            if known.problem.is_some() {
                problems.push(id);
            }
        }
        (running, problems)
    }

    /// Takes no further events, finishes those under way, ends all engines.
    pub async fn close(&self) {
        self.hub.close().await;
        let ids = self.ids();
        futures::future::join_all(ids.into_iter().map(|id| async move {
            let known = self.known(&id);
            let runner = known.lock().await.runner.take();
            if let Some(runner) = runner {
                runner.close().await;
            }
        }))
        .await;
    }
}
