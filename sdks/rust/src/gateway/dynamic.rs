//! Calls by name, without stubs of the backend (E2.10).

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::GatewayClient;
use crate::Error;

/// A backend of the gateway, called with JSON. Unary methods only; streams take the backend's stubs.
#[derive(Debug, Clone)]
pub struct Service {
    gateway: GatewayClient,
    name: String,
}

impl Service {
    pub(super) fn new(gateway: GatewayClient, name: String) -> Self {
        Self { gateway, name }
    }

    /// The backend's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls a method with a message in the JSON form of protobuf; the answer is of the same form.
    ///
    /// # Errors
    /// The status of the backend or of the gateway; [`Error::Json`] if the request is no JSON or the answer not read.
    pub async fn call(&self, method: &str, request: impl Serialize) -> Result<Value, Error> {
        self.call_as(method, request).await
    }

    /// As [`Self::call`], with the answer read as a type of one's own.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_as<T: DeserializeOwned>(
        &self,
        method: &str,
        request: impl Serialize,
    ) -> Result<T, Error> {
        let request = serde_json::to_string(&request).map_err(|error| Error::Json(error.to_string()))?;
        let answer = self.gateway.invoke_json(&self.name, method, request).await?;
        serde_json::from_str(&answer).map_err(|error| Error::Json(error.to_string()))
    }
}
