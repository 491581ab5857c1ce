//! The server: from a request to its answer.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response, header};
use outrigger_component::SecretString;
use outrigger_resources::api_rules::GrpcApiRules;
use outrigger_sidecar_api::Body as RawBody;
use outrigger_sidecar_blocks::{
    BindingsService, ConfigurationService, ConversationService, CryptoService, LockService, SecretsService,
};
use outrigger_sidecar_invocation::{InvocationService, status_from_http};
use outrigger_sidecar_pubsub::PubsubService;
use outrigger_sidecar_state::StateService;
use outrigger_telemetry::{
    Metrics, Tracer,
    audit::{Audit, AuditActor, AuditDecision, AuditRecord},
};
use outrigger_types::AppId;
use outrigger_wire::dapr::proto::runtime::v1::dapr_server::DaprServer;
use tokio::sync::Semaphore;
use tonic::{Status, body::Body, codec::CompressionEncoding};
use tower_service::Service as _;

use crate::{
    ActorsApi, ControlApi, JobsApi, TaskHub, WorkflowsApi, answer,
    api::Api,
    call::{Answer, Call, Count, deadline_exceeded, timeout},
    meter::{Metered, Received},
    methods::Route,
    reflection::Reflection,
    token,
    trace_layer::{self, Traced},
};

/// Calls under way in one server before further ones are answered RESOURCE_EXHAUSTED, open streams included. Far
/// above what the app behind a sidecar can take, low enough that a flood cannot exhaust memory.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// Between two looks whether calls are under way.
const IDLE_LOOK: Duration = Duration::from_millis(20);

/// What the server serves and how.
#[derive(Clone)]
pub struct GrpcOptions {
    /// The sidecar's app.
    pub app_id: AppId,
    /// State.
    pub state: Arc<StateService>,
    /// Pub/sub.
    pub pubsub: Arc<PubsubService>,
    /// Secrets.
    pub secrets: Arc<SecretsService>,
    /// Configuration.
    pub configuration: Arc<ConfigurationService>,
    /// Locks.
    pub lock: Arc<LockService>,
    /// Cryptography.
    pub crypto: Arc<CryptoService>,
    /// Output bindings.
    pub bindings: Arc<BindingsService>,
    /// Conversation.
    pub conversation: Arc<ConversationService>,
    /// `InvokeService` and the proxy for all services that are not the sidecar's.
    pub invocation: Arc<InvocationService>,
    /// Metadata and shutdown.
    pub control: Arc<dyn ControlApi>,
    /// Actors.
    pub actors: Arc<dyn ActorsApi>,
    /// Workflow management.
    pub workflows: Arc<dyn WorkflowsApi>,
    /// Jobs.
    pub jobs: Arc<dyn JobsApi>,
    /// The durable task protocol.
    pub task_hub: TaskHub,
    /// `DAPR_API_TOKEN`.
    pub api_token: Option<SecretString>,
    /// Keeps records of calls without the token.
    pub audit: Audit,
    /// `spec.api`; see [`crate::api_rules`].
    pub api_rules: GrpcApiRules,
    /// Whether calls are logged (`--enable-api-logging`, `spec.logging.apiLogging.enabled`).
    pub api_log: bool,
    /// Where calls are counted.
    pub metrics: Metrics,
    /// Traces calls; `None` when `spec.tracing.samplingRate` is 0 or absent.
    pub tracer: Option<Tracer>,
    /// `--max-body-size` in bytes, for single messages in both directions; `u64::MAX` for no bound.
    pub max_body_size: u64,
    /// `--read-buffer-size` in bytes; a call's metadata may be 1024 times as long, as upstream has it.
    pub read_buffer_size: usize,
}

impl fmt::Debug for GrpcOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcOptions")
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

/// The public gRPC API of a sidecar. Cheap to clone.
#[derive(Clone)]
pub struct GrpcServer(Arc<Inner>);

struct Inner {
    app_id: AppId,
    dapr: DaprServer<Api>,
    task_hub: TaskHub,
    reflection: Reflection,
    invocation: Arc<InvocationService>,
    api_token: Option<SecretString>,
    audit: Audit,
    api_rules: GrpcApiRules,
    api_log: bool,
    metrics: Metrics,
    tracer: Option<Tracer>,
    max_message: u64,
    read_buffer_size: usize,
    in_flight: Arc<Semaphore>,
}

impl fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcServer")
            .field("app_id", &self.0.app_id)
            .finish_non_exhaustive()
    }
}

impl GrpcServer {
    /// A server of these services.
    #[must_use]
    pub fn new(options: GrpcOptions) -> Self {
        let max_message = options.max_body_size;
        Self(Arc::new(Inner {
            app_id: options.app_id.clone(),
            task_hub: options.task_hub.clone(),
            reflection: Reflection::default(),
            invocation: Arc::clone(&options.invocation),
            api_token: options.api_token.clone(),
            audit: options.audit.clone(),
            api_rules: options.api_rules.clone(),
            api_log: options.api_log,
            metrics: options.metrics.clone(),
            tracer: options.tracer.clone(),
            max_message,
            read_buffer_size: options.read_buffer_size,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            // As they come and go messages are bounded by `Metered` and `Answer`, with grpc-go's answers; here it is
            // what a compressed one unfolds to.
            dapr: DaprServer::new(Api::new(options))
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(usize::try_from(max_message).unwrap_or(usize::MAX))
                .max_encoding_message_size(usize::MAX),
        }))
    }

