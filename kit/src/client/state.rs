//! State: get, save, delete, bulk and transactions, with etags (A3).

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{Call, Client, decode, escape, name};
use crate::Error;

/// A state store by name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StateStore {
    client: Client,
    store: String,
}

/// A stored value with what a conditional write needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    /// The value.
    pub value: T,
    /// Its version, to be passed to [`Operation::if_match`]; stores without etags give none.
    pub etag: Option<String>,
}

/// How writers of one key meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Concurrency {
    /// The first write of a version wins, later ones get [`Error::Conflict`].
    #[serde(rename = "first-write")]
    FirstWrite,
    /// The last write wins.
    #[serde(rename = "last-write")]
    LastWrite,
}

/// What a write promises when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Later reads everywhere see it.
    Strong,
    /// Later reads see it in time.
    Eventual,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<Concurrency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consistency: Option<Consistency>,
}

impl Options {
    fn is_empty(&self) -> bool {
        self.concurrency.is_none() && self.consistency.is_none()
    }
}

#[derive(Debug, Clone, Serialize)]
struct Request {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    options: Options,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

/// One write of a transaction or of a bulk save.
#[derive(Debug, Clone, Serialize)]
pub struct Operation {
    operation: &'static str,
    request: Request,
}

/// The operation of a bulk save is the same thing: an upsert.
pub type Save = Operation;

impl Operation {
    fn new(operation: &'static str, key: impl Into<String>, value: Option<Value>) -> Self {
        Self {
            operation,
            request: Request {
                key: key.into(),
                value,
                etag: None,
                options: Options::default(),
                metadata: BTreeMap::new(),
            },
        }
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`Error::Json`] if the value cannot be written as JSON.
    pub fn upsert(key: impl Into<String>, value: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        let value = serde_json::to_value(value).map_err(|source| Error::Json {
            what: "the value",
            source,
        })?;
        Ok(Self::new("upsert", key, Some(value)))
    }

    /// Removes a key.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::new("delete", key, None)
    }

    /// Only if the key still has this etag; with `None`, only if the key does not exist. Fits
    /// [`Item::etag`] of what was read before, so that of two writers exactly one wins (A3.8).
    #[must_use]
    pub fn if_match(mut self, etag: Option<&str>) -> Self {
        self.request.etag = etag.map(str::to_owned);
        self.request.options.concurrency = Some(Concurrency::FirstWrite);
        self
    }

    /// What the acknowledgement promises.
    #[must_use]
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.request.options.consistency = Some(consistency);
        self
    }

    /// Forget the value after this time, in whole seconds and at least one.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.metadata("ttlInSeconds", ttl.as_secs().max(1).to_string())
    }

    /// Adds metadata for the store.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.metadata.insert(key.into(), value.into());
        self
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.request.key
    }
}

#[derive(Deserialize)]
struct BulkItem {
    key: String,
    data: Option<Box<RawValue>>,
    etag: Option<String>,
    #[serde(default)]
    error: String,
}

impl Client {
    /// The state store of this name.
    pub fn state(&self, store: impl Into<String>) -> StateStore {
        StateStore {
            client: self.clone(),
            store: store.into(),
        }
    }
}

impl StateStore {
    fn path(&self, rest: &str) -> Result<String, Error> {
        Ok(format!("/v1.0/state/{}{rest}", name("state store", &self.store)?))
    }

