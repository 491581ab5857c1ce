//! The client of a sidecar's HTTP API.
//!
//! One [`Client`] holds a pool of connections; clones share it. Each building block has its own module; all go
//! through `Client::call`, which adds the token, bounds time and size, and repeats what is safe to repeat.

mod bindings;
mod configuration;
mod conversation;
mod grpc;
mod invoke;
mod lock;
mod metadata;
mod publish;
mod secrets;
mod state;
mod stream;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

pub use bindings::BindingResponse;
pub use configuration::ConfigurationItem;
pub use grpc::{ApiToken, GrpcClient};
pub use invoke::{Invocation, InvocationResponse};
pub use lock::{Lock, UnlockStatus};
pub use metadata::{Metadata, MetadataComponent, MetadataSubscription};
pub use publish::{BulkEntry, FailedEntry, Publication};
pub use state::{Concurrency, Consistency, Item, Operation, Save, StateStore};
pub use stream::{Deliveries, Delivery, StreamOptions, Verdict};

use crate::breaker::Breakers;
use crate::endpoint::{Endpoint, Token};
use crate::health::HealthEntry;
use crate::telemetry::Outgoing;
use crate::{BreakerPolicy, BreakerState, Environment, Error, RetryPolicy};

/// Answers longer than this are refused; Dapr's own default body limit is 4 MiB.
const MAX_ANSWER: usize = 32 << 20;
/// The pause between two looks at a sidecar that is left alone.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// A call that names no time limit gets this one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Handle to one sidecar. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: transport::Transport,
    endpoint: Endpoint,
    grpc_endpoint: Endpoint,
    token: Option<HeaderValue>,
    retry: RetryPolicy,
    timeout: Duration,
    breakers: Breakers,
    /// Whether a look at the health of a sidecar with an open circuit is under way.
    looking: AtomicBool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.0.endpoint)
            .finish_non_exhaustive()
    }
}

/// Makes a [`Client`]: what is set here goes before the environment, which goes before the defaults (E1.1).
#[derive(Debug, Clone, Default)]
pub struct Builder {
    endpoint: Option<String>,
    grpc_endpoint: Option<String>,
    token: Option<Token>,
    retry: Option<RetryPolicy>,
    breaker: Option<BreakerPolicy>,
    timeout: Option<Duration>,
    environment: Environment,
}

impl Builder {
    /// The sidecar's HTTP address, `http://host:port`.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The sidecar's gRPC address, in any spelling of [`Endpoint::parse_grpc`].
    #[must_use]
    pub fn grpc_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.grpc_endpoint = Some(endpoint.into());
        self
    }

    /// The sidecar's API token.
    #[must_use]
    pub fn api_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token));
        self
    }

    /// How transient errors are retried.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }

    /// When the sidecar, or an app that is called, is left alone after failures.
    #[must_use]
    pub fn breaker(mut self, breaker: BreakerPolicy) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// The time limit of one attempt of a call; 30 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Where `DAPR_HTTP_ENDPOINT`, `DAPR_HTTP_PORT`, `DAPR_GRPC_ENDPOINT`, `DAPR_GRPC_PORT`, `DAPR_API_TOKEN`, the retry and the breaker settings are
    /// looked up.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Checks everything; connects to nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an endpoint, token or retry setting that cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        let endpoint = match &self.endpoint {
            Some(endpoint) => Endpoint::parse(endpoint)?,
            None => Endpoint::from_environment(&self.environment)?,
        };
        let grpc_endpoint = match &self.grpc_endpoint {
            Some(endpoint) => Endpoint::parse_grpc(endpoint)?,
            None => Endpoint::grpc_from_environment(&self.environment)?,
        };
        let token = match self
            .token
            .or_else(|| Token::from_environment(&self.environment, "DAPR_API_TOKEN"))
        {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::from_str(token.expose())
                    .map_err(|_| Error::Invalid("the API token cannot be sent in a header".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let retry = match self.retry {
            Some(retry) => retry,
            None => RetryPolicy::from_environment(&self.environment)?,
        };
        let breaker = match self.breaker {
            Some(breaker) => breaker,
            None => BreakerPolicy::from_environment(&self.environment)?,
        };
        Ok(Client(Arc::new(Inner {
            breakers: Breakers::new(breaker),
            looking: AtomicBool::new(false),
            transport: transport::Transport::new(&endpoint)?,
            endpoint,
            grpc_endpoint,
            token,
            retry,
            timeout: self.timeout.unwrap_or(DEFAULT_TIMEOUT),
        })))
    }
}

/// One request before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    /// Whether carrying it out twice equals carrying it out once.
    idempotent: bool,
    timeout: Option<Duration>,
    retry: bool,
    /// Whether it heeds the sidecar's breaker; a look at its health does not.
    guarded: bool,
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        let idempotent = matches!(method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE);
        Self {
            method,
            path,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            idempotent,
            timeout: None,
            retry: true,
            guarded: true,
        }
    }

    fn json(mut self, body: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        self.body = encode(body)?;
        self.headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Ok(self)
    }

    fn header(mut self, name: HeaderName, value: &str) -> Result<Self, Error> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::Invalid(format!("{value:?} cannot be sent in a header")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }
}

