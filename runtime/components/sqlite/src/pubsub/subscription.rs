//! One running subscription: claims messages, calls the handler, settles.
//!
//! Everything goes through one round trip with the database at a time ([`claims::exchange`]): it carries all
//! verdicts so far and brings the next messages, so under load one commit serves many of both.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use outrigger_component::{Error, ErrorKind};
use outrigger_pubsub::{
    BulkOptions, Delivery, Handler, SubscribeRequest, SubscriptionControl, Verdict, guard,
};
use outrigger_types::Topic;
use tokio::{sync::watch, time::Instant};

use super::{
    broker::{Bell, Shared, now},
    claims::{self, Claimed, Consumer, Outcome, Request, Round, Settlement},
    config::Options,
};
use crate::connection::failed;

/// A subscription that stays although its handler released a message does not claim for this long.
const RELEASE_HOLD: Duration = Duration::from_millis(250);
/// How often the other consumers of the group are checked for life while they hold messages.
const PROBE: Duration = Duration::from_secs(1);
/// A message that is done waits this long for the next round with a reason of its own: under load a commit less for each.
/// Killed within that time, the message is delivered once more.
const SETTLE_WITHIN: Duration = Duration::from_millis(10);
/// Waits after a failed round.
const FAILURE_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A closing subscription leaves the rest to its lease after this many failed rounds.
const CLOSING_ATTEMPTS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Paused,
    Closed,
}

/// Registers the group and starts claiming.
pub(super) async fn start(
    shared: &Arc<Shared>,
    request: SubscribeRequest,
    handler: Arc<dyn Handler>,
) -> Result<Control, Error> {
    let options = shared.options.for_subscription(&request.metadata)?;
    let consumer = register(shared, &request.topic, &request.group).await?;
    let (phase, phases) = watch::channel(Phase::Running);
    let (done, ended) = watch::channel(false);
    let worker = Worker {
        bell: shared.add_bell(consumer.topic, consumer.group),
        shared: shared.clone(),
        topic: request.topic,
        group: request.group,
        bulk: request.bulk,
        options,
        handler,
    };
    tokio::spawn(async move {
        worker.run(consumer, phases).await;
        done.send_replace(true);
    });
    Ok(Control { phase, ended })
}

