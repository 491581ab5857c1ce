//! Secrets (A4; upstream `pkg/api/universal/secrets.go`, `pkg/api/http/secrets.go`).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use arc_swap::ArcSwap;
use http::{Method, Response};
use outrigger_component::Metadata;
use outrigger_resources::SecretScope;
use outrigger_secrets::{Secret, SharedSecretStore};
use outrigger_sidecar_api::{
    ApiError, ApiRequest, Body, Components, Endpoint, Group, Loaded, Reply, errors, handler,
};
use outrigger_sidecar_resilience::{ComponentKind, ResilienceProvider};
use outrigger_telemetry::{
    Metrics,
    audit::{Audit, AuditActor, AuditDecision, AuditRecord},
    metrics::ComponentCall,
    trace::SpanContext,
};
use outrigger_wire::dapr::proto::runtime::v1::{
    GetBulkSecretRequest, GetBulkSecretResponse, GetSecretRequest, GetSecretResponse, SecretResponse,
};

use crate::call::{Surroundings, error_text, missing, reply_json, trace_of};

const GROUP: Group = Group {
    name: "secrets",
    version: "v1",
};

/// What the service needs.
#[derive(Clone)]
pub struct SecretsServiceOptions {
    /// The secret stores.
    pub stores: Arc<Components<SharedSecretStore>>,
    /// `spec.secrets.scopes` of the configuration; of two for one store the last counts.
    pub scopes: Vec<SecretScope>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
    /// Where calls are counted.
    pub metrics: Metrics,
    /// Keeps records of every access.
    pub audit: Audit,
}

impl fmt::Debug for SecretsServiceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsServiceOptions")
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// The secrets building block as served to the app.
#[derive(Debug)]
pub struct SecretsService {
    stores: Arc<Components<SharedSecretStore>>,
    scopes: HashMap<String, SecretScope>,
    around: Surroundings,
    audit: Audit,
}

impl SecretsService {
    /// A service over these stores.
    #[must_use]
    pub fn new(options: SecretsServiceOptions) -> Self {
        Self {
            stores: options.stores,
            scopes: options
                .scopes
                .into_iter()
                .map(|scope| (scope.store_name.clone(), scope))
                .collect(),
            around: Surroundings {
                resilience: options.resilience,
                metrics: options.metrics,
            },
            audit: options.audit,
        }
    }

