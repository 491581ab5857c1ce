//! One worker as it runs here: its engine, its bounds, what becomes of an event (H3).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outrigger_kit::{Event, RetryPolicy};
use outrigger_platform_engine::{Engine, EngineError};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::events::{dead_letter, keep_input, key, output, stamped};
use crate::lock::{Ended, GivenBack, GroupLocks, Output};
use crate::outlet::{Outlet, Reception, Subject};
use crate::record::WorkerRecord;
use crate::settings::Options;

/// What a worker has to do with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done with it: output published, nothing to publish, or given up.
    Done,
    /// It did not get its turn; the event may be given up when it comes too often.
    Contended,
    /// Something failed that will work again: it has to see the event again.
    Again,
    /// What came of it was not published while other events were; the event may be given up when that happens too
    /// often.
    Stuck(String),
}

impl From<Reception> for Verdict {
    fn from(reception: Reception) -> Self {
        match reception {
            Reception::Taken => Self::Done,
            Reception::Away => Self::Again,
            Reception::Stuck(why) | Reception::Refused(why) => Self::Stuck(why),
        }
    }
}

/// A running worker. In the events under way lives the engine that they began with.
#[derive(Debug)]
pub struct Runner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    subject: Subject,
    config: BTreeMap<String, String>,
    /// None once the worker is closed.
    loaded: Mutex<Option<Loaded>>,
    /// Cancelled then: what has not begun is given back.
    closing: CancellationToken,
    limit: Semaphore,
    call_timeout: Duration,
    retries: RetryPolicy,
    max_output: usize,
    locks: Arc<GroupLocks>,
    outlet: Outlet,
}

/// An engine, and the events it has under way.
#[derive(Debug)]
struct Loaded {
    engine: Arc<dyn Engine>,
    events: TaskTracker,
    version: String,
}

/// An event under way: its engine is not closed before it is done with.
struct Begun {
    engine: Arc<dyn Engine>,
    _token: TaskTrackerToken,
}

impl Loaded {
    fn new(engine: Arc<dyn Engine>, version: &str) -> Self {
        Self {
            engine,
            events: TaskTracker::new(),
            version: version.to_owned(),
        }
    }

    /// Ends the engine once its events are done with.
    async fn retire(self) {
        self.events.close();
        self.events.wait().await;
        self.engine.close().await;
    }
}

impl Runner {
    /// Runs a worker with an engine that has this version of its code.
    pub fn new(
        worker: &WorkerRecord,
        engine: Arc<dyn Engine>,
        version: &str,
        options: &Options,
        locks: Arc<GroupLocks>,
        outlet: Outlet,
    ) -> Self {
        Self(Arc::new(Inner {
            subject: Subject::from(worker),
            config: worker.config.clone(),
            loaded: Mutex::new(Some(Loaded::new(engine, version))),
            closing: CancellationToken::new(),
            limit: Semaphore::new(options.concurrency),
            call_timeout: options.call_timeout,
            retries: options.retries,
            max_output: options.max_output,
            locks,
            outlet,
        }))
    }

    /// Who it is.
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// Which version of the code later events get.
    pub fn version(&self) -> String {
        let loaded = self.0.loaded.lock();
        loaded
            .as_ref()
            .map(|loaded| loaded.version.clone())
            .unwrap_or_default()
    }

    /// Gives later events to another engine (H1.2). The one before ends, in the background, after its last event.
    pub fn swap(&self, engine: Arc<dyn Engine>, version: &str) {
        let before = self.0.loaded.lock().replace(Loaded::new(engine, version));
        if let Some(before) = before {
            tokio::spawn(before.retire());
        }
    }

    /// Ends the engine after the events under way. Those that wait for their beginning have to be seen again.
    pub async fn close(&self) {
        self.0.closing.cancel();
        let loaded = self.0.loaded.lock().take();
        if let Some(loaded) = loaded {
            loaded.retire().await;
        }
    }

