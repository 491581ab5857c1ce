//! The services that the gateway knows, from a file that may change at any time (G6.1, R5).

mod check;
mod file;
mod yaml;

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

pub(crate) use check::is_name;
pub use file::{Catalog, FileStatus};

/// One backend.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// What callers name it by.
    pub name: String,
    /// Where its sidecar finds it; used unless a host or a port is given.
    #[serde(default)]
    pub dapr_app_id: String,
    /// How it is called.
    #[serde(default)]
    pub grpc: GrpcTarget,
    /// Its events.
    #[serde(default)]
    pub pubsub: Pubsub,
    /// Its state.
    #[serde(default)]
    pub state: State,
    /// What is done at times.
    #[serde(default)]
    pub jobs: Jobs,
}

/// Where a backend's gRPC server is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GrpcTarget {
    /// A host name or address; empty: this host if there is a port, else by the sidecar.
    pub host: String,
    /// Its port; 0: none.
    pub port: u16,
    /// Whether it tells its descriptors.
    pub reflection_enabled: bool,
    /// TLS to it; needed unless it is on this host (Z47).
    pub tls: Option<Tls>,
}

impl Default for GrpcTarget {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 0,
            reflection_enabled: true,
            tls: None,
        }
    }
}

/// TLS to a backend. An empty block checks its certificate against the system's roots.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    /// PEM of the roots to check against.
    pub ca_file: Option<PathBuf>,
    /// PEM of the certificate that the gateway shows; with `keyFile`.
    pub cert_file: Option<PathBuf>,
    /// PEM of its key.
    pub key_file: Option<PathBuf>,
    /// The name in the backend's certificate, where it is not the host.
    pub server_name: Option<String>,
}

/// A backend's pub/sub component.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pubsub {
    /// Its name; empty: the gateway's own.
    pub pubsub_name: String,
}

/// A backend's state.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct State {
    /// Its store; empty: the gateway's own.
    pub store_name: String,
    /// Keys that are registered from the start.
    pub keys: Vec<String>,
}

/// A backend's jobs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Jobs {
    /// Each by its schedule.
    pub crons: Vec<Cron>,
}

/// What is done at times: an event is published, or a method called.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cron {
    /// Its name, unique in its service.
    pub name: String,
    /// As Dapr's jobs read it: six fields, `@every 30s`, `@daily`, …
    pub schedule: String,
    /// Where an event is published.
    pub topic: String,
    /// Which method of the service is called.
    pub method: String,
    /// The event's data, or the method's message as JSON.
    pub data: serde_json::Value,
}

/// How a backend is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// By the gateway's sidecar, which finds it and speaks mTLS with its sidecar.
    Sidecar {
        /// The app-id.
        app_id: String,
    },
    /// At an address.
    Direct {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// TLS.
        tls: Option<Tls>,
    },
}

impl Service {
    /// How it is reached; `None` for one that only has state or events.
    pub fn route(&self) -> Option<Route> {
        let grpc = &self.grpc;
        if grpc.port != 0 {
            let host = if grpc.host.is_empty() {
                "127.0.0.1"
            } else {
                &grpc.host
            };
            return Some(Route::Direct {
                host: host.to_owned(),
                port: grpc.port,
                tls: grpc.tls.clone(),
            });
        }
        (!self.dapr_app_id.is_empty()).then(|| Route::Sidecar {
            app_id: self.dapr_app_id.clone(),
        })
    }
}

impl Cron {
    /// The data as text: text as it is, anything else as JSON.
    pub fn data_text(&self) -> String {
        match &self.data {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// Whether what is sent to a host stays on this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().map_or_else(
        |_| bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost"),
        |address| address.to_canonical().is_loopback(),
    )
}
