//! A bounded queue in front of one exporter, and the task that empties it.

use std::{future::Future, time::Duration};

use outrigger_types::Environment;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{ExportCounts, ExportError, Signal};

/// A log line in the scope of a signal; scopes are part of a call site, so there is one per signal.
macro_rules! say {
    ($signal:expr, $level:ident, $items:expr, $($text:tt)+) => {
        match $signal {
            Signal::Traces => tracing::$level!(target: "dapr.runtime.trace", items = $items, $($text)+),
            Signal::Metrics | Signal::Logs => {
                tracing::$level!(target: super::EXPORT_SCOPE, items = $items, $($text)+);
            }
        }
    };
}

/// Sends batches somewhere.
pub(crate) trait Export: Send + Sync + 'static {
    /// What is sent.
    type Item: Send + Sync + 'static;

    /// Sends one batch.
    fn export(&self, batch: &[Self::Item]) -> impl Future<Output = Result<(), ExportError>> + Send;
}

/// The most the environment may ask for: a queue is memory.
const MAX_QUEUE: usize = 65_536;

/// Tries of one batch; a collector that is away longer loses data, not our memory.
const ATTEMPTS: u32 = 3;

/// The wait before the second try; it doubles.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The OpenTelemetry batch processors' limits: their defaults, or `OTEL_BSP_*` for spans and `OTEL_BLRP_*` for logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) queue: usize,
    batch: usize,
    delay: Duration,
    export: Duration,
}

impl Limits {
    pub(crate) fn from_environment(signal: Signal, environment: &Environment) -> Self {
        let (prefix, delay) = match signal {
            Signal::Logs => ("OTEL_BLRP", 1_000),
            Signal::Traces | Signal::Metrics => ("OTEL_BSP", 5_000),
        };
        let number = |name: &str, default: usize| {
            environment
                .non_empty(&format!("{prefix}_{name}"))
                .and_then(|text| text.parse().ok())
                .filter(|number| *number > 0)
                .unwrap_or(default)
        };
        let milliseconds = |name: &str, default: usize| {
            Duration::from_millis(u64::try_from(number(name, default)).unwrap_or(u64::MAX))
        };
        let queue = number("MAX_QUEUE_SIZE", 2048).min(MAX_QUEUE);
        Self {
            queue,
            batch: number("MAX_EXPORT_BATCH_SIZE", 512).min(queue),
            delay: milliseconds("SCHEDULE_DELAY", delay),
            export: milliseconds("EXPORT_TIMEOUT", 30_000),
        }
    }
}

/// One exporter's queue and task. The task ends when told to or when the queue's owner is gone.
pub(crate) struct Batcher<T> {
    queue: mpsc::Sender<T>,
    counts: ExportCounts,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Send + Sync + 'static> Batcher<T> {
    pub(crate) fn start(
        signal: Signal,
        exporter: impl Export<Item = T>,
        limits: Limits,
        counts: ExportCounts,
    ) -> Self {
        let (queue, items) = mpsc::channel(limits.queue);
        let (stop, stopping) = watch::channel(false);
        let reporter = Reporter {
            signal,
            counts: counts.clone(),
            is_failing: false,
        };
        let task = tokio::spawn(run(exporter, limits, items, stopping, reporter));
        Self {
            queue,
            counts,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// Queues an item, or drops and counts it when there is no room. Never waits.
    pub(crate) fn offer(&self, item: T) {
        if self.queue.try_send(item).is_err() {
            self.counts.dropped.inc();
        }
    }

    /// Tells the task to send what is queued and end.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the task, and ends it at the deadline.
    pub(crate) async fn stopped(&self, deadline: Instant) {
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && tokio::time::timeout_at(deadline, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

async fn run<E: Export>(
    exporter: E,
    limits: Limits,
    mut items: mpsc::Receiver<E::Item>,
    mut stopping: watch::Receiver<bool>,
    mut reporter: Reporter,
) {
    let mut batch: Vec<E::Item> = Vec::new();
    loop {
        let is_open = fill(&mut batch, &limits, &mut items, &mut stopping).await;
        if !batch.is_empty() {
            let result = attempts(|| exporter.export(&batch), limits.export, || *stopping.borrow()).await;
            reporter.report(batch.len(), result);
            batch.clear();
        }
        if !is_open {
            return;
        }
    }
}

/// Collects until the batch is full, its first item is old enough, or the end has come; `false` when nothing
/// more can follow.
async fn fill<T>(
    batch: &mut Vec<T>,
    limits: &Limits,
    items: &mut mpsc::Receiver<T>,
    stopping: &mut watch::Receiver<bool>,
) -> bool {
    let mut due = None;
    loop {
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let is_stopping = *stopping.borrow_and_update();
        if is_stopping {
            // Nothing further is taken; what is queued still comes out.
            items.close();
        }
        tokio::select! {
            received = items.recv_many(batch, limits.batch - batch.len()) => {
                if received == 0 {
                    return false;
                }
                if batch.len() == limits.batch {
                    return true;
                }
                due.get_or_insert_with(|| Instant::now() + limits.delay);
            }
            () = wait => return true,
            changed = stopping.changed(), if !is_stopping => {
                if changed.is_err() {
                    items.close();
                }
            }
        }
    }
}

/// Tries up to [`ATTEMPTS`] times with growing pauses, within `limit`; once when the end has come.
pub(crate) async fn attempts<Fut: Future<Output = Result<(), ExportError>>>(
    mut export: impl FnMut() -> Fut,
    limit: Duration,
    is_stopping: impl Fn() -> bool,
) -> Result<(), ExportError> {
    let attempts = async {
        let mut delay = RETRY_DELAY;
        for _ in 1..ATTEMPTS {
            match export().await {
                Err(error) if error.is_retryable && !is_stopping() => {}
                result => return result,
            }
            sleep(delay).await;
            delay *= 2;
        }
        export().await
    };
    timeout(limit, attempts)
        .await
        .unwrap_or_else(|_| Err(ExportError::permanent("the export took too long")))
}

/// One line when an exporter begins to fail and one when it works again, however many batches lie between.
pub(crate) struct Reporter {
    pub(crate) signal: Signal,
    pub(crate) counts: ExportCounts,
    pub(crate) is_failing: bool,
}

impl Reporter {
    pub(crate) fn report(&mut self, items: usize, result: Result<(), ExportError>) {
        let (signal, count) = (self.signal.as_str(), u64::try_from(items).unwrap_or(u64::MAX));
        match result {
            Ok(()) => {
                self.counts.sent.add(count);
                if std::mem::take(&mut self.is_failing) {
                    say!(self.signal, info, items, "{signal} exports work again");
                }
            }
            Err(error) => {
                self.counts.failed.add(count);
                if std::mem::replace(&mut self.is_failing, true) {
                    say!(self.signal, debug, items, "{signal} export: {error}");
                } else {
                    say!(self.signal, warn, items, "{signal} export: {error}");
                }
            }
        }
    }
}
