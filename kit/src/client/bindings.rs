//! Output bindings.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Serialize;

use super::{Call, Client, name};
use crate::Error;

/// A binding's answer.
#[derive(Debug, Clone)]
pub struct BindingResponse {
    /// Its data.
    pub data: Bytes,
    /// Its metadata, sent as `metadata.*` headers.
    pub metadata: BTreeMap<String, String>,
}

impl Client {
    /// Invokes an output binding. It is not repeated by itself: the kit cannot know whether that is safe.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn invoke_binding(
        &self,
        binding: &str,
        operation: &str,
        data: &(impl Serialize + ?Sized),
        metadata: &BTreeMap<String, String>,
    ) -> Result<BindingResponse, Error> {
        #[derive(Serialize)]
        struct Body<'a, T: Serialize + ?Sized> {
            operation: &'a str,
            data: &'a T,
            metadata: &'a BTreeMap<String, String>,
        }
        let call = Call::new(
            Method::POST,
            format!("/v1.0/bindings/{}", name("binding", binding)?),
        )
        .json(&Body {
            operation,
            data,
            metadata,
        })?;
        let answer = self.call(call).await?;
        Ok(BindingResponse {
            metadata: metadata_headers(&answer.headers),
            data: answer.body,
        })
    }
}

fn metadata_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let key = name.as_str().strip_prefix("metadata.")?;
            Some((key.to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect()
}
