//! Resiliency resources as the engine reads them, and its measurements.

use outrigger_engine_resiliency::Resource as Policies;
use outrigger_resources::kinds::Resiliency;
use outrigger_sidecar_resilience::{Direction, PolicyEvent, PolicyKind, ResilienceObserver, State};
use outrigger_telemetry::{
    Metrics,
    metrics::{self, CircuitBreakerState, FlowDirection},
};
use serde_json::{Map, Value, json};

/// A resource in the engine's terms. Both sides spell the custom resource's JSON, so that is the bridge.
///
/// # Errors
/// When a value is of another kind than the engine expects, which decoding the file has ruled out.
pub(crate) fn to_engine(resource: &Resiliency) -> Result<Policies, serde_json::Error> {
    let spec = &resource.spec;
    let retries: Map<String, Value> = spec
        .policies
        .retries
        .iter()
        .map(|(name, retry)| {
            let matching = retry.matching.as_ref().map(|matching| {
                json!({
                    "httpStatusCodes": matching.http_status_codes,
                    "gRPCStatusCodes": matching.grpc_status_codes,
                })
            });
            let value = json!({
                "policy": retry.policy,
                "duration": retry.duration,
                "maxInterval": retry.max_interval,
                "maxRetries": retry.max_retries,
                "matching": matching,
            });
            (name.clone(), value)
        })
        .collect();
    let breakers: Map<String, Value> = spec
        .policies
        .circuit_breakers
        .iter()
        .map(|(name, breaker)| {
            let value = json!({
                "maxRequests": breaker.max_requests,
                "interval": breaker.interval,
                "timeout": breaker.timeout,
                "trip": breaker.trip,
            });
            (name.clone(), value)
        })
        .collect();
    let names = |timeout: &str, retry: &str, breaker: &str| json!({"timeout": timeout, "retry": retry, "circuitBreaker": breaker});
    let with = |mut value: Value, further: Value| {
        if let (Some(value), Value::Object(further)) = (value.as_object_mut(), further) {
            value.extend(further);
        }
        value
    };
    let apps: Map<String, Value> = spec
        .targets
        .apps
        .iter()
        .map(|(id, target)| {
            let value = names(&target.timeout, &target.retry, &target.circuit_breaker);
            (
                id.clone(),
                with(
                    value,
                    json!({"circuitBreakerCacheSize": target.circuit_breaker_cache_size}),
                ),
            )
        })
        .collect();
    let actors: Map<String, Value> = spec
        .targets
        .actors
        .iter()
        .map(|(kind, target)| {
            let value = names(&target.timeout, &target.retry, &target.circuit_breaker);
            let further = json!({
                "circuitBreakerScope": target.circuit_breaker_scope,
                "circuitBreakerCacheSize": target.circuit_breaker_cache_size,
            });
            (kind.clone(), with(value, further))
        })
        .collect();
    let components: Map<String, Value> = spec
        .targets
        .components
        .iter()
        .map(|(name, target)| {
            let side = |side: &outrigger_resources::kinds::PolicyNames| {
                names(&side.timeout, &side.retry, &side.circuit_breaker)
            };
            (
                name.clone(),
                json!({"inbound": side(&target.inbound), "outbound": side(&target.outbound)}),
            )
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": resource.meta.name, "namespace": resource.meta.namespace},
        "spec": {
            "policies": {
                "timeouts": spec.policies.timeouts,
                "retries": retries,
                "circuitBreakers": breakers,
            },
            "targets": {"apps": apps, "actors": actors, "components": components},
        },
        "scopes": resource.scopes,
    }))
}

/// Measures policies.
#[derive(Debug)]
pub(crate) struct MeasuredPolicies(pub(crate) Metrics);

fn labels<'a>(event: &PolicyEvent<'a>) -> (metrics::Policy<'a>, Option<CircuitBreakerState>) {
    let kind = match event.policy {
        PolicyKind::CircuitBreaker => metrics::PolicyKind::CircuitBreaker,
        PolicyKind::Retry => metrics::PolicyKind::Retry,
        PolicyKind::Timeout => metrics::PolicyKind::Timeout,
    };
    let flow = match event.direction {
        Direction::Inbound => FlowDirection::Inbound,
        Direction::Outbound => FlowDirection::Outbound,
    };
    let state = event.status.map(|state| match state {
        State::Closed => CircuitBreakerState::Closed,
        State::HalfOpen => CircuitBreakerState::HalfOpen,
        State::Open => CircuitBreakerState::Open,
    });
    (
        metrics::Policy {
            resource: event.name,
            namespace: event.namespace,
            kind,
            flow,
            target: event.target,
        },
        state,
    )
}

impl ResilienceObserver for MeasuredPolicies {
    fn loaded(&self, name: &str, namespace: &str) {
        self.0.resiliency_loaded(name, namespace);
    }

    fn executed(&self, event: &PolicyEvent<'_>) {
        let (policy, state) = labels(event);
        self.0.resiliency_executed(&policy, state);
    }

    fn activated(&self, event: &PolicyEvent<'_>) {
        let (policy, state) = labels(event);
        self.0.resiliency_activated(&policy, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_keeps_its_policies_and_targets() {
        let mut resource = Resiliency::default();
        resource.meta.name = "r".to_owned();
        resource
            .spec
            .policies
            .timeouts
            .insert("fast".to_owned(), "1s".to_owned());
        resource.spec.targets.apps.insert(
            "orders".to_owned(),
            outrigger_resources::kinds::EndpointPolicyNames {
                timeout: "fast".to_owned(),
                ..Default::default()
            },
        );
        let policies = to_engine(&resource).unwrap();
        assert_eq!(policies.metadata.name, "r");
        assert_eq!(policies.spec.policies.timeouts["fast"], "1s");
        assert_eq!(policies.spec.targets.apps["orders"].names.timeout, "fast");
    }
}
