//! Two sidecars and their apps in one process, over real sockets.

mod app_health;
mod endpoints;
mod grpc_invoke;
mod grpc_proxy;
mod peers;
mod requests;
mod retries;
mod streaming;
mod support;

use outrigger_sidecar_app_channel::Protocol;
use support::{App, Names, Sidecar};

/// Caller and callee, connected.
async fn pair(app: App, protocol: Protocol) -> (Sidecar, Sidecar) {
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let callee = Sidecar::start("callee", &names, Some((app, protocol)), |options| options).await;
    (caller, callee)
}
