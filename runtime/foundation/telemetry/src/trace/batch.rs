//! A bounded queue of finished spans in front of one exporter.

use std::{sync::Arc, time::Duration};

use outrigger_types::Environment;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    export::{ExportError, Exporter},
    span::SpanData,
};

/// The most the environment may ask for: a queue is memory.
const MAX_QUEUE: usize = 65_536;

/// Tries of one batch; a collector that is away longer loses spans, not our memory.
const ATTEMPTS: u32 = 3;

/// The wait before the second try; it doubles.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The OpenTelemetry batch processor's limits: its defaults, or `OTEL_BSP_*`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    queue: usize,
    batch: usize,
    delay: Duration,
    export: Duration,
}

impl Limits {
    pub(super) fn from_environment(environment: &Environment) -> Self {
        let number = |name: &str, default: usize| {
            environment
                .non_empty(name)
                .and_then(|text| text.parse().ok())
                .filter(|number| *number > 0)
                .unwrap_or(default)
        };
        let milliseconds = |name: &str, default: usize| {
            Duration::from_millis(u64::try_from(number(name, default)).unwrap_or(u64::MAX))
        };
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2048).min(MAX_QUEUE);
        Self {
            queue,
            batch: number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).min(queue),
            delay: milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000),
            export: milliseconds("OTEL_BSP_EXPORT_TIMEOUT", 30_000),
        }
    }
}

/// One exporter's queue and task. The task ends when told to or when the queue's owner is gone.
pub(super) struct Batcher {
    queue: mpsc::Sender<Arc<SpanData>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Batcher {
    pub(super) fn start(exporter: Exporter, limits: Limits) -> Self {
        let (queue, spans) = mpsc::channel(limits.queue);
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(run(exporter, limits, spans, stopping));
        Self {
            queue,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// Queues a span; `false` when there is no room.
    pub(super) fn offer(&self, span: Arc<SpanData>) -> bool {
        self.queue.try_send(span).is_ok()
    }

    /// Tells the task to send what is queued and end.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the task, and ends it at the deadline.
    pub(super) async fn stopped(&self, deadline: Instant) {
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && tokio::time::timeout_at(deadline, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

async fn run(
    exporter: Exporter,
    limits: Limits,
    mut spans: mpsc::Receiver<Arc<SpanData>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut batch: Vec<Arc<SpanData>> = Vec::new();
    let mut is_failing = false;
    loop {
        let is_open = fill(&mut batch, &limits, &mut spans, &mut stopping).await;
        if !batch.is_empty() {
            let result = export(&exporter, &limits, &batch, &stopping).await;
            report(&mut is_failing, batch.len(), result);
            batch.clear();
        }
        if !is_open {
            return;
        }
    }
}

/// Collects until the batch is full, its first span is old enough, or the end has come; `false` when nothing
/// more can follow.
async fn fill(
    batch: &mut Vec<Arc<SpanData>>,
    limits: &Limits,
    spans: &mut mpsc::Receiver<Arc<SpanData>>,
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
            // No further span is taken; what is queued still comes out.
            spans.close();
        }
        tokio::select! {
            received = spans.recv_many(batch, limits.batch - batch.len()) => {
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
                    spans.close();
                }
            }
        }
    }
}

async fn export(
    exporter: &Exporter,
    limits: &Limits,
    batch: &[Arc<SpanData>],
    stopping: &watch::Receiver<bool>,
) -> Result<(), ExportError> {
    let attempts = async {
        let mut delay = RETRY_DELAY;
        for _ in 1..ATTEMPTS {
            match exporter.export(batch).await {
                Err(error) if error.is_retryable && !*stopping.borrow() => {}
                result => return result,
            }
            sleep(delay).await;
            delay *= 2;
        }
        exporter.export(batch).await
    };
    timeout(limits.export, attempts)
        .await
        .unwrap_or_else(|_| Err(ExportError::permanent("the export took too long")))
}

/// One line when an exporter begins to fail and one when it works again, however many batches lie between.
fn report(is_failing: &mut bool, spans: usize, result: Result<(), ExportError>) {
    match result {
        Ok(()) if *is_failing => {
            *is_failing = false;
            tracing::info!(target: "dapr.runtime.trace", "trace exports work again");
        }
        Ok(()) => {}
        Err(error) if *is_failing => {
            tracing::debug!(target: "dapr.runtime.trace", spans, "traces export: {error}");
        }
        Err(error) => {
            *is_failing = true;
            tracing::warn!(target: "dapr.runtime.trace", spans, "traces export: {error}");
        }
    }
}
