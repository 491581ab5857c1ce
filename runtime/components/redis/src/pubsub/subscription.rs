//! A running subscription: one task that reads, hands over, settles and claims.

mod state;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use outrigger_component::ErrorKind;
use outrigger_pubsub::{BulkOptions, Delivery, Handler, Subscription, SubscriptionControl, Verdict, guard};
use outrigger_types::Topic;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use self::state::{Outcome, State};
use super::{
    config::Options,
    consumer::Consumer,
    entry::{Entry, EntryId},
    ledger::Held,
    stream::Reader,
};

/// What settles is tried again after this.
const SETTLE_AGAIN: Duration = Duration::from_millis(100);
/// A subscription that ends gives up settling after this long; its entries come again elsewhere.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a subscription is made of.
pub(super) struct Start {
    pub(super) topic: Topic,
    pub(super) bulk: Option<BulkOptions>,
    pub(super) options: Options,
    pub(super) permits: Arc<Semaphore>,
    pub(super) is_single: bool,
    pub(super) consumer: Consumer,
    pub(super) held: Arc<Held>,
    pub(super) handler: Arc<dyn Handler>,
}

/// Starts it.
pub(super) fn start(start: Start) -> Subscription {
    let (phase, phases) = watch::channel(Phase::Running);
    let (end, ended) = watch::channel(());
    tokio::spawn(async move {
        let _end = end;
        Task(start).run(phases).await;
    });
    Subscription::new(Control { phase, ended })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Paused,
    Closing,
}

struct Control {
    phase: watch::Sender<Phase>,
    ended: watch::Receiver<()>,
}

impl SubscriptionControl for Control {
    fn pause(&self) -> BoxFuture<'_, ()> {
        self.phase.send_if_modified(|phase| {
            let is_running = *phase == Phase::Running;
            if is_running {
                *phase = Phase::Paused;
            }
            is_running
        });
        Box::pin(std::future::ready(()))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.phase.send_replace(Phase::Closing);
        let mut ended = self.ended.clone();
        Box::pin(async move {
            // The task's end drops the sender.
            while ended.changed().await.is_ok() {}
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Closing);
    }
}

struct Task(Start);

impl Task {
    async fn run(self, mut phases: watch::Receiver<Phase>) {
        let (stop, stopped) = watch::channel(false);
        let mut state = State::new(Reader::new(self.0.consumer.clone(), stopped));
        // Nobody steers any more; whoever did said `Closing` last.
        let mut is_alone = false;
        loop {
            let phase = *phases.borrow_and_update();
            if phase == Phase::Running {
                self.fetch(&mut state);
                self.hand_over(&mut state);
            } else {
                stop.send_replace(true);
                state.give_back_ready();
            }
            self.settle(&mut state, phase);
            if phase == Phase::Closing && state.is_finished() {
                break;
            }
            let deadline = self.deadline(&state, phase);
            tokio::select! {
                biased;
                Some(handled) = state.running.next(), if !state.running.is_empty() => {
                    self.handled(&mut state, handled);
                    // Those that ended meanwhile are settled together.
                    while let Some(Some(handled)) = state.running.next().now_or_never() {
                        self.handled(&mut state, handled);
                    }
                }
                settled = arrival(&mut state.settling) => {
                    state.settling = None;
                    self.settled(&mut state, settled, phase);
                }
                (reader, entries) = arrival(&mut state.reading) => {
                    state.reading = None;
                    state.reader = Some(reader);
                    // After a server lost what it knew it may give what is in work here once more.
                    let fresh = entries.into_iter().filter(|entry| self.0.held.take(entry.id));
                    state.arrived(fresh);
                }
                claimed = arrival(&mut state.claiming) => {
                    state.claiming = None;
                    match claimed {
                        Ok(entries) => state.arrived(entries),
                        Err(error) => tracing::warn!(
                            stream = %self.0.consumer.stream, error = error.chain(),
                            "redis streams: error claiming pending messages"
                        ),
                    }
                }
                permit = arrival(&mut state.waiting) => {
                    state.waiting = None;
                    state.permit = permit.ok();
                }
                changed = phases.changed(), if !is_alone => is_alone = changed.is_err(),
                () = sleep_until(deadline) => {}
            }
        }
        // Only reached with something at hand when the server did not hear the last words.
        self.0.held.release(&state.all_held());
    }

