//! REST over gRPC, by the `google.api.http` rules of methods (requirements G3.1, G3.2, G7.1).
//!
//! Nothing here is compiled against the services: a [`Transcoder`] is made of descriptors, whether built in or told
//! by a backend's reflection at run time. A request that matches a rule becomes a message, its call goes to an
//! [`Upstream`], and the answer comes back as proto3 JSON; a failed call is answered with google's HTTP status for
//! its code and `{"code":…,"message":…,"details":[…]}`.
//!
//! | Of the request | Becomes |
//! | --- | --- |
//! | path variables | fields, of any kind that one text can hold |
//! | the body | the message (`*`), or one field; `google.api.HttpBody` takes bytes as they are |
//! | the query | the other fields: `a=1`, `a.b=1`, repeated `a=1&a=2`, maps `a[key]=1`, where the body is not `*` |
//! | headers | metadata |
//!
//! A server stream is a JSON array, or lines or server-sent events where the request accepts them. Streams of
//! requests have no form here.
//!
//! [`openapi`] describes the same rules as an OpenAPI 3 document.

mod bind;
mod live;
mod metadata;
mod openapi;
mod reply;
mod request;
mod rule;
mod schema;
mod status;
mod template;
mod transcoder;
mod upstream;

pub use live::{LiveRoutes, Mount};
pub use openapi::{Info, merge, openapi};
pub use reply::to_json;
pub use request::from_json;
pub use rule::{Body, Rule, RuleError};
pub use status::{code_name, error_response, http_status, status_json};
pub use template::{Binding, Template, TemplateError};
pub use transcoder::{DEFAULT_MAX_BODY, Transcoder};
pub use upstream::{Call, GrpcUpstream, Messages, Raw, Upstream};
