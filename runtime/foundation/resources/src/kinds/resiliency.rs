//! `Resiliency`, as written; what the policies mean is the resiliency engine's business (wire.md §15).

use std::collections::BTreeMap;

use super::{ObjectMeta, Resource};
use crate::decode::decode_fields;

/// Named policies and who uses them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resiliency {
    /// Name and namespace.
    pub meta: ObjectMeta,
    /// Policies and targets.
    pub spec: ResiliencySpec,
    /// The apps it is for; empty means all.
    pub scopes: Vec<String>,
}

decode_fields!(Resiliency {
    "metadata" => meta,
    "spec" => spec,
    "scopes" => scopes,
} ignoring &["apiVersion", "kind"]);

/// Policies and targets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResiliencySpec {
    /// The policies by name.
    pub policies: Policies,
    /// Who uses which.
    pub targets: Targets,
}

decode_fields!(ResiliencySpec { "policies" => policies, "targets" => targets });

/// Policies by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies {
    /// Timeouts: a Go duration, or a whole number of milliseconds.
    pub timeouts: BTreeMap<String, String>,
    /// Retries.
    pub retries: BTreeMap<String, Retry>,
    /// Circuit breakers.
    pub circuit_breakers: BTreeMap<String, CircuitBreaker>,
}

decode_fields!(Policies { "timeouts" => timeouts, "retries" => retries, "circuitBreakers" => circuit_breakers });

/// A retry policy; durations as texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retry {
    /// `constant` or `exponential`; empty for constant.
    pub policy: String,
    /// The pause of a constant policy.
    pub duration: String,
    /// The longest pause of an exponential policy.
    pub max_interval: String,
    /// How many retries; negative for no end, none for the default.
    pub max_retries: Option<i64>,
    /// Which codes are retried; none for all.
    pub matching: Option<RetryMatching>,
}

decode_fields!(Retry {
    "policy" => policy,
    "duration" => duration,
    "maxInterval" => max_interval,
    "maxRetries" => max_retries,
    "matching" => matching,
});

/// Which codes are retried: lists of codes and ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetryMatching {
    /// HTTP codes, such as `429,500-599`.
    pub http_status_codes: String,
    /// gRPC codes, such as `4,8-14`.
    pub grpc_status_codes: String,
}

decode_fields!(RetryMatching { "httpStatusCodes" => http_status_codes, "gRPCStatusCodes" => grpc_status_codes });

/// A circuit breaker; durations as texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CircuitBreaker {
    /// The most requests while half open; 0 for 1.
    pub max_requests: i64,
    /// How often the counts of the closed state start anew.
    pub interval: String,
    /// How long it stays open.
    pub timeout: String,
    /// The CEL expression that opens it.
    pub trip: String,
}

decode_fields!(CircuitBreaker {
    "maxRequests" => max_requests,
    "interval" => interval,
    "timeout" => timeout,
    "trip" => trip,
});

/// Who uses which policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Targets {
    /// By app id.
    pub apps: BTreeMap<String, EndpointPolicyNames>,
    /// By actor type.
    pub actors: BTreeMap<String, ActorPolicyNames>,
    /// By component name.
    pub components: BTreeMap<String, ComponentPolicyNames>,
}

decode_fields!(Targets { "apps" => apps, "actors" => actors, "components" => components });

/// Policies of a component by direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComponentPolicyNames {
    /// From the component to the app.
    pub inbound: PolicyNames,
    /// From the app to the component.
    pub outbound: PolicyNames,
}

decode_fields!(ComponentPolicyNames { "inbound" => inbound, "outbound" => outbound });

/// Names of policies; empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyNames {
    /// A timeout.
    pub timeout: String,
    /// A retry.
    pub retry: String,
    /// A circuit breaker.
    pub circuit_breaker: String,
}

decode_fields!(PolicyNames { "timeout" => timeout, "retry" => retry, "circuitBreaker" => circuit_breaker });

/// Policies of an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointPolicyNames {
    /// A timeout.
    pub timeout: String,
    /// A retry.
    pub retry: String,
    /// A circuit breaker.
    pub circuit_breaker: String,
    /// How many breakers are kept, one per address; 0 for the default.
    pub circuit_breaker_cache_size: i64,
}

decode_fields!(EndpointPolicyNames {
    "timeout" => timeout,
    "retry" => retry,
    "circuitBreaker" => circuit_breaker,
    "circuitBreakerCacheSize" => circuit_breaker_cache_size,
});

/// Policies of an actor type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActorPolicyNames {
    /// A timeout.
    pub timeout: String,
    /// A retry.
    pub retry: String,
    /// A circuit breaker.
    pub circuit_breaker: String,
    /// One breaker per `type`, `id` or `both`.
    pub circuit_breaker_scope: String,
    /// How many breakers are kept; 0 for the default.
    pub circuit_breaker_cache_size: i64,
}

decode_fields!(ActorPolicyNames {
    "timeout" => timeout,
    "retry" => retry,
    "circuitBreaker" => circuit_breaker,
    "circuitBreakerScope" => circuit_breaker_scope,
    "circuitBreakerCacheSize" => circuit_breaker_cache_size,
});

impl Resource for Resiliency {
    const KIND: &'static str = "Resiliency";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v1alpha1"];

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.meta.name == other.meta.name
            && self.meta.namespace == other.meta.namespace
            && self.spec == other.spec
            && self.scopes == other.scopes
    }
}
