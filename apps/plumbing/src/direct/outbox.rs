//! Sends what was committed: right after the commit, and on the next start what a crash left behind.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::resilience::Failure;
use super::store::Store;

/// Events read at once.
const BATCH: isize = 100;
/// How often it looks for what other instances left behind.
const SWEEP: Duration = Duration::from_secs(5);
/// Waits after a failure.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The outbox of a service. Delivery is at least once; a repeat has the same id.
#[derive(Debug)]
pub struct Outbox {
    store: Arc<Store>,
    broker: Arc<Broker>,
    work: Notify,
    /// One round at a time keeps the order of events.
    turn: Mutex<()>,
}

impl Outbox {
    /// Sends events of this store by this broker.
    pub fn new(store: Arc<Store>, broker: Arc<Broker>) -> Self {
        Self {
            store,
            broker,
            work: Notify::new(),
            turn: Mutex::new(()),
        }
    }

    /// Says that something was committed.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// Sends all that waits now.
    pub async fn drain(&self) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let key = self.store.outbox();
        loop {
            let events: Vec<String> = self
                .store
                .run(async |mut redis| {
                    let mut command = cmd("LRANGE");
                    command.arg(&key).arg(0).arg(BATCH - 1);
                    command.query_async(&mut redis).await
                })
                .await?;
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                self.broker.publish(&event).await?;
                let _: i64 = self
                    .store
                    .run(async |mut redis| {
                        let mut command = cmd("LREM");
                        command.arg(&key).arg(1).arg(&event);
                        command.query_async(&mut redis).await
                    })
                    .await?;
            }
        }
    }

    /// Sends events as they are committed, until `stop`; then makes one last round.
    pub async fn relay(&self, stop: &CancellationToken) {
        let mut wait = WAIT.0;
        loop {
            let last = stop.is_cancelled();
            let pause = match self.drain().await {
                Ok(()) => {
                    wait = WAIT.0;
                    SWEEP
                }
                Err(error) => {
                    tracing::warn!(%error, "events wait to be sent");
                    let pause = wait;
                    wait = (wait * 2).min(WAIT.1);
                    pause
                }
            };
            if last {
                return;
            }
            tokio::select! {
                () = self.work.notified(), if pause == SWEEP => {}
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
