//! The manager on the platform's host.

use outrigger_kit::health::Scope;
use outrigger_kit::{App, Error};
use outrigger_platform_service::{Context, Service};
use outrigger_platform_wire::virtufin::web_socket_manager_server::WebSocketManagerServer;
use tonic::service::Routes;

use crate::dial::Dialer;
use crate::manager::Manager;
use crate::settings::Limits;

/// Messages of the contract may be as large as those of connections.
const MARGIN: usize = 64 * 1024;
/// A list of all connections: some thousands, with all the tags that they may have.
const MAX_LIST: usize = 32 << 20;

/// Makes the service from its context.
///
/// # Errors
/// What keeps TLS from being set up, and settings that cannot be used.
pub async fn service(context: Context) -> anyhow::Result<Service> {
    let limits = Limits::from_settings(&context.settings);
    let dialer = Dialer::new(limits.connect_timeout, limits.max_message)?;
    let max_message = limits.max_message + MARGIN;
    let max_answer = max_message.max(MAX_LIST);
    let manager = Manager::new(context.backend, &context.instance, dialer, limits);
    let (recovered, checked, run) = (manager.clone(), manager.clone(), manager.clone());
    let app = App::new(context.client)
        .environment(&context.environment)?
        .recover("connections", move || {
            let manager = recovered.clone();
            async move {
                let outcome = manager.recover().await;
                outcome.map_err(|error| Error::Invalid(error.to_string()))
            }
        })
        .health_check("connections", Scope::Readiness, move || {
            std::future::ready(checked.health())
        })
        .background(move |stop| run.run(stop));
    let server = WebSocketManagerServer::new(manager)
        .max_decoding_message_size(max_message)
        .max_encoding_message_size(max_answer);
    Ok(Service {
        app,
        grpc: Routes::new(server),
        names: vec!["virtufin.WebSocketManager"],
        rest: true,
        beside: None,
    })
}
