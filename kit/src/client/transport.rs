//! Connections to the sidecar: pooled HTTP/1.1, with TLS where the endpoint says `https`.

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Answer;
use crate::Error;
use crate::endpoint::Endpoint;

/// Idle connections kept; a service rarely has more calls under way.
const IDLE_CONNECTIONS: usize = 32;
const IDLE_FOR: std::time::Duration = std::time::Duration::from_secs(60);
/// A sidecar is on this host or near.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) enum Transport {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    Tls(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Transport {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, Error> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_FOR)
            .pool_timer(TokioTimer::new());
        if !endpoint.is_tls() {
            return Ok(Self::Plain(pool.build(connector)));
        }
        connector.enforce_http(false);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(|error| Error::Invalid(format!("no root certificates for {endpoint}: {error}")))?
            .https_only()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self::Tls(pool.build(tls)))
    }

    /// Sends a request and reads the whole answer, up to `limit` bytes.
    pub(super) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        endpoint: &Endpoint,
        limit: usize,
    ) -> Result<Answer, Error> {
        let unavailable =
            |source: Box<dyn std::error::Error + Send + Sync>, reached| Error::SidecarUnavailable {
                endpoint: endpoint.to_string(),
                reached,
                source,
            };
        let sent = match self {
            Self::Plain(pool) => pool.request(request).await,
            Self::Tls(pool) => pool.request(request).await,
        };
        let response = sent.map_err(|error| {
            let reached = !error.is_connect();
            unavailable(error.into(), reached)
        })?;
        let (head, mut body) = response.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unavailable(error.into(), true))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > limit {
                    return Err(Error::TooLong(limit));
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: bytes.freeze(),
        })
    }
}
