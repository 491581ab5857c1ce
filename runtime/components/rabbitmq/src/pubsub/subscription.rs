//! One running subscription: a channel of its own, declared anew after every break, and handlers beside it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture};
use lapin::{
    Acker, Channel, Consumer,
    message::Delivery as Arrival,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use outrigger_component::{Error, Retry};
use outrigger_pubsub::{
    BulkOptions, Delivery, Handler, SubscribeRequest, SubscriptionControl, Verdict, guard,
};
use outrigger_types::Topic;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{config::Config, properties, topology::Plan};
use crate::{connection::Link, error::failed};

/// How long a subscription may take to be in force (upstream's minute).
const IN_FORCE: Duration = Duration::from_secs(60);

/// The first wait after a break; it doubles up to `reconnectWaitSeconds`.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A subscription that stays although its handler released a message gets it back no sooner than this.
const RELEASE_HOLD: Duration = Duration::from_millis(250);

/// A message refused again goes back to the queue no sooner than this: the broker would bring it at once.
const REFUSED_HOLD: Duration = Duration::from_millis(100);

/// For each word with the broker at the end of a subscription.
const GOODBYE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Paused,
    Closed,
}

/// Subscribes; returns when the broker sends.
pub(super) async fn start(
    link: &Arc<Link>,
    config: &Arc<Config>,
    request: SubscribeRequest,
    handler: Arc<dyn Handler>,
) -> Result<Control, Error> {
    let plan = Plan::of(config, &request)?;
    let (phase, phases) = watch::channel(Phase::Running);
    let (done, ended) = watch::channel(false);
    let (ready, first) = oneshot::channel();
    let queue = plan.queue.clone();
    let width = if config.single { 1 } else { config.prefetch.into() };
    let worker = Worker {
        link: link.clone(),
        plan,
        slots: Arc::new(Semaphore::new(width)),
        handlers: TaskTracker::new(),
        desk: Arc::new(Desk {
            topic: request.topic,
            config: config.clone(),
            handler,
            bulk: request.bulk.is_some(),
            phases: phases.clone(),
        }),
        bulk: request.bulk,
        phases,
    };
    tokio::spawn(async move {
        worker.run(ready).await;
        done.send_replace(true);
    });
    let control = Control { phase, ended };
    match tokio::time::timeout(IN_FORCE, first).await {
        Ok(Ok(Ok(()))) => Ok(control),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Err(_)) | Err(_) => Err(Error::unavailable(format!("failed to subscribe to {queue}"))),
    }
}

pub(super) struct Control {
    phase: watch::Sender<Phase>,
    ended: watch::Receiver<bool>,
}

impl Control {
    fn reach(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }
}

impl SubscriptionControl for Control {
    fn pause(&self) -> BoxFuture<'_, ()> {
        self.reach(Phase::Paused);
        Box::pin(async {})
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.reach(Phase::Closed);
        let mut ended = self.ended.clone();
        Box::pin(async move {
            // An error means that the runtime has dropped the worker: ended as well.
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.reach(Phase::Closed);
    }
}

/// Resolves when the subscription is to fetch nothing more. A control that is gone counts as closed.
async fn stopped(phases: &mut watch::Receiver<Phase>) {
    let _ = phases.wait_for(|phase| *phase != Phase::Running).await;
}

struct Worker {
    link: Arc<Link>,
    plan: Plan,
    bulk: Option<BulkOptions>,
    phases: watch::Receiver<Phase>,
    /// A permit per call of the handler.
    slots: Arc<Semaphore>,
    handlers: TaskTracker,
    desk: Arc<Desk>,
}

/// Why filling a batch ended.
enum Filled {
    /// There is something to hand over.
    Batch,
    /// The subscription is to stop.
    Stopped,
    /// The broker sends no more.
    Broken(Error),
}

impl Worker {
    async fn run(mut self, ready: oneshot::Sender<Result<(), Error>>) {
        let mut ready = Some(ready);
        let mut wait = FIRST_WAIT;
        let mut phases = self.phases.clone();
        while *phases.borrow() == Phase::Running && phases.has_changed().is_ok() {
            let begun = Instant::now();
            let Err(error) = self.session(&mut ready).await else {
                break;
            };
            if error.retry() == Retry::Permanent
                && let Some(ready) = ready.take()
            {
                let _ = ready.send(Err(error));
                break;
            }
            tracing::warn!(queue = %self.plan.queue, error = error.chain(), "subscription is interrupted");
            // What lasted is no failure in a row.
            wait = if begun.elapsed() > self.link.reconnect_wait() * 2 {
                FIRST_WAIT
            } else {
                wait.saturating_mul(2).min(self.link.reconnect_wait())
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(&mut phases) => {}
            }
        }
        let _ = phases.wait_for(|phase| *phase == Phase::Closed).await;
        self.handlers.close();
        self.handlers.wait().await;
    }