    /// The endpoints of the secrets API.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        const GET: &[Method] = &[Method::GET];
        let endpoint = |route, name, handler| Endpoint::new(GET, "v1.0", route, GROUP, name, handler);
        vec![
            endpoint(
                "secrets/{secretStoreName}/bulk",
                "GetBulkSecret",
                handler(self, Self::http_bulk),
            ),
            endpoint(
                "secrets/{secretStoreName}/{key}",
                "GetSecret",
                handler(self, Self::http_get),
            ),
        ]
    }

    async fn http_get(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let metadata = request.query_metadata();
        let secret = self
            .get(
                request.param("secretStoreName"),
                request.param("key"),
                &metadata,
                &trace_of(&request),
            )
            .await?;
        if secret.is_empty() {
            return Ok(Reply::no_content());
        }
        reply_json(&exposed(&secret))
    }

    async fn http_bulk(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let metadata = request.query_metadata();
        let secrets = self
            .all(request.param("secretStoreName"), &metadata, &trace_of(&request))
            .await?;
        reply_json(
            &secrets
                .iter()
                .map(|(name, secret)| (name.as_str(), exposed(secret)))
                .collect::<BTreeMap<_, _>>(),
        )
    }

    /// `GetSecret`; `trace` goes into the audit record.
    ///
    /// # Errors
    /// Rows of the secrets table.
    pub async fn grpc_get(
        &self,
        request: GetSecretRequest,
        trace: &SpanContext,
    ) -> Result<GetSecretResponse, ApiError> {
        let metadata = request.metadata.into_iter().collect();
        let secret = self
            .get(&request.store_name, &request.key, &metadata, trace)
            .await?;
        Ok(GetSecretResponse { data: owned(&secret) })
    }

    /// `GetBulkSecret`; `trace` goes into the audit records.
    ///
    /// # Errors
    /// Rows of the secrets table.
    pub async fn grpc_bulk(
        &self,
        request: GetBulkSecretRequest,
        trace: &SpanContext,
    ) -> Result<GetBulkSecretResponse, ApiError> {
        let metadata = request.metadata.into_iter().collect();
        let secrets = self.all(&request.store_name, &metadata, trace).await?;
        let data = secrets
            .into_iter()
            .map(|(name, secret)| {
                (
                    name,
                    SecretResponse {
                        secrets: owned(&secret),
                    },
                )
            })
            .collect();
        Ok(GetBulkSecretResponse { data })
    }

    /// Reads one secret under the scopes.
    ///
    /// # Errors
    /// Rows of the secrets table.
    pub async fn get(
        &self,
        store_name: &str,
        name: &str,
        metadata: &Metadata,
        trace: &SpanContext,
    ) -> Result<Secret, ApiError> {
        let record = |outcome| self.record(store_name, Some(name), outcome, trace);
        let store = self
            .store(store_name)
            .await
            .inspect_err(|_| record(AuditDecision::Denied))?;
        if !self.allowed(store_name, name) {
            record(AuditDecision::Denied);
            return Err(errors::secret_permission_denied(name, store_name));
        }
        let began = self.around.clock();
        let read = self
            .around
            .outbound(store_name, ComponentKind::Secretstore)
            .run(|_| store.instance.get(name, metadata))
            .await;
        self.around
            .count(ComponentCall::Secret, store_name, "get", read.is_ok(), began);
        record(if read.is_ok() {
            AuditDecision::Allowed
        } else {
            AuditDecision::Failed
        });
        read.map_err(|error| errors::secret_get(name, store_name, error_text(&error)))
    }

    /// Reads all secrets that the scopes allow.
    ///
    /// # Errors
    /// Rows of the secrets table.
    pub async fn all(
        &self,
        store_name: &str,
        metadata: &Metadata,
        trace: &SpanContext,
    ) -> Result<BTreeMap<String, Secret>, ApiError> {
        let store = self
            .store(store_name)
            .await
            .inspect_err(|_| self.record(store_name, None, AuditDecision::Denied, trace))?;
        let began = self.around.clock();
        let read = self
            .around
            .outbound(store_name, ComponentKind::Secretstore)
            .run(|_| store.instance.all(metadata))
            .await;
        self.around
            .count(ComponentCall::Secret, store_name, "bulk_get", read.is_ok(), began);
        let mut secrets = read.map_err(|error| {
            self.record(store_name, None, AuditDecision::Failed, trace);
            errors::bulk_secret_get(store_name, error_text(&error))
        })?;
        secrets.retain(|name, _| self.allowed(store_name, name));
        if self.audit.is_enabled() {
            self.record(store_name, None, AuditDecision::Allowed, trace);
            for name in secrets.keys() {
                self.record(store_name, Some(name), AuditDecision::Allowed, trace);
            }
        }
        Ok(secrets)
    }

    async fn store(&self, name: &str) -> Result<Arc<Loaded<SharedSecretStore>>, ApiError> {
        self.stores.get(name).await.map_err(|error| {
            missing(
                error,
                errors::secret_store_not_configured(),
                errors::secret_store_not_found(name),
            )
        })
    }

    fn allowed(&self, store: &str, name: &str) -> bool {
        self.scopes.get(store).is_none_or(|scope| scope.allows(name))
    }

    fn record(&self, store: &str, name: Option<&str>, decision: AuditDecision, trace: &SpanContext) {
        if !self.audit.is_enabled() {
            return;
        }
        self.audit.record(&AuditRecord {
            actor: AuditActor::App,
            action: if name.is_some() {
                "secret.get"
            } else {
                "secret.bulkGet"
            },
            target: &format!("{store}/{}", name.unwrap_or("*")),
            decision,
            policy: if self.scopes.contains_key(store) {
                "secrets.scopes"
            } else {
                ""
            },
            trace,
        });
    }
}

/// The one place where values leave for the app.
fn exposed(secret: &Secret) -> BTreeMap<&str, &str> {
    secret
        .iter()
        .map(|(key, value)| (key.as_str(), value.expose()))
        .collect()
}

fn owned(secret: &Secret) -> HashMap<String, String> {
    secret
        .iter()
        .map(|(key, value)| (key.clone(), value.expose().to_owned()))
        .collect()
}
