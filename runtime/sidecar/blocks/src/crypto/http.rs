//! The HTTP surface.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Method, Response, header};
use http_body::Frame;
use http_body_util::BodyDataStream;
use outrigger_component::Error;
use outrigger_components_crypto::scheme::{self, EncryptOptions};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, BoxError, Endpoint, Group, errors, handler};
use outrigger_types::is_truthy;

use super::CryptoService;

/// Output up to this size is finished before the answer begins, so that its failure still gets a status and clients
/// that write all before they read are served; beyond it the rest streams.
const WHOLE_ANSWER: usize = 8 << 20;

impl CryptoService {
    /// The endpoints of the cryptography APIs.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        const PUT: &[Method] = &[Method::PUT];
        const GROUP: Group = Group {
            name: "crypto",
            version: "v1alpha1",
        };
        let endpoint = |route, name, handler| Endpoint::new(PUT, "v1.0-alpha1", route, GROUP, name, handler);
        let mut endpoints = vec![
            endpoint(
                "crypto/{name}/encrypt",
                "Encrypt",
                handler(self, Self::http_encrypt),
            ),
            endpoint(
                "crypto/{name}/decrypt",
                "Decrypt",
                handler(self, Self::http_decrypt),
            ),
        ];
        endpoints.extend(self.subtle_endpoints());
        endpoints
    }

    async fn http_encrypt(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let provider = self.provider(request.param("name")).await?;
        let required = |name| match request.header(name) {
            "" => Err(errors::bad_request(format!("missing header '{name}'"))),
            value => Ok(value),
        };
        let key_name = required("dapr-key-name")?;
        let algorithm = required("dapr-key-wrap-algorithm")?;
        let cipher = request.header("dapr-data-encryption-cipher");
        let mut options =
            EncryptOptions::parse(key_name, algorithm, cipher).map_err(|error| operation(&error))?;
        options.omit_key_name = is_truthy(request.header("dapr-omit-decryption-key-name"));
        options.decryption_key_name = non_empty(request.header("dapr-decryption-key-name"));
        let output = scheme::encrypt(&provider, BodyDataStream::new(request.body), options)
            .await
            .map_err(|error| operation(&error))?;
        answer(output).await
    }

    async fn http_decrypt(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let provider = self.provider(request.param("name")).await?;
        let key_name = request.header("dapr-key-name").to_owned();
        let output = scheme::decrypt(&provider, BodyDataStream::new(request.body), &key_name)
            .await
            .map_err(|error| operation(&error))?;
        answer(output).await
    }
}

/// The row for a failed operation.
pub(super) fn operation(error: &Error) -> ApiError {
    errors::crypto_operation(error.chain())
}

pub(super) fn non_empty(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}

async fn answer(mut output: scheme::Output) -> Result<Response<Body>, ApiError> {
    let mut begun = Vec::new();
    let mut ended = true;
    while let Some(chunk) = output.next().await {
        begun.extend_from_slice(&chunk.map_err(|error| operation(&error))?);
        if begun.len() >= WHOLE_ANSWER {
            ended = false;
            break;
        }
    }
    let body = if ended {
        Body::whole(begun)
    } else {
        Body::boxed(Streamed {
            begun: Some(Bytes::from(begun)),
            rest: Mutex::new(output),
        })
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    Ok(response)
}

/// A long answer: its beginning, then the rest as it comes. The lock makes the stream `Sync`; it is never taken.
struct Streamed {
    begun: Option<Bytes>,
    rest: Mutex<scheme::Output>,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(begun) = self.begun.take() {
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        let Ok(rest) = self.rest.get_mut() else {
            return Poll::Ready(None);
        };
        rest.poll_next_unpin(cx)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data).map_err(Into::into)))
    }
}
