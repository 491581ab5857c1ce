//! gRPC server, client and app health probe metrics (`pkg/diagnostics/grpc_monitoring.go`).

use std::{sync::Arc, time::Duration};

use outrigger_types::grpc_code_name;

use super::{
    Counter, Families, Family, Histogram, MAX_SERIES_PER_FAMILY, Metrics, MetricsError, http::bytes,
    series::SeriesMap, whole_milliseconds,
};

/// The series one call touches, looked up once per method and status.
struct CallSeries {
    completed: Arc<Counter>,
    latency: Arc<Histogram>,
    /// Unary calls only: streams have no sizes.
    received: Option<Arc<Histogram>>,
    sent: Option<Arc<Histogram>>,
}

struct Side {
    received_bytes: Family<Histogram>,
    sent_bytes: Family<Histogram>,
    latency: Family<Histogram>,
    completed: Family<Counter>,
    cache: SeriesMap<Arc<CallSeries>>,
}

impl Side {
    fn record(&self, app_id: &str, method: &str, code: i32, sizes: Option<(u64, u64)>, elapsed: Duration) {
        let status = grpc_code_name(code);
        let elapsed = whole_milliseconds(elapsed);
        let record = |series: &Arc<CallSeries>| {
            series.completed.inc();
            series.latency.observe(elapsed);
            if let (Some((received, sent)), Some(received_bytes), Some(sent_bytes)) =
                (sizes, &series.received, &series.sent)
            {
                received_bytes.observe(bytes(received));
                sent_bytes.observe(bytes(sent));
            }
        };
        let key = [method, status, if sizes.is_some() { "u" } else { "s" }];
        if self.cache.with(&key, record).is_none() {
            let make = || {
                Arc::new(CallSeries {
                    completed: self.completed.series(&[app_id, method, status]),
                    latency: self.latency.series(&[app_id, method, status]),
                    received: sizes.map(|_| self.received_bytes.series(&[app_id, method])),
                    sent: sizes.map(|_| self.sent_bytes.series(&[app_id, method])),
                })
            };
            record(&self.cache.get_or_insert(&key, make).unwrap_or_else(make));
        }
    }
}

pub(super) struct GrpcFamilies {
    server: Side,
    client: Side,
    health_latency: Family<Histogram>,
    health_completed: Family<Counter>,
}

impl GrpcFamilies {
    pub(super) fn new(families: &Families) -> Result<Self, MetricsError> {
        let server = ["app_id", "grpc_server_method", "grpc_server_status"];
        let client = ["app_id", "grpc_client_method", "grpc_client_status"];
        Ok(Self {
            server: Side {
                received_bytes: families.size(
                    "grpc.io/server/received_bytes_per_rpc",
                    "Request message bytes per call received",
                    &server[..2],
                )?,
                sent_bytes: families.size(
                    "grpc.io/server/sent_bytes_per_rpc",
                    "Response message bytes per call received",
                    &server[..2],
                )?,
                latency: families.latency(
                    "grpc.io/server/server_latency",
                    "Time to answer a call (ms)",
                    &server,
                )?,
                completed: families.counter(
                    "grpc.io/server/completed_rpcs",
                    "Calls received that have ended",
                    &server,
                )?,
                cache: SeriesMap::new(MAX_SERIES_PER_FAMILY),
            },
            client: Side {
                received_bytes: families.size(
                    "grpc.io/client/received_bytes_per_rpc",
                    "Response message bytes per call made",
                    &client[..2],
                )?,
                sent_bytes: families.size(
                    "grpc.io/client/sent_bytes_per_rpc",
                    "Request message bytes per call made",
                    &client[..2],
                )?,
                latency: families.latency(
                    "grpc.io/client/roundtrip_latency",
                    "Time from sending a call to its end (ms)",
                    &client,
                )?,
                completed: families.counter(
                    "grpc.io/client/completed_rpcs",
                    "Calls made that have ended",
                    &client,
                )?,
                cache: SeriesMap::new(MAX_SERIES_PER_FAMILY),
            },
            health_latency: families.latency(
                "grpc.io/healthprobes/roundtrip_latency",
                "Time from sending a health probe to its end (ms)",
                &["app_id", "grpc_client_status"],
            )?,
            health_completed: families.counter(
                "grpc.io/healthprobes/completed_count",
                "Health probes that have ended",
                &["app_id", "grpc_client_status"],
            )?,
        })
    }
}

impl Metrics {
    /// Counts a unary call received. `method` is the full method (`/package.Service/Method`), `code` the gRPC
    /// status code.
    pub fn grpc_server_completed(
        &self,
        method: &str,
        code: i32,
        received_bytes: u64,
        sent_bytes: u64,
        elapsed: Duration,
    ) {
        if let Some(inner) = self.0.as_deref() {
            let sizes = Some((received_bytes, sent_bytes));
            inner
                .grpc
                .server
                .record(&inner.app_id, method, code, sizes, elapsed);
        }
    }

    /// Counts a proxied stream received.
    pub fn grpc_server_stream_completed(&self, method: &str, code: i32, elapsed: Duration) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .grpc
                .server
                .record(&inner.app_id, method, code, None, elapsed);
        }
    }

    /// Counts a unary call made.
    pub fn grpc_client_completed(
        &self,
        method: &str,
        code: i32,
        sent_bytes: u64,
        received_bytes: u64,
        elapsed: Duration,
    ) {
        if let Some(inner) = self.0.as_deref() {
            let sizes = Some((received_bytes, sent_bytes));
            inner
                .grpc
                .client
                .record(&inner.app_id, method, code, sizes, elapsed);
        }
    }

    /// Counts a proxied stream made.
    pub fn grpc_client_stream_completed(&self, method: &str, code: i32, elapsed: Duration) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .grpc
                .client
                .record(&inner.app_id, method, code, None, elapsed);
        }
    }

    /// Counts an app health probe over gRPC.
    pub fn grpc_health_probe(&self, code: i32, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let labels = [inner.app_id.as_str(), grpc_code_name(code)];
        inner.grpc.health_completed.with(&labels, Counter::inc);
        inner
            .grpc
            .health_latency
            .with(&labels, |series| series.observe(whole_milliseconds(elapsed)));
    }
}
