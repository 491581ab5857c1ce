//! Metadata of `bindings.http`.

use std::time::Duration;

use outrigger_component::{Error, Properties, SecretString};
use outrigger_types::is_truthy;

use super::size;

/// Upstream's bound of a response body (`bindings/http`: 100 MiB).
const DEFAULT_MAX_RESPONSE_BODY: i64 = 100 << 20;

/// The metadata, read.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The endpoint; requests may add a path.
    pub url: String,
    /// Whom to trust instead of the system: PEM or the path of a PEM file.
    pub root_ca: Option<String>,
    /// What to show the server: PEM or the path of a PEM file.
    pub client_cert: Option<String>,
    /// Its private key: PEM or the path of a PEM file.
    pub client_key: Option<SecretString>,
    /// A header of every request and its value.
    pub security_token: Option<(String, SecretString)>,
    /// How long a request may take, its body included; `None` is for ever.
    pub response_timeout: Option<Duration>,
    /// Bytes of a response body that are read, the rest is cut off; `None` is all.
    pub max_response_body: Option<u64>,
    /// Whether a status other than 2xx is an error, unless the request says otherwise.
    pub error_if_not_2xx: bool,
}

impl HttpConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When a duration, a size or a way to renegotiate cannot be read.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let text = |name: &str| properties.non_empty(name).map(str::to_owned);
        let config = Self {
            url: properties.get("url").unwrap_or_default().to_owned(),
            root_ca: text("mtlsRootCA"),
            client_cert: text("mtlsClientCert"),
            client_key: text("mtlsClientKey").map(SecretString::from),
            security_token: text("securityTokenHeader").zip(text("securityToken").map(SecretString::from)),
            response_timeout: properties.duration("responseTimeout")?,
            max_response_body: match properties.non_empty("maxResponseBodySize") {
                None => u64::try_from(DEFAULT_MAX_RESPONSE_BODY).ok(),
                Some(text) => {
                    let bytes = size::parse(text).ok_or_else(|| {
                        Error::configuration(format!(
                            "invalid value for maxResponseBodySize: {text:?} is not a size such as 1048576 or 100Mi"
                        ))
                    })?;
                    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
                }
            },
            error_if_not_2xx: properties.non_empty("errorIfNot2XX").is_none_or(is_truthy),
        };
        match properties.get("mtlsRenegotiation").unwrap_or_default() {
            "" | "RenegotiateNever" => {}
            // TLS 1.3 has no renegotiation and our TLS library none for 1.2: a server that insists gets an error.
            "RenegotiateOnceAsClient" | "RenegotiateFreelyAsClient" => {
                tracing::warn!("TLS renegotiation is not offered; connections will never renegotiate");
            }
            other => {
                return Err(Error::configuration(format!(
                    "invalid renegotiation value: {other}"
                )));
            }
        }
        if config.client_cert.is_some() != config.client_key.is_some() {
            tracing::warn!(
                "MTLSClientCert and MTLSClientKey only work together: no client certificate is shown"
            );
        }
        Ok(config)
    }
}
