//! What callers can ask for (H1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_platform_engine::{Engine, Engines};
use outrigger_platform_fetch::Fetcher;
use outrigger_platform_service::backend::Backend;
use outrigger_platform_wire::virtufin as proto;
use tokio::sync::Semaphore;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::code::{self, Code};
use crate::error::ManagerError;
use crate::hub::Hub;
use crate::local::{Local, Prepared};
use crate::lock::GroupLocks;
use crate::names::Transition;
use crate::outlet::{Outlet, Subject};
use crate::record::{CodeEntry, Status, WorkerRecord};
use crate::recovery::Recovery;
use crate::settings::Options;
use crate::store::Store;
use crate::validate;

/// The worker manager of one instance. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Manager(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    store: Store,
    local: Arc<Local>,
    outlet: Outlet,
    fetcher: Fetcher,
    recovery: Recovery,
    options: Options,
    /// Changes that go on whether somebody waits for them or not.
    changes: Arc<Semaphore>,
}

/// Changes at once.
const CHANGES: usize = 64;

impl Manager {
    /// A manager that runs nothing yet.
    ///
    /// # Errors
    /// What the TLS library says of its settings.
    pub fn new(
        backend: Backend,
        instance: &str,
        engines: Engines,
        options: Options,
    ) -> Result<Self, rustls::Error> {
        let fetcher = Fetcher::new(options.fetch_limits())?;
        let outlet = Outlet::new(backend.clone(), instance, options.retries);
        let locks = Arc::new(GroupLocks::new(
            backend.clone(),
            outlet.clone(),
            instance.to_owned(),
            options.lock.clone(),
        ));
        let store = Store::new(backend.clone(), options.max_workers);
        let hub = Hub::new(backend.clone(), options.lock.max_redeliveries);
        let local = Arc::new(Local::new(
            store.clone(),
            engines,
            options.clone(),
            hub,
            locks,
            outlet.clone(),
        ));
        let recovery = Recovery::new(
            backend,
            store.clone(),
            local.clone(),
            fetcher.clone(),
            instance.to_owned(),
            options.recovery.clone(),
        );
        Ok(Self(Arc::new(Parts {
            store,
            local,
            outlet,
            fetcher,
            recovery,
            options,
            changes: Arc::new(Semaphore::new(CHANGES)),
        })))
    }

    /// Longest code, in bytes.
    pub fn max_code(&self) -> usize {
        self.0.options.max_code
    }

    /// How workers come back, and how that stands.
    pub fn recovery(&self) -> &Recovery {
        &self.0.recovery
    }

    /// Makes a worker, running unless it is to be made stopped (Z5). Answers its id. Dropped in the middle, it has made
    /// nothing, or goes on to its end.
    ///
    /// # Errors
    /// [`ManagerError`]; nothing was made then, unless state went away in the middle.
    pub async fn create(&self, request: proto::CreateWorkerRequest) -> Result<String, ManagerError> {
        let parts = &self.0;
        validate::readable_topic(&request.topic)?;
        let group = validate::group(&request.group)?;
        let (config, tags) = (sorted(request.config), sorted(request.tags));
        validate::config(&config)?;
        validate::tags(&tags)?;
        let language = parts
            .local
            .engines()
            .find(&request.mime_type)?
            .language()
            .to_owned();
        let wanted = request
            .code_source
            .ok_or_else(|| ManagerError::Invalid("code_source is missing".to_owned()))?;
        let id = uuid::Uuid::new_v4().to_string();
        let code = code::resolve(&parts.fetcher, wanted, parts.options.max_code, &id).await?;
        let now = jiff::Timestamp::now().to_string();
        let is_running = !request.create_stopped;
        let worker = WorkerRecord {
            id: id.clone(),
            mime_type: request.mime_type,
            language,
            topic: request.topic,
            group,
            config,
            tags,
            status: if is_running {
                Status::Running
            } else {
                Status::Stopped
            },
            created_at: now.clone(),
            started_at: is_running.then(|| now.clone()),
            last_heartbeat: None,
            history: vec![entry(&code, &now)],
            revision: 1,
        };
        // Code that cannot be loaded is refused before anything is kept, also of a worker that does not run yet.
        let prepared = self.prepare(&worker, &code).await?;
        let manager = self.clone();
        self.whole(async move { manager.keep(worker, code, prepared).await })
            .await?;
        Ok(id)
    }

    /// Writes a new worker, tells of it, and runs it.
    async fn keep(&self, worker: WorkerRecord, code: Code, prepared: Prepared) -> Result<(), ManagerError> {
        let parts = &self.0;
        let held = parts.local.hold(&worker.id).await;
        if let Err(error) = parts.store.create(&worker, &code.bytes).await {
            prepared.engine.close().await;
            return Err(error);
        }
        let subject = Subject::from(&worker);
        parts.outlet.lifecycle(Transition::Created, &subject).await;
        if worker.status == Status::Running {
            parts.outlet.lifecycle(Transition::Started, &subject).await;
        }
        // Where it cannot be run after all, that is logged and told, and tried again.
        let _ = parts.local.apply_held(held, &worker, Some(prepared)).await;
        Ok(())
    }

