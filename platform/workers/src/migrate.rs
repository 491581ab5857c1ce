//! Moves what lies under the key forms of earlier texts, with slashes or dashes, to the one with dots (Z9).
//!
//! It is done once: what was moved is removed from where it was. A list of an earlier form is one of ids, or has the
//! present shape.

use std::collections::BTreeMap;

use outrigger_platform_service::backend::{Backend, Expect};
use serde::Deserialize;

use crate::error::ManagerError;
use crate::names::{code_key, worker_key};
use crate::record::{Index, WorkerRecord};
use crate::store::Store;

/// What stood between the parts of a key.
const SEPARATORS: [&str; 2] = ["/", "-"];

#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    Index(Index),
    Ids(Vec<String>),
}

impl Listed {
    fn workers(self) -> BTreeMap<String, u64> {
        match self {
            Self::Index(index) => index.workers,
            Self::Ids(ids) => ids.into_iter().map(|id| (id, 0)).collect(),
        }
    }
}

/// Moves everything that is found.
///
/// # Errors
/// If the state store does not answer. A worker that cannot be moved stays where it is and is logged.
pub(crate) async fn run(backend: &Backend, store: &Store) -> Result<(), ManagerError> {
    for separator in SEPARATORS {
        let former = |parts: &[&str]| parts.join(separator);
        let list = former(&["workmanager", "worker", "index"]);
        let Some(stored) = backend.get(&list).await? else {
            continue;
        };
        let Ok(listed) = stored.read::<Listed>() else {
            tracing::error!(key = list, "a list of workers of an earlier form cannot be read");
            continue;
        };
        let mut left = 0;
        for id in listed.workers().into_keys() {
            let key = former(&["workmanager", "worker", &id]);
            let Some(stored) = backend.get(&key).await? else {
                continue;
            };
            let Ok(worker) = stored.read::<WorkerRecord>() else {
                tracing::error!(
                    key,
                    "a worker of an earlier form cannot be read; it is left there"
                );
                left += 1;
                continue;
            };
            for entry in &worker.history {
                let code = former(&["workmanager", "worker", &id, "code", &entry.version]);
                if let Some(found) = backend.get(&code).await? {
                    backend
                        .save(&code_key(&id, &entry.version), &found.value, Expect::Any)
                        .await?;
                    backend.delete(&code, None).await?;
                }
            }
            match backend.save(&worker_key(&id), &worker, Expect::Absent).await {
                Ok(()) => {}
                // It was moved before, by a leader that did not come to its end.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
            store.enlist(&id, worker.revision).await?;
            backend.delete(&key, None).await?;
            tracing::info!(
                worker = id,
                from = key,
                "a worker of an earlier key form was moved"
            );
        }
        if left == 0 {
            backend.delete(&list, None).await?;
        }
    }
    Ok(())
}
