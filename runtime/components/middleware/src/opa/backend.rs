//! The handler.

use std::{borrow::Cow, num::NonZeroU32, time::Duration};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use outrigger_component::Error;
use outrigger_middleware::{Body, BodyNeed, Middleware, Next};
use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};
use serde_json::{Map, json};

use super::{OpaConfig, jwt};
use crate::{path, respond};

const RULE: &str = "data.http.allow";
/// Tells that the policy did not come to a verdict (upstream's header).
const ERROR_HEADER: HeaderName = HeaderName::from_static("x-dapr-opa-error");
/// The largest body that a policy can see.
const MAX_BODY: usize = 16 << 20;
/// How long a policy may think about one request; longer is no verdict.
const TIME_LIMIT: ExecutionTimerConfig = ExecutionTimerConfig {
    limit: Duration::from_secs(1),
    check_interval: NonZeroU32::new(256).unwrap(),
};

/// Lets requests pass that the policy allows. The policy may answer with a truth value, or with an object of `allow`,
/// `additional_headers` (for the request when allowed, for the answer when not) and `status_code`. What is no verdict
/// is a refusal.
#[derive(Debug)]
pub struct Opa {
    config: OpaConfig,
    /// Parsed and prepared; cloned per request, which shares the policy.
    engine: Engine,
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
    pub fn new(config: OpaConfig) -> Result<Self, Error> {
        let mut engine = Engine::new();
        engine.set_rego_v0(true);
        engine.set_execution_timer_config(TIME_LIMIT);
        engine
            .add_extension(jwt::DECODE.to_owned(), 1, Box::new(jwt::decode))
            .map_err(|error| Error::internal(format!("cannot set up the policy engine: {error}")))?;
        engine
            .add_policy("inline.rego".to_owned(), config.rego.clone())
            .map_err(|error| Error::configuration(format!("cannot compile the policy: {error}")))?;
        // Prepares the rules once for all clones, and finds what only the analysis of the whole finds; the request is
        // the plainest that there is.
        engine.set_input(Value::from(input(&config, &Request::new(Body::Empty))));
        if let Err(error) = engine.eval_rule(RULE.to_owned()) {
            if !error.to_string().contains("not a valid rule path") {
                return Err(Error::configuration(format!(
                    "cannot compile the policy: {error}"
                )));
            }
            tracing::warn!("the policy does not set {RULE}: every request will be refused");
        }
        Ok(Self { config, engine })
    }

    fn judge(&self, request: &Request<Body>) -> Result<Verdict, Cow<'static, str>> {
        let mut engine = self.engine.clone();
        engine.set_input(Value::from(input(&self.config, request)));
        let result = engine
            .eval_rule(RULE.to_owned())
            .map_err(|error| error.to_string())?;
        verdict(&result)
    }
}

/// What the policy sees of a request.
fn input(config: &OpaConfig, request: &Request<Body>) -> serde_json::Value {
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
    json!({"request": {
        "method": request.method().as_str(),
        "path": path,
        "path_parts": path.trim_matches('/').split('/').collect::<Vec<_>>(),
        "raw_query": uri.query().unwrap_or_default(),
        "query": query,
        "headers": headers(request.headers(), &config.included_headers),
        "scheme": uri.scheme_str().unwrap_or_default(),
        "body": String::from_utf8_lossy(&body),
    }})
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

fn verdict(result: &Value) -> Result<Verdict, Cow<'static, str>> {
    if let Value::Bool(allow) = result {
        return Ok(Verdict {
            allow: *allow,
            ..Verdict::default()
        });
    }
    if *result == Value::Undefined {
        return Err("received no results back from rego policy. Are you setting data.http.allow?".into());
    }
    let Value::Object(fields) = result else {
        return Err("got an invalid type back from repo policy. Only a boolean or map is valid".into());
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
        Some(_) => return Err("the policy's allow is not a truth value".into()),
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
                    return Err("the policy's additional_headers are not texts".into());
                };
                let (Ok(name), Ok(value)) = (
                    HeaderName::from_bytes(name.as_bytes()),
                    HeaderValue::from_str(value),
                ) else {
                    return Err("the policy's additional_headers cannot be sent".into());
                };
                verdict.headers.push((name, value));
            }
        }
        Some(_) => return Err("the policy's additional_headers are not an object".into()),
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
        let verdict = match self.judge(&request) {
            Ok(verdict) => verdict,
            Err(reason) => {
                tracing::warn!("Error procesing rego policy: {reason}");
                let mut response = respond::status(self.config.default_status);
                response
                    .headers_mut()
                    .insert(ERROR_HEADER, HeaderValue::from_static("true"));
                return Box::pin(async { response });
            }
        };
        if verdict.allow {
            for (name, value) in verdict.headers {
                request.headers_mut().insert(name, value);
            }
            return next.run(request);
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
        Box::pin(async { response })
    }
}