    /// Carries a change out to its end, also where who asked for it does not wait for that: half a change would leave
    /// a worker that runs and is not there, or code that nobody knows of.
    async fn whole<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, ManagerError>> + Send + 'static,
    ) -> Result<T, ManagerError> {
        let ended = || {
            ManagerError::Exhausted(
                "the change ended unexpectedly; look at the worker, and try again".to_owned(),
            )
        };
        let place = self.0.changes.clone().acquire_owned().await;
        let place = place.map_err(|_| ended())?;
        let done = tokio::spawn(async move {
            let _place = place;
            change.await
        });
        done.await.map_err(|_| ended())?
    }

    async fn prepare(&self, worker: &WorkerRecord, code: &Code) -> Result<Prepared, ManagerError> {
        let engine = self.0.local.load(worker, code.bytes.clone()).await?;
        let version = worker
            .code()
            .map(|entry| entry.version.clone())
            .unwrap_or_default();
        Ok(Prepared { engine, version })
    }

    /// The workers that have all these tags, by id.
    ///
    /// # Errors
    /// [`ManagerError::Backend`].
    pub async fn list(&self, filters: &[(String, String)]) -> Result<Vec<WorkerRecord>, ManagerError> {
        let mut workers = self.0.store.workers().await?;
        workers.retain(|worker| worker.matches(filters));
        Ok(workers)
    }

    /// One worker.
    ///
    /// # Errors
    /// [`ManagerError::NotFound`].
    pub async fn worker(&self, id: &str) -> Result<WorkerRecord, ManagerError> {
        validate::id(id)?;
        let found = self.0.store.worker(id).await?;
        found.ok_or_else(|| ManagerError::NotFound(id.to_owned()))
    }

    /// Starts a worker; one that runs here is left alone, one that should and does not is tried again at once.
    ///
    /// # Errors
    /// [`ManagerError::NotFound`]; why it cannot be run here.
    pub async fn start(&self, id: &str) -> Result<(), ManagerError> {
        let (manager, id) = (self.clone(), id.to_owned());
        self.whole(async move { manager.do_start(&id).await }).await
    }

    async fn do_start(&self, id: &str) -> Result<(), ManagerError> {
        let (worker, changed) = self.set_status(id, Status::Running).await?;
        if changed {
            self.0
                .outlet
                .lifecycle(Transition::Started, &Subject::from(&worker))
                .await;
        }
        self.0.local.again(id).await;
        self.0.local.apply(&worker, None).await.map(drop)
    }

    /// Stops a worker; events under way are finished. One that is stopped is left alone.
    ///
    /// # Errors
    /// [`ManagerError::NotFound`].
    pub async fn stop(&self, id: &str) -> Result<(), ManagerError> {
        let (manager, id) = (self.clone(), id.to_owned());
        self.whole(async move { manager.do_stop(&id).await }).await
    }

    async fn do_stop(&self, id: &str) -> Result<(), ManagerError> {
        let (worker, changed) = self.set_status(id, Status::Stopped).await?;
        let subject = Subject::from(&worker);
        if changed {
            self.0.outlet.lifecycle(Transition::Stopping, &subject).await;
        }
        self.0.local.apply(&worker, None).await?;
        if changed {
            self.0.outlet.lifecycle(Transition::Stopped, &subject).await;
        }
        Ok(())
    }

    async fn set_status(&self, id: &str, status: Status) -> Result<(WorkerRecord, bool), ManagerError> {
        self.worker(id).await?;
        let now = jiff::Timestamp::now().to_string();
        let mut changed = false;
        let worker = self
            .0
            .store
            .update(id, |worker| {
                changed = worker.set_status(status, &now);
                changed
            })
            .await?;
        if !changed {
            // Whoever asked for the same before may not have got to the list, and the others look there.
            self.0.store.list(id, worker.revision).await?;
        }
        Ok((worker, changed))
    }

    /// Ends a worker and removes all that is kept of it.
    ///
    /// # Errors
    /// [`ManagerError::NotFound`].
    pub async fn delete(&self, id: &str) -> Result<(), ManagerError> {
        validate::id(id)?;
        let (manager, id) = (self.clone(), id.to_owned());
        self.whole(async move { manager.do_delete(&id).await }).await
    }

    async fn do_delete(&self, id: &str) -> Result<(), ManagerError> {
        let removed = self.0.store.remove(id).await?;
        let removed = removed.ok_or_else(|| ManagerError::NotFound(id.to_owned()))?;
        let subject = removed
            .worker
            .filter(|worker| worker.status == Status::Running)
            .map(|worker| Subject::from(&worker));
        if let Some(subject) = &subject {
            self.0.outlet.lifecycle(Transition::Stopping, subject).await;
        }
        self.0.local.forget(id).await;
        if let Some(subject) = &subject {
            self.0.outlet.lifecycle(Transition::Stopped, subject).await;
        }
        Ok(())
    }

    /// Gives a worker new code, for the events that come from now on (H1.2).
    ///
    /// # Errors
    /// [`ManagerError`]; the worker keeps its code then.
    pub async fn load_code(&self, id: &str, wanted: Option<proto::CodeSource>) -> Result<(), ManagerError> {
        let parts = &self.0;
        let worker = self.worker(id).await?;
        let wanted = wanted.ok_or_else(|| ManagerError::Invalid("code_source is missing".to_owned()))?;
        let code = code::resolve(&parts.fetcher, wanted, parts.options.max_code, id).await?;
        let engine = parts.local.load(&worker, code.bytes.clone()).await?;
        let (manager, id) = (self.clone(), id.to_owned());
        self.whole(async move { manager.replace_code(&id, code, engine).await })
            .await
    }

    /// Writes new code that is loaded, and runs it.
    async fn replace_code(&self, id: &str, code: Code, engine: Arc<dyn Engine>) -> Result<(), ManagerError> {
        let parts = &self.0;
        let entry = entry(&code, &jiff::Timestamp::now().to_string());
        if let Err(error) = parts.store.put_code(id, &entry, &code.bytes).await {
            engine.close().await;
            return Err(error);
        }
        let held = parts.local.hold(id).await;
        let mut before = None;
        let changed = parts
            .store
            .update(id, |worker| {
                before = worker.code().cloned();
                worker.push_code(entry.clone());
                true
            })
            .await;
        let mut told = Ok(());
        let worker = match changed {
            Ok(worker) => worker,
            Err(error) => match parts.store.worker(id).await {
                // The answer got lost, or the list was not reached.
                Ok(Some(worker)) if worker.code() == Some(&entry) => {
                    told = parts.store.list(id, worker.revision).await;
                    worker
                }
                outcome => {
                    engine.close().await;
                    // Where nobody knows, code that is left over is better than a worker without.
                    if outcome.is_ok() {
                        parts.store.remove_code(id, &entry).await?;
                    }
                    return Err(error);
                }
            },
        };
        let version = entry.version;
        let prepared = Some(Prepared { engine, version });
        let applied = parts.local.apply_held(held, &worker, prepared).await;
        if let Some(before) = before {
            parts.store.remove_code(id, &before).await?;
        }
        applied.map(drop).and(told)
    }

    /// Brings back workers that should run here and do not. Answers how many that were.
    ///
    /// # Errors
    /// [`ManagerError::Backend`]; one bad worker is no error.
    pub async fn recover(&self) -> Result<usize, ManagerError> {
        self.0.recovery.run().await
    }

    /// Replaces all tags, sets one, or (with an empty value) removes one.
    ///
    /// # Errors
    /// [`ManagerError::NotFound`], [`ManagerError::Invalid`].
    pub async fn change_tags(
        &self,
        id: &str,
        change: impl Fn(&mut BTreeMap<String, String>),
    ) -> Result<(), ManagerError> {
        let mut tags = self.worker(id).await?.tags;
        change(&mut tags);
        validate::tags(&tags)?;
        let mut outcome = Ok(());
        self.0
            .store
            .update(id, |worker| {
                let mut tags = worker.tags.clone();
                change(&mut tags);
                outcome = validate::tags(&tags);
                worker.tags = tags;
                outcome.is_ok()
            })
            .await?;
        outcome
    }

    /// Follows the other instances until it is stopped; then finishes what is under way.
    pub async fn follow(self, stop: CancellationToken) {
        let local = &self.0.local;
        let look = async {
            let mut tick = every(self.0.options.sync_interval);
            while next(&mut tick, &stop).await {
                if let Err(error) = local.sync().await {
                    tracing::warn!(%error, "cannot look for what other instances changed; trying again");
                }
            }
        };
        // Beside it: signs of life of many workers take their time, and changes do not wait for them.
        let beat = async {
            let mut tick = every(self.0.options.heartbeat);
            while next(&mut tick, &stop).await {
                local.heartbeat().await;
            }
        };
        tokio::join!(look, beat);
        local.close().await;
    }
}

fn every(period: Duration) -> Interval {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// Waits for the next tick; false if it is time to stop.
async fn next(tick: &mut Interval, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        _ = tick.tick() => true,
    }
}

fn entry(code: &Code, now: &str) -> CodeEntry {
    CodeEntry {
        source: code.source.clone(),
        created_at: now.to_owned(),
        sha256: code.sha256.clone(),
        version: uuid::Uuid::new_v4().to_string(),
    }
}

fn sorted(map: BTreeMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
}
