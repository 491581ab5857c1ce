//! Merging of single-key operations: what arrives while as many statements as may be are on their way waits and then
//! shares the next one. Under load statements grow instead of multiplying; without load nobody waits.

use std::{collections::VecDeque, fmt, future::Future, sync::Arc};

use outrigger_component::{Error, ErrorKind};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// At most this many operations wait; far more than one sidecar has requests in flight.
const MOST_WAITING: usize = 10_000;

/// What is merged.
pub(crate) trait Job: Send + Sync + 'static {
    /// One operation.
    type Request: Send + 'static;
    /// Its answer.
    type Answer: Send + 'static;

    /// Takes the operations that may share the next statement out of the queue, oldest first, at least one.
    fn take(&self, waiting: &mut VecDeque<Waiting<Self>>) -> Vec<Waiting<Self>>;

    /// Runs one operation.
    fn one(&self, request: Self::Request) -> impl Future<Output = Result<Self::Answer, Error>> + Send;

    /// Runs several, answers in their order.
    fn several(
        &self,
        requests: Vec<Self::Request>,
    ) -> impl Future<Output = Vec<Result<Self::Answer, Error>>> + Send;
}

/// An operation that waits.
pub(crate) struct Waiting<J: Job + ?Sized> {
    pub(crate) request: J::Request,
    answer: oneshot::Sender<Result<J::Answer, Error>>,
}

struct State<J: Job> {
    waiting: VecDeque<Waiting<J>>,
    /// Statements on their way.
    running: usize,
}

struct Shared<J: Job> {
    job: J,
    slots: usize,
    state: Mutex<State<J>>,
}

/// Merges the operations of a job.
pub(crate) struct Merger<J: Job>(Arc<Shared<J>>);

impl<J: Job> fmt::Debug for Merger<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merger")
            .field("slots", &self.0.slots)
            .finish_non_exhaustive()
    }
}

impl<J: Job> Merger<J> {
    /// At most `slots` statements at a time.
    pub(crate) fn new(job: J, slots: usize) -> Self {
        Self(Arc::new(Shared {
            job,
            slots,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                running: 0,
            }),
        }))
    }

    /// What is merged.
    pub(crate) fn job(&self) -> &J {
        &self.0.job
    }

    /// Runs one operation, perhaps with others. Dropping the future does not stop a statement that others share.
    ///
    /// # Errors
    /// The operation's own; `Exhausted` when too many wait.
    pub(crate) async fn submit(&self, request: J::Request) -> Result<J::Answer, Error> {
        let shared = &self.0;
        let (request, answer) = {
            let mut state = shared.state.lock();
            if state.running < shared.slots {
                state.running += 1;
                (Some(request), None)
            } else if state.waiting.len() >= MOST_WAITING {
                return Err(Error::new(
                    ErrorKind::Exhausted,
                    "too many operations wait for the database",
                ));
            } else {
                let (sender, receiver) = oneshot::channel();
                state.waiting.push_back(Waiting {
                    request,
                    answer: sender,
                });
                (None, Some(receiver))
            }
        };
        if let Some(request) = request {
            let _slot = Slot(shared.clone());
            return shared.job.one(request).await;
        }
        match answer {
            Some(answer) => answer.await.unwrap_or_else(|_| Err(crate::error::closed())),
            None => Err(crate::error::closed()),
        }
    }
}

/// A statement on its way. When it is done those who wait get their turn, also when its caller went away.
struct Slot<J: Job>(Arc<Shared<J>>);

impl<J: Job> Drop for Slot<J> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if !state.waiting.is_empty() {
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(drain(self.0.clone()));
                return;
            }
            // The process ends: whoever waits learns that nothing comes.
            state.waiting.clear();
        }
        state.running -= 1;
    }
}

/// Serves those who wait until there are none.
async fn drain<J: Job>(shared: Arc<Shared<J>>) {
    loop {
        let mut batch = {
            let mut state = shared.state.lock();
            // Who went away meanwhile wants nothing any more.
            state.waiting.retain(|waiting| !waiting.answer.is_closed());
            if state.waiting.is_empty() {
                state.running -= 1;
                return;
            }
            shared.job.take(&mut state.waiting)
        };
        if batch.len() == 1
            && let Some(Waiting { request, answer }) = batch.pop()
        {
            let _ = answer.send(shared.job.one(request).await);
            continue;
        }
        let (requests, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.request, waiting.answer))
            .unzip();
        let outcomes = shared.job.several(requests).await;
        for (outcome, answer) in outcomes.into_iter().zip(answers) {
            let _ = answer.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Answers what it was asked, when it is let.
    struct Echo {
        gate: Arc<Semaphore>,
        statements: Arc<AtomicUsize>,
    }

    impl Job for Echo {
        type Request = u32;
        type Answer = u32;

        fn take(&self, waiting: &mut VecDeque<Waiting<Self>>) -> Vec<Waiting<Self>> {
            waiting.drain(..).collect()
        }

        async fn one(&self, request: u32) -> Result<u32, Error> {
            let permit = self.gate.acquire().await.unwrap();
            permit.forget();
            self.statements.fetch_add(1, Ordering::Relaxed);
            Ok(request)
        }

        async fn several(&self, requests: Vec<u32>) -> Vec<Result<u32, Error>> {
            let _ = self.one(0).await;
            requests.into_iter().map(Ok).collect()
        }
    }

    #[tokio::test]
    async fn what_waits_shares_a_statement() {
        let (gate, statements) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let merger = Merger::new(
            Echo {
                gate: gate.clone(),
                statements: statements.clone(),
            },
            1,
        );
        // The one on its way goes away: the others are served all the same.
        let mut first = Box::pin(merger.submit(1));
        assert!(futures::poll!(&mut first).is_pending());
        let mut others: Vec<_> = (2..10).map(|number| Box::pin(merger.submit(number))).collect();
        for other in &mut others {
            assert!(futures::poll!(other).is_pending());
        }
        drop(first);
        gate.add_permits(2);
        let answers = futures::future::join_all(others).await;
        let answers: Vec<u32> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (2..10).collect::<Vec<_>>());
        assert_eq!(statements.load(Ordering::Relaxed), 1);
        assert_eq!(merger.submit(10).await.unwrap(), 10);
    }
}
