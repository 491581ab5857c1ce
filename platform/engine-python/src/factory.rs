//! The factory of workers in Python.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use outrigger_platform_engine::{Engine, EngineError, EngineFactory, WorkerContext};
use outrigger_platform_sandbox::{Launcher, Support, WhenMissing};
use tokio::sync::OnceCell;

use crate::interpreter::Interpreter;
use crate::process::Launch;
use crate::settings::PythonSettings;
use crate::supervisor::Supervisor;
use crate::worker::Worker;

/// Runs workers written in Python; see the crate.
#[derive(Debug)]
pub struct PythonEngine {
    settings: PythonSettings,
    // Found at the first worker: a host without workers in Python needs no Python.
    launch: OnceCell<Arc<Launch>>,
}

impl PythonEngine {
    /// An engine with these settings. Starts nothing yet.
    pub fn new(settings: PythonSettings) -> Self {
        Self {
            settings,
            launch: OnceCell::new(),
        }
    }

    /// Whether workers can be run and confined, for health answers: `confined`, or a word for what is missing
    /// ([`Support::word`], `no-python`), with `unconfined:` before it if the settings go without.
    pub async fn health_word(&self) -> String {
        let support = Support::of_this_kernel();
        if !support.is_enough() {
            let word = support.word();
            return match self.settings.when_missing {
                WhenMissing::Refuse => word.to_owned(),
                WhenMissing::GoWithout => format!("unconfined:{word}"),
            };
        }
        match self.launch().await {
            Ok(_) => support.word().to_owned(),
            Err(_) => "no-python".to_owned(),
        }
    }

    async fn launch(&self) -> Result<&Arc<Launch>, EngineError> {
        self.launch
            .get_or_try_init(|| async {
                let settings = self.settings.clone();
                let support = Support::of_this_kernel();
                if !support.is_enough() && settings.when_missing == WhenMissing::Refuse {
                    return Err(EngineError::Unavailable(format!(
                        "workers are not run unconfined, and the kernel has not what confines them: {support}"
                    )));
                }
                let interpreter = Interpreter::find(&settings).await?;
                let launcher = Launcher::new(&settings.launcher).map_err(|error| {
                    EngineError::Unavailable(format!("no thread can be started: {error}"))
                })?;
                Ok(Arc::new(Launch {
                    policy: interpreter.policy(&settings),
                    interpreter,
                    launcher,
                    settings,
                }))
            })
            .await
    }

    async fn load_code(&self, context: WorkerContext, code: Bytes) -> Result<Arc<dyn Engine>, EngineError> {
        let code = String::from_utf8(code.to_vec())
            .map_err(|error| EngineError::Load(format!("the code is not UTF-8: {error}")))?;
        let launch = self.launch().await?.clone();
        let first = launch.start(&context, &code).await?;
        let (queue, limit) = (launch.settings.queue, launch.settings.frame_limit);
        let worker = Worker::new(queue, limit, first, |jobs| {
            Supervisor::new(launch, context, code, jobs)
        });
        Ok(Arc::new(worker))
    }
}

impl EngineFactory for PythonEngine {
    fn mime_types(&self) -> &'static [&'static str] {
        &["text/x-python"]
    }

    fn language(&self) -> &'static str {
        "python"
    }

    fn load(
        &self,
        context: WorkerContext,
        code: Bytes,
    ) -> BoxFuture<'_, Result<Arc<dyn Engine>, EngineError>> {
        self.load_code(context, code).boxed()
    }
}
