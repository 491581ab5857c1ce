//! The handle of one worker's code.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use outrigger_kit::Event;
use outrigger_platform_engine::{Engine, EngineError};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::frames;
use crate::process::Process;
use crate::supervisor::{Job, Supervisor};

/// See [`Engine`]. Dropped, its process is ended once the events it has are answered.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    next: AtomicU64,
    frame_limit: usize,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    pub(crate) fn new(
        queue: usize,
        frame_limit: usize,
        first: Process,
        supervisor: impl FnOnce(mpsc::Receiver<Job>) -> Supervisor,
    ) -> Self {
        let (jobs, inbox) = mpsc::channel(queue.max(1));
        Self {
            jobs: Mutex::new(Some(jobs)),
            next: AtomicU64::new(1),
            frame_limit,
            supervisor: Mutex::new(Some(tokio::spawn(supervisor(inbox).run(first)))),
        }
    }

    async fn ask(&self, event: Event<Value>) -> Result<Option<Event<Value>>, EngineError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = frames::process(id, &event).map_err(|error| EngineError::Failed(error.to_string()))?;
        if frame.len() > self.frame_limit {
            let (size, limit) = (frame.len(), self.frame_limit);
            return Err(EngineError::Failed(format!(
                "the event has {size} bytes; {limit} are allowed"
            )));
        }
        drop(event);
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.lock().clone().ok_or(EngineError::Closed)?;
        let job = Job {
            id,
            frame,
            reply,
            attempts: 0,
        };
        jobs.send(job).await.map_err(|_| EngineError::Closed)?;
        // From here on the answer alone keeps the call: a closing engine ends when all senders are gone.
        drop(jobs);
        answer.await.map_err(|_| EngineError::Closed)?
    }
}

impl Engine for Worker {
    fn process(&self, event: Event<Value>) -> BoxFuture<'_, Result<Option<Event<Value>>, EngineError>> {
        self.ask(event).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.jobs.lock().take();
        let supervisor = self.supervisor.lock().take();
        async move {
            if let Some(supervisor) = supervisor {
                // Its panic would be a fault of ours, and is reported by the runtime's hook.
                let _ = supervisor.await;
            }
        }
        .boxed()
    }
}