    /// Reads a key; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::Json`] if the value is not a `T`; those of the sidecar.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Item<T>>, Error> {
        let path = self.path(&format!("/{}", name("key", key)?))?;
        let answer = self.client.call(Call::new(Method::GET, path)).await?;
        if answer.status == StatusCode::NO_CONTENT || answer.body.is_empty() {
            return Ok(None);
        }
        let etag = answer
            .headers
            .get(http::header::ETAG)
            .and_then(|etag| etag.to_str().ok());
        Ok(Some(Item {
            value: decode("the stored value", &answer.body)?,
            etag: etag.map(str::to_owned),
        }))
    }

    /// Reads several keys in one call; the result has the order of `keys`, with `None` for what is not there.
    ///
    /// # Errors
    /// As [`get`](Self::get); an error of one key is the error of all.
    pub async fn get_bulk<T: DeserializeOwned>(
        &self,
        keys: &[String],
    ) -> Result<Vec<Option<Item<T>>>, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            keys: &'a [String],
            parallelism: usize,
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let body = Body {
            keys,
            parallelism: 10,
        };
        let call = Call::new(Method::POST, self.path("/bulk")?)
            .json(&body)?
            .idempotent();
        let answer = self.client.call(call).await?;
        let items: Vec<BulkItem> = decode("the bulk answer", &answer.body)?;
        let mut found = BTreeMap::new();
        for item in items {
            if !item.error.is_empty() {
                return Err(Error::Status {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    code: "ERR_STATE_BULK_GET".to_owned(),
                    message: format!("{}: {}", item.key, item.error),
                });
            }
            if let Some(data) = item.data.filter(|data| data.get() != "null") {
                let value = decode("the stored value", data.get().as_bytes())?;
                found.insert(
                    item.key,
                    Item {
                        value,
                        etag: item.etag,
                    },
                );
            }
        }
        Ok(keys.iter().map(|key| found.remove(key)).collect())
    }

    /// Sets one key; the last write wins.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn set(&self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.save(&[Operation::upsert(key, value)?]).await
    }

    /// Saves several keys, not as one transaction: each stands for itself. An unconditional save is retried after
    /// transient errors.
    ///
    /// # Errors
    /// [`Error::Conflict`] where an etag did not match; [`Error::Invalid`] for a delete.
    pub async fn save(&self, saves: &[Save]) -> Result<(), Error> {
        if saves.iter().any(|save| save.operation != "upsert") {
            return Err(Error::Invalid(
                "a save cannot delete; use a transaction".to_owned(),
            ));
        }
        let requests: Vec<_> = saves.iter().map(|save| &save.request).collect();
        let mut call = Call::new(Method::POST, self.path("")?).json(&requests)?;
        // After a lost answer a repeated conditional write would meet its own etag and report a false conflict.
        call.idempotent = requests
            .iter()
            .all(|request| request.options.concurrency.is_none());
        self.client.call(call).await.map(drop)
    }

    /// Removes a key, if `etag` is given only in that version. A key that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the etag did not match.
    pub async fn delete(&self, key: &str, etag: Option<&str>) -> Result<(), Error> {
        let mut call = Call::new(Method::DELETE, self.path(&format!("/{}", name("key", key)?))?);
        if let Some(etag) = etag {
            call = call.header(HeaderName::from_static("if-match"), etag)?;
            call.idempotent = false;
        }
        self.client.call(call).await.map(drop)
    }

    /// Carries out all operations or none, in their order (A3.5).
    ///
    /// # Errors
    /// [`Error::Conflict`] where an etag did not match.
    pub async fn transaction(&self, operations: &[Operation]) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            operations: &'a [Operation],
        }
        let mut call = Call::new(Method::POST, self.path("/transaction")?).json(&Body { operations })?;
        call.idempotent = operations
            .iter()
            .all(|operation| operation.request.options.concurrency.is_none());
        self.client.call(call).await.map(drop)
    }

    /// Queries a store that can (alpha API); the body and the answer are Dapr's JSON.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn query(&self, query: &Value) -> Result<Value, Error> {
        let path = format!("/v1.0-alpha1/state/{}/query", escape(&self.store));
        let answer = self
            .client
            .call(Call::new(Method::POST, path).json(query)?.idempotent())
            .await?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        decode("the query answer", &answer.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_daprs_shape() {
        let operation = Operation::upsert("k", &1)
            .unwrap()
            .if_match(Some("7"))
            .ttl(Duration::from_secs(30));
        assert_eq!(
            serde_json::to_value(&operation).unwrap(),
            serde_json::json!({"operation": "upsert", "request": {
                "key": "k", "value": 1, "etag": "7",
                "options": {"concurrency": "first-write"}, "metadata": {"ttlInSeconds": "30"}
            }})
        );
        assert_eq!(
            serde_json::to_value(Operation::delete("k")).unwrap(),
            serde_json::json!({"operation": "delete", "request": {"key": "k"}})
        );
    }
}
