//! Which keys a service has: a record beside them, changed by compare and set, so that every instance of the gateway
//! sees the same (G4.4).

use std::collections::BTreeMap;
use std::time::Duration;

use outrigger_kit::Error;
use outrigger_kit::client::{Operation, StateStore};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};

use super::failure;
use super::keys;

/// Keys of one service.
pub(crate) const MAX_KEYS: usize = 20_000;
/// Tries against others who change the record.
const TRIES: u32 = 50;

/// The record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Whether a key was registered (`true`) or only used: the latter is forgotten when it is deleted.
    keys: BTreeMap<String, bool>,
}

/// The registered keys of a service.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    store: StateStore,
    key: String,
}

impl Registry {
    pub(crate) fn new(store: StateStore, service: &str) -> Result<Self, Status> {
        Ok(Self {
            store,
            key: keys::registry(service)?,
        })
    }

    /// All keys.
    pub(crate) async fn all(&self) -> Result<Vec<String>, Status> {
        let (record, _) = self.read().await?;
        Ok(record.keys.into_keys().collect())
    }

    /// Whether there is such a key.
    pub(crate) async fn holds(&self, key: &str) -> Result<bool, Status> {
        let (record, _) = self.read().await?;
        Ok(record.keys.contains_key(key))
    }

    /// Adds keys; `lasting` ones stay when they are deleted.
    pub(crate) async fn add(&self, added: &[String], lasting: bool) -> Result<(), Status> {
        self.change(|record| {
            let mut changed = false;
            for key in added {
                let before = record.keys.get(key).copied();
                if before.is_none() || (lasting && before == Some(false)) {
                    record.keys.insert(key.clone(), lasting);
                    changed = true;
                }
            }
            if record.keys.len() > MAX_KEYS {
                return Err(Status::resource_exhausted(format!(
                    "a service has at most {MAX_KEYS} keys"
                )));
            }
            Ok(changed)
        })
        .await
    }

    /// Takes out a key that was only used.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), Status> {
        self.change(|record| {
            let passing = record.keys.get(key) == Some(&false);
            if passing {
                record.keys.remove(key);
            }
            Ok(passing)
        })
        .await
    }

    async fn read(&self) -> Result<(Record, Option<String>), Status> {
        let found = self
            .store
            .get::<Record>(&self.key)
            .await
            .map_err(|error| failure(&error))?;
        Ok(found.map_or_else(Default::default, |item| (item.value, item.etag)))
    }

    async fn change(&self, change: impl Fn(&mut Record) -> Result<bool, Status>) -> Result<(), Status> {
        for attempt in 0..TRIES {
            let (mut record, etag) = self.read().await?;
            if !change(&mut record)? {
                return Ok(());
            }
            let write = Operation::upsert(self.key.as_str(), &record).map_err(|error| failure(&error))?;
            match self.store.save(&[write.if_match(etag.as_deref())]).await {
                Ok(()) => return Ok(()),
                Err(Error::Conflict { .. }) => {
                    let spread = u64::from(uuid::Uuid::new_v4().as_bytes()[0] % 16);
                    tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(8)) + spread)).await;
                }
                Err(error) => return Err(failure(&error)),
            }
        }
        Err(Status::new(
            Code::Unavailable,
            format!("the record of keys was changed by others {TRIES} times"),
        ))
    }
}
