//! Workflow metrics (`pkg/diagnostics/workflow_monitoring.go`).

use std::time::Duration;

use super::{Counter, Families, Family, Histogram, Metrics, MetricsError, milliseconds};

pub(super) struct WorkflowFamilies {
    operation_count: Family<Counter>,
    operation_latency: Family<Histogram>,
    execution_count: Family<Counter>,
    execution_latency: Family<Histogram>,
    scheduling_latency: Family<Histogram>,
    activity_operation_count: Family<Counter>,
    activity_operation_latency: Family<Histogram>,
    activity_execution_count: Family<Counter>,
    activity_execution_latency: Family<Histogram>,
    attestation_generated: Family<Counter>,
    attestation_verified: Family<Counter>,
    attestation_verify_latency: Family<Histogram>,
    attestation_cert_cache: Family<Counter>,
    payload_ratio: Family<Histogram>,
    activity_payload_ratio: Family<Histogram>,
}

impl WorkflowFamilies {
    pub(super) fn new(families: &Families) -> Result<Self, MetricsError> {
        let operation = ["app_id", "namespace", "operation", "status"];
        let workflow = ["app_id", "namespace", "workflow_name", "status"];
        let activity = ["app_id", "namespace", "activity_name", "status"];
        let verified = ["app_id", "namespace", "attestation_kind", "attestation_result"];
        let count = |name: &str, help: &str, labels: &[&'static str]| {
            families.counter(&format!("runtime/workflow/{name}"), help, labels)
        };
        let latency = |name: &str, help: &str, labels: &[&'static str]| {
            families.latency(&format!("runtime/workflow/{name}"), help, labels)
        };
        Ok(Self {
            operation_count: count("operation/count", "Workflow requests", &operation)?,
            operation_latency: latency("operation/latency", "Time of workflow requests (ms)", &operation)?,
            execution_count: count("execution/count", "Workflow runs ended", &workflow)?,
            execution_latency: latency("execution/latency", "Time of workflow runs (ms)", &workflow)?,
            scheduling_latency: latency(
                "scheduling/latency",
                "Time from a workflow's request to its start (ms)",
                &workflow[..3],
            )?,
            activity_operation_count: count("activity/operation/count", "Activity requests", &activity)?,
            activity_operation_latency: latency(
                "activity/operation/latency",
                "Time of activity requests (ms)",
                &activity,
            )?,
            activity_execution_count: count("activity/execution/count", "Activity runs ended", &activity)?,
            activity_execution_latency: latency(
                "activity/execution/latency",
                "Time of activity runs (ms)",
                &activity,
            )?,
            attestation_generated: count(
                "attestation/generated/count",
                "Completion attestations made",
                &["app_id", "namespace", "attestation_kind", "status"],
            )?,
            attestation_verified: count(
                "attestation/verified/count",
                "Completion attestations checked",
                &verified,
            )?,
            attestation_verify_latency: latency(
                "attestation/verify/latency",
                "Time to check a completion attestation (ms)",
                &verified,
            )?,
            attestation_cert_cache: count(
                "attestation/cert_cache/count",
                "Certificate cache look-ups",
                &["app_id", "namespace", "cert_cache_outcome"],
            )?,
            payload_ratio: families.ratio(
                "runtime/workflow/payload/size_ratio",
                "Workflow payload size as a share of the largest body",
                &workflow[..3],
            )?,
            activity_payload_ratio: families.ratio(
                "runtime/workflow/activity/payload/size_ratio",
                "Activity payload size as a share of the largest body",
                &["app_id", "namespace", "workflow_name", "activity_name"],
            )?,
        })
    }
}

/// Counts, and observes a latency that was measured.
fn record(count: &Family<Counter>, latency: &Family<Histogram>, labels: &[&str], elapsed: Duration) {
    count.with(labels, Counter::inc);
    if !elapsed.is_zero() {
        latency.with(labels, |series| series.observe(milliseconds(elapsed)));
    }
}

impl Metrics {
    /// Counts a workflow request: `create_workflow`, `get_workflow`, `add_event`, `purge_workflow`; `status` is
    /// success or failed.
    pub fn workflow_operation(&self, operation: &str, status: &str, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let families = &inner.workflow;
        let labels = [inner.app_id.as_str(), &inner.namespace, operation, status];
        record(
            &families.operation_count,
            &families.operation_latency,
            &labels,
            elapsed,
        );
    }

    /// Counts the end of a workflow run: success, failed, terminated, recoverable. A zero `elapsed` counts
    /// without a latency.
    pub fn workflow_execution(&self, workflow: &str, status: &str, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let families = &inner.workflow;
        let labels = [inner.app_id.as_str(), &inner.namespace, workflow, status];
        record(
            &families.execution_count,
            &families.execution_latency,
            &labels,
            elapsed,
        );
    }

    /// Observes the time from a workflow's request to its start.
    pub fn workflow_scheduled(&self, workflow: &str, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        if !elapsed.is_zero() {
            inner
                .workflow
                .scheduling_latency
                .with(&[&inner.app_id, &inner.namespace, workflow], |series| {
                    series.observe(milliseconds(elapsed));
                });
        }
    }

    /// Counts an activity request.
    pub fn activity_operation(&self, activity: &str, status: &str, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let families = &inner.workflow;
        let labels = [inner.app_id.as_str(), &inner.namespace, activity, status];
        record(
            &families.activity_operation_count,
            &families.activity_operation_latency,
            &labels,
            elapsed,
        );
    }

    /// Counts the end of an activity run: success, failed, recoverable.
    pub fn activity_execution(&self, activity: &str, status: &str, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let families = &inner.workflow;
        let labels = [inner.app_id.as_str(), &inner.namespace, activity, status];
        record(
            &families.activity_execution_count,
            &families.activity_execution_latency,
            &labels,
            elapsed,
        );
    }

    /// Counts a completion attestation made (`kind`: child or activity).
    pub fn attestation_generated(&self, kind: &str, status: &str) {
        let Some(inner) = self.0.as_deref() else { return };
        inner
            .workflow
            .attestation_generated
            .with(&[&inner.app_id, &inner.namespace, kind, status], Counter::inc);
    }

    /// Counts a completion attestation checked (`result`: ok or reject).
    pub fn attestation_verified(&self, kind: &str, result: &str, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let families = &inner.workflow;
        let labels = [inner.app_id.as_str(), &inner.namespace, kind, result];
        record(
            &families.attestation_verified,
            &families.attestation_verify_latency,
            &labels,
            elapsed,
        );
    }

    /// Counts a look-up in the attestation certificate cache.
    pub fn attestation_cert_cache(&self, hit: bool) {
        let Some(inner) = self.0.as_deref() else { return };
        inner.workflow.attestation_cert_cache.with(
            &[&inner.app_id, &inner.namespace, if hit { "hit" } else { "miss" }],
            Counter::inc,
        );
    }

    /// Observes a workflow payload's size as a share of the largest body.
    pub fn workflow_payload_ratio(&self, workflow: &str, ratio: f64) {
        let Some(inner) = self.0.as_deref() else { return };
        inner
            .workflow
            .payload_ratio
            .with(&[&inner.app_id, &inner.namespace, workflow], |series| {
                series.observe(ratio)
            });
    }

    /// Observes an activity payload's size as a share of the largest body.
    pub fn activity_payload_ratio(&self, workflow: &str, activity: &str, ratio: f64) {
        let Some(inner) = self.0.as_deref() else { return };
        inner.workflow.activity_payload_ratio.with(
            &[&inner.app_id, &inner.namespace, workflow, activity],
            |series| {
                series.observe(ratio);
            },
        );
    }
}
