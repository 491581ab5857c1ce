//! The sidecar itself.

use outrigger_wire::dapr::proto::runtime::v1::{GetMetadataResponse, SetMetadataRequest};

/// What the metadata and shutdown APIs ask of the running sidecar.
pub trait ControlApi: Send + Sync + 'static {
    /// `GetMetadata`.
    fn get_metadata(&self) -> GetMetadataResponse;
    /// `SetMetadata`. An empty key is passed on; the implementation ignores it.
    fn set_metadata(&self, request: SetMetadataRequest);
    /// `Shutdown`. Returns at once: the answer still has to leave. `force` asks to end without draining
    /// (metadata `dapr-force-shutdown: true`).
    fn shutdown(&self, force: bool);
}
