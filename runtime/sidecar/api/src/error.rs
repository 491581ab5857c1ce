//! The one error of the public APIs and how each surface renders it.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use outrigger_component::Answer;
use outrigger_middleware::Body;
use outrigger_types::grpc_code_name;
use serde_json::{Map, Value, json};
use tonic::Code;

/// The group an error code is counted under in `error_code/total` (wire.md §16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Category {
    Actor,
    Binding,
    Common,
    Configuration,
    Conversation,
    Crypto,
    Health,
    Job,
    Lock,
    Pluggable,
    Pubsub,
    Secret,
    ServiceInvocation,
    State,
    Workflow,
}

impl Category {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Actor => "actor",
            Self::Binding => "binding",
            Self::Common => "common",
            Self::Configuration => "configuration",
            Self::Conversation => "conversation",
            Self::Crypto => "crypto",
            Self::Health => "health",
            Self::Job => "job",
            Self::Lock => "lock",
            Self::Pluggable => "pluggable-component",
            Self::Pubsub => "pubsub",
            Self::Secret => "secret",
            Self::ServiceInvocation => "service-invocation",
            Self::State => "state",
            Self::Workflow => "workflow",
        }
    }
}

/// One `google.rpc` detail of a rich error.
#[derive(Debug, Clone)]
pub enum Detail {
    /// `google.rpc.ErrorInfo`; the domain is always `dapr.io`.
    ErrorInfo {
        /// The reason, for example `DAPR_STATE_NOT_FOUND`.
        reason: Cow<'static, str>,
        /// What to know beside it; `None` renders as JSON `null`, as upstream's absent map does.
        metadata: Option<BTreeMap<String, String>>,
    },
    /// `google.rpc.ErrorInfo` in the words of a pluggable component.
    ForeignInfo {
        /// Its reason.
        reason: String,
        /// Its domain.
        domain: String,
    },
    /// `google.rpc.ResourceInfo`.
    ResourceInfo {
        /// `state`, `pubsub`, …
        resource_type: &'static str,
        /// The component's name.
        resource_name: String,
        /// Its owner.
        owner: String,
        /// A text.
        description: String,
    },
    /// `google.rpc.BadRequest` with one violation.
    BadRequest {
        /// The field.
        field: String,
        /// What is wrong with it.
        description: String,
    },
    /// `google.rpc.Help` with one link.
    Help {
        /// What the link explains.
        description: &'static str,
        /// The link.
        url: &'static str,
    },
}

/// An error of the public APIs. Built only by the table in [`crate::errors`], except where a component or app decides
/// the codes itself.
#[derive(Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    /// Value of `errorCode`; empty: the reason of the error info.
    code: Cow<'static, str>,
    category: Category,
    http: StatusCode,
    grpc: Code,
    message: String,
    details: Vec<Detail>,
}

