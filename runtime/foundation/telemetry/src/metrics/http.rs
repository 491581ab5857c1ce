//! HTTP server, client and app health probe metrics (`pkg/diagnostics/http_monitoring.go`).

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    Counter, Families, Family, Histogram, MAX_SERIES_PER_FAMILY, Metrics, MetricsError, MetricsOptions,
    OVERFLOW_LABEL_VALUE,
    admission::Admission,
    path::{PathMatcher, is_static, metric_label, normalized},
    series::SeriesMap,
    whole_milliseconds,
};

const VERBS: [&str; 9] = [
    "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE",
];

/// A request the public HTTP server has answered.
#[derive(Debug, Clone, Copy)]
pub struct HttpServerRequest<'a> {
    /// The request's method; unknown ones are counted as `UNKNOWN`.
    pub method: &'a str,
    /// The request's decoded path.
    pub path: &'a str,
    /// The answer's status.
    pub status: u16,
    /// The request's `Content-Length`; 0 when absent.
    pub request_bytes: u64,
    /// The bytes of the answer's body.
    pub response_bytes: u64,
    /// From the request's arrival to the answer's end.
    pub elapsed: Duration,
}

/// The series one server request touches, looked up once per method, path and status.
struct ServerSeries {
    count: Arc<Counter>,
    latency: Arc<Histogram>,
    responses: Option<Arc<Counter>>,
}

struct ClientSeries {
    count: Arc<Counter>,
    latency: Arc<Histogram>,
}

pub(super) struct HttpFamilies {
    paths: Paths,
    server_request_bytes: AppSeries,
    server_response_bytes: AppSeries,
    server_latency: Family<Histogram>,
    server_request_count: Family<Counter>,
    /// Registered in increased cardinality only.
    server_response_count: Option<Family<Counter>>,
    client_sent_bytes: Family<Histogram>,
    client_received_bytes: AppSeries,
    client_roundtrip_latency: Family<Histogram>,
    client_completed_count: Family<Counter>,
    health_roundtrip_latency: Family<Histogram>,
    health_completed_count: Family<Counter>,
    server_cache: SeriesMap<Arc<ServerSeries>>,
    client_cache: SeriesMap<Arc<ClientSeries>>,
    server_admission: Admission,
    client_admission: Admission,
}

/// A family whose only label is the app id: its one series appears with the first sample, as a view's row does,
/// and is then reached without a lookup.
struct AppSeries {
    family: Family<Histogram>,
    series: OnceLock<Arc<Histogram>>,
}

impl AppSeries {
    fn new(family: Family<Histogram>) -> Self {
        Self {
            family,
            series: OnceLock::new(),
        }
    }

    fn observe(&self, app_id: &str, value: u64) {
        self.series
            .get_or_init(|| self.family.series(&[app_id]))
            .observe(bytes(value));
    }
}

/// Bytes as the exposition's double.
#[expect(
    clippy::cast_precision_loss,
    reason = "the exposition format has only doubles"
)]
pub(super) fn bytes(value: u64) -> f64 {
    value as f64
}

