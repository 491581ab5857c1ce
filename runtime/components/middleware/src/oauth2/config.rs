//! Metadata of `middleware.http.oauth2`.

use http::{HeaderName, header};
use outrigger_component::{Error, Properties, SecretString};

use crate::filter::{self, PathFilter};

/// The metadata, read.
#[derive(Debug)]
pub struct Oauth2Config {
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// Where people log in.
    pub auth_url: String,
    /// Where a code is exchanged for a token.
    pub token_url: String,
    /// Which header of the request carries the token, `Authorization` unless said otherwise.
    pub auth_header_name: HeaderName,
    /// Where the authorization server sends people back to.
    pub redirect_url: Option<String>,
    /// Send people back to `https` after the login, and the cookie only there.
    pub force_https: bool,
    /// Which paths need a login.
    pub path_filter: PathFilter,
}

impl Oauth2Config {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When `authHeaderName` is no header's name (upstream finds out at the first request) or `pathFilter` no regular
    /// expression.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let text = |name: &str| properties.get(name).unwrap_or_default().to_owned();
        let auth_header_name = match properties.non_empty("authHeaderName") {
            // The default of upstream's `metadata.yaml`.
            None => header::AUTHORIZATION,
            Some(name) => HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                Error::configuration("metadata property 'authHeaderName' must be the name of a header")
            })?,
        };
        Ok(Self {
            client_id: text("clientID"),
            client_secret: text("clientSecret").into(),
            scopes: properties
                .non_empty("scopes")
                .map(|scopes| scopes.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            auth_url: text("authURL"),
            token_url: text("tokenURL"),
            auth_header_name,
            redirect_url: properties.non_empty("redirectURL").map(str::to_owned),
            force_https: properties.truthy("forceHTTPS"),
            path_filter: PathFilter::parse(properties)
                .map_err(|error| filter::invalid("pathFilter", &error))?,
        })
    }
}
