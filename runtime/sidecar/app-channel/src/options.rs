//! How the app is reached.

use std::{fmt, str::FromStr, sync::Arc};

use outrigger_component::SecretString;
use outrigger_middleware::Pipeline;
use outrigger_telemetry::Metrics;

/// `--app-protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/1.1 over TLS; the certificate is not verified, as the app is the sidecar's own.
    Https,
    /// HTTP/2 in clear text by prior knowledge.
    H2c,
    /// gRPC in clear text.
    Grpc,
    /// gRPC over TLS; the certificate is not verified.
    Grpcs,
}

impl Protocol {
    /// Whether the app speaks HTTP of some kind, as against gRPC.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::H2c)
    }

    /// Whether the connection is TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// The name as the flag and the metadata API spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// What `--app-ssl` turns it into.
    #[must_use]
    pub fn with_tls(self) -> Self {
        match self {
            Self::Http | Self::Https => Self::Https,
            Self::Grpc | Self::Grpcs => Self::Grpcs,
            Self::H2c => Self::H2c,
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "" | "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            "h2c" => Ok(Self::H2c),
            "grpc" => Ok(Self::Grpc),
            "grpcs" => Ok(Self::Grpcs),
            _ => Err(format!(
                "invalid value for 'app-protocol': {text:?}; use http, https, h2c, grpc or grpcs"
            )),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the app is reached.
#[derive(Debug, Clone)]
pub struct AppChannelOptions {
    /// `--app-channel-address`; an address or a name.
    pub address: String,
    /// `--app-port`.
    pub port: u16,
    /// `--app-protocol`.
    pub protocol: Protocol,
    /// `--app-max-concurrency`; `None` is unlimited.
    pub max_concurrency: Option<usize>,
    /// `APP_API_TOKEN`, sent as `dapr-api-token` with everything (B5).
    pub api_token: Option<SecretString>,
    /// `--read-buffer-size`, bytes: bound of the app's response header.
    pub read_buffer_size: usize,
    /// The app middleware pipeline (`spec.appHttpPipeline`); empty costs nothing.
    pub pipeline: Arc<Pipeline>,
    /// Where requests to the app are counted.
    pub metrics: Metrics,
}
