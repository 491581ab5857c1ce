//! Messages handed to a sidecar over a stream, each waiting for its answer.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Hands out messages of type `M` and takes answers of type `A`.
#[derive(Debug)]
pub(super) struct Desk<M, A> {
    out: mpsc::Sender<Result<M, Status>>,
    next: AtomicU64,
    /// Who waits, by the message's id; `None` once the sidecar is gone.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<A>>>>,
}

impl<M, A> Desk<M, A> {
    /// A desk and what goes over the stream. The stream's flow control bounds what is under way: whoever asks waits.
    pub(super) fn new() -> (Self, mpsc::Receiver<Result<M, Status>>) {
        let (out, stream) = mpsc::channel(1);
        let desk = Self {
            out,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
        };
        (desk, stream)
    }

    /// Sends the message that `make` gives its id to and waits for the answer; `None` when the sidecar went away.
    pub(super) async fn ask(&self, make: impl FnOnce(String) -> M) -> Option<A> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().as_mut()?.insert(id, answer);
        let _forget = Forget { desk: self, id };
        self.out.send(Ok(make(id.to_string()))).await.ok()?;
        answered.await.ok()
    }

    /// An answer came. One to a message that nobody waits for is ignored: its asker gave up.
    pub(super) fn settle(&self, id: &str, answer: A) {
        let Ok(id) = id.parse::<u64>() else { return };
        let waiting = self
            .waiting
            .lock()
            .as_mut()
            .and_then(|waiting| waiting.remove(&id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// The sidecar is gone: nobody gets an answer any more.
    pub(super) fn abandon(&self) {
        *self.waiting.lock() = None;
    }
}

/// Forgets a message whose asker no longer waits.
struct Forget<'a, M, A> {
    desk: &'a Desk<M, A>,
    id: u64,
}

impl<M, A> Drop for Forget<'_, M, A> {
    fn drop(&mut self) {
        if let Some(waiting) = self.desk.waiting.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}
