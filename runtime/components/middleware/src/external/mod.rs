//! `middleware.http.external` (ours; A9.5): asks a handler in a process of its own, in any language, over a Unix socket.
//!
//! # Protocol
//! The handler is an HTTP/1.1 server on the socket. Each exchange is a connection of its own with one request, JSON both
//! ways; bodies are base64, headers are lists of values by name.
//!
//! `POST /request`, before the next handler, carries `handler` (the component's name), `traceId` (where there is one),
//! `method`, `path` (with the query, as it will be dispatched), `headers`, `source` (the caller's address) and, with
//! `readBody`, `body`. The answer is
//!
//! - 204: the request goes on as it is;
//! - 200 and `{"headers": {…}, "path": "…", "body": "…"}`, each of them optional: it goes on with these changes; a header
//!   that is `null` is removed;
//! - 200 and `{"respond": {"status": 403, "headers": {…}, "body": "…"}}`: this is the answer, nothing goes on.
//!
//! `POST /response`, after it, where `responses` says so: the same with `status` in place of `source`, and `headers` and
//! `body` of the answer; 204 leaves it, 200 and `{"status": …, "headers": {…}, "body": "…"}` changes it. This is how a
//! handler rewrites the errors of those behind it.
//!
//! Anything else is a failure: any other status, with `{"error": "…"}` as its cause, an answer that cannot be read or is
//! too large, none in time, nobody at the socket. It is answered in the shape of the API's errors, with the handler's
//! name, the trace and the cause (`ERR_MIDDLEWARE_EXTERNAL`; 500, 503 without a handler, 504 without an answer). No
//! exchange is repeated.

mod backend;
mod config;
mod protocol;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_middleware::Middleware;

pub use backend::External;
pub use config::{ExternalConfig, Responses};

/// How `middleware.http.external` is built.
pub const EXTERNAL: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.external"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let config = ExternalConfig::parse(spec.name.as_str(), &spec.properties)?;
    Ok(open_with(async move |host| {
        // The handler's process may come later, and come again.
        let socket = host.path(&config.socket);
        Ok(Arc::new(External::new(config, socket)) as Arc<dyn Middleware>)
    }))
}
