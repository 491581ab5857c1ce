//! Connections and instances in state: who holds what (I5, I6, Z21). Every change goes by ETag, so that of two who
//! change the same record exactly one wins.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use outrigger_platform_service::{Backend, BackendError, Expect, Stored};

use crate::migration::{Moved, migrate};
use crate::names::{INDEX_KEY, connection_key, instance_key};
use crate::record::{ConnectionRecord, InstanceRecord};

/// Records that are read at a time.
const PARALLEL: usize = 16;

/// State, as one instance sees it.
#[derive(Debug)]
pub(crate) struct Registry {
    backend: Backend,
    instance: String,
    session: String,
    started_at: Timestamp,
    /// How long a heartbeat holds.
    life: Duration,
}

/// What a heartbeat found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beat {
    /// This instance counts as alive; these are its connections.
    Alive(BTreeSet<String>),
    /// Another process of the same name is this instance now.
    Replaced,
}

impl Registry {
    pub(crate) fn new(backend: Backend, instance: String, life: Duration) -> Self {
        Self {
            backend,
            instance,
            session: uuid::Uuid::new_v4().to_string(),
            started_at: Timestamp::now(),
            life,
        }
    }

    /// This instance's name.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    fn expiry(&self, now: Timestamp) -> Timestamp {
        let life = SignedDuration::try_from(self.life).unwrap_or(SignedDuration::MAX);
        now.checked_add(life).unwrap_or(Timestamp::MAX)
    }

    fn fresh(&self, now: Timestamp, connections: BTreeSet<String>) -> InstanceRecord {
        InstanceRecord {
            instance_id: self.instance.clone(),
            session: self.session.clone(),
            started_at: self.started_at,
            expires_at: self.expiry(now),
            connections,
        }
    }

    /// Begins a life of this instance, in the place of an earlier one of the same name; tells its connections.
    pub(crate) async fn enter(&self) -> Result<BTreeSet<String>, BackendError> {
        let mut connections = BTreeSet::new();
        self.backend
            .update(&instance_key(&self.instance), |record: Option<InstanceRecord>| {
                connections = record.map(|record| record.connections).unwrap_or_default();
                Some(self.fresh(Timestamp::now(), connections.clone()))
            })
            .await?;
        self.list_in_index().await?;
        Ok(connections)
    }

    /// Makes sure that others find this instance.
    pub(crate) async fn list_in_index(&self) -> Result<(), BackendError> {
        self.backend
            .update(INDEX_KEY, |index: Option<BTreeSet<String>>| {
                let mut index = index.unwrap_or_default();
                index.insert(self.instance.clone()).then_some(index)
            })
            .await
    }

    /// Says that this instance is alive.
    pub(crate) async fn beat(&self) -> Result<Beat, BackendError> {
        let mut beat = Beat::Replaced;
        self.backend
            .update(&instance_key(&self.instance), |record: Option<InstanceRecord>| {
                let connections = match record {
                    Some(record) if record.session != self.session => {
                        beat = Beat::Replaced;
                        return None;
                    }
                    Some(record) => record.connections,
                    None => BTreeSet::new(),
                };
                beat = Beat::Alive(connections.clone());
                Some(self.fresh(Timestamp::now(), connections))
            })
            .await?;
        Ok(beat)
    }

    /// Says that this instance goes: the grace period begins now.
    pub(crate) async fn leave(&self) -> Result<(), BackendError> {
        let mut is_empty = false;
        self.backend
            .update(&instance_key(&self.instance), |record: Option<InstanceRecord>| {
                let mut record = record.filter(|record| record.session == self.session)?;
                is_empty = record.connections.is_empty();
                record.expires_at = Timestamp::now();
                Some(record)
            })
            .await?;
        if is_empty {
            self.forget_instance(&self.instance).await?;
        }
        Ok(())
    }

    /// Changes the list of this instance's connections.
    async fn change_own(&self, change: impl Fn(&mut BTreeSet<String>)) -> Result<(), BackendError> {
        let mut replaced = false;
        self.backend
            .update(&instance_key(&self.instance), |record: Option<InstanceRecord>| {
                replaced = record
                    .as_ref()
                    .is_some_and(|record| record.session != self.session);
                if replaced {
                    return None;
                }
                let mut connections = record.map(|record| record.connections).unwrap_or_default();
                change(&mut connections);
                Some(self.fresh(Timestamp::now(), connections))
            })
            .await?;
        if replaced {
            return Err(BackendError::Refused(format!(
                "another process is instance {} now",
                self.instance
            )));
        }
        Ok(())
    }

    /// Adds connections to this instance's.
    pub(crate) async fn add(&self, ids: &[String]) -> Result<(), BackendError> {
        self.change_own(|connections| connections.extend(ids.iter().cloned()))
            .await
    }

    /// Takes connections out of this instance's.
    pub(crate) async fn remove(&self, ids: &[String]) -> Result<(), BackendError> {
        self.change_own(|connections| connections.retain(|id| !ids.contains(id)))
            .await
    }

    /// Takes connections out of another instance's.
    pub(crate) async fn prune(&self, instance: &str, ids: &BTreeSet<String>) -> Result<(), BackendError> {
        self.backend
            .update(&instance_key(instance), |record: Option<InstanceRecord>| {
                let mut record = record?;
                record.connections.retain(|id| !ids.contains(id));
                Some(record)
            })
            .await
    }

    /// Removes an instance that has no connections; whoever adds one in between keeps its record.
    pub(crate) async fn forget_instance(&self, instance: &str) -> Result<(), BackendError> {
        let key = instance_key(instance);
        if let Some(stored) = self.backend.get(&key).await? {
            let record: InstanceRecord = stored.read()?;
            if !record.connections.is_empty() || record.expires_at > Timestamp::now() {
                return Ok(());
            }
            match self.backend.delete(&key, Some(&stored.etag)).await {
                Err(error) if error.is_conflict() => return Ok(()),
                outcome => outcome?,
            }
        }
        self.backend
            .update(INDEX_KEY, |index: Option<BTreeSet<String>>| {
                let mut index = index?;
                index.remove(instance).then_some(index)
            })
            .await
    }

    /// All instances that are listed, with their records.
    pub(crate) async fn instances(&self) -> Result<Vec<(String, Option<InstanceRecord>)>, BackendError> {
        let Some(index) = self.backend.get(INDEX_KEY).await? else {
            return Ok(Vec::new());
        };
        let names: BTreeSet<String> = index.read()?;
        stream::iter(names)
            .map(|name| async move {
                let stored = self.backend.get(&instance_key(&name)).await?;
                let record = stored.as_ref().map(Stored::read).transpose()?;
                Ok((name, record))
            })
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    /// One connection's record and its version. One that cannot be read counts as none: it must not stand in the way of
    /// all others.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<(ConnectionRecord, String)>, BackendError> {
        let Some(stored) = self.backend.get(&connection_key(id)).await? else {
            return Ok(None);
        };
        match stored.read() {
            Ok(record) => Ok(Some((record, stored.etag))),
            Err(error) => {
                tracing::error!(connection = id, %error, "a connection's record cannot be read");
                Ok(None)
            }
        }
    }

    /// Moves what earlier versions wrote (Z9); tells the connections that are this instance's now.
    pub(crate) async fn migrate(&self) -> Result<Vec<String>, BackendError> {
        let Moved { ids, old } = migrate(&self.backend, &self.instance).await?;
        if !ids.is_empty() {
            tracing::info!(count = ids.len(), "connections of an earlier version are moved");
            self.add(&ids).await?;
        }
        for key in old {
            self.backend.delete(&key, None).await?;
        }
        Ok(ids)
    }

    /// The records of some connections; those that are gone are left out.
    pub(crate) async fn get_all(
        &self,
        ids: impl IntoIterator<Item = String>,
    ) -> Result<Vec<ConnectionRecord>, BackendError> {
        stream::iter(ids)
            .map(|id| async move { self.get(&id).await })
            .buffered(PARALLEL)
            .try_filter_map(|found| std::future::ready(Ok(found.map(|(record, _)| record))))
            .try_collect()
            .await
    }

    /// Writes down a new connection. Its id is new, so nobody else writes it, and a repeat does no harm.
    pub(crate) async fn create(&self, record: &ConnectionRecord) -> Result<(), BackendError> {
        let key = connection_key(&record.id);
        self.backend.save(&key, record, Expect::Any).await?;
        let listed = self.add(std::slice::from_ref(&record.id)).await;
        if listed.is_err() {
            // In no list, nobody would ever find it.
            let _ = self.backend.delete(&key, None).await;
        }
        listed
    }

    /// Changes a connection's record, whoever owns it; false when there is none.
    pub(crate) async fn update(
        &self,
        id: &str,
        change: impl Fn(&mut ConnectionRecord),
    ) -> Result<bool, BackendError> {
        let mut found = false;
        self.backend
            .update(&connection_key(id), |record: Option<ConnectionRecord>| {
                let before = record?;
                found = true;
                let mut after = before.clone();
                change(&mut after);
                (after != before).then_some(after)
            })
            .await?;
        Ok(found)
    }

    /// Makes a connection this instance's, if it is still as it was read; true if so.
    pub(crate) async fn claim(&self, mut record: ConnectionRecord, etag: &str) -> Result<bool, BackendError> {
        record.instance_id.clone_from(&self.instance);
        record.last_heartbeat = Some(Timestamp::now());
        match self
            .backend
            .save(&connection_key(&record.id), &record, Expect::Etag(etag))
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a connection of this instance.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), BackendError> {
        self.backend.delete(&connection_key(id), None).await?;
        self.remove(&[id.to_owned()]).await
    }

    /// Removes everything, of all instances (`CLEAR_ALL_ON_START`).
    pub(crate) async fn clear(&self) -> Result<(), BackendError> {
        for (instance, record) in self.instances().await? {
            for id in record.map(|record| record.connections).unwrap_or_default() {
                self.backend.delete(&connection_key(&id), None).await?;
            }
            self.backend.delete(&instance_key(&instance), None).await?;
        }
        self.backend.delete(INDEX_KEY, None).await
    }
}
