//! Service invocation by app-id.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Call, Client, decode, name};
use crate::Error;
use crate::error::ErrorBody;

/// A call of a method of another app. Errors in its parts are told by [`send`](Self::send).
#[derive(Debug)]
#[must_use = "an invocation does nothing until it is sent"]
pub struct Invocation {
    client: Client,
    app_id: String,
    call: Result<Call, Error>,
}

/// The app's answer, whatever its status.
#[derive(Debug, Clone)]
pub struct InvocationResponse {
    /// The app's status.
    pub status: StatusCode,
    /// The app's headers.
    pub headers: HeaderMap,
    /// The app's body.
    pub body: Bytes,
}

impl Client {
    /// Calls `path` (with an optional query) of the app `app_id`. `GET`, `HEAD`, `PUT` and `DELETE` are repeated
    /// after transient errors; say [`idempotent`](Invocation::idempotent) for others where that is safe.
    pub fn invoke(&self, app_id: &str, method: Method, path: &str) -> Invocation {
        let call = name("app id", app_id).map(|app_id| {
            Call::new(
                method,
                format!("/v1.0/invoke/{app_id}/method/{}", path.trim_start_matches('/')),
            )
        });
        Invocation {
            client: self.clone(),
            app_id: app_id.to_owned(),
            call,
        }
    }
}

impl Invocation {
    fn change(mut self, change: impl FnOnce(Call) -> Result<Call, Error>) -> Self {
        self.call = self.call.and_then(change);
        self
    }

    /// Sends `body` as JSON.
    pub fn json(self, body: &(impl Serialize + ?Sized)) -> Self {
        self.change(|call| call.json(body))
    }

    /// Sends these bytes; set the content type by [`header`](Self::header).
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.change(|mut call| {
            call.body = body.into();
            Ok(call)
        })
    }

    /// Adds a header.
    pub fn header(self, name: HeaderName, value: &str) -> Self {
        self.change(|call| call.header(name, value))
    }

    /// Says that carrying this out twice does no harm, so that it may be retried.
    pub fn idempotent(self) -> Self {
        self.change(|call| Ok(call.idempotent()))
    }

    /// The time limit of one attempt.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.change(|mut call| {
            call.timeout = Some(timeout);
            Ok(call)
        })
    }

    /// Makes one attempt only, for those who retry by themselves.
    pub fn once(self) -> Self {
        self.change(|mut call| {
            call.retry = false;
            Ok(call)
        })
    }

    /// Sends the call. The app's own error answers are responses, not errors.
    ///
    /// # Errors
    /// [`Error::SidecarUnavailable`], [`Error::AppUnavailable`] if the sidecar cannot reach the app,
    /// [`Error::CircuitOpen`] if too many calls of it failed lately, [`Error::Timeout`], [`Error::Invalid`].
    pub async fn send(self) -> Result<InvocationResponse, Error> {
        let mut call = self.call?;
        // A missing app is retried here and not by the general rule, because its sign is in the body.
        let idempotent = call.idempotent && call.retry;
        call.idempotent = idempotent;
        let breaker = self.client.0.breakers.app(&self.app_id);
        let mut attempt = 0;
        loop {
            let permit = breaker.admit()?;
            let answer = self.client.call_accepting(call.clone(), |_| true).await?;
            let unreachable = (answer.status == StatusCode::INTERNAL_SERVER_ERROR)
                .then(|| serde_json::from_slice::<ErrorBody>(&answer.body).ok())
                .flatten()
                .filter(|body| body.error_code == "ERR_DIRECT_INVOKE");
            permit.record(unreachable.is_some());
            let Some(body) = unreachable else {
                return Ok(InvocationResponse {
                    status: answer.status,
                    headers: answer.headers,
                    body: answer.body,
                });
            };
            let delay = self.client.0.retry.delay(attempt).filter(|_| idempotent);
            let Some(delay) = delay else {
                return Err(Error::AppUnavailable {
                    app_id: self.app_id,
                    message: body.message,
                });
            };
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    /// Sends the call and reads a 2xx answer as JSON.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Error::Status`] for another answer of the app.
    pub async fn fetch<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.send().await?.success()?.json()
    }
}

impl InvocationResponse {
    /// Reads the body as JSON.
    ///
    /// # Errors
    /// [`Error::Json`] if it is not.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        decode("the app's answer", &self.body)
    }

    /// Makes an error of an answer that is not 2xx.
    ///
    /// # Errors
    /// [`Error::Conflict`] for 409, else [`Error::Status`].
    pub fn success(self) -> Result<Self, Error> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(Error::from_answer(self.status, &self.body))
        }
    }
}
