//! The service: what it is made of and how a call goes.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use outrigger_middleware::Pipeline;
use outrigger_name_resolution::SharedResolver;
use outrigger_resources::access_control::AccessControlList;
use outrigger_sidecar_app_channel::AppChannel;
use outrigger_sidecar_resilience::{Policy, ResilienceProvider, Retry, Retryable, RunError};
use outrigger_telemetry::{Metrics, Tracer, audit::Audit, trace::SpanContext};
use outrigger_types::{AppId, Namespace};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    envelope::{Forwarded, RequestHead},
    external::HttpEndpoints,
    peers::{COLLECT_INTERVAL, MAX_IDLE, PeerConnector, Peers, PlainPeers},
    remote::Reply,
    replay::{ReplayBudget, RequestBody},
    resolve::{Destination, Destinations},
    status::InvokeError,
};

/// The channel to the sidecar's own app, as it comes and goes.
pub type SharedApp = Arc<ArcSwapOption<AppChannel>>;

/// What an [`InvocationService`] is made of.
#[derive(Debug, Clone)]
pub struct InvocationOptions {
    /// The sidecar's own app.
    pub app_id: AppId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The port of the sidecar's own internal API, for resolvers that only know names.
    pub internal_port: u16,
    /// What names the calling host in forwarding headers: from the sidecar's host address and host name.
    pub forwarded: Forwarded,
    /// Finds peers; `None` when name resolution could not be set up.
    pub resolver: Option<SharedResolver>,
    /// The sidecar's own app.
    pub app: SharedApp,
    /// Policies by target; [`InvocationService::set_resilience`] replaces them.
    pub resilience: ResilienceProvider,
    /// The `HTTPEndpoint` resources.
    pub http_endpoints: HttpEndpoints,
    /// The app middleware pipeline, which also wraps calls to HTTP endpoints.
    pub app_pipeline: Arc<Pipeline>,
    /// Who may invoke what of the app; `None` allows all.
    pub access_control: Option<Arc<AccessControlList>>,
    /// `--max-body-size` in bytes: bounds messages that have to be held whole. Streams are not bounded by it.
    pub max_body_size: usize,
    /// What may be kept for retries; one per process.
    pub replay_budget: ReplayBudget,
    /// Opens connections to peers.
    pub peers: Arc<dyn PeerConnector>,
    /// Keeps records of what the access policy decided.
    pub audit: Audit,
    /// Where calls are counted.
    pub metrics: Metrics,
    /// Makes the spans of the internal API.
    pub tracer: Tracer,
}

impl InvocationOptions {
    /// Options with everything optional left out: no resolver, no app, the built-in retries only.
    #[must_use]
    pub fn new(app_id: AppId, namespace: Namespace) -> Self {
        Self {
            app_id,
            namespace,
            internal_port: 0,
            forwarded: Forwarded::default(),
            resolver: None,
            app: SharedApp::default(),
            resilience: ResilienceProvider::none(),
            http_endpoints: HttpEndpoints::default(),
            app_pipeline: Arc::default(),
            access_control: None,
            max_body_size: 4 << 20,
            replay_budget: ReplayBudget::default(),
            peers: Arc::new(PlainPeers::default()),
            audit: Audit::disabled(),
            metrics: Metrics::disabled(),
            tracer: Tracer::disabled(),
        }
    }
}

/// Service invocation of one sidecar.
pub struct InvocationService {
    pub(crate) options: InvocationOptions,
    pub(crate) resilience: ArcSwap<ResilienceProvider>,
    pub(crate) destinations: Destinations,
    pub(crate) peers: Peers,
    /// Whether the deprecation of `InvokeService` was logged.
    pub(crate) deprecation_shown: AtomicBool,
    /// Whether the deprecation of gRPC callers of HTTP apps was logged.
    pub(crate) http_deprecation_shown: AtomicBool,
}

impl fmt::Debug for InvocationService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvocationService")
            .field("app_id", &self.options.app_id)
            .field("namespace", &self.options.namespace)
            .finish_non_exhaustive()
    }
}

/// One invocation, for all its attempts.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) head: RequestHead,
    pub(crate) body: RequestBody,
    /// The body's length is unknown: nothing is repeated once a byte was read.
    pub(crate) streaming: bool,
    /// The caller takes server-sent events.
    pub(crate) events: bool,
    /// The span around the call.
    pub(crate) span: Option<SpanContext>,
}

/// How an attempt may end without being a success for the policies.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No answer.
    Invoke(InvokeError),
    /// An answer whose status the policies judge; it is what the caller gets if they give up.
    Answer(Box<Reply>, bool),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invoke(error) => error.fmt(f),
            Self::Answer(reply, _) => {
                write!(
                    f,
                    "received non-successful status code in response: {}",
                    reply.head.code
                )
            }
        }
    }
}