impl ApiError {
    /// An error of the legacy shape: code and message, no details.
    pub fn new(
        code: impl Into<Cow<'static, str>>,
        category: Category,
        http: StatusCode,
        grpc: Code,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            code: code.into(),
            category,
            http,
            grpc,
            message: message.into(),
            details: Vec::new(),
        }))
    }

    /// The answer that a pluggable component decided itself (upstream `pkg/components/pluggable/errors.go`).
    #[must_use]
    pub fn from_component(answer: &Answer) -> Self {
        Self::new(
            answer.code.clone(),
            Category::Pluggable,
            StatusCode::from_u16(answer.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            Code::from_i32(answer.grpc),
            answer.message.clone(),
        )
        .with_detail(Detail::ForeignInfo {
            reason: answer.reason.clone(),
            domain: answer.domain.clone(),
        })
    }

    /// With a further detail: the error takes the rich shape.
    #[must_use]
    pub fn with_detail(mut self, detail: Detail) -> Self {
        self.0.details.push(detail);
        self
    }

    /// With the error info that upstream gives its plain errors on the gRPC surface (`pkg/api/errors` `Basic`): the
    /// code is the reason, there is no metadata.
    #[must_use]
    pub fn with_error_info(self) -> Self {
        let reason = self.0.code.clone();
        self.with_detail(Detail::ErrorInfo {
            reason,
            metadata: None,
        })
    }

    /// With another HTTP status and gRPC code.
    #[must_use]
    pub fn with_codes(mut self, http: StatusCode, grpc: Code) -> Self {
        self.0.http = http;
        self.0.grpc = grpc;
        self
    }

    /// With a cause after the message.
    #[must_use]
    pub fn with_context(mut self, cause: &str) -> Self {
        self.0.message = format!("{}: {cause}", self.0.message);
        self
    }

    /// The text of `errorCode`.
    #[must_use]
    pub fn code(&self) -> &str {
        if !self.0.code.is_empty() {
            return &self.0.code;
        }
        self.reason()
            .unwrap_or_else(|| self.0.http.canonical_reason().unwrap_or(""))
    }

    /// The reason of the error info, if the error is rich.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.0.details.iter().find_map(|detail| match detail {
            Detail::ErrorInfo { reason, .. } => Some(reason.as_ref()),
            _ => None,
        })
    }

    /// The group it is counted under.
    #[must_use]
    pub fn category(&self) -> Category {
        self.0.category
    }

    /// The HTTP status.
    #[must_use]
    pub fn http_status(&self) -> StatusCode {
        self.0.http
    }

    /// The gRPC code.
    #[must_use]
    pub fn grpc_code(&self) -> Code {
        self.0.grpc
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The JSON body, keys in upstream's order, encoded as Go's `encoding/json` does.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let mut body = String::with_capacity(64 + self.0.message.len());
        body.push_str("{\"errorCode\":");
        push_json(&mut body, &Value::from(self.code()));
        body.push_str(",\"message\":");
        push_json(&mut body, &Value::from(self.0.message.as_str()));
        if !self.0.details.is_empty() {
            body.push_str(",\"details\":");
            push_json(
                &mut body,
                &Value::Array(self.0.details.iter().map(Detail::to_json).collect()),
            );
        }
        body.push('}');
        Bytes::from(body)
    }

    /// The HTTP answer.
    #[must_use]
    pub fn to_response(&self) -> Response<Body> {
        let mut response = Response::new(Body::whole(self.to_json()));
        *response.status_mut() = self.0.http;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        // Lets the server count `error_code/total` without parsing the body.
        response.extensions_mut().insert(RenderedError {
            code: self.code().to_owned(),
            category: self.0.category,
        });
        response
    }

    /// The gRPC status, with details where the error is rich.
    #[must_use]
    pub fn to_status(&self) -> tonic::Status {
        use tonic_types::{ErrorDetails, StatusExt as _};
        if self.0.details.is_empty() {
            return tonic::Status::new(self.0.grpc, self.0.message.as_str());
        }
        let details: Vec<tonic_types::ErrorDetail> = self
            .0
            .details
            .iter()
            .map(|detail| match detail {
                Detail::ErrorInfo { reason, metadata } => tonic_types::ErrorInfo::new(
                    reason.as_ref(),
                    "dapr.io",
                    metadata
                        .clone()
                        .unwrap_or_default()
                        .into_iter()
                        .collect::<std::collections::HashMap<_, _>>(),
                )
                .into(),
                Detail::ForeignInfo { reason, domain } => {
                    tonic_types::ErrorInfo::new(reason, domain, std::collections::HashMap::new()).into()
                }
                Detail::ResourceInfo {
                    resource_type,
                    resource_name,
                    owner,
                    description,
                } => tonic_types::ResourceInfo::new(*resource_type, resource_name, owner, description).into(),
                Detail::BadRequest { field, description } => {
                    tonic_types::BadRequest::with_violation(field, description).into()
                }
                Detail::Help { description, url } => tonic_types::Help::with_link(*description, *url).into(),
            })
            .collect();
        let _ = ErrorDetails::new;
        tonic::Status::with_error_details_vec(self.0.grpc, self.0.message.as_str(), details)
    }

    /// The text that upstream prints for a rich error inside other messages.
    #[must_use]
    pub fn kit_text(&self) -> String {
        format!(
            "api error: code = {} desc = {}",
            grpc_code_name(self.0.grpc.into()),
            self.0.message
        )
    }
}

