//! The language of recipes: code is a JSON object that says what to answer.
//!
//! `{"type": "order.priced", "version": "v1", "sleep_ms": 50, "fail": 2, "until": "/a/file"}`; each field may be left
//! out. Without a type there is no answer. `fail` is how many calls for one event fail before one succeeds; `until`
//! is a file that an answer waits for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use outrigger_kit::Event;
use outrigger_platform_engine::{Engine, EngineError, EngineFactory, WorkerContext};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

/// The content type of recipes.
pub(crate) const MIME: &str = "text/x-recipe";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    sleep_ms: u64,
    #[serde(default)]
    fail: usize,
    until: Option<std::path::PathBuf>,
}

/// What happened in the engines of one factory.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Calls under way.
    pub(crate) running: AtomicUsize,
    /// The most calls that were under way at once.
    pub(crate) most: AtomicUsize,
    /// Calls.
    pub(crate) calls: AtomicUsize,
    /// Engines that were closed.
    pub(crate) closed: AtomicUsize,
}

/// Makes engines of recipes.
#[derive(Debug, Default)]
pub(crate) struct RecipeFactory {
    observed: Arc<Observed>,
}

impl RecipeFactory {
    /// A factory whose engines are observed together with others'.
    #[allow(dead_code, reason = "for tests, which share this file")]
    pub(crate) fn observed_by(observed: Arc<Observed>) -> Self {
        Self { observed }
    }
}

impl EngineFactory for RecipeFactory {
    fn mime_types(&self) -> &'static [&'static str] {
        &[MIME]
    }

    fn language(&self) -> &'static str {
        "recipe"
    }

    fn load(&self, _: WorkerContext, code: Bytes) -> BoxFuture<'_, Result<Arc<dyn Engine>, EngineError>> {
        let loaded = serde_json::from_slice(&code)
            .map(|recipe| {
                Arc::new(Kitchen {
                    recipe,
                    observed: self.observed.clone(),
                    failures: Mutex::default(),
                    closed: AtomicBool::new(false),
                }) as Arc<dyn Engine>
            })
            .map_err(|error| EngineError::Load(error.to_string()));
        std::future::ready(loaded).boxed()
    }
}

#[derive(Debug)]
struct Kitchen {
    recipe: Recipe,
    observed: Arc<Observed>,
    failures: Mutex<HashMap<String, usize>>,
    closed: AtomicBool,
}

/// Counts a call as under way until it is dropped.
struct UnderWay<'a>(&'a Observed);

impl<'a> UnderWay<'a> {
    fn new(observed: &'a Observed) -> Self {
        observed.calls.fetch_add(1, Ordering::SeqCst);
        let now = observed.running.fetch_add(1, Ordering::SeqCst) + 1;
        observed.most.fetch_max(now, Ordering::SeqCst);
        Self(observed)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Engine for Kitchen {
    fn process(&self, event: Event<Value>) -> BoxFuture<'_, Result<Option<Event<Value>>, EngineError>> {
        async move {
            if self.closed.load(Ordering::SeqCst) {
                return Err(EngineError::Closed);
            }
            let _under_way = UnderWay::new(&self.observed);
            tokio::time::sleep(Duration::from_millis(self.recipe.sleep_ms)).await;
            if let Some(file) = &self.recipe.until {
                while !file.exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            let failed = {
                let mut failures = self.failures.lock();
                let failed = failures.entry(event.id.clone()).or_default();
                *failed += 1;
                *failed
            };
            if failed <= self.recipe.fail {
                return Err(EngineError::Failed(format!("burnt for the {failed}. time")));
            }
            let Some(kind) = &self.recipe.kind else {
                return Ok(None);
            };
            let data = json!({
                "of": event.id,
                "data": event.data,
                "version": self.recipe.version,
                "attributes": event.extensions,
            });
            Ok(Some(Event::new(kind.as_str(), "kitchen", data)))
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.closed.store(true, Ordering::SeqCst);
        self.observed.closed.fetch_add(1, Ordering::SeqCst);
        std::future::ready(()).boxed()
    }
}
