//! Workers in the state store.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use outrigger_platform_service::backend::{Backend, BackendError, Expect, Stored};
use sha2::{Digest, Sha256};

use crate::error::ManagerError;
use crate::names::{INDEX_KEY, code_key, worker_key};
use crate::record::{CodeEntry, Index, StoredCode, WorkerRecord};

/// Records that are read at once.
const AT_ONCE: usize = 16;
/// Tries to remove a record that others change meanwhile, or whose removal is not answered.
const REMOVE_TRIES: u32 = 20;
/// The wait between two of them.
const REMOVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Workers by id, their code, and the list of them.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
    max_workers: usize,
}

/// What was removed.
#[derive(Debug)]
pub struct Removed {
    /// The worker as it was last, if its record could be read.
    pub worker: Option<WorkerRecord>,
}

/// The SHA-256 of code, as it is kept.
pub fn sha256(code: &[u8]) -> String {
    hex::encode(Sha256::digest(code))
}

impl Store {
    /// A store that takes this many workers.
    pub fn new(backend: Backend, max_workers: usize) -> Self {
        Self { backend, max_workers }
    }

    /// The list of workers.
    pub async fn index(&self) -> Result<Index, ManagerError> {
        let stored = self.backend.get(INDEX_KEY).await?;
        Ok(stored
            .map(|stored| stored.read())
            .transpose()?
            .unwrap_or_default())
    }

    /// One worker.
    pub async fn worker(&self, id: &str) -> Result<Option<WorkerRecord>, ManagerError> {
        let stored = self.backend.get(&worker_key(id)).await?;
        Ok(stored.map(|stored| stored.read()).transpose()?)
    }

    /// All workers, by id. One whose record cannot be read is left out, and logged.
    pub async fn workers(&self) -> Result<Vec<WorkerRecord>, ManagerError> {
        let index = self.index().await?;
        let read = |id: String| async move {
            match self.worker(&id).await {
                Err(ManagerError::Backend(BackendError::Malformed(why))) => {
                    tracing::error!(id, why, "the record of a worker cannot be read");
                    Ok(None)
                }
                outcome => outcome,
            }
        };
        futures::stream::iter(index.workers.into_keys().map(read))
            .buffered(AT_ONCE)
            .try_filter_map(|worker| std::future::ready(Ok(worker)))
            .try_collect()
            .await
    }

    /// Adds a worker with its code: code first, list last, so that what is listed is whole.
    ///
    /// # Errors
    /// [`ManagerError::Exhausted`] if there are as many as there may be. Nothing is left of the worker then, as far as
    /// the store lets it be removed.
    pub async fn create(&self, worker: &WorkerRecord, code: &[u8]) -> Result<(), ManagerError> {
        if self.index().await?.workers.len() >= self.max_workers {
            return Err(self.full());
        }
        let added = self.add(worker, code).await;
        if added.is_err() {
            let removed = self.remove(&worker.id).await;
            if let Some(entry) = worker.code() {
                let _ = self.remove_code(&worker.id, entry).await;
            }
            if let Err(error) = removed {
                tracing::error!(worker = worker.id, %error, "a worker that was made by half could not be removed");
            }
        }
        added
    }

    async fn add(&self, worker: &WorkerRecord, code: &[u8]) -> Result<(), ManagerError> {
        if let Some(entry) = worker.code() {
            self.put_code(&worker.id, entry, code).await?;
        }
        self.backend
            .save(&worker_key(&worker.id), worker, Expect::Absent)
            .await?;
        let mut is_full = false;
        self.backend
            .update(INDEX_KEY, |index: Option<Index>| {
                let mut index = index.unwrap_or_default();
                is_full = index.workers.len() >= self.max_workers;
                index.workers.insert(worker.id.clone(), worker.revision);
                (!is_full).then_some(index)
            })
            .await?;
        // Others were faster.
        if is_full { Err(self.full()) } else { Ok(()) }
    }

    fn full(&self) -> ManagerError {
        ManagerError::Exhausted(format!(
            "there are {} workers, as many as there may be",
            self.max_workers
        ))
    }

