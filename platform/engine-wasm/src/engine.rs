//! The handle of one worker's module.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use outrigger_kit::Event;
use outrigger_platform_engine::{Engine, EngineError, answer};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use wasmi::Module;

use crate::guest::{Bounds, Guest};
use crate::settings::WasmSettings;

/// See [`Engine`].
#[derive(Debug)]
pub(crate) struct Worker {
    id: String,
    module: Module,
    settings: WasmSettings,
    idle: Arc<Mutex<Vec<Guest>>>,
    // As many as instances; closed with the engine.
    places: Arc<Semaphore>,
    // Of all workers.
    threads: Arc<Semaphore>,
}

/// Tells the thread that nobody waits for it any more.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Worker {
    pub(crate) fn new(
        id: String,
        module: Module,
        first: Guest,
        settings: WasmSettings,
        threads: Arc<Semaphore>,
    ) -> Self {
        Self {
            id,
            module,
            settings,
            idle: Arc::new(Mutex::new(vec![first])),
            places: Arc::new(Semaphore::new(settings.instances.max(1))),
            threads,
        }
    }

    async fn ask(&self, event: Event<Value>) -> Result<Option<Event<Value>>, EngineError> {
        let closed = |_| EngineError::Closed;
        let place = self.places.clone().acquire_owned().await.map_err(closed)?;
        let thread = self.threads.clone().acquire_owned().await.map_err(closed)?;
        let given_up = GivenUp(Arc::default());
        let flag = given_up.0.clone();
        let (id, module, settings, idle) = (
            self.id.clone(),
            self.module.clone(),
            self.settings,
            self.idle.clone(),
        );
        let work = move || {
            let taken = idle.lock().pop();
            let mut guest = match taken {
                Some(guest) => guest,
                None => Guest::new(&module, &settings)?,
            };
            let said = run(&mut guest, &event, &settings, &flag)?;
            // Only here: one that failed is in no known state.
            idle.lock().push(guest);
            drop((place, thread));
            said.map(|said| answer(said, &id)).transpose()
        };
        let answer = tokio::task::spawn_blocking(work).await;
        drop(given_up);
        answer.map_err(|error| EngineError::Crashed(error.to_string()))?
    }
}

fn run(
    guest: &mut Guest,
    event: &Event<Value>,
    settings: &WasmSettings,
    given_up: &AtomicBool,
) -> Result<Option<Value>, EngineError> {
    let failed = |what: &str, error: serde_json::Error| EngineError::Failed(format!("{what}: {error}"));
    let event = serde_json::to_vec(event).map_err(|error| failed("the event", error))?;
    if event.len() > settings.frame_limit {
        let (size, limit) = (event.len(), settings.frame_limit);
        return Err(EngineError::Failed(format!(
            "the event has {size} bytes; {limit} are allowed"
        )));
    }
    let bounds = Bounds {
        deadline: Instant::now() + settings.timeout,
        given_up,
    };
    guest
        .process(&event, &bounds)?
        .map(|said| serde_json::from_slice(&said).map_err(|error| failed("the answer is no JSON", error)))
        .transpose()
}

impl Engine for Worker {
    fn process(&self, event: Event<Value>) -> BoxFuture<'_, Result<Option<Event<Value>>, EngineError>> {
        self.ask(event).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            // Those who wait already come first; then nobody does any more.
            let all = u32::try_from(self.settings.instances.max(1)).unwrap_or(u32::MAX);
            if let Ok(_places) = self.places.acquire_many(all).await {
                self.places.close();
            }
            self.idle.lock().clear();
        }
        .boxed()
    }
}