impl HttpFamilies {
    pub(super) fn new(families: &Families, options: &MetricsOptions) -> Result<Self, MetricsError> {
        let request = ["app_id", "method", "path", "status"];
        let request_bytes = families.size(
            "http/server/request_bytes",
            "Request body bytes by Content-Length",
            &["app_id"],
        )?;
        let response_bytes =
            families.size("http/server/response_bytes", "Response body bytes", &["app_id"])?;
        Ok(Self {
            paths: Paths {
                matcher: PathMatcher::new(&options.path_matching, options.increased_cardinality)?,
                legacy: options.increased_cardinality,
                exclude_verbs: options.exclude_verbs,
            },
            server_request_bytes: AppSeries::new(request_bytes),
            server_response_bytes: AppSeries::new(response_bytes),
            server_latency: families.latency(
                "http/server/latency",
                "Time to answer a request (ms)",
                &request,
            )?,
            server_request_count: families.counter(
                "http/server/request_count",
                "Requests answered by the server",
                &request,
            )?,
            server_response_count: if options.increased_cardinality {
                Some(families.counter(
                    "http/server/response_count",
                    "Responses sent by the server",
                    &request,
                )?)
            } else {
                None
            },
            client_sent_bytes: families.size(
                "http/client/sent_bytes",
                "Request body bytes sent to the app",
                &request,
            )?,
            client_received_bytes: AppSeries::new(families.size(
                "http/client/received_bytes",
                "Response body bytes received from the app, errors included",
                &["app_id"],
            )?),
            client_roundtrip_latency: families.latency(
                "http/client/roundtrip_latency",
                "Time from sending a request to the end of its response (ms)",
                &request,
            )?,
            client_completed_count: families.counter(
                "http/client/completed_count",
                "Requests to the app that have ended",
                &request,
            )?,
            health_roundtrip_latency: families.latency(
                "http/healthprobes/roundtrip_latency",
                "Time from sending a health probe to the end of its response (ms)",
                &["app_id", "status"],
            )?,
            health_completed_count: families.counter(
                "http/healthprobes/completed_count",
                "Health probes that have ended",
                &["app_id", "status"],
            )?,
            server_cache: SeriesMap::new(MAX_SERIES_PER_FAMILY),
            client_cache: SeriesMap::new(MAX_SERIES_PER_FAMILY),
            server_admission: Admission::new(options.path_matching.len()),
            client_admission: Admission::new(options.path_matching.len()),
        })
    }
}

/// How method and path become labels.
struct Paths {
    matcher: Option<PathMatcher>,
    legacy: bool,
    exclude_verbs: bool,
}

impl Paths {
    fn method<'a>(&self, method: &'a str) -> &'a str {
        if self.exclude_verbs {
            ""
        } else if VERBS.contains(&method) {
            method
        } else {
            "UNKNOWN"
        }
    }

    /// Whether the path reaches the server's labels at all.
    fn is_path_labelled(&self) -> bool {
        self.legacy || self.matcher.is_some()
    }

    /// The label of a path, by pattern, then by its normalised form (increased cardinality only).
    fn path<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        if is_static(path) {
            return Cow::Borrowed(path);
        }
        if let Some(matcher) = &self.matcher {
            match matcher.label(path) {
                // In increased cardinality an unmatched path comes back as it is and goes on to be normalised.
                Some(label) if !self.legacy || label != path => return label,
                _ => {}
            }
            let short = metric_label(path);
            if short != path
                && let Some(label) = matcher.label(&short)
                && label != "/"
            {
                return Cow::Owned(label.into_owned());
            }
        }
        if self.legacy {
            metric_label(path)
        } else {
            Cow::Borrowed("")
        }
    }

    fn server_path<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        if self.matcher.is_some() {
            match normalized(path) {
                Cow::Borrowed(path) => self.path(path),
                Cow::Owned(path) => Cow::Owned(self.path(&path).into_owned()),
            }
        } else if self.legacy {
            let label = metric_label(path);
            Cow::Owned(self.path(&label).into_owned())
        } else {
            Cow::Borrowed("")
        }
    }

    /// With patterns or in increased cardinality the peer labels client metrics with the normalised path, never
    /// with the pattern.
    fn client_path<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        let label = self.path(path);
        if self.is_path_labelled() {
            Cow::Owned(metric_label(&label).into_owned())
        } else {
            label
        }
    }
}

