//! Component metrics (`pkg/diagnostics/component_monitoring.go`).
//!
//! Latencies are recorded only when more than zero, as the peer does: a zero means "not measured".

use std::time::Duration;

use super::{Counter, Families, Family, Histogram, Metrics, MetricsError, flag, milliseconds};

/// What became of a message delivered to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessStatus {
    /// Acknowledged.
    Success,
    /// To be delivered again.
    Retry,
    /// Given up.
    Drop,
}

impl ProcessStatus {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Retry => "retry",
            Self::Drop => "drop",
        }
    }
}

/// The building blocks whose calls carry an operation label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentCall {
    /// `component/output_binding`; the operation is the binding's.
    OutputBinding,
    /// `component/state`: get, set, delete, query, transaction, `bulk_get`, `bulk_delete`.
    State,
    /// `component/configuration`: get, subscribe, unsubscribe.
    Configuration,
    /// `component/secret`: get, `bulk_get`.
    Secret,
    /// `component/crypto`: `crypto_op`.
    Crypto,
}

struct Pair {
    count: Family<Counter>,
    latency: Family<Histogram>,
}

impl Pair {
    fn new(
        families: &Families,
        measure: &str,
        what: &str,
        labels: &[&'static str],
    ) -> Result<Self, MetricsError> {
        Ok(Self {
            count: families.counter(&format!("{measure}/count"), what, labels)?,
            latency: families.latency(
                &format!("{measure}/latencies"),
                &format!("{what}: latency (ms)"),
                labels,
            )?,
        })
    }

    fn record(&self, labels: &[&str], elapsed: Duration) {
        self.count.with(labels, Counter::inc);
        if !elapsed.is_zero() {
            self.latency
                .with(labels, |series| series.observe(milliseconds(elapsed)));
        }
    }
}

pub(super) struct ComponentFamilies {
    pubsub_ingress: Pair,
    bulk_ingress: Pair,
    bulk_ingress_events: Family<Counter>,
    pubsub_egress: Pair,
    bulk_egress: Pair,
    input_binding: Pair,
    output_binding: Pair,
    state: Pair,
    configuration: Pair,
    secret: Pair,
    crypto: Pair,
    conversation: Pair,
    job_success: Family<Counter>,
    job_failure: Family<Counter>,
    job_latency: Family<Histogram>,
}

impl ComponentFamilies {
    pub(super) fn new(families: &Families) -> Result<Self, MetricsError> {
        let plain = ["app_id", "component", "namespace", "success"];
        let operation = ["app_id", "component", "namespace", "operation", "success"];
        let ingress = [
            "app_id",
            "component",
            "namespace",
            "process_status",
            "topic",
            "status",
        ];
        let egress = ["app_id", "component", "namespace", "success", "topic"];
        let pair = |name: &str, what: &str, labels: &[&'static str]| {
            Pair::new(families, &format!("component/{name}"), what, labels)
        };
        Ok(Self {
            pubsub_ingress: pair("pubsub_ingress", "Messages delivered to the app", &ingress)?,
            bulk_ingress: pair("pubsub_ingress/bulk", "Bulk deliveries to the app", &ingress[..5])?,
            bulk_ingress_events: families.counter(
                "component/pubsub_ingress/bulk/event_count",
                "Bulk deliveries to the app, by outcome of their entries",
                &ingress[..5],
            )?,
            pubsub_egress: pair("pubsub_egress", "Messages published", &egress)?,
            bulk_egress: pair("pubsub_egress/bulk", "Bulk publishes", &egress)?,
            input_binding: pair("input_binding", "Events of input bindings", &plain)?,
            output_binding: pair("output_binding", "Calls of output bindings", &operation)?,
            state: pair("state", "Calls of state stores", &operation)?,
            configuration: pair("configuration", "Calls of configuration stores", &operation)?,
            secret: pair("secret", "Calls of secret stores", &operation)?,
            crypto: pair("crypto", "Calls of cryptography providers", &operation)?,
            conversation: pair("conversation", "Calls of conversation components", &plain)?,
            job_success: families.counter(
                "component/job/success_count",
                "Jobs the app has accepted",
                &["app_id", "namespace", "operation"],
            )?,
            job_failure: families.counter(
                "component/job/failure_count",
                "Jobs the app has refused",
                &["app_id", "namespace", "operation"],
            )?,
            job_latency: families.latency(
                "component/job/latencies",
                "Time the app took for a job (ms)",
                &["app_id", "namespace", "operation", "success"],
            )?,
        })
    }
}

impl Metrics {
    /// Counts one message delivered to the app. `status` is the app's own word for the outcome; empty takes the
    /// process status.
    pub fn pubsub_ingress(
        &self,
        component: &str,
        process_status: ProcessStatus,
        status: &str,
        topic: &str,
        elapsed: Duration,
    ) {
        let Some(inner) = self.0.as_deref() else { return };
        let process_status = process_status.as_str();
        let status = if status.is_empty() { process_status } else { status };
        inner.component.pubsub_ingress.record(
            &[
                &inner.app_id,
                component,
                &inner.namespace,
                process_status,
                topic,
                status,
            ],
            elapsed,
        );
    }

