//! Runtime metrics: components, mTLS, actors, access control, service invocation
//! (`pkg/diagnostics/service_monitoring.go`).

use std::time::Duration;

use super::{Counter, Families, Family, Gauge, Histogram, Metrics, MetricsError, flag, milliseconds};

/// Which part of an access control policy decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyScope {
    /// The entry of the calling app.
    App,
    /// The global default.
    Global,
}

pub(super) struct RuntimeFamilies {
    component_loaded: Family<Counter>,
    component_init: Family<Counter>,
    component_init_fail: Family<Counter>,
    mtls_init: Family<Counter>,
    mtls_init_fail: Family<Counter>,
    cert_rotated: Family<Counter>,
    cert_rotated_fail: Family<Counter>,
    actor_status_report: Family<Counter>,
    actor_status_report_fail: Family<Counter>,
    actor_table_operation: Family<Counter>,
    actor_rebalanced: Family<Counter>,
    actor_deactivated: Family<Counter>,
    actor_deactivated_fail: Family<Counter>,
    actor_pending_calls: Family<Gauge>,
    actor_timers: Family<Gauge>,
    actor_reminders: Family<Gauge>,
    actor_reminders_fired: Family<Counter>,
    actor_timers_fired: Family<Counter>,
    acl_app_allowed: Family<Counter>,
    acl_global_allowed: Family<Counter>,
    acl_app_blocked: Family<Counter>,
    acl_global_blocked: Family<Counter>,
    workflow_acl_allowed: Family<Counter>,
    workflow_acl_denied: Family<Counter>,
    invocation_request_sent: Family<Counter>,
    invocation_request_received: Family<Counter>,
    invocation_response_sent: Family<Counter>,
    invocation_response_received: Family<Counter>,
    invocation_response_latency: Family<Histogram>,
}

impl RuntimeFamilies {
    pub(super) fn new(families: &Families) -> Result<Self, MetricsError> {
        let counter = |name: &str, help: &str, labels: &[&'static str]| {
            families.counter(&format!("runtime/{name}"), help, labels)
        };
        let gauge = |name: &str, help: &str, labels: &[&'static str]| {
            families.gauge(&format!("runtime/{name}"), help, labels)
        };
        let actor = ["app_id", "actor_type"];
        let acl = ["app_id", "trustDomain", "namespace"];
        let workflow_acl = ["app_id", "src_app_id", "operation", "type"];
        Ok(Self {
            component_loaded: counter("component/loaded", "Components loaded", &["app_id"])?,
            component_init: counter(
                "component/init_total",
                "Components initialised",
                &["app_id", "component"],
            )?,
            component_init_fail: counter(
                "component/init_fail_total",
                "Components that failed to initialise",
                &["app_id", "component", "reason", "componentName"],
            )?,
            mtls_init: counter("mtls/init_total", "mTLS set-ups", &["app_id"])?,
            mtls_init_fail: counter(
                "mtls/init_fail_total",
                "mTLS set-ups that failed",
                &["app_id", "reason"],
            )?,
            cert_rotated: counter(
                "mtls/workload_cert_rotated_total",
                "Workload certificates renewed",
                &["app_id"],
            )?,
            cert_rotated_fail: counter(
                "mtls/workload_cert_rotated_fail_total",
                "Workload certificate renewals that failed",
                &["app_id", "reason"],
            )?,
            actor_status_report: counter(
                "actor/status_report_total",
                "Reports to placement",
                &["app_id", "actor_type", "operation"],
            )?,
            actor_status_report_fail: counter(
                "actor/status_report_fail_total",
                "Reports to placement that failed",
                &["app_id", "actor_type", "operation", "reason"],
            )?,
            actor_table_operation: counter(
                "actor/table_operation_recv_total",
                "Placement table operations received",
                &["app_id", "actor_type", "operation"],
            )?,
            actor_rebalanced: counter(
                "actor/rebalanced_total",
                "Actors drained for another host",
                &actor,
            )?,
            actor_deactivated: counter("actor/deactivated_total", "Actors deactivated", &actor)?,
            actor_deactivated_fail: counter(
                "actor/deactivated_failed_total",
                "Actor deactivations that failed",
                &actor,
            )?,
            actor_pending_calls: gauge(
                "actor/pending_actor_calls",
                "Calls waiting for their actor's turn",
                &actor,
            )?,
            actor_timers: gauge("actor/timers", "Actor timers", &actor)?,
            actor_reminders: gauge("actor/reminders", "Actor reminders", &actor)?,
            actor_reminders_fired: counter(
                "actor/reminders_fired_total",
                "Actor reminders fired",
                &["app_id", "actor_type", "success"],
            )?,
            actor_timers_fired: counter(
                "actor/timers_fired_total",
                "Actor timers fired",
                &["app_id", "actor_type", "success"],
            )?,
            acl_app_allowed: counter(
                "acl/app_policy_action_allowed_total",
                "Requests allowed by the caller's policy",
                &acl,
            )?,
            acl_global_allowed: counter(
                "acl/global_policy_action_allowed_total",
                "Requests allowed by the global policy",
                &acl,
            )?,
            acl_app_blocked: counter(
                "acl/app_policy_action_blocked_total",
                "Requests blocked by the caller's policy",
                &acl,
            )?,
            acl_global_blocked: counter(
                "acl/global_policy_action_blocked_total",
                "Requests blocked by the global policy",
                &acl,
            )?,
            workflow_acl_allowed: counter(
                "workflow/acl_action_allowed_total",
                "Workflow operations allowed by policy",
                &workflow_acl,
            )?,
            workflow_acl_denied: counter(
                "workflow/acl_action_denied_total",
                "Workflow operations denied by policy",
                &workflow_acl,
            )?,
            invocation_request_sent: counter(
                "service_invocation/req_sent_total",
                "Invocation requests sent",
                &["app_id", "dst_app_id", "type"],
            )?,
            invocation_request_received: counter(
                "service_invocation/req_recv_total",
                "Invocation requests received",
                &["app_id", "src_app_id"],
            )?,
            invocation_response_sent: counter(
                "service_invocation/res_sent_total",
                "Invocation responses sent",
                &["app_id", "dst_app_id", "status"],
            )?,
            invocation_response_received: counter(
                "service_invocation/res_recv_total",
                "Invocation responses received",
                &["app_id", "src_app_id", "status", "type"],
            )?,
            invocation_response_latency: families.latency(
                "runtime/service_invocation/res_recv_latency_ms",
                "Time to an invocation's response (ms)",
                &["app_id", "src_app_id", "status"],
            )?,
        })
    }
}

