//! The gateway's own gRPC services.

mod config;
mod gateway;
mod pubsub;
mod schema;
mod state;

pub use config::ConfigApi;
pub use gateway::GatewayApi;
pub(crate) use gateway::describe;
pub use pubsub::PubsubApi;
pub(crate) use schema::schema;
pub use state::StateApi;

use outrigger_platform_wire::virtufin::StatusResponse;

/// Full names of the services.
pub const NAMES: [&str; 4] = [
    "virtufin.Gateway",
    "virtufin.Pubsub",
    "virtufin.State",
    "virtufin.Config",
];

/// That it went well, with a remark where something beside did not.
fn done(remark: Option<String>) -> Option<StatusResponse> {
    Some(StatusResponse {
        success: true,
        status: "OK".to_owned(),
        message: remark.unwrap_or_default(),
    })
}
