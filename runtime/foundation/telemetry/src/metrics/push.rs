//! Metrics pushed to an OpenTelemetry collector at an interval (ours; rows C6, O1).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use super::{
    Metrics,
    otlp::{Period, chunks},
};
use crate::export::{
    ExporterError, OtlpClient, PushOptions, Reporter, SCOPE_NAME, Signal, attempts, nanoseconds,
    proto::{
        InstrumentationScope, Resource,
        metrics::{Request, ResourceMetrics, ScopeMetrics},
    },
};

/// `OTEL_METRIC_EXPORT_INTERVAL` when neither it nor the Configuration says anything.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

/// `OTEL_METRIC_EXPORT_TIMEOUT` when it is not set.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest interval: each push reads every series.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// A running push. Dropping it ends the task without a last push; [`MetricsPush::shutdown`] makes one.
#[derive(Debug)]
pub struct MetricsPush {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl MetricsPush {
    /// Pushes once more and ends; gives up at the deadline.
    pub async fn shutdown(&self, deadline: Instant) {
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && tokio::time::timeout_at(deadline, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

impl Metrics {
    /// Pushes all series at an interval, on the current tokio runtime. What a failed push would have said the next one
    /// says: series are cumulative, so nothing is queued. `None` when metrics are off.
    ///
    /// # Errors
    /// When the endpoint is not an address or TLS cannot be prepared.
    pub fn push(
        &self,
        options: &PushOptions,
        interval: Option<Duration>,
    ) -> Result<Option<MetricsPush>, ExporterError> {
        if !self.is_enabled() {
            return Ok(None);
        }
        let milliseconds = |name: &str| {
            options
                .environment
                .non_empty(name)
                .and_then(|text| text.parse().ok())
                .filter(|milliseconds| *milliseconds > 0)
                .map(Duration::from_millis)
        };
        let interval = interval
            .filter(|interval| !interval.is_zero())
            .or_else(|| milliseconds("OTEL_METRIC_EXPORT_INTERVAL"))
            .unwrap_or(DEFAULT_INTERVAL)
            .max(MIN_INTERVAL);
        let (stop, stopping) = watch::channel(false);
        let pusher = Pusher {
            metrics: self.clone(),
            client: OtlpClient::new(
                Signal::Metrics,
                &options.otlp,
                &options.environment,
                options.resolver.clone(),
                options.counts.clone(),
            )?,
            resource: options.resource().to_proto(),
            clock: options.clock.clone(),
            start: nanoseconds((options.clock)()),
            timeout: milliseconds("OTEL_METRIC_EXPORT_TIMEOUT").unwrap_or(DEFAULT_TIMEOUT),
            reporter: Reporter {
                signal: Signal::Metrics,
                counts: options.counts.clone(),
                is_failing: false,
            },
        };
        Ok(Some(MetricsPush {
            stop,
            task: Mutex::new(Some(tokio::spawn(pusher.run(interval, stopping)))),
        }))
    }
}

struct Pusher {
    metrics: Metrics,
    client: OtlpClient,
    resource: Resource,
    clock: std::sync::Arc<dyn Fn() -> std::time::SystemTime + Send + Sync>,
    start: u64,
    timeout: Duration,
    reporter: Reporter,
}

impl Pusher {
    async fn run(mut self, interval: Duration, mut stopping: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                changed = stopping.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
            };
            self.push(&stopping).await;
            if is_last || *stopping.borrow() {
                return;
            }
        }
    }

    async fn push(&mut self, stopping: &watch::Receiver<bool>) {
        let Some(families) = self.metrics.families() else {
            return;
        };
        let period = Period {
            start: self.start,
            end: nanoseconds((self.clock)()),
        };
        for chunk in chunks(&families.registry().gather(), period) {
            let message = Request {
                resource_metrics: vec![ResourceMetrics {
                    resource: Some(self.resource.clone()),
                    scope_metrics: vec![ScopeMetrics {
                        scope: Some(InstrumentationScope {
                            name: SCOPE_NAME.to_owned(),
                        }),
                        metrics: chunk.metrics,
                    }],
                }],
            };
            let result = attempts(|| self.client.send(&message), self.timeout, || *stopping.borrow()).await;
            let is_failure = result.is_err();
            self.reporter.report(chunk.points, result);
            if is_failure {
                // The rest would most likely fail alike, and comes again with the next push.
                return;
            }
        }
    }
}