async fn register(shared: &Arc<Shared>, topic: &Topic, group: &str) -> Result<Consumer, Error> {
    let (topic, group) = (topic.clone(), group.to_owned());
    let options = shared.options.group;
    let doorbell = shared.doorbell.as_ref().map(|bell| bell.name().to_owned());
    shared
        .database
        .write(move |connection| {
            claims::register(connection, &topic, &group, options, doorbell.as_deref(), now())
                .map_err(|error| failed("cannot register the subscription", error))
        })
        .await
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

struct Worker {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    topic: Topic,
    group: String,
    bulk: Option<BulkOptions>,
    options: Options,
    handler: Arc<dyn Handler>,
}

/// What one call of the handler left.
type Handled = Vec<(Claimed, Verdict)>;

/// A round trip in flight.
enum Trip {
    Exchange(BoxFuture<'static, Result<(Round, Option<Consumer>), Error>>),
    Peek(BoxFuture<'static, Result<Option<Round>, Error>>),
}

/// What a finished trip brought.
enum Arrived {
    Exchange(Result<(Round, Option<Consumer>), Error>),
    Peek(Result<Option<Round>, Error>),
}

struct State {
    consumer: Consumer,
    /// Claimed, not yet with the handler.
    ready: VecDeque<(Instant, Claimed)>,
    /// With the handler.
    running: BTreeSet<i64>,
    calls: usize,
    /// Keys with the handler: the next of the key waits.
    busy: HashSet<Arc<str>>,
    /// Keys given back in a settlement not yet written: later ones are not ours any more.
    blocked: HashSet<Arc<str>>,
    pending: Vec<Settlement>,
    /// When a round is due for what is pending.
    settle_at: Option<Instant>,
    sent: Arc<Vec<Settlement>>,
    trip: Option<Trip>,
    /// The last round failed: it may or may not have happened.
    unknown: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// Claim at the next opportunity.
    look: bool,
    hold_until: Option<Instant>,
    wake_at: Option<i64>,
    probe_at: Option<Instant>,
    others: Vec<String>,
    lease_until: i64,
}

impl Worker {
    async fn run(self, consumer: Consumer, mut phases: watch::Receiver<Phase>) {
        let mut state = State::new(consumer);
        let mut flights: FuturesUnordered<BoxFuture<'_, Handled>> = FuturesUnordered::new();
        loop {
            let phase = phases.borrow_and_update().to_owned();
            if phase > Phase::Running {
                state.release_ready();
            } else {
                while let Some(batch) = state.next_batch(self.bulk, self.calls()) {
                    flights.push(Box::pin(self.deliver(batch)));
                }
            }
            self.depart(&mut state, phase);
            if phase == Phase::Closed
                && flights.is_empty()
                && state.trip.is_none()
                && (state.pending.is_empty() || state.failures >= CLOSING_ATTEMPTS)
            {
                break;
            }
            let deadline = self.deadline(&state, phase);
            tokio::select! {
                Some(handled) = flights.next(), if !flights.is_empty() => self.handled(&mut state, handled),
                arrived = arrival(&mut state.trip), if state.trip.is_some() => {
                    state.trip = None;
                    if !self.arrived(&mut state, arrived) {
                        break;
                    }
                }
                // Not once closed: the control may be gone by then, which would read as a change for ever.
                _ = phases.changed(), if phase < Phase::Closed => {}
                () = self.bell.rung(), if phase == Phase::Running => {}
                () = sleep_until(deadline), if deadline.is_some() => {}
            }
        }
        drop(flights);
        self.leave(state.consumer).await;
    }

    /// Handler calls at once: a batch is one call and comes alone, as upstream's bulk subscriber delivers.
    fn calls(&self) -> usize {
        if self.bulk.is_some() {
            1
        } else {
            self.options.concurrency
        }
    }

    /// Messages held at most: those with the handler and as many as may wait for it.
    fn limit(&self) -> usize {
        self.bulk.map_or_else(
            || self.options.concurrency + self.options.prefetch,
            |bulk| bulk.max_messages.max(1).saturating_mul(2),
        )
    }

    /// Whether the handlers may run out of messages: a round that only brings one more costs as much as one that brings ten.
    fn hungry(&self, state: &State) -> bool {
        self.bulk.is_some()
            || state.calls < self.options.concurrency
            || state.ready.len() <= self.options.prefetch / 2
    }

    /// Starts a round trip if there is a reason to.
    fn depart(&self, state: &mut State, phase: Phase) {
        let clock = Instant::now();
        if state.trip.is_some() || state.retry_at.is_some_and(|at| at > clock) {
            return;
        }
        let time = now();
        let held = state.ready.len() + state.running.len();
        let holding = state.hold_until.is_some_and(|until| until > clock);
        let want = if phase == Phase::Running && !holding {
            self.limit().saturating_sub(held)
        } else {
            0
        };
        if want > 0 {
            state.look |= self.bell.news() || state.wake_at.is_some_and(|at| at <= time);
        }
        let lease = i64::try_from(self.options.lease.as_millis()).unwrap_or(i64::MAX / 2);
        let renew = state.lease_until - time < lease / 3 * 2;
        let settle = phase > Phase::Running
            || state.pending.len() >= self.options.concurrency
            || state.settle_at.is_some_and(|at| at <= clock);
        if (settle && !state.pending.is_empty())
            || state.unknown
            || (want > 0 && state.look && self.hungry(state))
            || (held > 0 && renew)
        {
            state.look = false;
            state.settle_at = None;
            state.wake_at = None;
            state.probe_at = None;
            state.sent = Arc::new(std::mem::take(&mut state.pending));
            let request = Request {
                consumer: state.consumer,
                now: time,
                lease: ((want > 0 || held > 0) && renew).then(|| time.saturating_add(lease)),
                settlements: state.sent.clone(),
                want,
                held: state.unknown.then(|| Arc::new(state.held())),
            };
            if let Some(lease) = request.lease {
                state.lease_until = lease;
            }
            state.trip = Some(Trip::Exchange(Box::pin(exchange(
                self.shared.clone(),
                self.topic.clone(),
                self.group.clone(),
                request,
            ))));
        } else if want > 0 {
            if state.probe_at.is_some_and(|at| at <= clock) {
                state.probe_at = None;
                self.shared.probe(&state.others);
                self.peek(state, time);
            } else if self.bell.perhaps() {
                self.peek(state, time);
            }
        }
    }

    fn peek(&self, state: &mut State, time: i64) {
        let (shared, consumer) = (self.shared.clone(), state.consumer);
        state.trip = Some(Trip::Peek(Box::pin(async move {
            shared
                .database
                .read(move |connection| {
                    claims::peek(connection, consumer, time)
                        .map_err(|error| failed("cannot look for messages", error))
                })
                .await
        })));
    }

    /// Books what a round trip brought; `false` when the database is closed.
    fn arrived(&self, state: &mut State, arrived: Arrived) -> bool {
        let result = match arrived {
            Arrived::Peek(Ok(None)) => {
                state.look = true;
                return true;
            }
            Arrived::Peek(Ok(Some(round))) => {
                state.schedule(round);
                return true;
            }
            Arrived::Peek(Err(error)) => Err(error),
            Arrived::Exchange(Ok(done)) => Ok(done),
            Arrived::Exchange(Err(error)) => {
                let mut again = state.sent.to_vec();
                again.append(&mut state.pending);
                state.pending = again;
                state.unknown = true;
                state.lease_until = 0;
                Err(error)
            }
        };
        match result {
            Err(error) if error.kind() == ErrorKind::Closed => false,
            Err(error) => {
                let wait =
                    (FAILURE_BACKOFF.0 * 2u32.saturating_pow(state.failures.min(10))).min(FAILURE_BACKOFF.1);
                state.failures += 1;
                state.retry_at = Some(Instant::now() + wait);
                state.look = true;
                tracing::warn!(topic = %self.topic, error = error.chain(), "subscription cannot reach its messages, trying again");
                true
            }
            Ok((round, replaced)) => {
                state.failures = 0;
                state.retry_at = None;
                state.unknown = false;
                if let Some(consumer) = replaced {
                    tracing::info!(topic = %self.topic, "the subscription was given up by others and registers anew");
                    state.consumer = consumer;
                    state.ready.clear();
                    state.blocked.clear();
                    state.lease_until = 0;
                    state.look = true;
                    return true;
                }
                self.exchanged(state, round);
                true
            }
        }
    }

    fn exchanged(&self, state: &mut State, mut round: Round) {
        if round.fenced > 0 {
            tracing::info!(topic = %self.topic, count = round.fenced, "messages were taken over before they were settled");
        }
        let sent = std::mem::take(&mut state.sent);
        for key in sent.iter().filter_map(|settled| settled.key.as_ref()) {
            // Unless it was given back once more since.
            if !state.pending.iter().any(|settled| settled.gives_back(key)) {
                state.blocked.remove(key);
            }
        }
        let arrived = Instant::now();
        for claimed in std::mem::take(&mut round.claimed) {
            // Those of a key given back meanwhile go back with it in the next round.
            if claimed
                .key
                .as_ref()
                .is_none_or(|key| !state.blocked.contains(key))
            {
                state.ready.push_back((arrived, claimed));
            }
        }
        if round.ring {
            self.shared.announce(self.bell.topic, &round.doorbells);
        }
        state.schedule(round);
    }

    async fn deliver(&self, batch: Vec<Claimed>) -> Handled {
        let deliveries: Vec<_> = batch.iter().map(|claimed| self.delivery(claimed)).collect();
        let verdicts = if self.bulk.is_some() {
            guard::handle_bulk(&*self.handler, deliveries).await
        } else {
            let mut verdicts = Vec::with_capacity(1);
            for delivery in deliveries {
                verdicts.push(guard::handle(&*self.handler, delivery).await);
            }
            verdicts
        };
        batch.into_iter().zip(verdicts).collect()
    }

    fn delivery(&self, claimed: &Claimed) -> Delivery {
        Delivery {
            topic: self.topic.clone(),
            data: claimed.data.clone(),
            // As components-contrib `pubsub/redis`: the envelope names its content type.
            content_type: None,
            metadata: claimed.metadata.clone(),
            id: Some(claimed.id.to_string().into()),
        }
    }

    fn handled(&self, state: &mut State, handled: Handled) {
        state.calls -= 1;
        for (claimed, verdict) in handled {
            state.running.remove(&claimed.id);
            if let Some(key) = &claimed.key {
                state.busy.remove(key);
            }
            let outcome = match verdict {
                Verdict::Ack => Outcome::Done,
                Verdict::Retry(error) => {
                    let wait = self.options.backoff(claimed.attempts + 1);
                    tracing::warn!(
                        topic = %self.topic, message = claimed.id, attempt = claimed.attempts + 1,
                        again_in = ?wait, error = error.chain(), "message refused, delivered again later"
                    );
                    Outcome::Refused {
                        due: now().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(0)),
                    }
                }
                Verdict::Release => {
                    state.hold_until = Some(Instant::now() + RELEASE_HOLD);
                    state.look = true;
                    Outcome::Released
                }
            };
            state.settle(claimed, outcome);
        }
    }

    /// When to wake without anybody's doing.
    fn deadline(&self, state: &State, phase: Phase) -> Option<Instant> {
        let clock = Instant::now();
        let time = now();
        let at = |wall: i64| clock + Duration::from_millis(u64::try_from(wall - time).unwrap_or(0));
        let mut times = Vec::with_capacity(6);
        if state.trip.is_none() {
            let held = state.ready.len() + state.running.len();
            times.extend(state.retry_at.filter(|at| *at > clock));
            times.extend(state.settle_at.filter(|at| *at > clock));
            if held > 0 {
                let third = i64::try_from(self.options.lease.as_millis() / 3).unwrap_or(i64::MAX / 4);
                times.push(
                    at(state.lease_until.saturating_sub(2 * third).max(time)) + Duration::from_millis(1),
                );
            }
            if phase == Phase::Running && held < self.limit() && self.hungry(state) {
                times.extend(state.hold_until.filter(|at| *at > clock));
                times.extend(state.wake_at.map(at));
                times.extend(state.probe_at);
            }
        }
        if let (Phase::Running, Some(bulk), Some((since, _))) = (phase, self.bulk, state.ready.front())
            && state.calls == 0
        {
            times.push(*since + bulk.max_wait);
        }
        times.into_iter().min()
    }

    /// Signs off: whatever is still claimed is free for others at once.
    async fn leave(&self, consumer: Consumer) {
        self.shared.remove_bell(&self.bell);
        let left = self
            .shared
            .database
            .write(move |connection| {
                claims::leave(connection, consumer, now())
                    .map_err(|error| failed("cannot sign the subscription off", error))
            })
            .await;
        match left {
            Ok(doorbells) => self.shared.announce(self.bell.topic, &doorbells),
            Err(error) if error.kind() == ErrorKind::Closed => {}
            Err(error) => {
                tracing::warn!(topic = %self.topic, error = error.chain(), "claims stay until their lease runs out");
            }
        }
    }
}

async fn exchange(
    shared: Arc<Shared>,
    topic: Topic,
    group: String,
    request: Request,
) -> Result<(Round, Option<Consumer>), Error> {
    // Not worth a wait for the disk: what a loss of power undoes is delivered once more.
    let round = shared
        .database
        .write_relaxed(move |connection| {
            claims::exchange(connection, &request).map_err(|error| failed("cannot exchange messages", error))
        })
        .await?;
    let replaced = if round.gone {
        Some(register(&shared, &topic, &group).await?)
    } else {
        None
    };
    Ok((round, replaced))
}

async fn arrival(trip: &mut Option<Trip>) -> Arrived {
    match trip {
        Some(Trip::Exchange(future)) => Arrived::Exchange(future.await),
        Some(Trip::Peek(future)) => Arrived::Peek(future.await),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Settlement {
    fn gives_back(&self, key: &Arc<str>) -> bool {
        self.outcome != Outcome::Done && self.key.as_ref() == Some(key)
    }
}

impl State {
    fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            ready: VecDeque::new(),
            running: BTreeSet::new(),
            calls: 0,
            busy: HashSet::new(),
            blocked: HashSet::new(),
            pending: Vec::new(),
            settle_at: None,
            sent: Arc::default(),
            trip: None,
            unknown: false,
            failures: 0,
            retry_at: None,
            look: true,
            hold_until: None,
            wake_at: None,
            probe_at: None,
            others: Vec::new(),
            lease_until: 0,
        }
    }

    /// The ids that are really held, for a round after one of unknown fate.
    fn held(&self) -> BTreeSet<i64> {
        let ready = self.ready.iter().map(|(_, claimed)| claimed.id);
        let settled = self.sent.iter().chain(&self.pending).map(|settled| settled.id);
        ready.chain(self.running.iter().copied()).chain(settled).collect()
    }

    /// Takes the next messages for one call of the handler.
    fn next_batch(&mut self, bulk: Option<BulkOptions>, calls: usize) -> Option<Vec<Claimed>> {
        if self.calls >= calls {
            return None;
        }
        let limit = match bulk {
            None => 1,
            Some(bulk) => {
                let limit = bulk.max_messages.max(1);
                let (since, _) = self.ready.front()?;
                if self.ready.len() < limit && *since + bulk.max_wait > Instant::now() {
                    return None;
                }
                limit
            }
        };
        let mut batch: Vec<Claimed> = Vec::new();
        let mut own: HashSet<Arc<str>> = HashSet::new();
        let mut at = 0;
        while batch.len() < limit && at < self.ready.len() {
            if let Some(key) = &self.ready[at].1.key {
                if self.busy.contains(key) && !own.contains(key) {
                    at += 1;
                    continue;
                }
                self.busy.insert(key.clone());
                own.insert(key.clone());
            }
            batch.extend(self.ready.remove(at).map(|(_, claimed)| claimed));
        }
        if batch.is_empty() {
            return None;
        }
        self.calls += 1;
        self.running.extend(batch.iter().map(|claimed| claimed.id));
        Some(batch)
    }

    fn settle(&mut self, claimed: Claimed, outcome: Outcome) {
        if outcome != Outcome::Done
            && let Some(key) = &claimed.key
        {
            self.blocked.insert(key.clone());
            self.ready.retain(|(_, other)| other.key.as_ref() != Some(key));
        }
        // Others may wait for a message of this key, or for this one.
        let waits = claimed.key.is_none() && outcome == Outcome::Done;
        let at = Instant::now() + if waits { SETTLE_WITHIN } else { Duration::ZERO };
        self.settle_at = Some(self.settle_at.map_or(at, |before| before.min(at)));
        self.pending.push(Settlement {
            id: claimed.id,
            epoch: claimed.epoch,
            key: claimed.key,
            outcome,
        });
    }

    /// Gives back what no handler has seen.
    fn release_ready(&mut self) {
        for (_, claimed) in std::mem::take(&mut self.ready) {
            self.pending.push(Settlement {
                id: claimed.id,
                epoch: claimed.epoch,
                key: claimed.key,
                outcome: Outcome::Released,
            });
        }
    }

    fn schedule(&mut self, round: Round) {
        self.look |= round.more;
        self.wake_at = round.wake_at;
        self.probe_at = round.foreign.then(|| Instant::now() + PROBE);
        if round.foreign {
            self.others = round.doorbells;
        }
    }
}
