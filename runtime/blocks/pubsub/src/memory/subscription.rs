//! One running subscription: takes from its queue, calls the handler, books the verdicts.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::watch, time::Instant};

use super::{
    Bus,
    queue::{Fate, Item, Phase, Queue, Take},
};
use crate::{Delivery, Handler, SubscribeRequest, SubscriptionControl, Verdict, guard};

/// A released message comes back to a subscription that nevertheless stays no sooner than this.
const RELEASE_HOLD: Duration = Duration::from_millis(250);

pub(super) fn start(bus: &Arc<Bus>, request: SubscribeRequest, handler: Arc<dyn Handler>) -> Control {
    let leftovers = bus.unpark(&request.group, &request.topic);
    let queue = Arc::new(Queue::new(
        request.topic.clone(),
        bus.options.queue_depth,
        leftovers,
    ));
    bus.register(queue.clone());
    let (done, ended) = watch::channel(false);
    let worker = Worker {
        bus: bus.clone(),
        queue: queue.clone(),
        request,
        handler,
    };
    tokio::spawn(async move {
        worker.run().await;
        done.send_replace(true);
    });
    Control {
        bus: bus.clone(),
        queue,
        ended,
    }
}

pub(super) struct Control {
    bus: Arc<Bus>,
    queue: Arc<Queue>,
    ended: watch::Receiver<bool>,
}

impl Control {
    fn stop(&self, phase: Phase) {
        self.bus.unregister(&self.queue);
        self.queue.stop(phase);
    }
}

impl SubscriptionControl for Control {
    fn pause(&self) -> BoxFuture<'_, ()> {
        self.stop(Phase::Paused);
        Box::pin(async {})
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.stop(Phase::Closed);
        let mut ended = self.ended.clone();
        Box::pin(async move {
            // An error means that the runtime has dropped the worker: ended as well.
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop(Phase::Closed);
    }
}

struct Worker {
    bus: Arc<Bus>,
    queue: Arc<Queue>,
    request: SubscribeRequest,
    handler: Arc<dyn Handler>,
}

impl Worker {
    async fn run(self) {
        let mut phase = self.queue.phase();
        let mut flights = FuturesUnordered::new();
        loop {
            let current = *phase.borrow_and_update();
            let mut due = None;
            while current == Phase::Running && flights.len() < self.bus.options.concurrency {
                match self.queue.take(self.request.bulk, Instant::now()) {
                    Take::Batch(batch) => flights.push(self.deliver(batch)),
                    Take::Wait(until) => {
                        due = until;
                        break;
                    }
                }
            }
            if current == Phase::Closed && flights.is_empty() {
                break;
            }
            let waiting = current == Phase::Running && flights.len() < self.bus.options.concurrency;
            tokio::select! {
                Some(batch) = flights.next(), if !flights.is_empty() => self.queue.settle(batch, Instant::now()),
                _ = phase.changed() => {}
                () = self.queue.arrival(), if waiting => {}
                () = sleep_until(due), if waiting && due.is_some() => {}
            }
        }
        drop(flights);
        self.bus
            .park(&self.request.group, &self.request.topic, self.queue.drain());
    }

    async fn deliver(&self, batch: Vec<Item>) -> Vec<(Item, Fate)> {
        let verdicts = if self.request.bulk.is_some() {
            let deliveries = batch.iter().map(|item| self.delivery(item)).collect();
            guard::handle_bulk(&*self.handler, deliveries).await
        } else {
            let mut verdicts = Vec::with_capacity(batch.len());
            for item in &batch {
                verdicts.push(guard::handle(&*self.handler, self.delivery(item)).await);
            }
            verdicts
        };
        batch
            .into_iter()
            .zip(verdicts)
            .map(|(item, verdict)| (item, self.fate(verdict)))
            .collect()
    }

    fn delivery(&self, item: &Item) -> Delivery {
        Delivery {
            topic: self.request.topic.clone(),
            data: item.data.clone(),
            content_type: None,
            metadata: item.metadata.clone(),
            id: None,
        }
    }

    fn fate(&self, verdict: Verdict) -> Fate {
        match (verdict, self.bus.options.redeliver_after) {
            (Verdict::Ack, _) => Fate::Forget,
            (Verdict::Release, _) => Fate::Again(RELEASE_HOLD),
            (Verdict::Retry(error), Some(interval)) => {
                tracing::debug!(topic = %self.request.topic, error = error.chain(), "message refused, delivered again later");
                Fate::Again(interval)
            }
            (Verdict::Retry(error), None) => {
                tracing::error!(topic = %self.request.topic, error = error.chain(), "message refused and dropped");
                Fate::Forget
            }
        }
    }
}

fn sleep_until(due: Option<Instant>) -> impl Future<Output = ()> {
    due.map_or_else(
        || std::future::pending().left_future(),
        |due| tokio::time::sleep_until(due).right_future(),
    )
}
