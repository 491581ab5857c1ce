//! The handler.

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use outrigger_component::Error;
use outrigger_middleware::{Body, BodyNeed, Middleware, Next};
use regorus::{Engine, Value};
use serde_json::{Map, json};

use super::{
    OpaConfig,
    evaluation::{Evaluation, Failure, Input, Limits},
    jwt,
};
use crate::{path, respond};

/// Tells that the policy did not come to a verdict (upstream's header).
const ERROR_HEADER: HeaderName = HeaderName::from_static("x-dapr-opa-error");
/// The largest body that a policy can see.
const MAX_BODY: usize = 16 << 20;
/// Lets requests pass that the policy allows. The policy may answer with a truth value, or with an object of `allow`,
/// `additional_headers` (for the request when allowed, for the answer when not) and `status_code`. What is no verdict
/// is a refusal; where too many slow evaluations wait, the answer is 503.
#[derive(Debug)]
pub struct Opa {
    config: OpaConfig,
    evaluation: Evaluation,
}

/// What the policy said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    allow: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    status: Option<i64>,
}

impl Opa {
    /// Compiles the policy.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn compile(config: OpaConfig) -> Result<Self, Error> {
        Self::within(config, Limits::default())
    }

    pub(super) fn within(config: OpaConfig, limits: Limits) -> Result<Self, Error> {
        let mut engine = Engine::new();
        engine.set_rego_v0(true);
        engine
            .add_extension(jwt::DECODE.to_owned(), 1, Box::new(jwt::decode))
            .map_err(|error| Error::internal(format!("cannot set up the policy engine: {error}")))?;
        engine
            .add_policy("inline.rego".to_owned(), config.rego.clone())
            .map_err(|error| Error::configuration(format!("cannot compile the policy: {error}")))?;
        Ok(Self {
            config,
            evaluation: Evaluation::new(engine, limits),
        })
    }

    /// Tries the policy with the plainest request that there is, beside the executor.
    ///
    /// # Errors
    /// When it uses what there is not.
    pub async fn open(mut self) -> Result<Self, Error> {
        let prepare = move || {
            let plainest = input(&self.config, &Request::new(Body::Empty));
            match self.evaluation.prepare(plainest) {
                Err(error) if !error.contains("not a valid rule path") => Err(Error::configuration(format!(
                    "cannot compile the policy: {error}"
                ))),
                Err(_) => {
                    tracing::warn!("the policy does not set data.http.allow: every request will be refused");
                    Ok(self)
                }
                Ok(_) => Ok(self),
            }
        };
        tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|error| Error::internal("cannot compile the policy").with_source(error))?
    }

    /// The answer where there is no verdict.
    fn failed(&self, failure: Failure) -> Response<Body> {
        let status = match failure {
            Failure::Overloaded => {
                tracing::warn!("too many requests wait for the policy: one is refused");
                503
            }
            Failure::Policy(reason) => {
                tracing::warn!("Error procesing rego policy: {reason}");
                self.config.default_status
            }
        };
        let mut response = respond::status(status);
        response
            .headers_mut()
            .insert(ERROR_HEADER, HeaderValue::from_static("true"));
        response
    }
}

/// What the policy sees of a request.
fn input(config: &OpaConfig, request: &Request<Body>) -> Input {
    let uri = request.uri();
    let path = path::decoded(uri);
    let mut query = Map::new();
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let values = query.entry(name).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(value.into());
        }
    }
    let body = if config.read_body {
        request.body().as_whole().unwrap_or_default()
    } else {
        bytes::Bytes::new()
    };
    let request = json!({
        "method": request.method().as_str(),
        "path": path,
        "path_parts": path.trim_matches('/').split('/').collect::<Vec<_>>(),
        "raw_query": uri.query().unwrap_or_default(),
        "query": query,
        "headers": headers(request.headers(), &config.included_headers),
        "scheme": uri.scheme_str().unwrap_or_default(),
    });
    Input::new(request, body)
}

/// The headers that the policy may see, by the names that Go gives them.
fn headers(all: &HeaderMap, included: &[HeaderName]) -> Map<String, serde_json::Value> {
    let mut headers = Map::new();
    for name in included.iter().filter(|name| **name != header::HOST) {
        let values: Vec<_> = all
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        if !values.is_empty() {
            headers.insert(canonical(name), values.join(", ").into());
        }
    }
    headers
}

/// `X-Jwt-Token` for `x-jwt-token`.
fn canonical(name: &HeaderName) -> String {
    let mut first = true;
    name.as_str()
        .chars()
        .map(|letter| {
            let letter = if first {
                letter.to_ascii_uppercase()
            } else {
                letter
            };
            first = letter == '-';
            letter
        })
        .collect()
}

fn verdict(result: &Value) -> Result<Verdict, &'static str> {
    if let Value::Bool(allow) = result {
        return Ok(Verdict {
            allow: *allow,
            ..Verdict::default()
        });
    }
    if *result == Value::Undefined {
        return Err("received no results back from rego policy. Are you setting data.http.allow?");
    }
    let Value::Object(fields) = result else {
        return Err("got an invalid type back from repo policy. Only a boolean or map is valid");
    };
    let field = |name: &str| {
        fields
            .get(&Value::from(name))
            .filter(|value| **value != Value::Null)
    };
    let mut verdict = Verdict::default();
    match field("allow") {
        None => {}
        Some(Value::Bool(allow)) => verdict.allow = *allow,
        Some(_) => return Err("the policy's allow is not a truth value"),
    }
    match field("status_code") {
        None => {}
        Some(status) => {
            let status = status
                .as_i64()
                .map_err(|_| "the policy's status_code is not a whole number")?;
            verdict.status = Some(status);
        }
    }
    match field("additional_headers") {
        None => {}
        Some(Value::Object(headers)) => {
            for (name, value) in headers.iter() {
                let (Value::String(name), Value::String(value)) = (name, value) else {
                    return Err("the policy's additional_headers are not texts");
                };
                let (Ok(name), Ok(value)) = (
                    HeaderName::from_bytes(name.as_bytes()),
                    HeaderValue::from_str(value),
                ) else {
                    return Err("the policy's additional_headers cannot be sent");
                };
                verdict.headers.push((name, value));
            }
        }
        Some(_) => return Err("the policy's additional_headers are not an object"),
    }
    Ok(verdict)
}

impl Middleware for Opa {
    fn body_need(&self) -> BodyNeed {
        if self.config.read_body {
            BodyNeed::Request(MAX_BODY)
        } else {
            BodyNeed::None
        }
    }

    fn handle(&self, mut request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        let input = input(&self.config, &request);
        Box::pin(async move {
            let result = self.evaluation.run(input).await;
            let verdict =
                result.and_then(|result| verdict(&result).map_err(|reason| Failure::Policy(reason.into())));
            let verdict = match verdict {
                Ok(verdict) => verdict,
                Err(failure) => return self.failed(failure),
            };
            if verdict.allow {
                for (name, value) in verdict.headers {
                    request.headers_mut().insert(name, value);
                }
                return next.run(request).await;
            }
            let status = match verdict.status {
                // Zero is how Go says that there is none.
                None | Some(0) => self.config.default_status,
                Some(status) => u16::try_from(status).unwrap_or(500),
            };
            let mut response = respond::status(status);
            for (name, value) in verdict.headers {
                if name != header::CONTENT_TYPE {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        })
    }
}
