//! Metadata of `middleware.http.bearer`.

use outrigger_component::{Error, Properties};

/// The metadata, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerConfig {
    /// Who must have issued a token; also where its OpenID document is.
    pub issuer: String,
    /// Whom a token must be for.
    pub audience: String,
    /// Where the issuer's keys are; `None` asks the OpenID document.
    pub jwks_url: Option<String>,
}

impl BearerConfig {
    /// Reads the metadata; `issuerURL` and `clientID` are old names of `issuer` and `audience`.
    ///
    /// # Errors
    /// When issuer or audience is missing.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let required = |name: &str, alias: &str| {
            properties
                .non_empty(name)
                .or_else(|| properties.non_empty(alias))
                .map(str::to_owned)
                .ok_or_else(|| Error::configuration(format!("metadata property '{name}' is required")))
        };
        Ok(Self {
            issuer: required("issuer", "issuerURL")?,
            audience: required("audience", "clientID")?,
            jwks_url: properties.non_empty("jwksURL").map(str::to_owned),
        })
    }
}
