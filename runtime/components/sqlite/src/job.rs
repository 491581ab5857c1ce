//! Jobs for the database threads.

use std::panic::{AssertUnwindSafe, catch_unwind};

use outrigger_component::Error;
use rusqlite::Connection;
use tokio::sync::oneshot;

/// What a job asks of the transaction it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is on the disk when the answer comes.
    Durable,
    /// Others see it when the answer comes; the next durable transaction of anybody takes it to the disk.
    Relaxed,
    /// It runs outside of a write transaction.
    Outside,
}

/// A job and the channel its answer takes; erased so that one queue carries all.
pub(crate) trait Job: Send {
    /// Whether nobody waits for the answer any more.
    fn abandoned(&self) -> bool;
    /// What the job asks for.
    fn kind(&self) -> Kind;
    /// Runs it; `false` means: undo it.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Sends the answer, or this error in its place.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

struct Typed<T, F> {
    work: Option<F>,
    result: Option<Result<T, Error>>,
    sender: oneshot::Sender<Result<T, Error>>,
    kind: Kind,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T, Error> + Send> Job for Typed<T, F> {
    fn abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        // A panic would take the thread and everybody's database with it.
        let result = catch_unwind(AssertUnwindSafe(|| work(connection)))
            .unwrap_or_else(|_| Err(Error::internal("a database operation panicked")));
        let done = result.is_ok();
        self.result = Some(result);
        done
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let result = match (self.result, failure) {
            // A job that failed by itself keeps its own error.
            (Some(Err(error)), _) | (_, Some(error)) => Err(error),
            (Some(result), None) => result,
            (None, None) => Err(Error::internal("a database operation was not run")),
        };
        // The caller may be gone; then nobody wants the answer.
        let _ = self.sender.send(result);
    }
}

pub(crate) type AnyJob = Box<dyn Job>;

/// A job with the receiver of its answer.
pub(crate) fn typed<T, F>(work: F, kind: Kind) -> (AnyJob, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    (
        Box::new(Typed {
            work: Some(work),
            result: None,
            sender,
            kind,
        }),
        receiver,
    )
}
