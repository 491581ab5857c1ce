//! The handler.

use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use jsonschema::PatternOptions;
use outrigger_component::{Error, Host};
use outrigger_middleware::{Body, Middleware, Next};
use serde_json::{Value, json};

use super::{SchemaSource, ValidatorConfig, config::DEFAULT_MAX_BODY};
use crate::{failure, path, template::Template};

/// Mistakes that one answer lists.
const MAX_DETAILS: usize = 10;
/// Larger files are no schemas.
const MAX_SCHEMA: u64 = 1 << 20;
const CODE: &str = "ERR_REQUEST_VALIDATION";

/// Refuses requests whose body does not fit its schema, or that say that they bring JSON and do not. A body that is to
/// be checked is read whole, up to a bound; all others stream by.
#[derive(Debug)]
pub struct Validator {
    name: String,
    rules: Vec<Rule>,
    max_body: usize,
}

#[derive(Debug)]
struct Rule {
    template: Template,
    methods: Vec<Method>,
    schema: jsonschema::Validator,
}

/// Compiles a schema. References to other documents are refused: nothing is fetched.
pub(super) fn compile(path: &str, schema: &Value) -> Result<jsonschema::Validator, Error> {
    jsonschema::options()
        // Matches in linear time; the default engine backtracks.
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| Error::configuration(format!("the schema of {path} cannot be used: {error}")))
}

impl Validator {
    /// A validator without schemas: JSON bodies must be JSON.
    #[must_use]
    pub fn bare(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rules: Vec::new(),
            max_body: DEFAULT_MAX_BODY,
        }
    }

    /// Reads and compiles the schemas.
    ///
    /// # Errors
    /// When a schema cannot be read or used, or a path is no template.
    pub async fn open(config: ValidatorConfig, host: &Host) -> Result<Self, Error> {
        let mut rules = Vec::with_capacity(config.rules.len());
        for rule in config.rules {
            let schema = match rule.schema {
                SchemaSource::Inline(schema) => schema,
                SchemaSource::File(file) => read(host, &file).await?,
            };
            rules.push(Rule {
                template: Template::compile(&rule.path).map_err(|reason| {
                    Error::configuration(format!("{} is not a path template: {reason}", rule.path))
                })?,
                methods: rule.methods,
                schema: compile(&rule.path, &schema)?,
            });
        }
        Ok(Self {
            name: config.name,
            rules,
            max_body: config.max_body,
        })
    }

    fn rule(&self, head: &Parts) -> Option<&Rule> {
        let path = path::decoded(&head.uri);
        self.rules
            .iter()
            .find(|rule| rule.methods.contains(&head.method) && rule.template.matches(&path).is_some())
    }

    fn refuse(&self, status: StatusCode, head: &Parts, message: &str, details: &[Value]) -> Response<Body> {
        let trace = failure::trace_id(head);
        failure::answer(status, CODE, &self.name, trace.as_deref(), message, details)
    }
}

async fn read(host: &Host, file: &str) -> Result<Value, Error> {
    let path = host.path(file);
    let failed = |error: std::io::Error| {
        Error::configuration(format!("cannot read the schema {file}")).with_source(error)
    };
    let size = tokio::fs::metadata(&path).await.map_err(failed)?.len();
    if size > MAX_SCHEMA {
        return Err(Error::configuration(format!(
            "the schema {file} is larger than {MAX_SCHEMA} bytes"
        )));
    }
    let bytes = tokio::fs::read(&path).await.map_err(failed)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::configuration(format!("the schema {file} is not JSON")).with_source(error))
}

/// Whether the body says that it is JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    content_type == "application/json" || content_type.ends_with("+json")
}

fn details(schema: &jsonschema::Validator, document: &Value) -> Vec<Value> {
    schema
        .iter_errors(document)
        .take(MAX_DETAILS)
        .map(|error| {
            json!({
                "instancePath": error.instance_path().to_string(),
                "schemaPath": error.schema_path().to_string(),
                "message": error.to_string(),
            })
        })
        .collect()
}

impl Middleware for Validator {
    fn handle(&self, request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let rule = self.rule(&head);
            if rule.is_none() && !is_json(&head.headers) {
                return next.run(Request::from_parts(head, body)).await;
            }
            let bytes = match Limited::new(body, self.max_body).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => {
                    let message = format!("the body is larger than {} bytes", self.max_body);
                    return self.refuse(StatusCode::PAYLOAD_TOO_LARGE, &head, &message, &[]);
                }
                Err(_) => {
                    return self.refuse(StatusCode::BAD_REQUEST, &head, "the body ended early", &[]);
                }
            };
            if bytes.is_empty() && rule.is_none() {
                return next.run(Request::from_parts(head, Body::Empty)).await;
            }
            let document: Value = match serde_json::from_slice(&bytes) {
                Ok(document) => document,
                Err(error) => {
                    let message = format!("the body is not JSON: {error}");
                    return self.refuse(StatusCode::BAD_REQUEST, &head, &message, &[]);
                }
            };
            if let Some(rule) = rule {
                let details = details(&rule.schema, &document);
                if !details.is_empty() {
                    let message = "the body does not fit its schema";
                    return self.refuse(StatusCode::BAD_REQUEST, &head, message, &details);
                }
            }
            next.run(Request::from_parts(head, Body::whole(bytes))).await
        })
    }
}
