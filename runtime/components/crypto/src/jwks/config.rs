//! Metadata of `crypto.dapr.jwks`.

use std::time::Duration;

use outrigger_component::{Error, Properties, SecretString};

/// Upstream's defaults.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const MIN_REFRESH_INTERVAL: Duration = Duration::from_mins(10);

/// The metadata, read.
#[derive(Debug, Clone)]
pub struct JwksConfig {
    /// The set itself (JSON, or that in base64), the path of a file, or an `http` or `https` address. It may hold
    /// private keys.
    pub jwks: SecretString,
    /// How long a fetch may take.
    pub request_timeout: Duration,
    /// How often a set behind an address is fetched at most.
    pub min_refresh_interval: Duration,
}

impl JwksConfig {
    /// Reads the metadata. Times too short to mean anything become the defaults, as upstream has it.
    ///
    /// # Errors
    /// When the set is missing or a duration cannot be read.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let jwks = properties.non_empty("jwks").ok_or_else(|| {
            Error::configuration("failed to load metadata: metadata property 'jwks' is required")
        })?;
        let duration = |name: &str, least: Duration, default: Duration| {
            Ok::<_, Error>(
                properties
                    .duration(name)?
                    .filter(|duration| *duration >= least)
                    .unwrap_or(default),
            )
        };
        Ok(Self {
            jwks: jwks.into(),
            request_timeout: duration("requestTimeout", Duration::from_millis(1), REQUEST_TIMEOUT)?,
            min_refresh_interval: duration(
                "minRefreshInterval",
                Duration::from_secs(1),
                MIN_REFRESH_INTERVAL,
            )?,
        })
    }
}
