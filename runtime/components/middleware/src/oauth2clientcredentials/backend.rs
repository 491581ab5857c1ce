//! The handler.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use outrigger_component::Error;
use outrigger_http_client::Proxies;
use outrigger_middleware::{Body, Middleware, Next};
use tokio::sync::Mutex;

use super::ClientCredentialsConfig;
use crate::{oauth::TokenEndpoint, respond};

/// A token whose end the server does not tell is kept this long (the default of upstream's cache; upstream in fact
/// keeps such a token for ever).
const UNKNOWN_LIFETIME: Duration = Duration::from_hours(1);
/// A token is renewed this long before its end, so that it is still good where it arrives.
const MARGIN: Duration = Duration::from_secs(10);

/// Adds a token to requests that the path filter takes. The token is asked for once and kept until shortly before its
/// end; requests that arrive meanwhile wait for the one answer.
///
/// Two deviations. Without a token the request is answered 500: upstream answers 200 without asking the app. And the
/// header is replaced, not added to: a caller cannot put a value of its own before the sidecar's.
#[derive(Debug)]
pub struct ClientCredentials {
    config: ClientCredentialsConfig,
    endpoint: TokenEndpoint,
    parameters: Vec<(String, String)>,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    header: HeaderValue,
    until: Instant,
}

impl ClientCredentials {
    /// A handler; no token is asked for yet.
    ///
    /// # Errors
    /// When the token endpoint's address cannot be called.
    pub fn new(config: ClientCredentialsConfig) -> Result<Self, Error> {
        let endpoint = TokenEndpoint::new(
            &config.token_url,
            config.client_id.clone(),
            config.client_secret.clone(),
            config.auth_style,
        )?;
        let mut parameters = config.endpoint_params.clone();
        if !parameters.iter().any(|(name, _)| name == "grant_type") {
            parameters.push(("grant_type".to_owned(), "client_credentials".to_owned()));
        }
        parameters.push(("scope".to_owned(), config.scopes.join(" ")));
        Ok(Self {
            config,
            endpoint,
            parameters,
            kept: Mutex::new(None),
        })
    }

    /// The same, with tokens asked for by these proxies.
    ///
    /// # Errors
    /// When the way to a proxy cannot be set up.
    pub fn by(mut self, proxies: Proxies) -> Result<Self, Error> {
        self.endpoint = self.endpoint.by(proxies)?;
        Ok(self)
    }

    async fn header(&self) -> Result<HeaderValue, Error> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| Instant::now() < kept.until) {
            return Ok(kept.header.clone());
        }
        let token = self.endpoint.token(&self.parameters).await?;
        let lifetime = token.lifetime.unwrap_or(UNKNOWN_LIFETIME);
        *kept = Some(Kept {
            header: token.header.clone(),
            until: Instant::now() + lifetime.saturating_sub(MARGIN),
        });
        Ok(token.header)
    }
}

impl Middleware for ClientCredentials {
    fn handle(&self, mut request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            if !self.config.path_filter.takes(request.uri()) {
                return next.run(request).await;
            }
            match self.header().await {
                Ok(header) => {
                    request
                        .headers_mut()
                        .insert(self.config.header_name.clone(), header);
                    next.run(request).await
                }
                Err(error) => {
                    tracing::error!("Error acquiring token: {}", error.chain());
                    respond::status(500)
                }
            }
        })
    }
}