    /// From declaring to the end of the subscription, which is `Ok`, or to a break.
    async fn session(&mut self, ready: &mut Option<oneshot::Sender<Result<(), Error>>>) -> Result<(), Error> {
        let mut phases = self.phases.clone();
        let opening = async {
            let channel = self.link.channel().await?;
            self.plan.declare(&channel, &self.desk.config).await?;
            channel
                .basic_qos(self.desk.config.prefetch, BasicQosOptions { global: false })
                .await
                .map_err(|error| failed("cannot set the prefetch count", error))?;
            let consumer = channel
                .basic_consume(
                    self.plan.queue.clone(),
                    consumer_tag(self.plan.queue.as_str()),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await
                .map_err(|error| failed("cannot consume", error))?;
            Ok::<_, Error>((channel, consumer))
        };
        let (channel, mut consumer) = tokio::select! {
            opened = opening => opened?,
            () = stopped(&mut phases) => return Ok(()),
        };
        if let Some(ready) = ready.take() {
            let _ = ready.send(Ok(()));
        }
        tracing::debug!(queue = %self.plan.queue, "subscription is in force");
        let mut batch = Vec::new();
        loop {
            let permit = tokio::select! {
                biased;
                () = stopped(&mut phases) => break,
                permit = self.slots.clone().acquire_owned() => permit,
            };
            // Nobody closes these slots.
            let Ok(permit) = permit else { break };
            match self.fill(&mut consumer, &mut batch, &mut phases).await {
                Filled::Batch => {
                    let desk = self.desk.clone();
                    let arrived = std::mem::take(&mut batch);
                    // Its own hold on the channel: verdicts go where the message came from.
                    let channel = channel.clone();
                    self.handlers
                        .spawn(async move { desk.serve(arrived, channel, permit).await });
                }
                Filled::Stopped => break,
                Filled::Broken(error) => return Err(error),
            }
        }
        self.leave(&channel, consumer, batch).await;
        Ok(())
    }

    /// Takes messages until there is a batch; what is taken stays in `batch` whatever happens.
    async fn fill(
        &self,
        consumer: &mut Consumer,
        batch: &mut Vec<Arrival>,
        phases: &mut watch::Receiver<Phase>,
    ) -> Filled {
        let size = self.bulk.map_or(1, |bulk| bulk.max_messages.max(1));
        let mut due = None;
        while batch.len() < size {
            tokio::select! {
                biased;
                () = stopped(phases) => return Filled::Stopped,
                () = until(due), if due.is_some() => return Filled::Batch,
                next = consumer.next() => match next {
                    Some(Ok(arrival)) => {
                        batch.push(arrival);
                        due = due.or_else(|| self.bulk.map(|bulk| tokio::time::Instant::now() + bulk.max_wait));
                    }
                    Some(Err(error)) => return Filled::Broken(failed("the broker is gone", error)),
                    None => return Filled::Broken(Error::unavailable("the broker cancelled the subscription")),
                },
            }
        }
        Filled::Batch
    }

    /// Ends the subscription at the broker: first no more messages, then back with those that no handler saw, then the
    /// handlers' verdicts, then the channel.
    async fn leave(&self, channel: &Channel, mut consumer: Consumer, unseen: Vec<Arrival>) {
        let cancelled = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        let mut orderly = matches!(tokio::time::timeout(GOODBYE, cancelled).await, Ok(Ok(())));
        for arrival in unseen {
            orderly &= give_back(&arrival.acker).await;
        }
        // The end of what was on its way follows the broker's word on the cancellation.
        while orderly {
            match tokio::time::timeout(GOODBYE, consumer.next()).await {
                Ok(Some(Ok(arrival))) => orderly &= give_back(&arrival.acker).await,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => orderly = false,
            }
        }
        if !orderly {
            tracing::debug!(queue = %self.plan.queue, "the broker takes back by itself what was not handled");
        }
        let mut phases = self.phases.clone();
        let _ = phases.wait_for(|phase| *phase == Phase::Closed).await;
        self.handlers.close();
        self.handlers.wait().await;
        let goodbye = channel.close(200, "OK".into());
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Unique per attempt, as upstream's; the end counts, so a long name loses its beginning.
fn consumer_tag(queue: &str) -> ShortString {
    let mut tag = format!("{queue}-{}", uuid::Uuid::new_v4());
    while tag.len() > 255 {
        tag.remove(0);
    }
    tag.as_str().into()
}

/// Puts a message back to its place in the queue; whether the broker could be told.
async fn give_back(acker: &Acker) -> bool {
    let back = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    matches!(acker.nack(back).await, Ok(true))
}

/// Where messages meet the handler and its verdicts the broker.
struct Desk {
    topic: Topic,
    config: Arc<Config>,
    handler: Arc<dyn Handler>,
    bulk: bool,
    phases: watch::Receiver<Phase>,
}

impl Desk {
    async fn serve(&self, batch: Vec<Arrival>, channel: Channel, permit: OwnedSemaphorePermit) {
        let mut ackers = Vec::with_capacity(batch.len());
        let mut deliveries = Vec::with_capacity(batch.len());
        for arrival in batch {
            if self.config.auto_ack {
                self.told(&arrival.acker.ack(BasicAckOptions::default()).await);
            }
            ackers.push((arrival.acker, arrival.redelivered));
            deliveries.push(Delivery {
                topic: self.topic.clone(),
                metadata: Arc::new(if self.config.properties_to_metadata {
                    properties::metadata(&arrival.properties)
                } else {
                    outrigger_component::Metadata::new()
                }),
                data: Bytes::from(arrival.data),
                content_type: None,
                id: None,
            });
        }
        let verdicts = if self.bulk {
            guard::handle_bulk(&*self.handler, deliveries).await
        } else {
            let mut verdicts = Vec::with_capacity(deliveries.len());
            for delivery in deliveries {
                verdicts.push(guard::handle(&*self.handler, delivery).await);
            }
            verdicts
        };
        for ((acker, redelivered), verdict) in ackers.into_iter().zip(verdicts) {
            self.settle(&acker, redelivered, verdict).await;
        }
        drop(permit);
        drop(channel);
    }

    async fn settle(&self, acker: &Acker, redelivered: bool, verdict: Verdict) {
        let requeue = match verdict {
            _ if self.config.auto_ack => return,
            Verdict::Ack => {
                self.told(&acker.ack(BasicAckOptions::default()).await);
                return;
            }
            Verdict::Retry(error) => {
                tracing::debug!(topic = %self.topic, requeue = self.config.requeue, error = error.chain(), "message refused");
                if self.config.requeue && redelivered {
                    self.hold(REFUSED_HOLD).await;
                }
                self.config.requeue
            }
            Verdict::Release => {
                self.hold(RELEASE_HOLD).await;
                true
            }
        };
        let options = BasicNackOptions {
            requeue,
            ..BasicNackOptions::default()
        };
        self.told(&acker.nack(options).await);
    }

    /// Waits, but not at the end.
    async fn hold(&self, time: Duration) {
        let mut phases = self.phases.clone();
        let _ = tokio::time::timeout(time, stopped(&mut phases)).await;
    }

    fn told(&self, result: &lapin::Result<bool>) {
        if !matches!(result, Ok(true)) {
            // At least once: the broker brings it again.
            tracing::debug!(topic = %self.topic, "the channel broke before the verdict");
        }
    }
}