    /// Entries read ahead at most.
    fn depth(&self) -> usize {
        let batch = self.0.bulk.map_or(0, |bulk| bulk.max_messages);
        self.0.options.queue_depth.max(batch)
    }

    /// How many entries to ask for; zero while it is not worth it. A batch wants all there is; single messages are
    /// fetched when half of them are gone, many at a time.
    fn room(&self, state: &State) -> usize {
        let room = self.depth().saturating_sub(state.ready.len());
        let enough = if self.0.bulk.is_some() {
            1
        } else {
            self.depth().div_ceil(2)
        };
        if room < enough { 0 } else { room }
    }

    fn fetch(&self, state: &mut State) {
        let room = self.room(state);
        if room == 0 {
            return;
        }
        if let Some(reader) = state.reader.take() {
            state.reading = Some(Box::pin(reader.read(room)));
        }
        if state.claiming.is_none() && self.0.options.redelivers() && state.next_claim <= Instant::now() {
            state.next_claim = Instant::now() + self.0.options.redeliver_interval;
            let (consumer, held) = (self.0.consumer.clone(), self.0.held.clone());
            state.claiming = Some(Box::pin(async move { consumer.overdue(&held, room).await }));
        }
    }

    fn hand_over(&self, state: &mut State) {
        let at_once = if self.0.is_single { 1 } else { usize::MAX };
        while state.running.len() < at_once {
            let batch = state.next_batch(self.0.bulk);
            if batch.is_empty() {
                break;
            }
            let own = state.permit.take();
            let Some(permit) = own.or_else(|| self.0.permits.clone().try_acquire_owned().ok()) else {
                let permits = self.0.permits.clone();
                state
                    .waiting
                    .get_or_insert_with(|| Box::pin(permits.acquire_owned()));
                return;
            };
            let entries = state.take(&batch);
            let delivered = self.deliver(entries);
            state.running.push(Box::pin(async move {
                let _permit = permit;
                delivered.await
            }));
        }
        // There is nothing to begin: others may.
        state.permit = None;
        state.waiting = None;
    }

