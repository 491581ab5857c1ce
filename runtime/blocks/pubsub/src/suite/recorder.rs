//! A handler that writes down what it gets and answers by a script.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use outrigger_component::Metadata;
use tokio::sync::watch;

use super::DEADLINE;
use crate::{Delivery, Handler, Verdict};

/// One delivery as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The payload as text.
    pub text: String,
    /// The metadata that came along.
    pub metadata: Metadata,
    /// The topic named by the delivery.
    pub topic: String,
    /// Which call of the handler brought it, counted from 0; a batch is one call.
    pub call: usize,
}

type Script = dyn Fn(usize, &str) -> BoxFuture<'static, Verdict> + Send + Sync;

/// Records deliveries.
pub struct Recorder {
    seen: Mutex<Vec<Seen>>,
    calls: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    count: watch::Sender<usize>,
    script: Box<Script>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Takes everything.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::scripted(|_, _| Verdict::Ack)
    }

    /// Answers by the number of deliveries before this one and its text.
    #[must_use]
    pub fn scripted(script: impl Fn(usize, &str) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        Self::asynchronous(move |index, text| {
            let verdict = script(index, text);
            Box::pin(async move { verdict })
        })
    }

    /// Answers by the number of deliveries before this one and its text, when the future is done.
    #[must_use]
    pub fn asynchronous(
        script: impl Fn(usize, &str) -> BoxFuture<'static, Verdict> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            count: watch::Sender::new(0),
            script: Box::new(script),
        })
    }

    /// All deliveries so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The texts of all deliveries so far.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.text).collect()
    }

    /// The most handler calls that ran at once.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Waits until there are this many deliveries.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub async fn wait_for(&self, count: usize) {
        let mut changes = self.count.subscribe();
        let reached = tokio::time::timeout(DEADLINE, changes.wait_for(|seen| *seen >= count)).await;
        assert!(
            reached.is_ok(),
            "got {} of {count} deliveries: {:?}",
            self.seen().len(),
            self.texts()
        );
    }

    /// Waits this long and asserts that nothing came.
    ///
    /// # Panics
    /// When something did.
    pub async fn assert_quiet(&self, wait: Duration) {
        let before = self.seen().len();
        tokio::time::sleep(wait).await;
        assert_eq!(
            self.seen().len(),
            before,
            "an unexpected delivery: {:?}",
            self.texts()
        );
    }

    async fn take(&self, deliveries: Vec<Delivery>) -> Vec<Verdict> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let _running = Running::start(self);
        let mut answers = Vec::new();
        for delivery in deliveries {
            let text = String::from_utf8_lossy(&delivery.data).into_owned();
            let index = {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(Seen {
                    text: text.clone(),
                    metadata: (*delivery.metadata).clone(),
                    topic: delivery.topic.to_string(),
                    call,
                });
                seen.len() - 1
            };
            self.count.send_modify(|count| *count += 1);
            answers.push((self.script)(index, &text));
        }
        let mut verdicts = Vec::new();
        for answer in answers {
            verdicts.push(answer.await);
        }
        verdicts
    }
}

impl Handler for Recorder {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move { self.take(vec![delivery]).await.remove(0) })
    }

    fn handle_bulk(&self, deliveries: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(self.take(deliveries))
    }
}

/// Counts the handler calls in flight, also when one is dropped.
struct Running<'a>(&'a Recorder);

impl<'a> Running<'a> {
    fn start(recorder: &'a Recorder) -> Self {
        let now = recorder.running.fetch_add(1, Ordering::SeqCst) + 1;
        recorder.most.fetch_max(now, Ordering::SeqCst);
        Self(recorder)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