impl Metrics {
    /// Counts a request the public HTTP server has answered.
    pub fn http_server_request(&self, request: &HttpServerRequest<'_>) {
        let Some(inner) = self.0.as_deref() else { return };
        let http = &inner.http;
        let method = http.paths.method(request.method);
        let raw_path = if http.paths.is_path_labelled() {
            request.path
        } else {
            ""
        };
        let mut digits = itoa::Buffer::new();
        let status = digits.format(request.status);
        let elapsed = whole_milliseconds(request.elapsed);
        let record = |series: &Arc<ServerSeries>| {
            series.count.inc();
            series.latency.observe(elapsed);
            if let Some(responses) = &series.responses {
                responses.inc();
            }
        };
        let key = [method, raw_path, status];
        if http.server_cache.with(&key, record).is_none() {
            let path = http.paths.server_path(raw_path);
            let is_admitted = path.is_empty() || is_static(&path) || http.server_admission.admits(&path);
            let path = if is_admitted { &*path } else { OVERFLOW_LABEL_VALUE };
            let labels = [inner.app_id.as_str(), method, path, status];
            let make = || {
                Arc::new(ServerSeries {
                    count: http.server_request_count.series(&labels),
                    latency: http.server_latency.series(&labels),
                    responses: http
                        .server_response_count
                        .as_ref()
                        .map(|family| family.series(&labels)),
                })
            };
            // A full cache costs a lookup per family, it does not lose the sample. A path that was not admitted may yet
            // be.
            let cached = is_admitted.then(|| http.server_cache.get_or_insert(&key, make));
            record(&cached.flatten().unwrap_or_else(make));
        }
        http.server_request_bytes
            .observe(&inner.app_id, request.request_bytes);
        http.server_response_bytes
            .observe(&inner.app_id, request.response_bytes);
    }

    /// Counts the start of a request to the app: `bytes` is the size of its body.
    pub fn http_client_started(&self, method: &str, path: &str, sent_bytes: u64) {
        let Some(inner) = self.0.as_deref() else { return };
        let http = &inner.http;
        let method = http.paths.method(method);
        let path = http.paths.client_path(path);
        let is_admitted = path.is_empty() || is_static(&path) || http.client_admission.admits(&path);
        let path = if is_admitted { &*path } else { OVERFLOW_LABEL_VALUE };
        // The peer's view has a status column its recorder never fills.
        http.client_sent_bytes
            .with(&[&inner.app_id, method, path, ""], |series| {
                series.observe(bytes(sent_bytes))
            });
    }

    /// Counts the end of a request to the app: `received_bytes` is the size of the answer's body. A request that
    /// got no answer counts as status 500.
    pub fn http_client_completed(
        &self,
        method: &str,
        path: &str,
        status: u16,
        received_bytes: u64,
        elapsed: Duration,
    ) {
        let Some(inner) = self.0.as_deref() else { return };
        let http = &inner.http;
        let method = http.paths.method(method);
        let raw_path = if http.paths.is_path_labelled() || is_static(path) {
            path
        } else {
            ""
        };
        let mut digits = itoa::Buffer::new();
        let status = digits.format(status);
        let elapsed = whole_milliseconds(elapsed);
        let record = |series: &Arc<ClientSeries>| {
            series.count.inc();
            series.latency.observe(elapsed);
        };
        let key = [method, raw_path, status];
        if http.client_cache.with(&key, record).is_none() {
            let path = http.paths.client_path(raw_path);
            let is_admitted = path.is_empty() || is_static(&path) || http.client_admission.admits(&path);
            let path = if is_admitted { &*path } else { OVERFLOW_LABEL_VALUE };
            let labels = [inner.app_id.as_str(), method, path, status];
            let make = || {
                Arc::new(ClientSeries {
                    count: http.client_completed_count.series(&labels),
                    latency: http.client_roundtrip_latency.series(&labels),
                })
            };
            let cached = is_admitted.then(|| http.client_cache.get_or_insert(&key, make));
            record(&cached.flatten().unwrap_or_else(make));
        }
        http.client_received_bytes.observe(&inner.app_id, received_bytes);
    }

    /// Counts an app health probe over HTTP.
    pub fn http_health_probe(&self, status: u16, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let mut digits = itoa::Buffer::new();
        let labels = [inner.app_id.as_str(), digits.format(status)];
        inner.http.health_completed_count.with(&labels, Counter::inc);
        inner
            .http
            .health_roundtrip_latency
            .with(&labels, |series| series.observe(whole_milliseconds(elapsed)));
    }
}
