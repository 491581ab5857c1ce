//! State of services, in the stores of the gateway's sidecar (G4, F7).

pub(crate) mod keys;
mod registry;
mod value;

use std::collections::BTreeMap;

use outrigger_kit::client::{Operation, StateStore};
use outrigger_kit::{Client, Error};
use outrigger_platform_service::status::reasoned;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::events::{Outgoing, Publisher};
use crate::services::Catalog;
use registry::Registry;

/// Where changes are told.
pub const CHANGES: &str = "state-changes";
/// Keys of one read.
const BATCH: usize = 500;

/// The state of all services.
#[derive(Debug, Clone)]
pub struct States {
    client: Client,
    catalog: Catalog,
    /// The store of services that name none.
    store: String,
    publisher: Publisher,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect<'a> {
    /// Anything.
    Any,
    /// No such key.
    Absent,
    /// A value of this version.
    Etag(&'a str),
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The new version; empty if somebody has written since.
    pub etag: String,
    /// What did not work although the write did.
    pub remark: Option<String>,
}

impl States {
    /// State by this client.
    pub fn new(client: Client, catalog: Catalog, store: String, publisher: Publisher) -> Self {
        Self {
            client,
            catalog,
            store,
            publisher,
        }
    }

    fn store(&self, service: &str) -> StateStore {
        let configured = self.catalog.service(service);
        let name = configured
            .as_ref()
            .map(|it| it.state.store_name.as_str())
            .filter(|name| !name.is_empty());
        self.client.state(name.unwrap_or(&self.store))
    }

    fn registry(&self, service: &str) -> Result<Registry, Status> {
        Registry::new(self.store(service), service)
    }

    /// Stores a value, and tells the change.
    ///
    /// # Errors
    /// `ABORTED` if what is there is not what was expected.
    pub async fn save(
        &self,
        service: &str,
        key: &str,
        text: &str,
        expect: Expect<'_>,
        include_value: bool,
    ) -> Result<Written, Status> {
        let stored = keys::stored(service, key)?;
        let store = self.store(service);
        let value = value::stored(text);
        let write = Operation::upsert(stored.as_str(), &value).map_err(|error| failure(&error))?;
        let write = match expect {
            Expect::Any => write,
            Expect::Absent => write.if_match(None),
            Expect::Etag(etag) => write.if_match(Some(etag)),
        };
        store.save(&[write]).await.map_err(|error| refused(key, &error))?;
        // The sidecar does not say which version it made. What is there now is ours if it holds what we wrote.
        let registry = self.registry(service)?;
        let own = [key.to_owned()];
        let (there, added) = tokio::join!(store.get::<Value>(&stored), registry.add(&own, false));
        let there = there.map_err(|error| failure(&error))?;
        let etag = match there.filter(|item| value::same(&item.value, &value)) {
            Some(item) => item.etag.unwrap_or_default(),
            None => match expect {
                // Known to be stale: the next write with it finds the conflict.
                Expect::Etag(etag) => etag.to_owned(),
                Expect::Absent => {
                    return Err(conflict(
                        key,
                        "it was created, and changed by somebody else at once",
                    ));
                }
                Expect::Any => String::new(),
            },
        };
        let change = json!({"service": service, "key": key, "action": "save"});
        let told = self.tell(service, change, include_value.then_some(value)).await;
        Ok(Written {
            etag,
            remark: [added.err(), told.err()]
                .into_iter()
                .flatten()
                .next()
                .map(|status| status.message().to_owned()),
        })
    }

    /// Reads a value and its version.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn get(&self, service: &str, key: &str) -> Result<Option<(String, String)>, Status> {
        let stored = keys::stored(service, key)?;
        let found = self
            .store(service)
            .get::<Value>(&stored)
            .await
            .map_err(|error| failure(&error))?;
        Ok(found.map(|item| (value::text(item.value), item.etag.unwrap_or_default())))
    }

