//! A worker manager with an engine of one's own (H2.4): a factory is all it takes, the manager does not change.

mod engine;

use std::process::ExitCode;
use std::sync::Arc;

use outrigger_platform_engine::Engines;
use outrigger_platform_workers::service;

fn main() -> ExitCode {
    let engines = Engines::new().with(Arc::new(engine::RecipeFactory::default()));
    outrigger_platform_service::run(&service::definition(), |context| async {
        service::make(context, engines)
    })
}
