//! Turns of groups: workers of one group run one at a time, wherever they are (H4).
//!
//! `turn` is the protocol, pure; this is what carries it out. Locks lie in the state store under
//! `workmanager.grouplock.<group>` and are taken by conditional writes (Z17).
//!
//! What is promised: outputs of a group's turns are published in the order of their tokens, and a holder that was
//! robbed publishes nothing of its own. What is not: the *code* of a holder that sleeps past its lease may run beside
//! that of its successor, since nobody can stop a sleeper; only what it says no longer counts. And a holder that
//! sleeps between its commit and its publication repeats, later, what its successor has published for it: the same
//! event under the same id.

mod record;
#[cfg(test)]
mod simulation;
mod turn;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use outrigger_platform_service::backend::{Backend, BackendError, Expect};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use record::{Letter, LockRecord, Output};
pub use turn::Ended;
use turn::{Effect, Event, Terms, Turn};

use crate::names::group_lock_key;
use crate::outlet::Outlet;
use crate::settings::LockOptions;

/// The work of a turn has not begun, and will not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenBack;

/// The groups, as one instance takes turns with others.
#[derive(Debug)]
pub struct GroupLocks {
    backend: Backend,
    outlet: Outlet,
    instance: String,
    options: LockOptions,
    /// Events of one instance queue here, in their order, so that only one of them asks the store.
    queues: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl GroupLocks {
    /// Locks of an instance of this name.
    pub fn new(backend: Backend, outlet: Outlet, instance: String, options: LockOptions) -> Self {
        Self {
            backend,
            outlet,
            instance,
            options,
            queues: Mutex::default(),
        }
    }

    /// Waits for the group's turn, does the work with the turn's token, and publishes what comes of it unless the
    /// turn was lost meanwhile. The work is given up when it is; it does not begin once `closing` is cancelled.
    ///
    /// Not cancel-safe: dropped in the middle, the turn lasts until its lease ends.
    pub async fn run<W, F>(&self, group: &str, key: &str, closing: &CancellationToken, work: W) -> Ended
    where
        W: FnOnce(u64) -> F,
        F: Future<Output = Worked> + Send + 'static,
    {
        let queue = self.queue(group);
        let _mine = tokio::select! {
            mine = queue.lock() => mine,
            () = closing.cancelled() => return Ended::Unavailable,
        };
        let name = group_lock_key(group);
        let mut turn = Turn::new(Terms {
            instance: self.instance.clone(),
            turn: uuid::Uuid::new_v4().to_string(),
            key: key.to_owned(),
            lease: self.options.lease,
            max_retries: self.options.max_retries,
            base_delay: self.options.base_delay,
            max_redeliveries: self.options.max_redeliveries,
        });
        let mut work = Some(work);
        let mut working = None;
        let mut renew_at = Instant::now();
        let mut event = Event::Begin;
        loop {
            let now = jiff::Timestamp::now().as_millisecond();
            event = match turn.handle(now, event) {
                Effect::Read => self.read(&name).await,
                Effect::Save(record, etag) => {
                    // Counted from before the write, as its success may be heard of late.
                    renew_at = Instant::now() + self.options.lease / 3;
                    self.save(&name, &record, etag.as_deref()).await
                }
                Effect::Wait(wait) => {
                    tokio::time::sleep(wait).await;
                    Event::Waited
                }
                Effect::Publish(output) => Event::Published(self.outlet.publish(&output).await),
                Effect::Bury(letter, why) => {
                    self.outlet
                        .not_taken(&letter.subject, "output-refused", &why)
                        .await;
                    Event::Published(self.outlet.publish_letter(&letter).await)
                }
                Effect::Abandon(output, why) => {
                    self.outlet.not_taken(&output.subject, "abandoned", &why).await;
                    Event::Abandoned
                }
                Effect::Work { token, robbed } => {
                    if let Some(owner) = robbed {
                        tracing::warn!(
                            group,
                            owner,
                            token,
                            "took the turn of a holder that gave no sign of life"
                        );
                        self.outlet.group_lock(group, "robbed", token, &owner).await;
                    }
                    // It goes on while the turn is renewed.
                    working = work
                        .take()
                        .map(|work| AbortOnDropHandle::new(tokio::spawn(work(token))));
                    proceed(&mut working, renew_at).await
                }
                Effect::Continue => proceed(&mut working, renew_at).await,
                Effect::End(ended) => {
                    if let Ended::Refused { token, current } = ended {
                        tracing::warn!(group, token, current, "the turn was lost; its output is refused");
                        self.outlet
                            .group_lock(group, "refused", token, &self.instance)
                            .await;
                    }
                    return ended;
                }
            };
        }
    }

    fn queue(&self, group: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get(group).and_then(Weak::upgrade) {
            return queue;
        }
        // Groups come and go with their workers.
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        queues.insert(group.to_owned(), Arc::downgrade(&queue));
        queue
    }

    async fn read(&self, name: &str) -> Event {
        let stored = match self.backend.get(name).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(name, %error, "a group's lock cannot be read");
                return Event::ReadFailed;
            }
        };
        Event::Read(stored.map(|stored| {
            let record = serde_json::from_value(stored.value).unwrap_or_else(|error| {
                // Nobody can hold what nobody can read; a new record takes its place, under its etag.
                tracing::error!(name, %error, "a group's lock is no lock; making it anew");
                LockRecord::unreadable()
            });
            (record, stored.etag)
        }))
    }

    async fn save(&self, name: &str, record: &LockRecord, etag: Option<&str>) -> Event {
        let value = match serde_json::to_value(record) {
            Ok(value) => value,
            Err(error) => return Event::SaveRefused(error.to_string()),
        };
        let expect = etag.map_or(Expect::Absent, Expect::Etag);
        match self.backend.save(name, &value, expect).await {
            Ok(()) => Event::Saved,
            Err(BackendError::Conflict(_)) => Event::Conflict,
            Err(error) => {
                tracing::warn!(name, %error, "a group's lock cannot be written");
                match error {
                    BackendError::Refused(why) => Event::SaveRefused(why),
                    _ => Event::SaveFailed,
                }
            }
        }
    }
}

/// What came of the work of a turn, if it began.
pub type Worked = Result<Option<Output>, GivenBack>;

type Working = AbortOnDropHandle<Worked>;

/// Until the work is done, or the turn has to be renewed.
async fn proceed(working: &mut Option<Working>, renew_at: Instant) -> Event {
    let Some(handle) = working else {
        return Event::Failed;
    };
    tokio::select! {
        output = handle => {
            *working = None;
            match output {
                Ok(Ok(output)) => Event::Finished(output),
                Ok(Err(GivenBack)) => Event::Failed,
                Err(error) => {
                    tracing::error!(%error, "the work of a turn ended unexpectedly");
                    Event::Failed
                }
            }
        }
        () = tokio::time::sleep_until(renew_at) => Event::RenewDue,
    }
}