/// An answer read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    /// Starts to make a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client made from this process's environment.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a variable is set to something unusable.
    pub fn from_env() -> Result<Self, Error> {
        Self::builder().environment(std::env::vars().collect()).build()
    }

    /// Where the sidecar is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Sends a call, repeating it after transient errors where that is safe; the answer may have any status that
    /// `accept` takes.
    async fn call_accepting(&self, call: Call, accept: impl Fn(&Answer) -> bool) -> Result<Answer, Error> {
        let mut attempt = 0;
        loop {
            let permit = match call
                .guarded
                .then(|| self.0.breakers.sidecar().admit())
                .transpose()
            {
                Ok(permit) => permit,
                Err(error) => {
                    self.look_at_health();
                    return Err(error);
                }
            };
            let outcome = match self.attempt(&call).await {
                Ok(answer) if accept(&answer) => Ok(answer),
                Ok(answer) => Err(Error::from_answer(answer.status, &answer.body)),
                Err(error) => Err(error),
            };
            if let Some(permit) = permit {
                permit.record(outcome.as_ref().is_err_and(Error::is_failure));
            }
            let error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let safe = error.is_retryable() && (call.idempotent || error.never_sent());
            let delay = self.0.retry.delay(attempt).filter(|_| safe && call.retry);
            let Some(delay) = delay else { return Err(error) };
            tracing::debug!(path = %call.path, attempt, ?delay, %error, "retrying a call to the sidecar");
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    /// Looks whether a sidecar that is left alone is back, so that nobody has to wait for the end of the break.
    /// At most one look is under way, and only while somebody calls.
    fn look_at_health(&self) {
        if self.0.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let client = self.clone();
        tokio::spawn(async move {
            if client.outbound_healthy().await.is_ok() {
                client.0.breakers.sidecar().half_open();
            } else {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            client.0.looking.store(false, Ordering::Release);
        });
    }

    /// What the circuit breaker of the sidecar lets through (E1.7).
    pub fn circuit(&self) -> BreakerState {
        self.0.breakers.sidecar_state()
    }

    /// The health of all circuits: unhealthy while the sidecar or an app is left alone.
    pub fn circuits_entry(&self) -> HealthEntry {
        self.0.breakers.entry()
    }

    /// Sends a call that must answer 2xx.
    async fn call(&self, call: Call) -> Result<Answer, Error> {
        self.call_accepting(call, |answer| answer.status.is_success())
            .await
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, Error> {
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.0.endpoint, call.path))
            .body(http_body_util::Full::new(call.body.clone()))
            .map_err(|error| Error::Invalid(error.to_string()))?;
        *request.headers_mut() = call.headers.clone();
        if let Some(token) = &self.0.token {
            request.headers_mut().insert(TOKEN_HEADER, token.clone());
        }
        let limit = call.timeout.unwrap_or(self.0.timeout);
        let outgoing = Outgoing::new(&call.method, &call.path);
        outgoing.inject(request.headers_mut());
        let exchange = self
            .0
            .transport
            .exchange(request, &self.0.endpoint, MAX_ANSWER)
            .instrument(outgoing.span().clone());
        let outcome = match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout(limit)),
        };
        outgoing.end(outcome.as_ref().ok().map(|answer| answer.status));
        outcome
    }
}

/// The header that carries API tokens in both directions.
pub(crate) const TOKEN_HEADER: HeaderName = HeaderName::from_static("dapr-api-token");

/// What may stand unescaped in one path segment or query value.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Escapes one path segment or query value.
fn escape(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// Refuses an empty name or one that the sidecar would read as path syntax.
fn name(what: &str, text: &str) -> Result<String, Error> {
    if text.is_empty() || text == "." || text == ".." {
        return Err(Error::Invalid(format!("{what} {text:?} is not a name")));
    }
    Ok(escape(text))
}

fn encode(body: &(impl Serialize + ?Sized)) -> Result<Bytes, Error> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|source| Error::Json {
            what: "the request",
            source,
        })
}

fn decode<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Json { what, source })
}

/// `metadata.<key>=<value>` pairs as a query string, with its question mark unless empty.
fn metadata_query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = String::new();
    for (key, value) in pairs {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(&format!("metadata.{}={}", escape(key), escape(value)));
    }
    query
}
