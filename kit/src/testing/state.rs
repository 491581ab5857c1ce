//! State stores in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Stores {
    items: Mutex<Items>,
    lose: AtomicUsize,
}

#[derive(Debug, Default, Clone)]
struct Items {
    by_key: BTreeMap<(String, String), Stored>,
    revision: u64,
}

#[derive(Debug, Clone)]
struct Stored {
    value: Value,
    etag: String,
    expires: Option<Instant>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Request {
    key: String,
    #[serde(default)]
    value: Value,
    etag: Option<String>,
    #[serde(default)]
    options: Options,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Options {
    #[serde(default)]
    concurrency: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Transaction {
    operations: Vec<Operation>,
}

#[derive(Debug, Deserialize)]
struct Operation {
    operation: String,
    request: Request,
}

/// An error as status, code and message.
pub(super) type Refusal = (StatusCode, &'static str, String);

impl Stores {
    pub(super) fn lose_answers(&self, count: usize) {
        self.lose.store(count, Ordering::Relaxed);
    }

    pub(super) fn keys(&self, store: &str) -> Vec<String> {
        let items = self.items.lock();
        let lives = items.by_key.iter().filter(|(_, item)| item.lives());
        lives
            .filter(|((of, _), _)| of == store)
            .map(|((_, key), _)| key.clone())
            .collect()
    }

    fn answer_arrives(&self) -> Result<(), Refusal> {
        let lost = self
            .lose
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match lost {
            Err(_) => Ok(()),
            Ok(_) => Err((
                StatusCode::SERVICE_UNAVAILABLE,
                "ERR_TEST_LOST",
                "the write took place and its answer was lost".to_owned(),
            )),
        }
    }

    pub(super) fn get(&self, store: &str, key: &str) -> Option<(Value, String)> {
        let items = self.items.lock();
        let stored = items
            .by_key
            .get(&(store.to_owned(), key.to_owned()))
            .filter(|item| item.lives())?;
        Some((stored.value.clone(), stored.etag.clone()))
    }

    pub(super) fn bulk(&self, store: &str, keys: &[String]) -> Value {
        keys.iter()
            .map(|key| match self.get(store, key) {
                Some((value, etag)) => json!({"key": key, "data": value, "etag": etag}),
                None => json!({"key": key}),
            })
            .collect()
    }

    pub(super) fn save(&self, store: &str, requests: &[Request]) -> Result<(), Refusal> {
        let mut items = self.items.lock();
        for request in requests {
            items
                .apply(store, request, false)
                .map_err(|message| (StatusCode::CONFLICT, "ERR_STATE_SAVE", message))?;
        }
        drop(items);
        self.answer_arrives()
    }

    pub(super) fn delete(&self, store: &str, key: &str, etag: Option<String>) -> Result<(), Refusal> {
        let request = Request {
            key: key.to_owned(),
            value: Value::Null,
            etag,
            options: Options::default(),
            metadata: BTreeMap::new(),
        };
        self.items
            .lock()
            .apply(store, &request, true)
            .map_err(|message| (StatusCode::CONFLICT, "ERR_STATE_DELETE", message))?;
        self.answer_arrives()
    }

    /// All or none; errors as upstream's transaction reports them: 500, whatever the cause.
    pub(super) fn transact(&self, store: &str, transaction: &Transaction) -> Result<(), Refusal> {
        let mut items = self.items.lock();
        let mut changed = items.clone();
        for operation in &transaction.operations {
            let delete = match operation.operation.as_str() {
                "upsert" => false,
                "delete" => true,
                other => {
                    return Err((
                        StatusCode::BAD_REQUEST,
                        "ERR_NOT_SUPPORTED_STATE_OPERATION",
                        format!("operation type {other} not supported"),
                    ));
                }
            };
            changed
                .apply(store, &operation.request, delete)
                .map_err(|message| {
                    (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "ERR_STATE_TRANSACTION",
                        format!("error while executing state transaction: {message}"),
                    )
                })?;
        }
        *items = changed;
        drop(items);
        self.answer_arrives()
    }
}

impl Stored {
    fn lives(&self) -> bool {
        self.expires.is_none_or(|at| Instant::now() < at)
    }
}

impl Items {
    fn apply(&mut self, store: &str, request: &Request, delete: bool) -> Result<(), String> {
        let place = (store.to_owned(), request.key.clone());
        let present = self.by_key.get(&place).filter(|item| item.lives());
        let expected = request.etag.as_deref().filter(|etag| !etag.is_empty());
        let fits = match (expected, present) {
            (Some(etag), present) => present.is_some_and(|item| item.etag == etag),
            (None, Some(_)) => request.options.concurrency != "first-write",
            (None, None) => true,
        };
        if !fits {
            return Err("possible etag mismatch. error from state store".to_owned());
        }
        if delete {
            self.by_key.remove(&place);
            return Ok(());
        }
        self.revision += 1;
        let expires = request
            .metadata
            .get("ttlInSeconds")
            .and_then(|text| text.parse().ok())
            .map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let stored = Stored {
            value: request.value.clone(),
            etag: self.revision.to_string(),
            expires,
        };
        self.by_key.insert(place, stored);
        Ok(())
    }
}
