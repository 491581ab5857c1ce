//! The maker of spans.

use std::{borrow::Cow, fmt, sync::Arc, time::SystemTime};

use super::{
    Clock, IdSource, Recording, Sampler, Span, SpanContext, SpanKind, TracerOptions, export, span::SpanData,
};
use crate::export::{Batcher, ExportCounts, ExporterError, Limits, Signal};

/// What tracer and recorded spans share.
pub(super) struct Shared {
    sampler: Sampler,
    ids: Arc<dyn IdSource>,
    clock: Clock,
    batchers: Vec<Batcher<Arc<SpanData>>>,
    counts: ExportCounts,
}

impl Shared {
    pub(super) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(super) fn export(&self, data: SpanData) {
        let data = Arc::new(data);
        for batcher in &self.batchers {
            batcher.offer(Arc::clone(&data));
        }
    }
}

/// Makes spans; a cheap clone. Disabled, it passes the caller's context on, or the zero one, and nothing else, as the
/// peer does without a tracer provider.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Shared>>);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(shared) => f
                .debug_struct("Tracer")
                .field("sampler", &shared.sampler.to_string())
                .field("exporters", &shared.batchers.len())
                .finish_non_exhaustive(),
            None => f.write_str("Tracer(disabled)"),
        }
    }
}

impl Tracer {
    /// Tracing off.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// Starts the exporters' tasks on the current tokio runtime. Without an exporter and without a sampling
    /// rate the tracer is disabled; without an exporter but with a rate, contexts are made and decided on but
    /// nothing is recorded.
    ///
    /// # Errors
    /// When an endpoint is not an address or TLS cannot be prepared.
    pub fn start(options: &TracerOptions) -> Result<Self, ExporterError> {
        let exporters = export::exporters(options)?;
        if exporters.is_empty() && options.sampling_rate.is_empty() {
            return Ok(Self::disabled());
        }
        let limits = Limits::from_environment(Signal::Traces, &options.environment);
        Ok(Self(Some(Arc::new(Shared {
            sampler: Sampler::parse(&options.sampling_rate),
            ids: Arc::clone(&options.ids),
            clock: Arc::clone(&options.clock),
            batchers: exporters
                .into_iter()
                .map(|exporter| Batcher::start(Signal::Traces, exporter, limits, options.counts.clone()))
                .collect(),
            counts: options.counts.clone(),
        }))))
    }

    /// A span of any name. `parent` is the context that came with the request; the invalid one starts a trace.
    pub fn span(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: &SpanContext) -> Span {
        self.begin(kind, parent, || name.into())
    }

    /// The span of a request to the public HTTP API, named by its path until the API renames it. The caller
    /// leaves out paths that contain `/healthz`.
    pub fn http_api(&self, path: &str, parent: &SpanContext) -> Span {
        self.begin(SpanKind::Client, parent, || Cow::Owned(path.to_owned()))
    }

    /// The span of a gRPC call, named by its full method until the API renames it. `own_callee` says whether a
    /// proxied call is meant for this sidecar's own app (`None` when it is not proxied).
    pub fn grpc_api(&self, full_method: &str, own_callee: Option<bool>, parent: &SpanContext) -> Span {
        let is_server = match own_callee {
            Some(own) => own,
            None => {
                full_method.starts_with("/dapr.proto.internals.")
                    || full_method.starts_with("/TaskHubSidecarService")
            }
        };
        let kind = if is_server {
            SpanKind::Server
        } else {
            SpanKind::Client
        };
        self.begin(kind, parent, || Cow::Owned(full_method.to_owned()))
    }

    /// The span of a message handed to the app; `None` when the sampling rate is zero (the peer then hands the
    /// app no context either).
    #[must_use]
    pub fn subscription(&self, topic: &str, parent: &SpanContext) -> Option<Span> {
        self.callback(parent, || Cow::Owned(format!("pubsub/{topic}")))
    }

    /// The span of an input binding's event handed to the app; `None` when the sampling rate is zero.
    #[must_use]
    pub fn input_binding(&self, binding: &str, parent: &SpanContext) -> Option<Span> {
        self.callback(parent, || Cow::Owned(format!("bindings/{binding}")))
    }

    /// The span of one entry of a bulk publish; `name` is the path or full method of the request.
    pub fn bulk_publish_entry(&self, name: &str, parent: &SpanContext) -> Span {
        self.begin(SpanKind::Producer, parent, || Cow::Owned(name.to_owned()))
    }

    /// The sampler, for the start-up log line (`Dapr trace sampler initialized: …`).
    #[must_use]
    pub fn sampler(&self) -> Option<Sampler> {
        self.0.as_deref().map(|shared| shared.sampler)
    }

    /// Spans lost because a queue was full, counted per exporter.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0
            .as_deref()
            .map_or(0, |shared| shared.counts.dropped.value())
    }

    /// Sends what is queued, until the deadline, and stops the exporters. Later spans are dropped.
    pub async fn shutdown(&self, deadline: tokio::time::Instant) {
        if let Some(shared) = self.0.as_deref() {
            shared.batchers.iter().for_each(Batcher::stop);
            for batcher in &shared.batchers {
                batcher.stopped(deadline).await;
            }
        }
    }

    fn callback(&self, parent: &SpanContext, name: impl FnOnce() -> Cow<'static, str>) -> Option<Span> {
        match self.0.as_deref() {
            Some(shared) if !shared.sampler.is_enabled() => None,
            _ => Some(self.begin(SpanKind::Client, parent, name)),
        }
    }

    fn begin(&self, kind: SpanKind, parent: &SpanContext, name: impl FnOnce() -> Cow<'static, str>) -> Span {
        let Some(shared) = &self.0 else {
            return Span::passing(if *parent == SpanContext::default() {
                SpanContext::zero()
            } else {
                parent.clone()
            });
        };
        let is_child = parent.is_valid();
        // A parent without a span id (a short `grpc-trace-bin`) still names the trace, as in Go's SDK.
        let trace_id = if parent.trace_id().is_valid() {
            parent.trace_id()
        } else {
            shared.ids.trace_id()
        };
        let is_sampled = shared.sampler.is_sampled(parent, trace_id);
        let context = parent.child(trace_id, shared.ids.span_id(), is_sampled);
        if !is_sampled || shared.batchers.is_empty() {
            return Span::passing(context);
        }
        let parent_span = if is_child {
            parent.span_id()
        } else {
            super::SpanId::default()
        };
        Span::recorded(Recording::new(
            Arc::clone(shared),
            name(),
            kind,
            context,
            parent_span,
        ))
    }
}
