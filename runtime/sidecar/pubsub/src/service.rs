//! The service and what it needs.

use std::{fmt, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};
use outrigger_component::Metadata;
use outrigger_engine_dispatch::{Now, Publish};
use outrigger_pubsub::{OutgoingEntry, SharedPubSub};
use outrigger_sidecar_api::{ApiError, Components, errors};
use outrigger_sidecar_app_channel::AppChannel;
use outrigger_sidecar_resilience::ResilienceProvider;
use outrigger_telemetry::{
    Metrics, Tracer,
    audit::Audit,
    trace::{SpanContext, Traceparent},
};
use outrigger_types::AppId;
use uuid::Uuid;

use crate::{
    component::{Broker, ComponentTable},
    manager::Manager,
    publisher::Publisher,
};

/// What the service needs. Cheap to clone.
#[derive(Clone)]
pub struct PubsubOptions {
    /// The app: source of events and the group that shares messages unless a component names another.
    pub app_id: AppId,
    /// `NAMESPACE`, where it is set: prefix of the topics of components that are namespaced by `{namespace}`.
    pub namespace: Option<String>,
    /// The brokers.
    pub components: Arc<Components<SharedPubSub>>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
    /// Keeps records of topics that were refused.
    pub audit: Audit,
    /// Where messages are counted.
    pub metrics: Metrics,
    /// Where deliveries are traced.
    pub tracer: Tracer,
    /// The app, once it is there; empty for sidecars without one.
    pub app: Arc<ArcSwapOption<AppChannel>>,
    /// Whether the app is asked for subscriptions (off by `--disable-init-endpoints=subscribe`).
    pub ask_app: bool,
    /// The present, for `time` and `expiration` of events.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The local time that `time` is written in.
    pub zone: TimeZone,
}

impl PubsubOptions {
    pub(crate) fn now(&self) -> Now {
        let at = (self.clock)();
        Now {
            at,
            offset_seconds: self.zone.to_offset(at).seconds(),
        }
    }

    /// The namespace as it stands before topics; upstream takes `default` where none is set.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

impl fmt::Debug for PubsubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubsubOptions")
            .field("app_id", &self.app_id)
            .field("namespace", &self.namespace)
            .field("ask_app", &self.ask_app)
            .finish_non_exhaustive()
    }
}

/// Pub/sub as served to the app.
pub struct PubsubService {
    pub(crate) options: PubsubOptions,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) manager: Arc<Manager>,
}

impl PubsubService {
    /// A service without subscriptions; call within a tokio runtime before using them.
    #[must_use]
    pub fn new(options: PubsubOptions) -> Self {
        let table = Arc::new(ComponentTable::new(options.clone()));
        let publisher = Arc::new(Publisher::new(options.clone(), table));
        let manager = Manager::new(options.clone(), Arc::clone(&publisher));
        Self {
            options,
            publisher,
            manager,
        }
    }
}

/// The trace that an event belongs to, as attributes spell it; both empty without one.
pub(crate) struct TraceOf<'a> {
    parent: Option<Traceparent>,
    pub(crate) state: &'a str,
}

impl TraceOf<'_> {
    pub(crate) fn parent(&self) -> &str {
        self.parent.as_ref().map_or("", Traceparent::as_str)
    }
}

impl<'a> From<Option<&'a SpanContext>> for TraceOf<'a> {
    /// Without a valid context the `traceparent` is all zeros: that is what upstream's events carry then.
    fn from(span: Option<&'a SpanContext>) -> Self {
        Self {
            parent: Some(span.map_or_else(|| SpanContext::default().traceparent(), SpanContext::traceparent)),
            state: span.and_then(SpanContext::tracestate).unwrap_or_default(),
        }
    }
}

/// A fresh id in its usual spelling, without allocating.
pub(crate) struct FreshId([u8; 36]);

impl FreshId {
    pub(crate) fn new() -> Self {
        let mut text = [0; 36];
        Uuid::new_v4().hyphenated().encode_lower(&mut text);
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only hexadecimal digits and dashes are ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl PubsubService {
    /// The bytes of an event that is not raw.
    pub(crate) fn envelope(
        &self,
        broker: &Broker,
        topic: &str,
        content_type: &str,
        data: &[u8],
        trace: &TraceOf<'_>,
        metadata: &Metadata,
    ) -> Result<Bytes, ApiError> {
        let app_id = self.options.app_id.as_str();
        Publish {
            id: FreshId::new().as_str(),
            app_id,
            pubsub: broker.name(),
            topic,
            content_type,
            data,
            trace_parent: trace.parent(),
            trace_state: trace.state,
            metadata,
            component_expires: broker.capabilities.message_ttl,
            now: self.options.now(),
        }
        .to_json()
        .map(Bytes::from)
        .map_err(|error| errors::pubsub::cloud_event_creation(broker.name(), app_id, error))
    }

    /// Puts the entries of a bulk publish into envelopes, each with a span of its own under the request's.
    pub(crate) fn wrap_entries(
        &self,
        broker: &Broker,
        topic: &str,
        entries: &mut [OutgoingEntry],
        span_name: &str,
        parent: &SpanContext,
    ) -> Result<(), ApiError> {
        for entry in entries {
            let span = self.options.tracer.bulk_publish_entry(span_name, parent);
            let trace = TraceOf::from(Some(span.context()));
            let content_type = entry.content_type.as_deref().unwrap_or_default();
            entry.data = self.envelope(broker, topic, content_type, &entry.data, &trace, &entry.metadata)?;
        }
        Ok(())
    }

    pub(crate) fn app_facts(&self) -> Option<std::collections::BTreeMap<String, String>> {
        Some([("appID".to_owned(), self.options.app_id.to_string())].into())
    }
}

impl fmt::Debug for PubsubService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubsubService")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
