//! `middleware.http.wasm`: runs a WebAssembly guest that speaks the http-wasm handler ABI (components-contrib
//! `middleware/http/wasm`, <https://http-wasm.io/http-handler-abi/>).
//!
//! The engine is an interpreter, wasmi: a compiler would be larger than the rest of the sidecar, and handlers spend
//! their time between calls, not in loops. A guest has no files and no network; of WASI it has the clock, random
//! numbers, and standard output, which goes to the log. Its memory, its run time per call and the bodies that it
//! holds have bounds.

mod abi;
mod backend;
mod config;
mod exchange;
mod guest;
#[cfg(test)]
mod tests;
mod wasi;

use std::sync::Arc;

use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_middleware::Middleware;

pub use backend::Wasm;
pub use config::WasmConfig;

/// How `middleware.http.wasm` is built.
pub const WASM: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.wasm"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let config = WasmConfig::parse(spec.name.as_str(), &spec.properties)?;
    Ok(open_with(async move |host| {
        Ok(Arc::new(Wasm::open(config, &host).await?) as Arc<dyn Middleware>)
    }))
}
