//! One exchange over the socket.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::protocol::{Changes, Question};

/// Letters of a cause that an answer repeats.
const MAX_CAUSE: usize = 1024;

/// Why there is no verdict.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) cause: String,
}

impl Failure {
    pub(super) fn bad(cause: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            cause: cause.into(),
        }
    }
}

/// What a handler says of its own failure.
#[derive(Deserialize)]
struct Told {
    error: String,
}

/// Asks the handler; `None` is "as it is". An answer has at most so many bytes. Cancel-safe: the connection ends with
/// the future.
pub(super) async fn ask(
    socket: &Path,
    phase: &'static str,
    question: &Question<'_>,
    max_answer: usize,
    timeout: Duration,
) -> Result<Option<Changes>, Failure> {
    let body = serde_json::to_vec(question).map_err(|error| Failure::bad(error.to_string()))?;
    let (status, answer) = tokio::time::timeout(timeout, exchange(socket, phase, body.into(), max_answer))
        .await
        .unwrap_or_else(|_| {
            Err(Failure {
                status: StatusCode::GATEWAY_TIMEOUT,
                cause: format!("the handler did not answer within {timeout:?}"),
            })
        })?;
    match status {
        StatusCode::NO_CONTENT => Ok(None),
        StatusCode::OK => serde_json::from_slice(&answer)
            .map(Some)
            .map_err(|error| Failure::bad(format!("the handler's answer cannot be read: {error}"))),
        status => {
            let told: Option<Told> = serde_json::from_slice(&answer).ok();
            let cause = told.map_or_else(
                || format!("the handler answered with status {}", status.as_u16()),
                |told| told.error.chars().take(MAX_CAUSE).collect(),
            );
            Err(Failure::bad(cause))
        }
    }
}

async fn exchange(
    socket: &Path,
    phase: &'static str,
    body: Bytes,
    max_answer: usize,
) -> Result<(StatusCode, Bytes), Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| Failure {
        status: StatusCode::SERVICE_UNAVAILABLE,
        cause: format!("nobody is at the handler's socket: {error}"),
    })?;
    let broken =
        |error: hyper::Error| Failure::bad(format!("the exchange with the handler broke off: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(phase);
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let asking = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), max_answer)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Failure::bad(format!("the handler's answer is larger than {max_answer} bytes"))
                } else {
                    Failure::bad(format!("the exchange with the handler broke off: {error}"))
                }
            })?;
        Ok((status, answer.to_bytes()))
    };
    tokio::pin!(asking, connection);
    tokio::select! {
        answer = &mut asking => answer,
        // The connection's end leaves what was read; without an answer the asking says why there is none.
        _ = &mut connection => asking.await,
    }
}
