//! One call from its first header to its last trailer: span, metrics, API log, deadline, limits.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use outrigger_sidecar_api::ApiError;
use outrigger_telemetry::Metrics;
use tokio::{sync::OwnedSemaphorePermit, time::Sleep};
use tonic::{Code, Status, body::Body};

use crate::{
    answer,
    meter::{Meter, Received},
    trace_layer::Traced,
};

/// How the end of a call is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// With the sizes of its two messages.
    Unary,
    /// Without sizes: a proxied call.
    Stream,
    /// Not at all: upstream counts streams of its own only when they name an app.
    No,
}

/// What is known of a call until it ends.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Box<str>,
    pub(crate) began: Instant,
    pub(crate) traced: Option<Traced>,
    pub(crate) metrics: Metrics,
    pub(crate) count: Count,
    pub(crate) log: bool,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) received: Arc<Received>,
}

impl Call {
    fn end(self, code: Code, message: &str, sent: u64) {
        let elapsed = self.began.elapsed();
        if self.log {
            let ids = self.traced.as_ref().map(Traced::log_ids).unwrap_or_default();
            ids.within(|| self.log(code, elapsed));
        }
        match self.count {
            Count::Unary => {
                let sent = if code == Code::Ok { sent } else { 0 };
                let received = self.received.total();
                self.metrics
                    .grpc_server_completed(&self.method, code as i32, received, sent, elapsed);
            }
            Count::Stream => self
                .metrics
                .grpc_server_stream_completed(&self.method, code as i32, elapsed),
            Count::No => {}
        }
        if let Some(traced) = self.traced {
            traced.end(code, message);
        }
    }

    fn log(&self, code: Code, elapsed: Duration) {
        let (code, duration, method) = (code as i32, elapsed.as_millis(), &*self.method);
        match self.user_agent.as_ref().and_then(|agent| agent.to_str().ok()) {
            Some(useragent) => tracing::info!(
                target: "dapr.runtime.grpc.api-info",
                code, duration, method, useragent,
                "gRPC API Called"
            ),
            None => tracing::info!(
                target: "dapr.runtime.grpc.api-info",
                code, duration, method,
                "gRPC API Called"
            ),
        }
    }
}

/// The body of an answer. Ends the call with its trailers, or as cancelled when it is dropped before.
pub(crate) struct Answer {
    body: Body,
    meter: Meter,
    received: Arc<Received>,
    /// The status of an answer that is nothing else, to be sent as trailers.
    trailers: Option<HeaderMap>,
    ended: bool,
    call: Option<Box<Call>>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The call's place among those under way.
    _permit: OwnedSemaphorePermit,
}

impl Answer {
    /// Lays everything around an answer.
    pub(crate) fn around(
        mut response: Response<Body>,
        mut call: Option<Box<Call>>,
        limit: u64,
        received: Arc<Received>,
        deadline: Option<Pin<Box<Sleep>>>,
        permit: OwnedSemaphorePermit,
    ) -> Response<Body> {
        if response.headers().contains_key(answer::GRPC_STATUS)
            && let Some(refusal) = received.refusal()
        {
            response = answer::status(refusal);
        }
        if let Some(call) = &mut call {
            if let Some(traced) = &mut call.traced {
                traced.answer(response.headers_mut());
            }
            if let Some(error) = api_error(&response) {
                call.metrics.error_code(error.code(), error.category().as_str());
            }
        }
        let trailers = answer::split_status(response.headers_mut());
        if trailers.is_none()
            && let Some((code, message)) = answer::read_status(response.headers())
        {
            if let Some(call) = call.take() {
                call.end(code, &message, 0);
            }
            return response;
        }
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.map(|body| {
            let meter = Meter::new(limit);
            Body::new(Self {
                body,
                meter,
                received,
                trailers,
                ended: false,
                call,
                deadline,
                _permit: permit,
            })
        })
    }

    fn finish(&mut self, mut trailers: HeaderMap) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        // What is left of the answer is not sent.
        self.body = Body::empty();
        if let Some(refusal) = self.received.refusal() {
            trailers = answer::trailers(&refusal);
        }
        if let Some(call) = self.call.take() {
            let (code, message) =
                answer::read_status(&trailers).unwrap_or_else(|| (Code::Unknown, String::new()));
            call.end(code, &message, self.meter.total);
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(trailers) = this.trailers.take() {
            return this.finish(trailers);
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return this.finish(answer::trailers(&deadline_exceeded()));
        }
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => match this.meter.pass(&data) {
                    Ok(()) => Poll::Ready(Some(Ok(Frame::data(data)))),
                    Err(too_long) => this.finish(answer::trailers(&too_long.sent())),
                },
                Err(frame) => this.finish(frame.into_trailers().unwrap_or_default()),
            },
            Some(Err(status)) => this.finish(answer::trailers(&status)),
            None => this.finish(answer::trailers(&Status::internal(
                "server closed the stream without sending trailers",
            ))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.end(Code::Cancelled, "context canceled", self.meter.total);
        }
    }
}

/// The row of the error table behind an answer, which tonic keeps as the source of its status.
fn api_error(response: &Response<Body>) -> Option<&ApiError> {
    let status = response.extensions().get::<Status>()?;
    std::error::Error::source(status)?.downcast_ref()
}

/// The caller's time is over.
pub(crate) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// `grpc-timeout`: a number of at most eight digits and a unit. What is malformed counts as absent.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(read("15S"), Some(Duration::from_secs(15)));
        for text in ["", "S", "1", "1x", "-1S", "123456789S", "1.5S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
