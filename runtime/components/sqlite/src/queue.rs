//! A bounded queue from async callers to threads.

use std::{collections::VecDeque, time::Duration};

use outrigger_component::{Error, ErrorKind};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Callers wait for a place when this many are waiting for a thread.
const CAPACITY: usize = 4096;

/// The queue. Several threads may take from it.
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    ready: Condvar,
    places: Semaphore,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// Threads that wait for a job.
    waiting: usize,
    closed: bool,
}

/// What a thread got.
pub(crate) enum Taken {
    /// At least one job.
    Jobs,
    /// Nothing came for the time given.
    Idle,
    /// The queue is closed and empty.
    Closed,
}

impl<J> Queue<J> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                waiting: 0,
                closed: false,
            }),
            ready: Condvar::new(),
            places: Semaphore::new(CAPACITY),
        }
    }

    /// Adds a job; answers whether a thread was waiting for it.
    ///
    /// # Errors
    /// `Closed` after [`Queue::close`].
    pub(crate) async fn push(&self, job: J) -> Result<bool, Error> {
        self.places
            .acquire()
            .await
            .map(SemaphorePermit::forget)
            .map_err(|_| closed())?;
        let mut state = self.state.lock();
        if state.closed {
            return Err(closed());
        }
        state.jobs.push_back(job);
        let waited = state.waiting >= state.jobs.len();
        if state.waiting > 0 {
            self.ready.notify_one();
        }
        Ok(waited)
    }

    /// Moves up to `limit` jobs into `batch`, waiting for the first.
    pub(crate) fn take(&self, batch: &mut Vec<J>, limit: usize, patience: Duration) -> Taken {
        let mut state = self.state.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            state.waiting += 1;
            let late = self.ready.wait_for(&mut state, patience).timed_out();
            state.waiting -= 1;
            if late && state.jobs.is_empty() {
                return Taken::Idle;
            }
        }
        let count = state.jobs.len().min(limit);
        batch.extend(state.jobs.drain(..count));
        if state.jobs.is_empty() && state.jobs.capacity() > 256 {
            state.jobs.shrink_to(64);
        }
        drop(state);
        self.places.add_permits(count);
        Taken::Jobs
    }

    /// Whether no job waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().jobs.is_empty()
    }

    /// Refuses further jobs; those inside are still taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.places.close();
        self.ready.notify_all();
    }
}

/// What every call on a closed database answers.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the component is closed")
}
