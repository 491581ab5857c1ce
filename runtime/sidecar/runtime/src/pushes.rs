//! Metrics and log lines pushed to a collector, as the Configuration and the environment ask for it (ours; rows C6, C9,
//! O1).

use outrigger_resources::configuration::{Configuration, OtelEnvironmentError, OtelSignal, OtelSpec};
use outrigger_telemetry::{
    Metrics,
    export::{ExporterError, OtlpOptions, PushOptions, Signal},
    logs::LogPush,
    metrics::MetricsPush,
};
use tokio::time::Instant;

use crate::{RUNTIME_VERSION, options::SidecarOptions};

/// Why nothing can be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// A variable of the environment.
    #[error(transparent)]
    Environment(#[from] OtelEnvironmentError),
    /// The collector's address, protocol or TLS.
    #[error(transparent)]
    Exporter(#[from] ExporterError),
}

/// What runs until the end.
#[derive(Debug)]
pub(crate) struct Pushes {
    metrics: Option<MetricsPush>,
    logs: Option<LogPush>,
}

impl Pushes {
    /// Starts what is asked for.
    ///
    /// # Errors
    /// When a collector's address or protocol is wrong.
    pub(crate) fn start(
        options: &SidecarOptions,
        configuration: &Configuration,
        metrics: &Metrics,
    ) -> Result<Self, PushError> {
        let metric = configuration.metric();
        let push = |signal: Signal, otel: OtelSpec| -> Result<PushOptions, PushError> {
            let mut push = PushOptions::new(options.app_id.as_str(), otlp(&otel)?);
            options
                .namespace()
                .unwrap_or_default()
                .clone_into(&mut push.namespace);
            push.instance = format!("{}-{}", options.hostname, std::process::id());
            RUNTIME_VERSION.clone_into(&mut push.version);
            push.environment = options.environment.clone();
            push.counts = metrics.export_counts(signal);
            Ok(push)
        };
        let environment = &options.environment;
        let metrics_push = match OtelSpec::of_signal(metric.otel.as_ref(), OtelSignal::Metrics, environment)?
        {
            Some(otel) if metrics.is_enabled() => {
                let interval = metric.export_interval.and_then(|interval| interval.to_std());
                metrics.push(&push(Signal::Metrics, otel)?, interval)?
            }
            Some(_) => {
                tracing::warn!(target: "dapr.runtime", "metrics are not pushed: they are switched off");
                None
            }
            None => None,
        };
        let mut logs_push = None;
        if let Some(logs) = &options.log_export {
            let logging = configuration.spec.logging.as_ref();
            let configured = logging.and_then(|logging| logging.otel.as_ref());
            match OtelSpec::of_signal(configured, OtelSignal::Logs, environment)? {
                Some(otel) => logs_push = Some(logs.start(&push(Signal::Logs, otel)?)?),
                None => logs.decline(),
            }
        }
        Ok(Self {
            metrics: metrics_push,
            logs: logs_push,
        })
    }

    /// Sends what is left, and gives up at the deadline.
    pub(crate) async fn shutdown(&self, deadline: Instant) {
        if let Some(metrics) = &self.metrics {
            metrics.shutdown(deadline).await;
        }
        if let Some(logs) = &self.logs {
            logs.shutdown(deadline).await;
        }
    }
}

/// The exporter's form of the settings.
pub(crate) fn otlp(otel: &OtelSpec) -> Result<OtlpOptions, ExporterError> {
    Ok(OtlpOptions {
        protocol: otel.protocol.parse()?,
        endpoint: otel.endpoint_address.clone(),
        is_secure: otel.secure(),
        headers: otel.headers.clone(),
        timeout: otel
            .timeout
            .and_then(outrigger_types::duration::GoDuration::to_std),
    })
}
