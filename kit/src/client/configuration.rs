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
}
