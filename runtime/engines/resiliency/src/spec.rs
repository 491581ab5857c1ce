//! The Resiliency resource as it is written (`dapr.io/v1alpha1`), before anything is checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// `null` stands for an absent value everywhere, as when Go decodes it.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// One Resiliency resource; unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// Name and namespace, which metrics carry.
    #[serde(deserialize_with = "nullable")]
    pub metadata: Metadata,
    /// Policies and the targets they apply to.
    #[serde(deserialize_with = "nullable")]
    pub spec: Spec,
    /// App ids that see the resource; empty for all.
    #[serde(deserialize_with = "nullable")]
    pub scopes: Vec<String>,
}

impl Resource {
    /// Whether an app with this id sees the resource.
    #[must_use]
    pub fn in_scope(&self, app_id: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|scope| scope == app_id)
    }
}

/// What the engine needs of the object's metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// `metadata.name`.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// `metadata.namespace`.
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Named policies.
    #[serde(deserialize_with = "nullable")]
    pub policies: Policies,
    /// What they apply to.
    #[serde(deserialize_with = "nullable")]
    pub targets: Targets,
}

/// `spec.policies`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policies {
    /// Durations by name: milliseconds as an integer, or Go's syntax.
    #[serde(deserialize_with = "nullable")]
    pub timeouts: BTreeMap<String, String>,
    /// Retry policies by name.
    #[serde(deserialize_with = "nullable")]
    pub retries: BTreeMap<String, RetrySpec>,
    /// Circuit breakers by name.
    #[serde(deserialize_with = "nullable")]
    pub circuit_breakers: BTreeMap<String, CircuitBreakerSpec>,
}

/// One retry policy; empty texts take the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetrySpec {
    /// `constant` (default) or `exponential`, in any case.
    #[serde(deserialize_with = "nullable")]
    pub policy: String,
    /// The pause of a constant policy.
    #[serde(deserialize_with = "nullable")]
    pub duration: String,
    /// The longest pause of an exponential policy.
    #[serde(deserialize_with = "nullable")]
    pub max_interval: String,
    /// How many retries; negative for no bound, absent likewise.
    pub max_retries: Option<i64>,
    /// Which status codes are retried.
    pub matching: Option<RetryMatching>,
}

/// Status codes to retry: comma separated codes and ranges (`500,502-504`); an empty list means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryMatching {
    /// HTTP codes, 100 to 599.
    #[serde(rename = "httpStatusCodes", deserialize_with = "nullable")]
    pub http_status_codes: String,
    /// gRPC codes, 0 to 16.
    #[serde(rename = "gRPCStatusCodes", deserialize_with = "nullable")]
    pub grpc_status_codes: String,
}

/// One circuit breaker; empty texts take the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CircuitBreakerSpec {
    /// Requests let through while half-open; 0 stands for 1.
    #[serde(deserialize_with = "nullable")]
    pub max_requests: i64,
    /// How often the closed breaker forgets its counts; empty or 0 for never.
    #[serde(deserialize_with = "nullable")]
    pub interval: String,
    /// How long it stays open; empty or 0 for a minute.
    #[serde(deserialize_with = "nullable")]
    pub timeout: String,
    /// CEL over the counts; empty for `consecutiveFailures > 5`.
    #[serde(deserialize_with = "nullable")]
    pub trip: String,
}

/// `spec.targets`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    /// By app id.
    #[serde(deserialize_with = "nullable")]
    pub apps: BTreeMap<String, AppTarget>,
    /// By actor type.
    #[serde(deserialize_with = "nullable")]
    pub actors: BTreeMap<String, ActorTarget>,
    /// By component name.
    #[serde(deserialize_with = "nullable")]
    pub components: BTreeMap<String, ComponentTarget>,
}

/// The policies a target picks; an empty name picks none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyNames {
    /// Name of a timeout.
    #[serde(deserialize_with = "nullable")]
    pub timeout: String,
    /// Name of a retry policy.
    #[serde(deserialize_with = "nullable")]
    pub retry: String,
    /// Name of a circuit breaker.
    #[serde(deserialize_with = "nullable")]
    pub circuit_breaker: String,
}

/// Policies for calls to an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AppTarget {
    /// The picked policies.
    #[serde(flatten)]
    pub names: PolicyNames,
    /// How many endpoints keep a breaker of their own; 0 stands for 100.
    #[serde(deserialize_with = "nullable")]
    pub circuit_breaker_cache_size: i64,
}

/// Policies for calls to actors of a type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ActorTarget {
    /// The picked policies.
    #[serde(flatten)]
    pub names: PolicyNames,
    /// `type`, `id` or `both`; needed with a breaker.
    #[serde(deserialize_with = "nullable")]
    pub circuit_breaker_scope: String,
    /// How many actors keep a breaker of their own; 0 stands for 5000.
    #[serde(deserialize_with = "nullable")]
    pub circuit_breaker_cache_size: i64,
}

/// Policies for a component, by direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ComponentTarget {
    /// From the component to the app.
    #[serde(deserialize_with = "nullable")]
    pub inbound: PolicyNames,
    /// From the sidecar to the component.
    #[serde(deserialize_with = "nullable")]
    pub outbound: PolicyNames,
}
