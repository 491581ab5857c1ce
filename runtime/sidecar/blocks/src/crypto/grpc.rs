//! The gRPC surface: documents in chunks, both ways at once.

use std::{
    future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use outrigger_component::Error;
use outrigger_components_crypto::scheme::{self, EncryptOptions};
use outrigger_sidecar_api::{ApiError, errors};
use outrigger_wire::dapr::proto::{
    common::v1::StreamPayload,
    runtime::v1::{DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse},
};
use tonic::Status;

use super::{
    CryptoService,
    http::{non_empty, operation},
};

/// How long the options may take to arrive (upstream `cryptoFirstChunkTimeout`).
const FIRST_MESSAGE: Duration = Duration::from_secs(5);

/// The answer of a streaming operation.
pub type CryptoStream<M> = BoxStream<'static, Result<M, Status>>;

impl CryptoService {
    /// `EncryptAlpha1`: `requests` is the client's stream.
    ///
    /// # Errors
    /// Rows of the crypto table; failures after the first byte end the stream.
    pub async fn grpc_encrypt<S>(&self, mut requests: S) -> Result<CryptoStream<EncryptResponse>, ApiError>
    where
        S: Stream<Item = Result<EncryptRequest, Status>> + Send + Unpin + 'static,
    {
        let first = first(&mut requests).await?;
        let options = first.options.ok_or_else(no_options)?;
        if options.key_name.is_empty() {
            return Err(errors::bad_request(
                "missing property 'keyName' in the options message",
            ));
        }
        if options.key_wrap_algorithm.is_empty() {
            return Err(errors::bad_request(
                "missing property 'keyWrapAlgorithm' in the options message",
            ));
        }
        let provider = self.provider(&options.component_name).await?;
        let mut encryption = EncryptOptions::parse(
            &options.key_name,
            &options.key_wrap_algorithm,
            &options.data_encryption_cipher,
        )
        .map_err(|error| operation(&error))?;
        encryption.omit_key_name = options.omit_decryption_key_name;
        encryption.decryption_key_name = non_empty(&options.decryption_key_name);
        let chunks = Chunks::new(first.payload, requests, |request: EncryptRequest| {
            (request.options.is_some(), request.payload)
        });
        let output = scheme::encrypt(&provider, chunks, encryption)
            .await
            .map_err(|error| operation(&error))?;
        Ok(numbered(output, |payload| EncryptResponse {
            payload: Some(payload),
        }))
    }

    /// `DecryptAlpha1`: `requests` is the client's stream.
    ///
    /// # Errors
    /// Rows of the crypto table; failures after the first byte end the stream.
    pub async fn grpc_decrypt<S>(&self, mut requests: S) -> Result<CryptoStream<DecryptResponse>, ApiError>
    where
        S: Stream<Item = Result<DecryptRequest, Status>> + Send + Unpin + 'static,
    {
        let first = first(&mut requests).await?;
        let options = first.options.ok_or_else(no_options)?;
        let provider = self.provider(&options.component_name).await?;
        let chunks = Chunks::new(first.payload, requests, |request: DecryptRequest| {
            (request.options.is_some(), request.payload)
        });
        let output = scheme::decrypt(&provider, chunks, &options.key_name)
            .await
            .map_err(|error| operation(&error))?;
        Ok(numbered(output, |payload| DecryptResponse {
            payload: Some(payload),
        }))
    }
}

fn no_options() -> ApiError {
    errors::bad_request("first message does not contain the required options")
}

async fn first<S, M>(requests: &mut S) -> Result<M, ApiError>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    match tokio::time::timeout(FIRST_MESSAGE, requests.next()).await {
        Ok(Some(Ok(message))) => Ok(message),
        Ok(Some(Err(status))) => Err(errors::crypto_operation(format!(
            "error receiving the first message: {}",
            status.message()
        ))),
        Ok(None) => Err(errors::crypto_operation("error receiving the first message: EOF")),
        Err(_) => Err(errors::bad_request(
            "error waiting for first message: context deadline exceeded",
        )),
    }
}

/// Output as numbered messages.
fn numbered<M: Send + 'static>(
    output: scheme::Output,
    message: impl Fn(StreamPayload) -> M + Send + 'static,
) -> CryptoStream<M> {
    output
        .enumerate()
        .map(move |(position, chunk)| match chunk {
            Ok(data) => Ok(message(StreamPayload {
                data,
                seq: position as u64,
            })),
            Err(error) => Err(operation(&error).to_status()),
        })
        .scan(false, |failed, item| {
            // Nothing follows a failure.
            let go_on = !std::mem::replace(failed, item.is_err());
            future::ready(go_on.then_some(item))
        })
        .boxed()
}

/// The payloads of a client's messages, their numbers checked.
struct Chunks<S, F> {
    first: Option<StreamPayload>,
    requests: S,
    take: F,
    expected: u64,
}

impl<S, F> Chunks<S, F> {
    fn new(first: Option<StreamPayload>, requests: S, take: F) -> Self {
        Self {
            first,
            requests,
            take,
            expected: 0,
        }
    }

    fn check(&mut self, payload: StreamPayload) -> Result<Bytes, Error> {
        if payload.seq != self.expected {
            return Err(Error::invalid(format!(
                "invalid sequence number received: {} (expected: {})",
                payload.seq, self.expected
            )));
        }
        self.expected += 1;
        Ok(payload.data)
    }
}

impl<S, M, F> Stream for Chunks<S, F>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
    F: Fn(M) -> (bool, Option<StreamPayload>) + Unpin,
{
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(self.check(first)));
        }
        loop {
            let message = match self.requests.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(status))) => {
                    let error = Error::internal(format!("error receiving message: {}", status.message()));
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(message))) => message,
            };
            return match (self.take)(message) {
                (true, _) => Poll::Ready(Some(Err(Error::invalid("options found in non-leading message")))),
                (false, Some(payload)) => Poll::Ready(Some(self.check(payload))),
                (false, None) => continue,
            };
        }
    }
}
