//! The `Configuration` resource: what it says, how several files add up, what counts as the default (wire.md §14).

mod features;
mod load;
mod metric;
mod otel;
mod tracing;
mod workflow;

use std::fmt;

use serde_json::Value;

use crate::{
    access_control::AccessControlSpec,
    api_rules::ApiSpec,
    decode::decode_fields,
    kinds::{ObjectMeta, Resource, component_log_name},
    scopes::SecretScope,
};

pub use features::{FeatureSpec, Features};
pub(crate) use load::io_text;
pub use load::{ConfigurationError, LoadedConfiguration};
pub use metric::{DEFAULT_LATENCY_BUCKETS, MetricHttp, MetricLabel, MetricSpec, MetricsRule};
pub use otel::{OtelEnvironmentError, OtelSignal, OtelSpec};
pub use tracing::{TracingSpec, ZipkinSpec};
pub use workflow::{NamedConcurrencyLimit, StateRetentionPolicy, WorkflowSpec};

/// A configuration: of the sidecar when loaded with [`Configuration::load`], as written otherwise.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Configuration {
    /// Name and namespace.
    pub meta: ObjectMeta,
    /// The settings.
    pub spec: ConfigurationSpec,
}

decode_fields!(Configuration {
    "metadata" => meta,
    "spec" => spec,
} ignoring &["apiVersion", "kind"]);

/// The settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigurationSpec {
    /// Middleware in front of the sidecar's API.
    pub http_pipeline: Option<PipelineSpec>,
    /// Middleware in front of the app.
    pub app_http_pipeline: Option<PipelineSpec>,
    /// Tracing.
    pub tracing: Option<TracingSpec>,
    /// Mutual TLS.
    pub mtls: Option<MtlsSpec>,
    /// Metrics; after loading with `metrics` merged in.
    pub metric: Option<MetricSpec>,
    /// Metrics under their other name, which wins part by part.
    pub metrics: Option<MetricSpec>,
    /// Which secrets the app may read.
    pub secrets: Option<SecretsSpec>,
    /// Who may invoke the app.
    pub access_control: Option<AccessControlSpec>,
    /// How apps are found.
    pub name_resolution: Option<NameResolutionSpec>,
    /// Preview features.
    pub features: Vec<FeatureSpec>,
    /// Which APIs are served.
    pub api: Option<ApiSpec>,
    /// Which components are refused.
    pub components: Option<ComponentsSpec>,
    /// Logging of API calls.
    pub logging: Option<LoggingSpec>,
    /// WebAssembly.
    pub wasm: Option<WasmSpec>,
    /// Workflows.
    pub workflow: Option<WorkflowSpec>,
}

decode_fields!(ConfigurationSpec {
    "httpPipeline" => http_pipeline,
    "appHttpPipeline" => app_http_pipeline,
    "tracing" => tracing,
    "mtls" => mtls,
    "metric" => metric,
    "metrics" => metrics,
    "secrets" => secrets,
    "accessControl" => access_control,
    "nameResolution" => name_resolution,
    "features" => features,
    "api" => api,
    "components" => components,
    "logging" => logging,
    "wasm" => wasm,
    "workflow" => workflow,
});

/// Middleware in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PipelineSpec {
    /// The handlers, outermost first.
    pub handlers: Vec<HandlerSpec>,
}

decode_fields!(PipelineSpec { "handlers" => handlers });

/// One middleware: the component of this name and type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandlerSpec {
    /// The component's name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// Its version.
    pub version: String,
    /// Kept for files that have it; Dapr has no use for it.
    pub selector: SelectorSpec,
}

decode_fields!(HandlerSpec { "name" => name, "type" => r#type, "version" => version, "selector" => selector });

impl HandlerSpec {
    /// How logs name it.
    #[must_use]
    pub fn log_name(&self) -> String {
        component_log_name(&self.name, &self.r#type, &self.version)
    }
}

/// Fields a handler was meant to be chosen by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectorSpec {
    /// The fields.
    pub fields: Vec<SelectorField>,
}

decode_fields!(SelectorSpec { "fields" => fields });

/// One field of a selector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectorField {
    /// The field.
    pub field: String,
    /// Its value.
    pub value: String,
}

decode_fields!(SelectorField { "field" => field, "value" => value });

/// Mutual TLS; durations as texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MtlsSpec {
    /// Whether it is on.
    pub enabled: bool,
    /// How long workload certificates live.
    pub workload_cert_ttl: String,
    /// How far clocks may differ.
    pub allowed_clock_skew: String,
    /// Where sentry is.
    pub sentry_address: String,
    /// The control plane's trust domain.
    pub control_plane_trust_domain: String,
    /// How sentry validates tokens, besides its own way.
    pub token_validators: Vec<ValidatorSpec>,
}