impl Retryable for Failure {
    fn verdict(&self) -> Retry {
        match self {
            // Upstream's outer policy sees no codes of transport failures.
            Self::Invoke(error) => match error.verdict() {
                Retry::Permanent => Retry::Permanent,
                _ => Retry::Transient,
            },
            Self::Answer(_, false) => Retry::Permanent,
            Self::Answer(reply, true) => Retry::Code(reply.policy_code()),
        }
    }
}

impl InvocationService {
    /// Makes the service. Nothing is connected or resolved before it is needed.
    #[must_use]
    pub fn new(options: InvocationOptions) -> Arc<Self> {
        Arc::new(Self {
            resilience: ArcSwap::from_pointee(options.resilience.clone()),
            destinations: Destinations::default(),
            peers: Peers::new(Arc::clone(&options.peers)),
            deprecation_shown: AtomicBool::new(false),
            http_deprecation_shown: AtomicBool::new(false),
            options,
        })
    }

    /// Replaces the policies; calls under way keep theirs.
    pub fn set_resilience(&self, resilience: ResilienceProvider) {
        self.resilience.store(Arc::new(resilience));
    }

    /// Closes idle peer connections until `shutdown`, then all of them once their calls have ended.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(COLLECT_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => self.peers.collect(MAX_IDLE),
            }
        }
        self.peers.close();
    }

    /// The app, if there is one.
    pub(crate) fn app(&self) -> Option<AppChannel> {
        self.options.app.load().as_deref().cloned()
    }

    /// The policy of a call; asked once per call, because asking is counted.
    pub(crate) fn policy(&self, target: &str, endpoint: impl FnOnce() -> String) -> Policy {
        let resilience = self.resilience.load();
        if resilience.policies().app(target).is_none() {
            Policy::none()
        } else {
            resilience.app(target, &endpoint())
        }
    }

    /// One call: under the built-in retries, unless a policy names the target.
    pub(crate) async fn invoke(&self, target: &str, invocation: &Invocation) -> Result<Reply, InvokeError> {
        let destination = self.destination(target).await?;
        match &*destination {
            Destination::Local => self.deliver_own(invocation).await,
            Destination::External(_) | Destination::Remote(_) => {
                let resilience = self.resilience.load_full();
                if resilience.targets_app(destination.app_id(target)) {
                    return self.attempt(target, &destination, invocation).await;
                }
                self.with_built_in_retries(&resilience, target, destination, invocation)
                    .await
            }
        }
    }

    async fn with_built_in_retries(
        &self,
        resilience: &ResilienceProvider,
        target: &str,
        destination: Arc<Destination>,
        invocation: &Invocation,
    ) -> Result<Reply, InvokeError> {
        let destination = &destination;
        let outcome = resilience
            .builtin_service_retries()
            .run(async |attempt| {
                // A lost peer may have come back elsewhere.
                let found;
                let destination = if attempt == 1 {
                    destination
                } else {
                    found = self
                        .destination(target)
                        .await
                        .unwrap_or_else(|_| Arc::clone(destination));
                    &found
                };
                self.attempt(target, destination, invocation)
                    .await
                    .map_err(|error| {
                        if !error.is_connection_failure() || !invocation.body.can_replay() {
                            return error.permanent();
                        }
                        let id = destination.app_id(target);
                        error.wrapped(format!(
                            "failed to invoke target {id} after {} retries. Error: ",
                            attempt - 1
                        ))
                    })
            })
            .await;
        outcome.map_err(|error| match error {
            // What the built-in retries make of it is not for other policies.
            RunError::Op(error) => error.undecided(),
            other => InvokeError::plain(other.to_string()),
        })
    }

    async fn attempt(
        &self,
        target: &str,
        destination: &Destination,
        invocation: &Invocation,
    ) -> Result<Reply, InvokeError> {
        match destination {
            Destination::Local => self.deliver_own(invocation).await,
            Destination::External(endpoint) => {
                let started = std::time::Instant::now();
                self.options.metrics.invocation_request_sent(target, false);
                let reply = self.call_external(endpoint, invocation).await?;
                self.options
                    .metrics
                    .invocation_response_received(target, reply.head.code, started.elapsed());
                Ok(reply)
            }
            Destination::Remote(remote) => self.call_remote(target, remote, invocation).await,
        }
    }

    /// The gRPC code that a failure outside of the call itself has.
    pub(crate) fn code_of_run<E>(error: &RunError<E>) -> Code {
        match error {
            RunError::Timeout => Code::DeadlineExceeded,
            _ => Code::Unknown,
        }
    }
}
