//! Metadata of `middleware.http.oauth2clientcredentials`.

use std::fmt::Write as _;

use http::HeaderName;
use outrigger_component::{Error, Properties, SecretString};

use crate::{filter::PathFilter, oauth::AuthStyle};

/// The metadata, read.
#[derive(Debug)]
pub struct ClientCredentialsConfig {
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// The scopes to ask for, in the file's order.
    pub scopes: Vec<String>,
    /// Where tokens are given.
    pub token_url: String,
    /// Which header of the request carries the token.
    pub header_name: HeaderName,
    /// Further parameters of the token request.
    pub endpoint_params: Vec<(String, String)>,
    /// How the client shows its secret.
    pub auth_style: AuthStyle,
    /// Which requests get the token.
    pub path_filter: PathFilter,
}

impl ClientCredentialsConfig {
    /// Reads the metadata and says everything that is wrong with it at once.
    ///
    /// # Errors
    /// When a property is missing or cannot be read.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let mut errors = String::new();
        let mut required = |name: &str| {
            let value = properties.get(name).unwrap_or_default();
            if value.is_empty() {
                let _ = write!(errors, "Parameter '{name}' needs to be set. ");
            }
            value.to_owned()
        };
        let header = required("headerName");
        let client_id = required("clientID");
        let client_secret = required("clientSecret");
        let scopes = required("scopes");
        let token_url = required("tokenURL");
        let header_name = HeaderName::from_bytes(header.as_bytes());
        if !header.is_empty() && header_name.is_err() {
            errors.push_str("Parameter 'headerName' is not the name of a header. ");
        }
        let path_filter = PathFilter::parse(properties).unwrap_or_else(|error| {
            let _ = write!(errors, "Parameter 'pathFilter' is not a valid regex: {error}. ");
            PathFilter::default()
        });
        let auth_style = match properties.number::<i64>("authStyle") {
            Ok(None | Some(0)) => AuthStyle::AutoDetect,
            Ok(Some(1)) => AuthStyle::InParams,
            Ok(Some(2)) => AuthStyle::InHeader,
            other => {
                let received = other.ok().flatten().unwrap_or(-1);
                let _ = write!(
                    errors,
                    "Parameter 'authStyle' can only have the values 0,1,2. Received: '{received}'. "
                );
                AuthStyle::AutoDetect
            }
        };
        let mut endpoint_params: Vec<(String, String)> = Vec::new();
        let query = properties.get("endpointParamsQuery").unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            // Only the grant type may be another: the rest is what this component is for.
            if name == "scope" {
                errors.push_str("Parameter 'endpointParamsQuery' cannot overwrite 'scope'. ");
            }
            endpoint_params.push((name, value));
        }
        let (true, Ok(header_name)) = (errors.is_empty(), header_name) else {
            return Err(Error::configuration(format!("metadata errors: {errors}")));
        };
        Ok(Self {
            client_id,
            client_secret: client_secret.into(),
            scopes: scopes.split(',').map(str::to_owned).collect(),
            token_url,
            header_name,
            endpoint_params,
            auth_style,
            path_filter,
        })
    }
}
