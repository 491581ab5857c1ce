//! Workers for the tests.
#![allow(
    dead_code,
    clippy::print_stderr,
    reason = "each test file uses a part; why tests are skipped is said there"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outrigger_kit::Event;
use outrigger_platform_engine::{Engine, EngineError, EngineFactory as _, WorkerContext};
use outrigger_platform_engine_python::{Imports, PythonEngine, PythonSettings};
use outrigger_platform_sandbox::Support;
use serde_json::{Value, json};

/// Settings for tests: behind the launcher of this package, impatient; `OUTRIGGER_TEST_PYTHON` names another
/// interpreter than the system's.
pub(crate) fn settings() -> PythonSettings {
    PythonSettings {
        python: std::env::var_os("OUTRIGGER_TEST_PYTHON").map_or_else(|| "python3".into(), Into::into),
        launcher: env!("CARGO_BIN_EXE_outrigger-python-launcher").into(),
        timeout: Duration::from_secs(10),
        ..PythonSettings::default()
    }
}

/// The same without the second wall: what is refused, the operating system refuses.
pub(crate) fn bare() -> PythonSettings {
    PythonSettings {
        imports: Imports::unlimited(),
        ..settings()
    }
}

/// Whether this machine can run confined Python; says so if not.
pub(crate) fn confines() -> bool {
    let support = Support::of_this_kernel();
    let python = ["/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .any(|folder| std::path::Path::new(folder).join("python3").exists());
    if !support.is_enough() || !python {
        eprintln!("skipped: {support}, python3 found: {python}");
    }
    support.is_enough() && python
}

pub(crate) async fn load_with(settings: PythonSettings, code: &str) -> Result<Arc<dyn Engine>, EngineError> {
    let context = WorkerContext {
        id: "worker".to_owned(),
        group: None,
        topic: "ticks".to_owned(),
    };
    PythonEngine::new(settings)
        .load(context, Bytes::copy_from_slice(code.as_bytes()))
        .await
}

pub(crate) async fn load(code: &str) -> Arc<dyn Engine> {
    load_with(settings(), code).await.unwrap()
}

pub(crate) fn event(data: Value) -> Event<Value> {
    Event::new("tick", "exchange", data)
}

/// The data of the answer to an event with this data.
pub(crate) async fn ask(engine: &Arc<dyn Engine>, data: Value) -> Result<Value, EngineError> {
    let answer = engine.process(event(data)).await?;
    Ok(answer.map_or(Value::Null, |answer| answer.data))
}

/// A worker that doubles numbers.
pub(crate) const DOUBLE: &str =
    "def Process(event):\n    return {'type': 'doubled', 'data': event['data'] * 2}\n";

/// Asserts that a worker still does its work.
pub(crate) async fn assert_serves(engine: &Arc<dyn Engine>) {
    assert_eq!(ask(engine, json!("innocent")).await, Ok(json!("innocent")));
}
