//! Secrets.

use std::collections::BTreeMap;

use http::{Method, StatusCode};

use super::{Call, Client, decode, name};
use crate::Error;

impl Client {
    /// The keys and values of one secret. Keep the answer out of logs.
    ///
    /// # Errors
    /// [`Error::SecretNotFound`] if the store has none of this name; [`Error::NotFound`] without such a store.
    pub async fn secret(&self, store: &str, secret: &str) -> Result<BTreeMap<String, String>, Error> {
        let path = format!(
            "/v1.0/secrets/{}/{}",
            name("secret store", store)?,
            name("secret", secret)?
        );
        let not_found = || Error::SecretNotFound {
            store: store.to_owned(),
            name: secret.to_owned(),
        };
        let answer = match self.call(Call::new(Method::GET, path)).await {
            Ok(answer) => answer,
            // Stores do not agree on how they say that: 204, 404, or ERR_SECRET_GET with the store's words.
            Err(Error::Status {
                status,
                code,
                message,
            }) if status == StatusCode::NOT_FOUND
                || (code == "ERR_SECRET_GET" && message.contains("not found")) =>
            {
                return Err(not_found());
            }
            Err(error) => return Err(error),
        };
        if answer.status == StatusCode::NO_CONTENT || answer.body.is_empty() {
            return Err(not_found());
        }
        decode("the secret", &answer.body)
    }

    /// All secrets that the app may read.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a store; those of the sidecar.
    pub async fn secrets(&self, store: &str) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        let path = format!("/v1.0/secrets/{}/bulk", name("secret store", store)?);
        let answer = self.call(Call::new(Method::GET, path)).await?;
        decode("the secrets", &answer.body)
    }
}