    /// Does what there is to do with one event.
    ///
    /// Dropped in the middle, a call under way is given up, and a turn of the group lasts until its lease ends.
    pub async fn process(&self, event: &Event<Value>) -> Verdict {
        let inner = self.0.clone();
        let _permit = tokio::select! {
            permit = self.0.limit.acquire() => match permit {
                Ok(permit) => permit,
                Err(_) => return Verdict::Again,
            },
            () = self.0.closing.cancelled() => return Verdict::Again,
        };
        let Some(group) = self.0.subject.group.as_deref() else {
            let Some(begun) = inner.begin() else {
                return Verdict::Again;
            };
            return match inner.work(&begun, event, None).await {
                None => Verdict::Done,
                Some(output) => inner.publish(&output, event).await,
            };
        };
        let key = key(event, &self.0.subject.id);
        let event = event.clone();
        let work = move |token| async move {
            let begun = inner.begin().ok_or(GivenBack)?;
            let mut output = inner.work(&begun, &event, Some(token)).await;
            // Whoever takes the turn after a crash has the record and not the input.
            if let Some(output) = &mut output {
                keep_input(output, &event, inner.max_output);
            }
            Ok(output)
        };
        match self.0.locks.run(group, &key, &self.0.closing, work).await {
            Ended::Done | Ended::AlreadyDone => Verdict::Done,
            Ended::Contended => Verdict::Contended,
            // Whoever robbed the turn did other work: this event is still to be done.
            Ended::Refused { .. } | Ended::Unavailable => Verdict::Again,
        }
    }

    /// Gives an event up: it becomes a dead letter, and that is told under `kind`.
    pub async fn give_up(&self, event: &Event<Value>, kind: &str, reason: &str, attempts: u32) -> Verdict {
        let letter = self.0.gone(event, kind, reason, attempts).await;
        self.0.outlet.publish_letter(&letter).await.into()
    }

    /// Is done with an event whose dead letter is not taken either; that is told.
    pub async fn abandon(&self, event: &Event<Value>, why: &str) {
        let why = format!("event {:?} of {:?}: {why}", event.id, event.source);
        self.0.outlet.not_taken(&self.0.subject, "abandoned", &why).await;
    }
}

impl Inner {
    /// Chooses the engine of an event; none if the worker is closed.
    fn begin(&self) -> Option<Begun> {
        // Counted under the lock that a swap takes: an engine is not closed before an event it was chosen for.
        let loaded = self.loaded.lock();
        let loaded = loaded.as_ref()?;
        Some(Begun {
            engine: loaded.engine.clone(),
            _token: loaded.events.token(),
        })
    }

    /// Calls the worker, again after failures, and says what is to be published.
    async fn work(&self, begun: &Begun, input: &Event<Value>, token: Option<u64>) -> Option<Output> {
        let seen = stamped(input, &self.config, token);
        let mut retry = 0;
        loop {
            let error = match self.call(&begun.engine, seen.clone()).await {
                Ok(None) => return None,
                Ok(Some(answer)) => {
                    match output(&self.subject, &self.config, input, &seen, answer, self.max_output) {
                        Ok(output) => return Some(output),
                        // It would say the same again.
                        Err(why) => return Some(self.gone(input, "bad-output", &why, retry + 1).await),
                    }
                }
                Err(error) => error,
            };
            let Some(delay) = self.retries.delay(retry) else {
                return Some(
                    self.gone(input, error.kind(), &error.to_string(), retry + 1)
                        .await,
                );
            };
            tracing::warn!(worker = self.subject.id, event = input.id, %error, "a worker failed; trying again");
            tokio::time::sleep(delay).await;
            retry += 1;
        }
    }

    async fn call(
        &self,
        engine: &Arc<dyn Engine>,
        event: Event<Value>,
    ) -> Result<Option<Event<Value>>, EngineError> {
        let engine = engine.clone();
        // In a task of its own, so that an engine that panics fails one call and not the delivery.
        let call = AbortOnDropHandle::new(tokio::spawn(async move { engine.process(event).await }));
        match tokio::time::timeout(self.call_timeout, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(EngineError::Crashed(error.to_string())),
            Err(_) => Err(EngineError::Timeout(self.call_timeout)),
        }
    }

    async fn gone(&self, input: &Event<Value>, kind: &str, reason: &str, attempts: u32) -> Output {
        tracing::error!(
            worker = self.subject.id,
            event = input.id,
            reason,
            attempts,
            "an event is given up"
        );
        self.outlet.failed(&self.subject, kind, reason).await;
        dead_letter(&self.subject, &self.config, input, reason, attempts)
    }

    /// Publishes what came of an event outside of a group.
    async fn publish(&self, output: &Output, input: &Event<Value>) -> Verdict {
        match self.outlet.publish(output).await {
            Reception::Refused(why) if output.letter.is_some() => {
                let reason = format!("its output to {:?} was not published: {why}", output.topic);
                let letter = self.gone(input, "output-refused", &reason, 1).await;
                self.outlet.publish_letter(&letter).await.into()
            }
            reception => reception.into(),
        }
    }
}
