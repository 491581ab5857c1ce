//! Configuration stores.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;

use super::{Call, Client, decode, escape, name};
use crate::Error;

/// One configuration value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConfigurationItem {
    /// The value.
    #[serde(default)]
    pub value: String,
    /// Its version, if the store has them.
    #[serde(default)]
    pub version: String,
    /// The store's metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl Client {
    /// Reads these keys, or all with an empty list. Keys that are not there are left out.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a store; those of the sidecar.
    pub async fn configuration(
        &self,
        store: &str,
        keys: &[&str],
    ) -> Result<BTreeMap<String, ConfigurationItem>, Error> {
        let query: Vec<_> = keys.iter().map(|key| format!("key={}", escape(key))).collect();
        let mut path = format!("/v1.0/configuration/{}", name("configuration store", store)?);
        if !query.is_empty() {
            path.push('?');
            path.push_str(&query.join("&"));
        }
        let answer = self.call(Call::new(Method::GET, path)).await?;
        if answer.body.is_empty() {
            return Ok(BTreeMap::new());
        }
        decode("the configuration", &answer.body)
    }

    /// Asks the sidecar to post changes of these keys, or of all with an empty list, to the app, at
    /// `/configuration/<store>/<key>` (A9.2). Answers the subscription's id.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a store; those of the sidecar.
    pub async fn subscribe_configuration(&self, store: &str, keys: &[&str]) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Body {
            id: String,
        }
        let mut path = format!(
            "/v1.0/configuration/{}/subscribe",
            name("configuration store", store)?
        );
        for (index, key) in keys.iter().enumerate() {
            path.push(if index == 0 { '?' } else { '&' });
            path.push_str("key=");
            path.push_str(&escape(key));
        }
        let answer = self.call(Call::new(Method::GET, path)).await?;
        decode::<Body>("the subscription", &answer.body).map(|body| body.id)
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn unsubscribe_configuration(&self, store: &str, id: &str) -> Result<(), Error> {
        let path = format!(
            "/v1.0/configuration/{}/{}/unsubscribe",
            name("configuration store", store)?,
            name("subscription", id)?
        );
        self.call(Call::new(Method::GET, path)).await.map(drop)
    }
}
