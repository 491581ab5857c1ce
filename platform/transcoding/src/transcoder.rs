//! The table of routes, and a request's way through it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::response::Response;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use prost_reflect::DescriptorPool;
use tonic::{Code, Status};

use crate::metadata;
use crate::reply;
use crate::request::message;
use crate::rule::{Rule, RuleError, rules};
use crate::status::{error_response, error_with};
use crate::upstream::{Call, Upstream};

/// Bytes of a request's body, unless said otherwise. Dapr's own default.
pub const DEFAULT_MAX_BODY: usize = 4 << 20;

/// Which HTTP requests are which gRPC calls.
pub struct Transcoder {
    pool: DescriptorPool,
    routes: HashMap<Method, Vec<Rule>>,
    faults: Vec<RuleError>,
    max_body: usize,
}

impl fmt::Debug for Transcoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcoder")
            .field("routes", &self.rules().count())
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl Transcoder {
    /// Reads the rules of these services, named in full (`virtufin.State`). Rules that cannot be served are left out
    /// and told by [`faults`](Self::faults). The pool must have been made of encoded descriptors: those of
    /// `prost-types` have lost the rules.
    pub fn new<S: AsRef<str>>(pool: &DescriptorPool, services: &[S]) -> Self {
        let services: Vec<String> = services.iter().map(|name| name.as_ref().to_owned()).collect();
        let (rules, faults) = rules(pool, &services);
        let mut routes: HashMap<Method, Vec<Rule>> = HashMap::new();
        for rule in rules {
            routes.entry(rule.http_method.clone()).or_default().push(rule);
        }
        for routes in routes.values_mut() {
            // Stable: of two rules alike the first one told wins.
            routes.sort_by(|a, b| a.template.precedence(&b.template));
        }
        Self {
            pool: pool.clone(),
            routes,
            faults,
            max_body: DEFAULT_MAX_BODY,
        }
    }

    /// Refuses bodies of more than this many bytes, with 413.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// The rules that are served.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.routes.values().flatten()
    }

    /// The rules that cannot be served.
    pub fn faults(&self) -> &[RuleError] {
        &self.faults
    }

    /// The descriptors it was made of.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// Whether this request is one of ours.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        self.find(method, path).is_some()
    }

    /// The HTTP methods that a path has rules for.
    pub fn methods(&self, path: &str) -> Vec<Method> {
        let mut methods: Vec<Method> = self
            .routes
            .iter()
            .filter(|(_, rules)| rules.iter().any(|rule| rule.template.matches(path).is_some()))
            .map(|(method, _)| method.clone())
            .collect();
        methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        methods
    }

    /// A router whose fallback serves the rules; what no rule matches is answered 404, or 405 where another HTTP
    /// method would do. Merge other routes into it.
    pub fn router(self, upstream: impl Upstream) -> Router {
        let shared = Arc::new((self, upstream));
        Router::new().fallback(move |request: Request<HttpBody>| {
            let shared = Arc::clone(&shared);
            async move { shared.0.handle(&shared.1, request).await }
        })
    }

    /// Answers one request. It never fails: errors are answers.
    pub async fn handle(&self, upstream: &dyn Upstream, request: Request<HttpBody>) -> Response {
        let path = request.uri().path();
        let Some((rule, bindings)) = self.find(request.method(), path) else {
            return not_found(&self.pool, request.method(), path, &self.methods(path));
        };
        let bindings: Vec<(Vec<String>, String)> = bindings
            .into_iter()
            .map(|(path, value)| (path.to_vec(), value))
            .collect();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, self.max_body).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return self.unread(error.as_ref()),
        };
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let message = match message(rule, &bindings, &query, kind, body) {
            Ok(message) => message,
            Err(refusal) => return error_with(&self.pool, &refusal.status, refusal.http),
        };
        let call = match self.call(rule, &parts.headers, message) {
            Ok(call) => call,
            Err(status) => return error_response(&self.pool, &status),
        };
        if rule.method.is_server_streaming() {
            match upstream.server_streaming(call).await {
                Ok((metadata, messages)) => {
                    let format = reply::Format::of(parts.headers.get(header::ACCEPT));
                    reply::stream(rule.clone(), self.pool.clone(), format, metadata, messages)
                }
                Err(status) => error_response(&self.pool, &status),
            }
        } else {
            match upstream.unary(call).await {
                Ok((metadata, message)) => reply::unary(rule, &self.pool, metadata, &message),
                Err(status) => error_response(&self.pool, &status),
            }
        }
    }

    fn find(&self, method: &Method, path: &str) -> Option<(&Rule, Vec<crate::template::Binding<'_>>)> {
        self.routes
            .get(method)?
            .iter()
            .find_map(|rule| Some((rule, rule.template.matches(path)?)))
    }

    fn call(&self, rule: &Rule, headers: &http::HeaderMap, message: Bytes) -> Result<Call, Status> {
        let path = format!(
            "/{}/{}",
            rule.method.parent_service().full_name(),
            rule.method.name()
        );
        Ok(Call {
            path: PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?,
            metadata: metadata::request(headers),
            message,
        })
    }

    fn unread(&self, error: &(dyn std::error::Error + 'static)) -> Response {
        if error.is::<http_body_util::LengthLimitError>() {
            let text = format!("the body has more than {} bytes", self.max_body);
            let status = Status::new(Code::ResourceExhausted, text);
            return error_with(&self.pool, &status, StatusCode::PAYLOAD_TOO_LARGE);
        }
        let status = Status::invalid_argument(format!("the body cannot be read: {error}"));
        error_response(&self.pool, &status)
    }
}

/// The answer where no rule matches; 405 with the methods that would.
pub(crate) fn not_found(pool: &DescriptorPool, method: &Method, path: &str, others: &[Method]) -> Response {
    if others.is_empty() {
        let status = Status::not_found(format!("nothing is served at {path}"));
        return error_response(pool, &status);
    }
    let allowed = others.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let status = Status::unimplemented(format!("{path} takes {allowed}, not {method}"));
    let mut response = error_with(pool, &status, StatusCode::METHOD_NOT_ALLOWED);
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}
