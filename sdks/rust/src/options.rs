//! Where a service is, and what every call to it carries.

use std::time::Duration;

use outrigger_platform_wire::API_VERSION;

/// Where a service is and how it is called.
#[derive(Clone)]
pub struct Options {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) timeout: Duration,
    pub(crate) api_version: String,
    pub(crate) metadata: Vec<(String, String)>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values of metadata may be tokens.
        let names: Vec<_> = self.metadata.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Options")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("timeout", &self.timeout)
            .field("api_version", &self.api_version)
            .field("metadata", &names)
            .finish()
    }
}

impl Options {
    /// The gateway's port for gRPC.
    pub const GATEWAY_PORT: u16 = 5002;
    /// The worker manager's port for gRPC.
    pub const WORKER_MANAGER_PORT: u16 = 5102;
    /// The WebSocket manager's port for gRPC.
    pub const WEBSOCKET_MANAGER_PORT: u16 = 5202;
    /// How long a unary call may take unless told otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// A service on this machine, at a port.
    pub fn local(port: u16) -> Self {
        Self {
            host: "localhost".to_owned(),
            port,
            timeout: Self::TIMEOUT,
            api_version: API_VERSION.to_owned(),
            metadata: Vec::new(),
        }
    }

    /// The gateway at `localhost:5002`.
    pub fn gateway() -> Self {
        Self::local(Self::GATEWAY_PORT)
    }

    /// The worker manager at `localhost:5102`.
    pub fn worker_manager() -> Self {
        Self::local(Self::WORKER_MANAGER_PORT)
    }

    /// The WebSocket manager at `localhost:5202`.
    pub fn websocket_manager() -> Self {
        Self::local(Self::WEBSOCKET_MANAGER_PORT)
    }

    /// The gateway where `VIRTUFIN_API_HOST` and `VIRTUFIN_API_GRPC_PORT` say, as `lookup` knows them (F7): a program
    /// passes the process environment, `|name| std::env::var(name).ok()`. What is not set or empty keeps its default.
    ///
    /// # Errors
    /// [`Error::Options`](crate::Error::Options) for a port that is none.
    pub fn gateway_from(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, crate::Error> {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        let mut options = Self::gateway();
        if let Some(host) = set("VIRTUFIN_API_HOST") {
            options.host = host;
        }
        if let Some(port) = set("VIRTUFIN_API_GRPC_PORT") {
            options.port =
                port.parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| crate::Error::Options {
                        what: format!("VIRTUFIN_API_GRPC_PORT={port:?}"),
                        why: "not a port".to_owned(),
                    })?;
        }
        Ok(options)
    }

    /// A name, an IPv4 or an IPv6 address.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// The port for gRPC.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// How long a unary call may take; streams have no limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Another version of the contract than the one this crate is made for.
    #[must_use]
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.api_version = version.into();
        self
    }

    /// Calls go to a sidecar at host and port, which passes them on to the app of this id: a hop with mutual TLS.
    #[must_use]
    pub fn app_id(self, id: impl Into<String>) -> Self {
        self.metadata("dapr-app-id", id)
    }

    /// Something more that every call carries, such as `dapr-api-token`; the value is never printed.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// `http://host:port`, an IPv6 address in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            format!("http://[{}]:{}", self.host, self.port)
        } else {
            format!("http://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_places_the_gateway() {
        let options = Options::gateway_from(|_| None).unwrap();
        assert_eq!(options.address(), "http://localhost:5002");
        let options = Options::gateway_from(|name| {
            Some(match name {
                "VIRTUFIN_API_HOST" => "::1".to_owned(),
                "VIRTUFIN_API_GRPC_PORT" => "6002".to_owned(),
                _ => panic!("{name}"),
            })
        })
        .unwrap();
        assert_eq!(options.address(), "http://[::1]:6002");
        for port in ["0", "x", "70000"] {
            let error =
                Options::gateway_from(|name| name.ends_with("PORT").then(|| port.to_owned())).unwrap_err();
            assert!(error.to_string().contains("not a port"), "{error}");
        }
    }

    #[test]
    fn tokens_are_not_printed() {
        let options = Options::gateway().metadata("dapr-api-token", "s3cret");
        let text = format!("{options:?}");
        assert!(
            text.contains("dapr-api-token") && !text.contains("s3cret"),
            "{text}"
        );
    }
}
