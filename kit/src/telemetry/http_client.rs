//! The client of OTLP over HTTP. The exporters' threads know no runtime, so requests run on the service's own.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use crate::Error;

/// A collector answers with a few counts.
const MAX_ANSWER: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct HttpSender {
    pool: Transport,
    runtime: Handle,
    timeout: Duration,
}

#[derive(Debug, Clone)]
enum Transport {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    Tls(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl HttpSender {
    /// Has to be made inside the runtime that requests shall run on.
    pub(super) fn new(tls: bool, timeout: Duration) -> Result<Self, Error> {
        let runtime = Handle::try_current()
            .map_err(|error| Error::Invalid(format!("telemetry needs a tokio runtime: {error}")))?;
        let mut connector = HttpConnector::new();
        let builder = Pool::builder(TokioExecutor::new());
        let pool = if tls {
            connector.enforce_http(false);
            let tls = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
                .map_err(|error| Error::Invalid(format!("no root certificates for a collector: {error}")))?
                .https_only()
                .enable_http1()
                .wrap_connector(connector);
            Transport::Tls(builder.build(tls))
        } else {
            Transport::Plain(builder.build(connector))
        };
        Ok(Self {
            pool,
            runtime,
            timeout,
        })
    }
}

#[tonic::async_trait]
impl HttpClient for HttpSender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let pool = self.pool.clone();
        let request = request.map(Full::new);
        let exchange = async move {
            let response = match pool {
                Transport::Plain(pool) => pool.request(request).await?,
                Transport::Tls(pool) => pool.request(request).await?,
            };
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let timeout = self.timeout;
        // The timer too is made inside the runtime.
        let bounded = async move { tokio::time::timeout(timeout, exchange).await };
        self.runtime.spawn(bounded).await??
    }
}