    /// All registered keys that have a value.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn all(&self, service: &str) -> Result<BTreeMap<String, String>, Status> {
        let mut names = self.registry(service)?.all().await?;
        if let Some(configured) = self.catalog.service(service) {
            names.extend(configured.state.keys.iter().cloned());
        }
        names.sort();
        names.dedup();
        let store = self.store(service);
        let mut values = BTreeMap::new();
        for names in names.chunks(BATCH) {
            let stored = names
                .iter()
                .map(|key| keys::stored(service, key))
                .collect::<Result<Vec<_>, _>>()?;
            let found = store
                .get_bulk::<Value>(&stored)
                .await
                .map_err(|error| failure(&error))?;
            for (name, item) in names.iter().zip(found) {
                if let Some(item) = item {
                    values.insert(name.clone(), value::text(item.value));
                }
            }
        }
        Ok(values)
    }

    /// Makes keys known before they have a value.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` for too many; those of the sidecar.
    pub async fn register(&self, service: &str, names: &[String]) -> Result<(), Status> {
        for name in names {
            keys::stored(service, name)?;
        }
        self.registry(service)?.add(names, true).await
    }

    /// Removes a value, and tells the change of a registered key. One that is not there is no error.
    ///
    /// # Errors
    /// `ABORTED` if what is there is not of the version given.
    pub async fn delete(
        &self,
        service: &str,
        key: &str,
        etag: Option<&str>,
        include_value: bool,
    ) -> Result<Option<String>, Status> {
        let stored = keys::stored(service, key)?;
        let store = self.store(service);
        let registry = self.registry(service)?;
        let configured = self.catalog.service(service);
        let known = configured.is_some_and(|it| it.state.keys.iter().any(|name| name == key))
            || registry.holds(key).await?;
        let before = if include_value && known {
            store
                .get::<Value>(&stored)
                .await
                .map_err(|error| failure(&error))?
                .map(|item| item.value)
        } else {
            None
        };
        if etag.is_some() {
            // Whoever saves it meanwhile adds it again: that is done after the save, and this before the delete.
            store
                .delete(&stored, etag)
                .await
                .map_err(|error| refused(key, &error))?;
            registry.remove(key).await?;
            // Saved again between the two: it belongs into the record.
            if store
                .get::<Value>(&stored)
                .await
                .map_err(|error| failure(&error))?
                .is_some()
            {
                registry.add(&[key.to_owned()], false).await?;
            }
        } else {
            registry.remove(key).await?;
            store
                .delete(&stored, None)
                .await
                .map_err(|error| refused(key, &error))?;
        }
        if !known {
            return Ok(None);
        }
        let change = json!({"service": service, "key": key, "action": "delete"});
        let told = self.tell(service, change, before).await;
        Ok(told.err().map(|status| status.message().to_owned()))
    }

    async fn tell(&self, service: &str, mut change: Value, value: Option<Value>) -> Result<(), Status> {
        if let Some(value) = value {
            change["value"] = value;
        }
        let event = Outgoing::state_change(service, &change);
        self.publisher.publish(CHANGES, event).await.map_err(|status| {
            tracing::warn!(service, error = status.message(), "a state change was not told");
            Status::new(
                status.code(),
                format!(
                    "it was written, but the change was not told: {}",
                    status.message()
                ),
            )
        })
    }
}

fn refused(key: &str, error: &Error) -> Status {
    match error {
        Error::Conflict { message } => conflict(key, message),
        error => failure(error),
    }
}

fn conflict(key: &str, message: &str) -> Status {
    reasoned(
        Code::Aborted,
        "ETAG_MISMATCH",
        format!("{key}: {message}"),
        [("key", key.to_owned())],
    )
}

/// An error of the sidecar as ours.
pub(crate) fn failure(error: &Error) -> Status {
    let message = error.to_string();
    match error {
        Error::NotFound { .. } => Status::failed_precondition(message),
        Error::Conflict { .. } => Status::aborted(message),
        Error::Invalid(_) => Status::invalid_argument(message),
        Error::Timeout(_) => Status::deadline_exceeded(message),
        Error::TooLong(_) => Status::resource_exhausted(message),
        Error::Json { .. } => Status::data_loss(message),
        error if error.is_retryable() => Status::unavailable(message),
        // It will be refused the next time too.
        Error::Status { status, .. } if status.is_client_error() => Status::failed_precondition(message),
        _ => Status::internal(message),
    }
}
