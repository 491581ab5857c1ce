//! The peer's span names and attributes (`pkg/diagnostics/{http,grpc}_tracing.go`, `pkg/api/http`,
//! `pkg/proto/runtime/v1/dapr_tracing.go`).

use http::StatusCode;

use super::Recording;

/// The API a request came in by; the peer sets `rpc.service` on gRPC only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP: statements are "METHOD path".
    Http,
    /// gRPC: statements are the full method.
    Grpc,
}

/// An exchange of the public HTTP API.
#[derive(Debug, Clone, Copy)]
pub struct HttpExchange<'a> {
    /// The method.
    pub method: &'a str,
    /// The decoded path.
    pub path: &'a str,
    /// The request target as sent.
    pub target: &'a str,
    /// The client's `address:port`.
    pub remote: &'a str,
    /// The answer's status.
    pub status: u16,
}

impl Recording {
    /// What every span of the HTTP API carries; also sets the failure of statuses from 400 on.
    pub fn http_exchange(&mut self, exchange: &HttpExchange<'_>) {
        self.set("dapr.protocol", "http");
        self.set("dapr.api", format!("{} {}", exchange.method, exchange.path));
        self.set("dapr.status_code", exchange.status.to_string());
        self.set("http.request.method", exchange.method);
        self.set("url.full", exchange.target);
        // The peer cuts at every colon and keeps the first two pieces.
        let mut pieces = exchange.remote.split(':');
        self.set("server.address", pieces.next().unwrap_or_default());
        self.set("server.port", pieces.next().unwrap_or_default());
        self.http_status(exchange.status);
    }

    /// Marks statuses from 400 on as failed.
    pub fn http_status(&mut self, status: u16) {
        if status >= 400 {
            self.set_error(format!("Code({status}): {}", status_text(status)));
        }
    }

    /// What every span of the gRPC API carries.
    pub fn grpc_call(&mut self, full_method: &str) {
        self.set("dapr.protocol", "grpc");
        self.set("dapr.api", full_method);
    }

    /// Client headers that start with `dapr-`; gRPC leaves binary ones out.
    pub fn dapr_headers<'a>(
        &mut self,
        protocol: Protocol,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        for (name, value) in headers {
            let is_wanted = name
                .get(..5)
                .is_some_and(|prefix| prefix.eq_ignore_ascii_case("dapr-"))
                && (protocol == Protocol::Http || !name.ends_with("-bin"));
            if is_wanted {
                self.set(name.to_ascii_lowercase(), value);
            }
        }
    }

    /// Service invocation by the public API.
    pub fn invocation(&mut self, app_id: &str, method: &str) {
        self.set("rpc.service", "ServiceInvocation");
        self.set("net.peer.name", app_id);
        self.set_name(format!("CallLocal/{app_id}/{method}"));
    }

    /// Service invocation as the callee's sidecar receives it; `app_id` is its own.
    pub fn call_local(&mut self, app_id: &str, method: &str) {
        self.set("rpc.service", "ServiceInvocation");
        self.set("dapr.invoke_method", method);
        self.set_name(format!("CallLocal/{app_id}/{method}"));
    }

    /// Actor invocation by the public API.
    pub fn actor_invocation(&mut self, actor_type: &str, actor_id: &str, method: &str) {
        self.set("rpc.service", "ServiceInvocation");
        self.set("net.peer.name", format!("{actor_type}.{actor_id}"));
        self.set_name(format!("CallActor/{actor_type}/{method}"));
    }

    /// Actor invocation as the hosting sidecar receives it.
    pub fn call_actor(&mut self, actor_type: &str, actor_id: &str, method: &str) {
        self.set("rpc.service", "ServiceInvocation");
        self.set("dapr.actor", format!("{actor_type}.{actor_id}"));
        self.set_name(format!("CallActor/{actor_type}/{method}"));
    }

    /// A state store call.
    pub fn state(&mut self, protocol: Protocol, store: &str, statement: &str) {
        self.database(protocol, "state", store, statement);
    }

    /// A secret store call.
    pub fn secret(&mut self, protocol: Protocol, store: &str, statement: &str) {
        self.database(protocol, "secrets", store, statement);
    }

    /// An output binding call.
    pub fn output_binding(&mut self, protocol: Protocol, binding: &str, statement: &str) {
        self.database(protocol, "bindings", binding, statement);
    }

    /// An event of an input binding handed to the app; `url` is what the app is called by.
    pub fn input_binding(&mut self, binding: &str, url: &str) {
        self.set("db.name", binding);
        self.set("rpc.service", "Dapr");
        self.set("db.system", "bindings");
        self.set("db.connection_string", url);
    }

    /// A publish by the public API.
    pub fn publish(&mut self, protocol: Protocol, topic: &str) {
        if protocol == Protocol::Grpc {
            self.set("rpc.service", "Dapr");
        }
        self.subscription(topic);
    }

    /// A message handed to the app.
    pub fn subscription(&mut self, topic: &str) {
        self.set("messaging.system", "pubsub");
        self.set("messaging.destination.name", topic);
    }

    /// A conversation call over gRPC.
    pub fn conversation(&mut self, component: &str) {
        self.set("rpc.system", component);
    }

    fn database(&mut self, protocol: Protocol, system: &'static str, name: &str, statement: &str) {
        if protocol == Protocol::Grpc {
            self.set("rpc.service", "Dapr");
        }
        self.set("db.system", system);
        self.set("db.connection_string", system);
        self.set("db.statement", statement);
        self.set("db.name", name);
    }
}

/// The reason phrase of a status as Go's `net/http` has it.
fn status_text(status: u16) -> &'static str {
    match status {
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        416 => "Requested Range Not Satisfiable",
        _ => StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Unknown"),
    }
}