decode_fields!(MtlsSpec {
    "enabled" => enabled,
    "workloadCertTTL" => workload_cert_ttl,
    "allowedClockSkew" => allowed_clock_skew,
    "sentryAddress" => sentry_address,
    "controlPlaneTrustDomain" => control_plane_trust_domain,
    "tokenValidators" => token_validators,
});

/// A token validator.
#[derive(Clone, PartialEq, Default)]
pub struct ValidatorSpec {
    /// Its name.
    pub name: String,
    /// Its options, any JSON.
    pub options: Value,
}

decode_fields!(ValidatorSpec { "name" => name, "options" => options });

impl fmt::Debug for ValidatorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatorSpec")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Which secrets the app may read, by store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretsSpec {
    /// One scope per store.
    pub scopes: Vec<SecretScope>,
}

decode_fields!(SecretsSpec { "scopes" => scopes });

/// How apps are found.
#[derive(Clone, PartialEq, Default)]
pub struct NameResolutionSpec {
    /// The component, such as `mdns`.
    pub component: String,
    /// Its version.
    pub version: String,
    /// Its settings, any JSON; may hold secrets.
    pub configuration: Value,
}

decode_fields!(NameResolutionSpec {
    "component" => component,
    "version" => version,
    "configuration" => configuration,
});

impl fmt::Debug for NameResolutionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameResolutionSpec")
            .field("component", &self.component)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Which components are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComponentsSpec {
    /// Types, or types with versions.
    pub deny: Vec<String>,
}

decode_fields!(ComponentsSpec { "deny" => deny });

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoggingSpec {
    /// Of API calls.
    pub api_logging: Option<ApiLoggingSpec>,
    /// Push of log lines over OTLP (ours).
    pub otel: Option<OtelSpec>,
    /// The audit log (ours).
    pub audit: Option<AuditSpec>,
}

decode_fields!(LoggingSpec { "apiLogging" => api_logging, "otel" => otel, "audit" => audit });

/// The audit log: who asked for what, and what was decided (requirement rows A4.8, B8). Off without a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditSpec {
    /// The file, relative to the working folder; `stdout` for standard output.
    pub path: String,
    /// The size in bytes at which the file is put aside; 64 MiB when not said.
    pub max_bytes: Option<i64>,
    /// How many files put aside are kept beside the current one; 8 when not said.
    pub max_files: Option<i64>,
}

decode_fields!(AuditSpec { "path" => path, "maxBytes" => max_bytes, "maxFiles" => max_files });

/// Logging of API calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiLoggingSpec {
    /// Whether calls are logged.
    pub enabled: bool,
    /// Whether the route's name stands in for the path.
    pub obfuscate_urls: bool,
    /// Whether health checks are left out.
    pub omit_health_checks: bool,
}

decode_fields!(ApiLoggingSpec {
    "enabled" => enabled,
    "obfuscateURLs" => obfuscate_urls,
    "omitHealthChecks" => omit_health_checks,
});

/// WebAssembly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WasmSpec {
    /// Whether modules get no clocks, sleeps and randomness of the host.
    pub strict_sandbox: bool,
}

decode_fields!(WasmSpec { "strictSandbox" => strict_sandbox });

impl Configuration {
    /// The scope of a secret store, if one is configured.
    #[must_use]
    pub fn secret_scope(&self, store: &str) -> Option<&SecretScope> {
        self.spec
            .secrets
            .as_ref()?
            .scopes
            .iter()
            .find(|scope| scope.store_name == store)
    }

    /// Metrics, as defaulted when nothing is said.
    #[must_use]
    pub fn metric(&self) -> MetricSpec {
        self.spec.metric.clone().unwrap_or_default()
    }

    /// Logging of API calls, off when nothing is said.
    #[must_use]
    pub fn api_logging(&self) -> ApiLoggingSpec {
        self.spec
            .logging
            .as_ref()
            .and_then(|logging| logging.api_logging.clone())
            .unwrap_or_default()
    }

    /// Whether Wasm modules run in the strict sandbox.
    #[must_use]
    pub fn wasm_strict_sandbox(&self) -> bool {
        self.spec.wasm.as_ref().is_some_and(|wasm| wasm.strict_sandbox)
    }
}

impl Resource for Configuration {
    const KIND: &'static str = "Configuration";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v1alpha1"];

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
    fn scopes(&self) -> &[String] {
        &[]
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.meta.name == other.meta.name
            && self.meta.namespace == other.meta.namespace
            && self.spec == other.spec
    }
}
