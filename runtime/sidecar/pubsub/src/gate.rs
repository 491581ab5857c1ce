//! What a subscription lets through while it runs, drains and ends (P1, P4).

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How long deliveries in flight may take once a subscription ends (upstream `drainMaxDuration`).
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

/// The gate between broker and app.
#[derive(Debug)]
pub(crate) struct Gate {
    flying: AtomicUsize,
    sealed: AtomicBool,
    landed: Notify,
    closing: CancellationToken,
    abort: CancellationToken,
    limit: Option<Semaphore>,
}

/// A delivery in flight.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    gate: &'a Gate,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Gate {
    /// Open, for at most `limit` deliveries at once.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self {
            flying: AtomicUsize::new(0),
            sealed: AtomicBool::new(false),
            landed: Notify::new(),
            closing: CancellationToken::new(),
            abort: CancellationToken::new(),
            limit: limit.map(Semaphore::new),
        }
    }

    /// Lets a delivery through; `None` once the gate is sealed: the message is to be released.
    pub(crate) async fn enter(&self) -> Option<Flight<'_>> {
        self.flying.fetch_add(1, Ordering::SeqCst);
        let mut flight = Flight {
            gate: self,
            _permit: None,
        };
        if let Some(limit) = &self.limit {
            tokio::select! {
                permit = limit.acquire() => flight._permit = permit.ok(),
                () = self.closing.cancelled() => return None,
            }
        }
        (!self.sealed.load(Ordering::SeqCst)).then_some(flight)
    }

    /// Whether the subscription is ending, so that failures are not held against messages.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Waits until the subscription is ending.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Waits until deliveries in flight are to be given up.
    pub(crate) async fn aborted(&self) {
        self.abort.cancelled().await;
    }

    /// From now on failures release.
    pub(crate) fn begin_closing(&self) {
        self.closing.cancel();
    }

    /// Waits for what is in flight, then lets nothing through; gives up what is still there at the deadline.
    pub(crate) async fn drain(&self, deadline: Instant) -> bool {
        let drained = tokio::time::timeout_at(deadline, self.empty()).await.is_ok();
        self.sealed.store(true, Ordering::SeqCst);
        if !drained {
            self.abort.cancel();
            return false;
        }
        // Something may have slipped in before the seal.
        if tokio::time::timeout_at(deadline, self.empty()).await.is_err() {
            self.abort.cancel();
            return false;
        }
        true
    }

    /// Lets nothing through and gives up everything, at once.
    pub(crate) fn slam(&self) {
        self.sealed.store(true, Ordering::SeqCst);
        self.closing.cancel();
        self.abort.cancel();
    }

    async fn empty(&self) {
        loop {
            let landed = self.landed.notified();
            if self.flying.load(Ordering::SeqCst) == 0 {
                return;
            }
            landed.await;
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.gate.flying.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.gate.landed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drains_then_seals() {
        let gate = Gate::new(None);
        let flight = gate.enter().await.unwrap();
        gate.begin_closing();
        let deadline = Instant::now() + DRAIN;
        let (drained, ()) = tokio::join!(gate.drain(deadline), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(flight);
        });
        assert!(drained);
        assert!(gate.enter().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_deadline() {
        let gate = Gate::new(None);
        let _flight = gate.enter().await.unwrap();
        assert!(!gate.drain(Instant::now() + DRAIN).await);
        gate.aborted().await;
    }

    #[tokio::test]
    async fn bounds_deliveries_in_flight() {
        let gate = Gate::new(Some(1));
        let first = gate.enter().await.unwrap();
        let second = gate.enter();
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }
}