    /// Counts one bulk delivery to the app.
    pub fn bulk_pubsub_ingress(&self, component: &str, topic: &str, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        inner
            .component
            .bulk_ingress
            .record(&[&inner.app_id, component, &inner.namespace, "", topic], elapsed);
    }

    /// Counts the entries of a bulk delivery that ended alike. The peer's view counts calls of this recorder,
    /// not entries: `entries` only decides whether anything is counted.
    pub fn bulk_pubsub_ingress_entries(
        &self,
        component: &str,
        topic: &str,
        process_status: ProcessStatus,
        entries: u64,
    ) {
        let Some(inner) = self.0.as_deref() else { return };
        if entries > 0 {
            inner.component.bulk_ingress_events.with(
                &[
                    &inner.app_id,
                    component,
                    &inner.namespace,
                    process_status.as_str(),
                    topic,
                ],
                Counter::inc,
            );
        }
    }

    /// Counts one message published.
    pub fn pubsub_egress(&self, component: &str, topic: &str, success: bool, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        inner.component.pubsub_egress.record(
            &[&inner.app_id, component, &inner.namespace, flag(success), topic],
            elapsed,
        );
    }

    /// Counts one bulk publish. (The peer declares `pubsub_egress/bulk/event_count` but never registers its
    /// view, so it is not exposed there and not here.)
    pub fn bulk_pubsub_egress(&self, component: &str, topic: &str, success: bool, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        inner.component.bulk_egress.record(
            &[&inner.app_id, component, &inner.namespace, flag(success), topic],
            elapsed,
        );
    }

    /// Counts one event of an input binding.
    pub fn input_binding(&self, component: &str, success: bool, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        inner.component.input_binding.record(
            &[&inner.app_id, component, &inner.namespace, flag(success)],
            elapsed,
        );
    }

    /// Counts one call of a component.
    pub fn component_call(
        &self,
        call: ComponentCall,
        component: &str,
        operation: &str,
        success: bool,
        elapsed: Duration,
    ) {
        let Some(inner) = self.0.as_deref() else { return };
        let families = &inner.component;
        let pair = match call {
            ComponentCall::OutputBinding => &families.output_binding,
            ComponentCall::State => &families.state,
            ComponentCall::Configuration => &families.configuration,
            ComponentCall::Secret => &families.secret,
            ComponentCall::Crypto => &families.crypto,
        };
        pair.record(
            &[
                &inner.app_id,
                component,
                &inner.namespace,
                operation,
                flag(success),
            ],
            elapsed,
        );
    }

    /// Counts one call of a conversation component.
    pub fn conversation(&self, component: &str, success: bool, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        inner.component.conversation.record(
            &[&inner.app_id, component, &inner.namespace, flag(success)],
            elapsed,
        );
    }

    /// Counts one job trigger delivered to the app (`operation` is `job_trigger_op`).
    pub fn job_triggered(&self, operation: &str, success: bool, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let families = &inner.component;
        let labels = [inner.app_id.as_str(), &inner.namespace, operation];
        let count = if success {
            &families.job_success
        } else {
            &families.job_failure
        };
        count.with(&labels, Counter::inc);
        if !elapsed.is_zero() {
            let labels = [labels[0], labels[1], labels[2], flag(success)];
            families
                .job_latency
                .with(&labels, |series| series.observe(milliseconds(elapsed)));
        }
    }
}
