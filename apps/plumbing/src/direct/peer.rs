//! Calls of another service by its name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use super::discovery::Discovery;
use super::resilience::{Failure, Guard};
use super::telemetry::{TRACEPARENT, traceparent};

/// One other service.
#[derive(Debug)]
pub struct Peer {
    service: &'static str,
    discovery: Arc<Discovery>,
    pool: Client<HttpConnector, Empty<Bytes>>,
    guard: Guard,
}

impl Peer {
    /// The service of this name.
    pub fn new(service: &'static str, discovery: Arc<Discovery>) -> Self {
        Self {
            service,
            discovery,
            pool: Client::builder(TokioExecutor::new()).build_http(),
            guard: Guard::new(service, Duration::from_secs(2), 3),
        }
    }

    /// Reads `path` as JSON from one of its instances.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.guard
            .run(|| {
                let span = tracing::info_span!("call", otel.kind = "client", peer = self.service);
                self.attempt(path).instrument(span)
            })
            .await
    }

    async fn attempt<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let address = self.discovery.resolve(self.service).await?;
        let away = |error: &dyn std::fmt::Display| {
            self.discovery.doubt(self.service);
            Failure::Unavailable(self.service, error.to_string())
        };
        let broken = |error: &dyn std::fmt::Display| Failure::Broken(self.service, error.to_string());
        let mut request = Request::get(format!("http://{address}{path}"));
        if let Some(traceparent) = traceparent() {
            request = request.header(TRACEPARENT, traceparent);
        }
        let request = request.body(Empty::new()).map_err(|error| broken(&error))?;
        let response = self.pool.request(request).await.map_err(|error| away(&error))?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| away(&error))?.to_bytes();
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(|error| broken(&error)),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Err(away(&status))
            }
            _ => Err(broken(&status)),
        }
    }
}
