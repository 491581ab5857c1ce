//! A running schedule.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use outrigger_bindings::{Event, EventHandler, Reading};
use outrigger_component::Metadata;
use outrigger_engine_schedule::cron::Schedule;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use super::{Clock, Zone, clock::go_text};

/// The clock of the host is looked at this often, so that a schedule follows when it is set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Events an app may have under way; a slow app misses the next ones instead of piling them up.
const MAX_IN_FLIGHT: usize = 64;

/// What a schedule runs by.
pub(super) struct Timetable {
    pub(super) schedule: Arc<Schedule>,
    pub(super) zone: Zone,
    pub(super) clock: Arc<dyn Clock>,
}

impl Timetable {
    fn event(&self) -> Event {
        let metadata = Metadata::from([
            ("timeZone".to_owned(), self.zone.name.clone()),
            ("readTimeUTC".to_owned(), go_text(self.clock.now())),
        ]);
        Event {
            metadata,
            ..Event::default()
        }
    }
}

/// Stops when dropped.
pub(super) struct CronReading {
    stop: watch::Sender<bool>,
    /// Closed when the last event is done.
    ended: watch::Receiver<()>,
}

impl CronReading {
    pub(super) fn start(
        timetable: Timetable,
        handler: Arc<dyn EventHandler>,
        closed: watch::Receiver<bool>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(());
        tokio::spawn(async move {
            let mut events = JoinSet::new();
            run(&timetable, &handler, &mut events, stopped, closed).await;
            while events.join_next().await.is_some() {}
            drop(end);
        });
        Self { stop, ended }
    }
}

impl Drop for CronReading {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Reading for CronReading {
    fn close(&self) -> BoxFuture<'_, ()> {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        Box::pin(async move {
            // Nothing is ever sent: it changes by its sender's end.
            let _ = ended.changed().await;
        })
    }
}

/// Fires until one of the two says stop or the schedule has no time left.
async fn run(
    timetable: &Timetable,
    handler: &Arc<dyn EventHandler>,
    events: &mut JoinSet<()>,
    mut stopped: watch::Receiver<bool>,
    mut closed: watch::Receiver<bool>,
) {
    let mut stop = pin!(async move {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            _ = closed.wait_for(|stop| *stop) => {}
        }
    });
    let mut times = Times::new(timetable);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            Some(_) = events.join_next() => {}
            fires = times.next() => {
                if !fires {
                    tracing::warn!("the schedule has no time left to fire");
                    return stop.await;
                }
                if events.len() >= MAX_IN_FLIGHT {
                    tracing::warn!(limit = MAX_IN_FLIGHT, "an event is left out: the app has not finished earlier ones");
                    continue;
                }
                let handler = Arc::clone(handler);
                let event = timetable.event();
                events.spawn(async move {
                    // An event that the app refused is not repeated: the next one comes by itself.
                    if let Err(error) = handler.handle(event).await {
                        tracing::debug!(error = %error.chain(), "the app did not take the event");
                    }
                });
            }
        }
    }
}

/// The times of a schedule, one after the other; dropping a wait loses none.
enum Times<'a> {
    /// Periods run by the monotonic clock, from the start, so that they neither drift nor jump. After a pause of
    /// the machine the missed ones are left out.
    Every(tokio::time::Interval),
    /// Civil times run by the host's clock. Each is found from the one before, never twice.
    Spec {
        timetable: &'a Timetable,
        next: Option<Timestamp>,
    },
}

impl<'a> Times<'a> {
    fn new(timetable: &'a Timetable) -> Self {
        if let Schedule::Every(period) = &*timetable.schedule
            && let Ok(nanoseconds) = u64::try_from(period.as_nanos())
            && nanoseconds > 0
        {
            let period = Duration::from_nanos(nanoseconds);
            let mut interval = tokio::time::interval_at(Instant::now() + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
            return Self::Every(interval);
        }
        let mut times = Self::Spec {
            timetable,
            next: None,
        };
        times.find(timetable.clock.now());
        times
    }

    fn find(&mut self, after: Timestamp) {
        if let Self::Spec { timetable, next } = self {
            let after = after.to_zoned(timetable.zone.zone.clone());
            *next = timetable.schedule.next(&after).map(|time| time.timestamp());
        }
    }

    /// Waits for the next time; `false` when there is none.
    async fn next(&mut self) -> bool {
        let (timetable, due) = match self {
            Self::Every(interval) => {
                interval.tick().await;
                return true;
            }
            Self::Spec { next: None, .. } => return false,
            Self::Spec {
                timetable,
                next: Some(due),
            } => (*timetable, *due),
        };
        let now = loop {
            let now = timetable.clock.now();
            match Duration::try_from(due.duration_since(now)) {
                Ok(wait) if !wait.is_zero() => tokio::time::sleep(wait.min(LONGEST_SLEEP)).await,
                _ => break now,
            }
        };
        // Times missed while the machine slept are left out.
        self.find(now.max(due));
        true
    }
}
