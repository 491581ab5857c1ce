//! `workmanager`: the worker manager as a program, with the engines there are.

use std::process::ExitCode;
use std::sync::Arc;

use outrigger_kit::health::{HealthEntry, Scope};
use outrigger_kit::settings::{Key, Kind, Settings};
use outrigger_platform_engine::Engines;
use outrigger_platform_engine_python::{Imports, PythonEngine, PythonSettings};
use outrigger_platform_engine_wasm::{WasmEngine, WasmSettings};
use outrigger_platform_sandbox::WhenMissing;
use outrigger_platform_workers::service;
use outrigger_platform_workers::settings::Options;

/// Most instances of one WebAssembly worker; each has memory of its own.
const MOST_INSTANCES: usize = 8;

/// Settings of the engine of Python (H6).
const PYTHON: &[Key] = &[
    Key {
        name: "PythonAllowedPackages",
        flag: "--python-allowed-packages",
        variables: &["PYTHON_ALLOWED_PACKAGES"],
        default: Some(""),
        kind: Kind::Text,
        help: "packages that workers may import beside safe modules, with commas",
    },
    Key {
        name: "PythonBlockedModules",
        flag: "--python-blocked-modules",
        variables: &["PYTHON_BLOCKED_MODULES"],
        default: None,
        kind: Kind::Text,
        help: "modules that workers may never import, with commas, in place of the built-in list",
    },
    Key {
        name: "WorkerSandbox",
        flag: "--worker-sandbox",
        variables: &["WORKER_SANDBOX"],
        default: Some("require"),
        kind: Kind::OneOf(&["require", "best-effort"]),
        help: "whether workers run on a kernel that lacks what confines them",
    },
];

fn main() -> ExitCode {
    // The same binary becomes the confined program of a worker (H6.1).
    if let Some(code) = outrigger_platform_sandbox::enter_if_asked(std::env::args_os().skip(1)) {
        return code;
    }
    let mut definition = service::definition();
    definition.keys.extend_from_slice(PYTHON);
    outrigger_platform_service::run(&definition, |context| async {
        let options = Options::new(&context.settings).map_err(anyhow::Error::msg)?;
        let python = Arc::new(PythonEngine::new(python(&context.settings, &options)));
        let wasm = WasmEngine::new(WasmSettings {
            timeout: options.call_timeout,
            instances: options.concurrency.min(MOST_INSTANCES),
            ..WasmSettings::default()
        });
        let engines = Engines::new().with(python.clone()).with(Arc::new(wasm));
        let mut service = service::make(context, engines)?;
        service.app = service.app.health_check("sandbox", Scope::Report, move || {
            let python = python.clone();
            async move {
                match python.health_word().await {
                    word if word == "confined" => HealthEntry::healthy(word),
                    word => HealthEntry::degraded(word),
                }
            }
        });
        Ok(service)
    })
}

fn python(settings: &Settings, options: &Options) -> PythonSettings {
    let imports = Imports::from_lists(
        settings.text("PythonAllowedPackages"),
        settings.get("PythonBlockedModules"),
    );
    PythonSettings {
        timeout: options.call_timeout,
        concurrency: options.concurrency,
        imports,
        when_missing: match settings.text("WorkerSandbox") {
            "best-effort" => WhenMissing::GoWithout,
            _ => WhenMissing::Refuse,
        },
        ..PythonSettings::default()
    }
}
