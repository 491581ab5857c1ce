//! The handler.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, header};
use outrigger_component::Error;
use outrigger_http_client::{Cached, Client, ClientError, ClientOptions, Freshness, Proxies};
use outrigger_middleware::{Body, Middleware, Next};
use serde::Deserialize;

use super::{
    BearerConfig,
    keys::{KeySet, Refusal, Warnings},
};
use crate::respond;

/// How the keys are kept fresh: upstream's least pause between fetches is ten minutes. A key that is not known is
/// looked for sooner, because issuers change keys without a word, but not more often than twice a minute, because
/// anybody can invent the name of a key.
const FRESHNESS: Freshness = Freshness {
    min: Duration::from_mins(10),
    max: Duration::from_hours(1),
    missing: Duration::from_secs(30),
};
const PREFIX: &str = "bearer ";
/// Shorter ones cannot be tokens (upstream's bound).
const MIN_TOKEN: usize = 10;

/// Lets requests pass whose `Authorization` is a bearer token that the issuer signed for the audience; all others
/// are answered 401.
#[derive(Debug)]
pub struct Bearer {
    config: BearerConfig,
    keys: Cached<KeySet>,
}

impl Bearer {
    /// Finds and fetches the issuer's keys, by these proxies.
    ///
    /// # Errors
    /// When the OpenID document or the keys cannot be had, or the document is another issuer's.
    pub async fn open(config: BearerConfig, proxies: Proxies) -> Result<Self, Error> {
        Self::open_with(config, FRESHNESS, proxies).await
    }

    pub(super) async fn open_with(
        config: BearerConfig,
        freshness: Freshness,
        proxies: Proxies,
    ) -> Result<Self, Error> {
        let options = ClientOptions {
            proxies,
            ..ClientOptions::default()
        };
        let client = Client::new(options)
            .map_err(|error| Error::internal("cannot make an HTTP client").with_source(error))?;
        let url = match &config.jwks_url {
            Some(url) => url.clone(),
            None => discover(&client, &config.issuer).await?,
        };
        let url = Client::parse(&url)
            .map_err(|error| Error::configuration("failed to register JWKS cache").with_source(error))?;
        let warnings = Warnings::default();
        let parse = move |document: &Bytes| {
            let set = KeySet::parse(document)?;
            warnings.speak(&set);
            Ok(set)
        };
        let keys = Cached::open(client, url, freshness, parse)
            .await
            .map_err(|error| unavailable("failed to fetch JWKS", error))?;
        Ok(Self { config, keys })
    }

    async fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = token(headers) else {
            return false;
        };
        let BearerConfig { issuer, audience, .. } = &self.config;
        let keys = self.keys.current();
        match keys.check(token, issuer, audience) {
            Ok(()) => true,
            Err(Refusal::Bad) => false,
            Err(Refusal::UnknownKey) => {
                let newer = self.keys.after_missing(&keys).await;
                newer.check(token, issuer, audience).is_ok()
            }
        }
    }
}

/// A wrong answer is permanent; no answer may come later.
fn unavailable(message: &'static str, error: ClientError) -> Error {
    match error {
        ClientError::Url(_) | ClientError::Tls(_) => Error::configuration(message).with_source(error),
        _ => Error::unavailable(message).with_source(error),
    }
}

/// The part of the OpenID document that is needed here.
#[derive(Deserialize)]
struct OpenIdDocument {
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    jwks_uri: String,
}

/// Where the issuer's document says that its keys are.
async fn discover(client: &Client, issuer: &str) -> Result<String, Error> {
    const FAILED: &str = "failed to retrieve OpenID Configuration document";
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.strip_suffix('/').unwrap_or(issuer)
    );
    let url = Client::parse(&url).map_err(|error| unavailable(FAILED, error))?;
    let response = client
        .get(&url)
        .await
        .map_err(|error| unavailable(FAILED, error))?;
    let document: OpenIdDocument = serde_json::from_slice(response.body())
        .map_err(|error| Error::unavailable(format!("{FAILED}: failed to decode JSON response: {error}")))?;
    if document.jwks_uri.is_empty() {
        return Err(Error::configuration(format!(
            "{FAILED}: the OpenID Configuration document does not contain a 'jwks_uri'"
        )));
    }
    // To the letter, trailing slash included: a document of another issuer vouches for that one's tokens.
    if document.issuer != issuer {
        return Err(Error::configuration(format!(
            "{FAILED}: the issuer found in the OpenID Configuration document ('{}') doesn't match the one provided in the component's metadata ('{issuer}')",
            document.issuer
        )));
    }
    Ok(document.jwks_uri)
}

/// The token of a request, if it has exactly one.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    // Two values mean different things to us and to the app behind.
    if values.next().is_some() {
        return None;
    }
    let (prefix, token) = value.split_at_checked(PREFIX.len())?;
    (prefix.eq_ignore_ascii_case(PREFIX) && token.len() >= MIN_TOKEN).then_some(token)
}

impl Middleware for Bearer {
    fn handle(&self, request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            if self.admits(request.headers()).await {
                next.run(request).await
            } else {
                respond::status(401)
            }
        })
    }
}
