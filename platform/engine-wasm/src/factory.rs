//! The factory of workers in WebAssembly.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use outrigger_platform_engine::{Engine, EngineError, EngineFactory, WorkerContext};
use tokio::sync::Semaphore;

use crate::engine::Worker;
use crate::guest::{self, Guest};
use crate::settings::WasmSettings;

/// Runs workers that are WebAssembly modules; see the crate.
#[derive(Debug)]
pub struct WasmEngine {
    settings: WasmSettings,
    threads: Arc<Semaphore>,
}

impl WasmEngine {
    /// An engine with these settings.
    pub fn new(settings: WasmSettings) -> Self {
        Self {
            settings,
            threads: Arc::new(Semaphore::new(settings.threads.max(1))),
        }
    }

    async fn load_code(&self, context: WorkerContext, code: Bytes) -> Result<Arc<dyn Engine>, EngineError> {
        let thread = self
            .threads
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| EngineError::Closed)?;
        let settings = self.settings;
        let loaded = tokio::task::spawn_blocking(move || {
            let module = guest::compile(&settings, &code)?;
            let first = Guest::new(&module, &settings)?;
            drop(thread);
            Ok::<_, EngineError>((module, first))
        });
        let (module, first) = loaded
            .await
            .map_err(|error| EngineError::Crashed(error.to_string()))??;
        let worker = Worker::new(context.id, module, first, settings, self.threads.clone());
        Ok(Arc::new(worker))
    }
}

impl EngineFactory for WasmEngine {
    fn mime_types(&self) -> &'static [&'static str] {
        &["application/wasm"]
    }

    fn language(&self) -> &'static str {
        "wasm"
    }

    fn load(
        &self,
        context: WorkerContext,
        code: Bytes,
    ) -> BoxFuture<'_, Result<Arc<dyn Engine>, EngineError>> {
        self.load_code(context, code).boxed()
    }
}