/// `unary` or `streaming`.
fn call_type(streaming: bool) -> &'static str {
    if streaming { "streaming" } else { "unary" }
}

impl Metrics {
    /// Counts a component whose resource was loaded.
    pub fn component_loaded(&self) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .component_loaded
                .with(&[&inner.app_id], Counter::inc);
        }
    }

    /// Counts a component initialised; `component_type` is the full type (`state.redis`).
    pub fn component_initialized(&self, component_type: &str) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .component_init
                .with(&[&inner.app_id, component_type], Counter::inc);
        }
    }

    /// Counts a component that failed to start; `reason` is `creation` or `init`.
    pub fn component_init_failed(&self, component_type: &str, reason: &str, name: &str) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .component_init_fail
                .with(&[&inner.app_id, component_type, reason, name], Counter::inc);
        }
    }

    /// Counts an mTLS set-up; `failure` holds the reason when it failed.
    pub fn mtls_init(&self, failure: Option<&str>) {
        let Some(inner) = self.0.as_deref() else { return };
        match failure {
            None => inner.runtime.mtls_init.with(&[&inner.app_id], Counter::inc),
            Some(reason) => inner
                .runtime
                .mtls_init_fail
                .with(&[&inner.app_id, reason], Counter::inc),
        }
    }

    /// Counts a renewal of the workload certificate; `failure` holds the reason when it failed.
    pub fn workload_cert_rotated(&self, failure: Option<&str>) {
        let Some(inner) = self.0.as_deref() else { return };
        match failure {
            None => inner.runtime.cert_rotated.with(&[&inner.app_id], Counter::inc),
            Some(reason) => inner
                .runtime
                .cert_rotated_fail
                .with(&[&inner.app_id, reason], Counter::inc),
        }
    }

    /// Counts a report to placement (`operation`: send, status…); the peer leaves the actor type unset.
    pub fn actor_status_reported(&self, operation: &str, failure: Option<&str>) {
        let Some(inner) = self.0.as_deref() else { return };
        match failure {
            None => inner
                .runtime
                .actor_status_report
                .with(&[&inner.app_id, "", operation], Counter::inc),
            Some(reason) => inner
                .runtime
                .actor_status_report_fail
                .with(&[&inner.app_id, "", operation, reason], Counter::inc),
        }
    }

    /// Counts a placement table operation received (lock, update, unlock).
    pub fn actor_table_operation_received(&self, operation: &str) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .actor_table_operation
                .with(&[&inner.app_id, "", operation], Counter::inc);
        }
    }

    /// Counts an actor drained because its host changed.
    pub fn actor_rebalanced(&self, actor_type: &str) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .actor_rebalanced
                .with(&[&inner.app_id, actor_type], Counter::inc);
        }
    }

    /// Counts an actor deactivation.
    pub fn actor_deactivated(&self, actor_type: &str, success: bool) {
        let Some(inner) = self.0.as_deref() else { return };
        let family = if success {
            &inner.runtime.actor_deactivated
        } else {
            &inner.runtime.actor_deactivated_fail
        };
        family.with(&[&inner.app_id, actor_type], Counter::inc);
    }

    /// Counts an actor reminder fired.
    pub fn actor_reminder_fired(&self, actor_type: &str, success: bool) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .actor_reminders_fired
                .with(&[&inner.app_id, actor_type, flag(success)], Counter::inc);
        }
    }

    /// Counts an actor timer fired.
    pub fn actor_timer_fired(&self, actor_type: &str, success: bool) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .actor_timers_fired
                .with(&[&inner.app_id, actor_type, flag(success)], Counter::inc);
        }
    }

    /// Sets the number of reminders of an actor type.
    pub fn actor_reminders(&self, actor_type: &str, count: i64) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .actor_reminders
                .with(&[&inner.app_id, actor_type], |series| series.set(count));
        }
    }

    /// Sets the number of timers of an actor type.
    pub fn actor_timers(&self, actor_type: &str, count: i64) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .actor_timers
                .with(&[&inner.app_id, actor_type], |series| series.set(count));
        }
    }

    /// Adds to the number of calls waiting for an actor's turn; negative when they leave.
    pub fn actor_pending_calls(&self, actor_type: &str, delta: i64) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .actor_pending_calls
                .with(&[&inner.app_id, actor_type], |series| series.add(delta));
        }
    }

    /// Counts a decision of access control about a caller; its own app id is the `app_id` label, as in the peer.
    pub fn access_control(
        &self,
        scope: PolicyScope,
        allowed: bool,
        caller_app_id: &str,
        trust_domain: &str,
        namespace: &str,
    ) {
        let Some(inner) = self.0.as_deref() else { return };
        let families = &inner.runtime;
        let family = match (scope, allowed) {
            (PolicyScope::App, true) => &families.acl_app_allowed,
            (PolicyScope::App, false) => &families.acl_app_blocked,
            (PolicyScope::Global, true) => &families.acl_global_allowed,
            (PolicyScope::Global, false) => &families.acl_global_blocked,
        };
        family.with(&[caller_app_id, trust_domain, namespace], Counter::inc);
    }

    /// Counts a decision of a workflow access policy.
    pub fn workflow_access(&self, allowed: bool, caller_app_id: &str, kind: &str, operation: &str) {
        let Some(inner) = self.0.as_deref() else { return };
        let family = if allowed {
            &inner.runtime.workflow_acl_allowed
        } else {
            &inner.runtime.workflow_acl_denied
        };
        family.with(&[&inner.app_id, caller_app_id, operation, kind], Counter::inc);
    }

    /// Counts an invocation request sent to a peer.
    pub fn invocation_request_sent(&self, destination: &str, streaming: bool) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .invocation_request_sent
                .with(&[&inner.app_id, destination, call_type(streaming)], Counter::inc);
        }
    }

    /// Counts an invocation request received from a peer.
    pub fn invocation_request_received(&self, source: &str) {
        if let Some(inner) = self.0.as_deref() {
            inner
                .runtime
                .invocation_request_received
                .with(&[&inner.app_id, source], Counter::inc);
        }
    }

    /// Counts an invocation response sent to a peer; `status` is the HTTP or gRPC status.
    pub fn invocation_response_sent(&self, destination: &str, status: i32) {
        if let Some(inner) = self.0.as_deref() {
            let mut digits = itoa::Buffer::new();
            inner
                .runtime
                .invocation_response_sent
                .with(&[&inner.app_id, destination, digits.format(status)], Counter::inc);
        }
    }

    /// Counts a unary invocation response received from a peer.
    pub fn invocation_response_received(&self, source: &str, status: i32, elapsed: Duration) {
        let Some(inner) = self.0.as_deref() else { return };
        let mut digits = itoa::Buffer::new();
        let status = digits.format(status);
        inner
            .runtime
            .invocation_response_received
            .with(&[&inner.app_id, source, status, call_type(false)], Counter::inc);
        inner
            .runtime
            .invocation_response_latency
            .with(&[&inner.app_id, source, status], |series| {
                series.observe(milliseconds(elapsed))
            });
    }

    /// Counts the end of a proxied stream to a peer.
    pub fn invocation_stream_response_received(&self, source: &str, status: i32) {
        if let Some(inner) = self.0.as_deref() {
            let mut digits = itoa::Buffer::new();
            inner.runtime.invocation_response_received.with(
                &[&inner.app_id, source, digits.format(status), call_type(true)],
                Counter::inc,
            );
        }
    }
}
