//! Input bindings: what an outside system sends to the app (A5.1).

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::Ack;
use crate::Error;

/// Something that an input binding read.
#[derive(Debug, Clone)]
pub struct BindingEvent {
    /// What it read; a cron binding reads nothing.
    pub data: Bytes,
    /// The binding's metadata, sent as headers.
    pub metadata: HeaderMap,
}

impl BindingEvent {
    /// Reads the data as JSON.
    ///
    /// # Errors
    /// [`Error::Json`] if it is none.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.data).map_err(|source| Error::Json {
            what: "the binding's data",
            source,
        })
    }
}

/// A binding knows no verdicts: 200 is done, anything else is read again.
pub(super) fn answer(ack: Ack) -> Response {
    match ack {
        Ack::Success | Ack::Drop => StatusCode::OK,
        Ack::Retry => StatusCode::INTERNAL_SERVER_ERROR,
    }
    .into_response()
}