    /// Gives entries to the handler, for as long as they may take.
    fn deliver(&self, entries: Vec<Entry>) -> impl Future<Output = Vec<Outcome>> + Send + 'static {
        let handler = self.0.handler.clone();
        let is_bulk = self.0.bulk.is_some();
        let limit = self
            .0
            .options
            .redelivers()
            .then_some(self.0.options.processing_timeout);
        let deliveries: Vec<_> = entries.iter().map(|entry| self.delivery(entry)).collect();
        async move {
            let call = async {
                if is_bulk {
                    return guard::handle_bulk(&*handler, deliveries).await;
                }
                let mut verdicts = Vec::with_capacity(1);
                for delivery in deliveries {
                    verdicts.push(guard::handle(&*handler, delivery).await);
                }
                verdicts
            };
            let verdicts = match limit {
                None => Some(call.await),
                Some(limit) => tokio::time::timeout(limit, call).await.ok(),
            };
            let mut verdicts = verdicts.map(Vec::into_iter);
            entries
                .into_iter()
                .map(|entry| Outcome {
                    verdict: verdicts.as_mut().and_then(Iterator::next),
                    id: entry.id,
                    key: entry.key,
                })
                .collect()
        }
    }

    fn delivery(&self, entry: &Entry) -> Delivery {
        Delivery {
            topic: self.0.topic.clone(),
            data: entry.data.clone(),
            // The envelope names its content type.
            content_type: None,
            metadata: entry.metadata.clone(),
            id: Some(entry.id.to_string().into()),
        }
    }

    fn handled(&self, state: &mut State, outcomes: Vec<Outcome>) {
        let mut left = Vec::new();
        for Outcome { id, key, verdict } in outcomes {
            state.finished(id, key);
            match verdict {
                Some(Verdict::Ack) => state.next.done.push(id),
                Some(Verdict::Release) => state.next.back.push(id),
                None => {
                    tracing::warn!(message = %id, stream = %self.0.consumer.stream, "processing a Redis message took too long");
                    state.next.back.push(id);
                }
                Some(Verdict::Retry(error)) => {
                    tracing::error!(
                        stream = %self.0.consumer.stream,
                        "Error processing Redis message {id}: {}", error.chain()
                    );
                    if self.0.options.redelivers() {
                        left.push(id);
                    } else {
                        // Nobody would ever look at it again: upstream drops it, too.
                        state.next.done.push(id);
                    }
                }
            }
        }
        self.0.held.release(&left);
    }

    /// Tells the server what became of entries, one exchange at a time: what ends meanwhile goes with the next.
    fn settle(&self, state: &mut State, phase: Phase) {
        let now = Instant::now();
        if state.settling.is_some() || state.settle_at.is_some_and(|at| at > now) {
            return;
        }
        if self.0.options.redelivers() && phase != Phase::Closing && state.next_renewal <= now {
            state.next_renewal = now + self.0.options.processing_timeout / 3;
            state.next.kept = state.in_work();
        }
        if state.next.is_empty() {
            return;
        }
        let settlement = std::mem::take(&mut state.next);
        let consumer = self.0.consumer.clone();
        state.settling = Some(Box::pin(async move {
            let result = consumer.settle(&settlement).await;
            (settlement, result)
        }));
        state.settle_at = None;
    }

    fn settled(&self, state: &mut State, (mut settlement, result): state::Settled, phase: Phase) {
        let error = match result {
            Ok(()) => {
                settlement.done.append(&mut settlement.back);
                self.0.held.release(&settlement.done);
                state.failing_since = None;
                return;
            }
            Err(error) => error,
        };
        tracing::warn!(
            stream = %self.0.consumer.stream, error = error.chain(),
            "redis streams: error acknowledging messages"
        );
        let since = *state.failing_since.get_or_insert_with(Instant::now);
        let gives_up =
            error.kind() == ErrorKind::Closed || (phase == Phase::Closing && since.elapsed() > LAST_WORDS);
        settlement.done.append(&mut state.next.done);
        settlement.back.append(&mut state.next.back);
        settlement.kept.clear();
        if gives_up {
            settlement.done.append(&mut settlement.back);
            self.0.held.release(&settlement.done);
            return;
        }
        state.next = settlement;
        state.settle_at = Some(Instant::now() + SETTLE_AGAIN);
    }

    /// When to wake without anybody's doing.
    fn deadline(&self, state: &State, phase: Phase) -> Option<Instant> {
        let mut times = Vec::with_capacity(4);
        if state.settling.is_none() {
            times.extend(state.settle_at);
            if self.0.options.redelivers() && state.has_work() {
                times.push(state.next_renewal);
            }
        }
        if phase == Phase::Running {
            if self.0.options.redelivers() && state.claiming.is_none() && self.room(state) > 0 {
                times.push(state.next_claim);
            }
            if let (Some(bulk), Some((since, _))) = (self.0.bulk, state.ready.front())
                && state.waiting.is_none()
            {
                times.push(*since + bulk.max_wait);
            }
        }
        // A time that is over had its chance; what it waits for wakes the task.
        let now = Instant::now();
        times.into_iter().filter(|time| *time > now).min()
    }
}

/// What `slot` holds, when it is there; never while it is empty.
async fn arrival<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ids of entries, in no order.
fn ids<'a>(entries: impl IntoIterator<Item = &'a (Instant, Entry)>) -> impl Iterator<Item = EntryId> {
    entries.into_iter().map(|(_, entry)| entry.id)
}