    /// `--read-buffer-size`.
    pub(crate) fn read_buffer_size(&self) -> usize {
        self.0.read_buffer_size
    }

    /// Waits until no call is under way. Others may come at any time: this is for servers that were switched off.
    /// Cancel-safe.
    pub async fn idle(&self) {
        // A permit that was waited for would be kept from requests that come after all. The first look comes after a
        // pause: a request may have been given this service just before it was switched off.
        loop {
            tokio::time::sleep(IDLE_LOOK).await;
            if self.0.in_flight.available_permits() >= MAX_IN_FLIGHT {
                return;
            }
        }
    }

    /// Serves one call.
    pub async fn call(&self, request: Request<RawBody>) -> Response<Body> {
        let inner = &*self.0;
        let Ok(permit) = Arc::clone(&inner.in_flight).try_acquire_owned() else {
            return answer::status(Status::resource_exhausted("too many calls are under way"));
        };
        let (mut head, body) = request.into_parts();
        if let Some(refusal) = answer::no_call(&head) {
            return refusal;
        }
        let route = Route::of(head.uri.path());
        // Upstream's order: lists, token, trace, metrics, log. What is refused early is not counted.
        if let Err(status) = inner.admit(&mut head) {
            return answer::status(status);
        }
        let traced = match &inner.tracer {
            Some(tracer) => match Traced::begin(tracer, &inner.app_id, route, &mut head) {
                Ok(traced) => traced,
                Err(status) => return answer::status(status),
            },
            None => None,
        };
        let log_ids = traced.as_ref().map(Traced::log_ids).unwrap_or_default();
        let received = Arc::new(Received::default());
        let call = inner.observe(route, &head, traced, &received);
        let mut deadline = timeout(&head.headers).map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        let body = RawBody::boxed(Metered::new(body, inner.max_message, Arc::clone(&received)));
        let serving = log_ids.around(inner.serve(route, Request::from_parts(head, body)));
        let response = match &mut deadline {
            None => serving.await,
            Some(deadline) => tokio::select! {
                biased;
                response = serving => response,
                () = deadline => answer::status(deadline_exceeded()),
            },
        };
        Answer::around(response, call, inner.max_message, received, deadline, permit)
    }
}

impl Inner {
    fn admit(&self, head: &mut http::request::Parts) -> Result<(), Status> {
        if !self.api_rules.is_empty() && !self.api_rules.allows(head.uri.path()) {
            let refusal = "requested endpoint is not available";
            return Err(
                status_from_http(501, refusal.as_bytes()).unwrap_or_else(|| Status::unimplemented(refusal))
            );
        }
        match &self.api_token {
            Some(wanted) => token::check(wanted, &mut head.headers).inspect_err(|_| {
                self.audit.record(&AuditRecord {
                    actor: AuditActor::Unproven,
                    action: "authenticate",
                    target: head.uri.path(),
                    decision: AuditDecision::Denied,
                    policy: "DAPR_API_TOKEN",
                    trace: &trace_layer::parent(&head.headers),
                });
            }),
            None => Ok(()),
        }
    }

    /// What is to be done at the end of a call; nothing if nobody watches.
    fn observe(
        &self,
        route: Route,
        head: &http::request::Parts,
        traced: Option<Traced>,
        received: &Arc<Received>,
    ) -> Option<Box<Call>> {
        let count = if !self.metrics.is_enabled() {
            Count::No
        } else if route.is_unary() {
            Count::Unary
        } else if head.headers.contains_key("dapr-app-id") {
            Count::Stream
        } else {
            Count::No
        };
        (traced.is_some() || count != Count::No || self.api_log).then(|| {
            Box::new(Call {
                method: head.uri.path().into(),
                began: Instant::now(),
                traced,
                metrics: self.metrics.clone(),
                count,
                log: self.api_log,
                user_agent: head.headers.get(header::USER_AGENT).cloned(),
                received: Arc::clone(received),
            })
        })
    }

    async fn serve(&self, route: Route, mut request: Request<RawBody>) -> Response<Body> {
        match route {
            Route::Dapr(_) => {
                answer_as_asked(request.headers_mut());
                match self.dapr.clone().call(request.map(Body::new)).await {
                    Ok(mut response) => {
                        answer::bound(response.headers_mut());
                        response
                    }
                    Err(never) => match never {},
                }
            }
            Route::TaskHub(_) => self.task_hub.call(request.map(Body::new)).await,
            Route::ReflectionV1 => self.reflection.v1(request.map(Body::new)).await,
            Route::ReflectionV1Alpha => self.reflection.v1alpha(request.map(Body::new)).await,
            Route::Proxy => self.invocation.proxy(request).await.map(Body::new),
        }
    }
}

/// A compressed call gets a compressed answer, any other a plain one, as grpc-go has it: most clients name gzip among
/// what they accept in every call, and between a sidecar and its app nothing is won by it.
fn answer_as_asked(headers: &mut HeaderMap) {
    if headers
        .get("grpc-encoding")
        .is_none_or(|encoding| encoding == "identity")
    {
        headers.remove("grpc-accept-encoding");
    }
}