    /// Changes a worker; `change` says whether it did. Answers the record as it is now.
    ///
    /// # Errors
    /// [`ManagerError::NotFound`].
    pub async fn update(
        &self,
        id: &str,
        mut change: impl FnMut(&mut WorkerRecord) -> bool,
    ) -> Result<WorkerRecord, ManagerError> {
        let mut now = None;
        let mut revision = None;
        self.backend
            .update(&worker_key(id), |worker: Option<WorkerRecord>| {
                // It may have been there when somebody else was faster, and be gone now.
                (now, revision) = (None, None);
                let mut worker = worker?;
                let before = worker.revision;
                let changed = change(&mut worker);
                revision = (worker.revision != before).then_some(worker.revision);
                now = Some(worker.clone());
                changed.then_some(worker)
            })
            .await?;
        let worker = now.ok_or_else(|| ManagerError::NotFound(id.to_owned()))?;
        if let Some(revision) = revision {
            self.list(id, revision).await?;
        }
        Ok(worker)
    }

    /// Puts a worker on the list, if it is not there.
    pub async fn enlist(&self, id: &str, revision: u64) -> Result<(), ManagerError> {
        let listed = self.backend.update(INDEX_KEY, |index: Option<Index>| {
            let mut index = index.unwrap_or_default();
            let is_new = !index.workers.contains_key(id);
            index.workers.entry(id.to_owned()).or_insert(revision);
            is_new.then_some(index)
        });
        Ok(listed.await?)
    }

    /// Tells the other instances of a change.
    pub async fn list(&self, id: &str, revision: u64) -> Result<(), ManagerError> {
        let listed = self.backend.update(INDEX_KEY, |index: Option<Index>| {
            let mut index = index.unwrap_or_default();
            // One that is not listed any more was deleted meanwhile.
            let known = index.workers.get_mut(id)?;
            (*known < revision).then(|| *known = revision)?;
            Some(index)
        });
        Ok(listed.await?)
    }

    /// Removes a worker, its place in the list and its code; `None` if there is nothing to remove. One whose record is
    /// gone and that is listed was removed by half: the rest of it goes.
    ///
    /// # Errors
    /// [`ManagerError::Backend`]; the same call goes on where it ended.
    pub async fn remove(&self, id: &str) -> Result<Option<Removed>, ManagerError> {
        let key = worker_key(id);
        let mut worker: Option<WorkerRecord> = None;
        let mut found = false;
        for attempt in 1..=REMOVE_TRIES {
            let Some(stored) = self.backend.get(&key).await? else {
                break;
            };
            found = true;
            worker = stored.read().ok();
            // Only what was read, so that no code is left behind that was loaded meanwhile.
            match self.backend.delete(&key, Some(&stored.etag)).await {
                Ok(()) => break,
                Err(error) if attempt < REMOVE_TRIES && (error.is_conflict() || error.is_transient()) => {
                    tokio::time::sleep(REMOVE_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let listed = self.unlist(id).await?;
        if let Some(worker) = &worker
            && let Some(code) = worker.code()
        {
            self.remove_code(id, code).await?;
        }
        Ok((found || listed).then_some(Removed { worker }))
    }

    /// Takes an id off the list; whether it was there.
    pub async fn unlist(&self, id: &str) -> Result<bool, ManagerError> {
        let mut listed = false;
        self.backend
            .update(INDEX_KEY, |index: Option<Index>| {
                let mut index = index?;
                listed |= index.workers.remove(id).is_some();
                // Nothing is written where nothing was removed.
                listed.then_some(index)
            })
            .await?;
        Ok(listed)
    }

    /// Keeps code.
    pub async fn put_code(&self, id: &str, entry: &CodeEntry, code: &[u8]) -> Result<(), ManagerError> {
        let stored = StoredCode {
            content: STANDARD.encode(code),
        };
        self.backend
            .save(&code_key(id, &entry.version), &stored, Expect::Any)
            .await?;
        Ok(())
    }

    /// Forgets code.
    pub async fn remove_code(&self, id: &str, entry: &CodeEntry) -> Result<(), ManagerError> {
        Ok(self.backend.delete(&code_key(id, &entry.version), None).await?)
    }

    /// Reads code, and checks that it is what was kept (H5.2).
    ///
    /// # Errors
    /// [`ManagerError::Corrupt`] if it is not, or not there.
    pub async fn code(&self, id: &str, entry: &CodeEntry) -> Result<Bytes, ManagerError> {
        let corrupt = |why: &str| ManagerError::Corrupt(format!("the code of worker {id:?} {why}"));
        let stored: Stored = self
            .backend
            .get(&code_key(id, &entry.version))
            .await?
            .ok_or_else(|| corrupt("is not there"))?;
        let stored: StoredCode = stored.read()?;
        let code = STANDARD
            .decode(stored.content)
            .map_err(|_| corrupt("is not Base64"))?;
        if sha256(&code) != entry.sha256 {
            return Err(corrupt("has another SHA-256 than when it was stored"));
        }
        Ok(Bytes::from(code))
    }
}