/// Left in the extensions of a rendered answer for the metrics layer.
#[derive(Debug, Clone)]
pub struct RenderedError {
    /// `errorCode`.
    pub code: String,
    /// Its group.
    pub category: Category,
}

impl Detail {
    fn to_json(&self) -> Value {
        match self {
            Self::ErrorInfo { reason, metadata } => json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "dapr.io",
                "metadata": metadata,
            }),
            Self::ForeignInfo { reason, domain } => json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": domain,
                "metadata": null,
            }),
            Self::ResourceInfo {
                resource_type,
                resource_name,
                owner,
                description,
            } => json!({
                "@type": "type.googleapis.com/google.rpc.ResourceInfo",
                "resource_type": resource_type,
                "resource_name": resource_name,
                "owner": owner,
                "description": description,
            }),
            Self::BadRequest { field, description } => {
                // Go leaves empty fields of the violation out.
                let violation: Map<String, Value> = [("field", field), ("description", description)]
                    .into_iter()
                    .filter(|(_, text)| !text.is_empty())
                    .map(|(name, text)| (name.to_owned(), Value::from(text.as_str())))
                    .collect();
                json!({
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "field_violations": [violation],
                })
            }
            Self::Help { description, url } => {
                let mut map = Map::new();
                map.insert(
                    "@type".to_owned(),
                    Value::from("type.googleapis.com/google.rpc.Help"),
                );
                map.insert(
                    "links".to_owned(),
                    json!([{"description": description, "url": url}]),
                );
                Value::Object(map)
            }
        }
    }
}

/// Appends JSON with `<`, `>`, `&`, U+2028 and U+2029 escaped, as Go's encoder does.
fn push_json(out: &mut String, value: &Value) {
    for c in value.to_string().chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("code", &self.code())
            .field("http", &self.0.http.as_u16())
            .field("grpc", &self.0.grpc)
            .field("message", &self.0.message)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for tonic::Status {
    fn from(error: ApiError) -> Self {
        error.to_status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_shape_has_code_and_message_only() {
        let error = ApiError::new(
            "ERR_X",
            Category::Common,
            StatusCode::BAD_REQUEST,
            Code::InvalidArgument,
            "a <b>",
        );
        assert_eq!(
            &error.to_json()[..],
            br#"{"errorCode":"ERR_X","message":"a \u003cb\u003e"}"#
        );
        assert_eq!(error.to_status().code(), Code::InvalidArgument);
    }

    #[test]
    fn rich_shape_lists_details() {
        let error = crate::errors::state::not_found("mystore", "myapp");
        let body: Value = serde_json::from_slice(&error.to_json()).unwrap();
        assert_eq!(body["errorCode"], "ERR_STATE_STORE_NOT_FOUND");
        assert_eq!(body["message"], "state store mystore is not found");
        assert_eq!(body["details"][0]["reason"], "DAPR_STATE_NOT_FOUND");
        assert_eq!(body["details"][0]["metadata"]["appID"], "myapp");
    }

    #[test]
    fn a_violation_without_a_field_names_none() {
        let error = crate::errors::state::invalid_key("mystore", "", "no");
        let body: Value = serde_json::from_slice(&error.to_json()).unwrap();
        assert_eq!(
            body["details"][0],
            json!({
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "field_violations": [{"description": "no"}],
            })
        );
    }
}
