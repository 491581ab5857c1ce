//! The end of a component: one of our types served to any Dapr sidecar.

mod bindings;
mod desk;
mod instances;
mod openings;
mod pubsub;
mod secrets;
mod state;

use std::{future::Future, io, time::Duration};

use outrigger_bindings::Binding;
use outrigger_component::{Host, Registration};
use outrigger_pubsub::DynPubSub;
use outrigger_secrets::DynSecretStore;
use outrigger_state::DynStateStore;
use outrigger_wire::{
    DESCRIPTORS,
    dapr::proto::components::v1::{
        input_binding_server::InputBindingServer, output_binding_server::OutputBindingServer,
        pub_sub_server::PubSubServer, queriable_state_store_server::QueriableStateStoreServer,
        secret_store_server::SecretStoreServer, state_store_server::StateStoreServer,
        transactional_state_store_server::TransactionalStateStoreServer,
        transactional_store_multi_max_size_server::TransactionalStoreMultiMaxSizeServer,
    },
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_reflection::server::Builder;

use crate::MAX_MESSAGE;
use instances::Instances;

/// How long calls under way may take once the server was asked to end.
const GRACE: Duration = Duration::from_secs(5);
const STATE: [&str; 4] = [
    "dapr.proto.components.v1.StateStore",
    "dapr.proto.components.v1.TransactionalStateStore",
    "dapr.proto.components.v1.QueriableStateStore",
    "dapr.proto.components.v1.TransactionalStoreMultiMaxSize",
];

/// What a server offers: one of our component types, by how it is built.
#[derive(Debug, Clone, Copy)]
pub enum Offer {
    /// A state store.
    State(Registration<dyn DynStateStore>),
    /// A broker.
    PubSub(Registration<dyn DynPubSub>),
    /// A binding, and which sides it has: both services would make a sidecar ask for both.
    Bindings {
        /// How it is built.
        registration: Registration<Binding>,
        /// It reads.
        input: bool,
        /// It is called.
        output: bool,
    },
    /// A secret store.
    Secrets(Registration<dyn DynSecretStore>),
}

/// Why a server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The table of services for reflection.
    #[error("cannot describe the services: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The socket.
    #[error("cannot serve the socket: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The signal to end could not be awaited.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves one component type. Every sidecar that connects brings its own settings with Init; instances are told
/// apart by the name that comes with each call. An Init that repeats the settings of an instance leaves it as it is,
/// so that a sidecar that reconnects, and others of the same name, find what was there.
#[derive(Debug)]
pub struct Server {
    offer: Offer,
    version: String,
    host: Host,
}

impl Server {
    /// A server for the type, in the version that a component file would name (empty for the first).
    #[must_use]
    pub fn new(offer: Offer, version: impl Into<String>, host: Host) -> Self {
        Self {
            offer,
            version: version.into(),
            host,
        }
    }

    /// Serves until `stop`; then ends streams, waits a moment for calls under way and closes the instances.
    ///
    /// # Errors
    /// When the socket cannot be served.
    pub async fn serve(
        self,
        listener: UnixListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), ServerError> {
        let ending = CancellationToken::new();
        let Self { offer, version, host } = self;
        match offer {
            Offer::State(registration) => {
                let instances = Instances::new(registration, version, host);
                let state = state::State::new(instances.clone());
                let routes =
                    Routes::new(StateStoreServer::new(state.clone()).max_decoding_message_size(MAX_MESSAGE))
                        .add_service(
                            TransactionalStateStoreServer::new(state.clone())
                                .max_decoding_message_size(MAX_MESSAGE),
                        )
                        .add_service(QueriableStateStoreServer::new(state.clone()))
                        .add_service(TransactionalStoreMultiMaxSizeServer::new(state));
                run(listener, routes, &STATE, stop, &ending).await?;
                instances.close().await;
            }
            Offer::PubSub(registration) => {
                let instances = Instances::new(registration, version, host);
                let service = PubSubServer::new(pubsub::Broker::new(instances.clone(), ending.clone()))
                    .max_decoding_message_size(MAX_MESSAGE);
                let names = ["dapr.proto.components.v1.PubSub"];
                run(listener, Routes::new(service), &names, stop, &ending).await?;
                instances.close().await;
            }
            Offer::Bindings {
                registration,
                input,
                output,
            } => {
                let instances = Instances::new(registration, version, host);
                let mut routes = Routes::default();
                let mut names = Vec::new();
                if input {
                    let service = bindings::Input::new(instances.clone(), ending.clone());
                    routes = routes
                        .add_service(InputBindingServer::new(service).max_decoding_message_size(MAX_MESSAGE));
                    names.push("dapr.proto.components.v1.InputBinding");
                }
                if output {
                    let service = bindings::Output::new(instances.clone());
                    routes = routes.add_service(
                        OutputBindingServer::new(service).max_decoding_message_size(MAX_MESSAGE),
                    );
                    names.push("dapr.proto.components.v1.OutputBinding");
                }
                run(listener, routes, &names, stop, &ending).await?;
                instances.close().await;
            }
            Offer::Secrets(registration) => {
                let instances = Instances::new(registration, version, host);
                let service = SecretStoreServer::new(secrets::Secrets::new(instances.clone()));
                let names = ["dapr.proto.components.v1.SecretStore"];
                run(listener, Routes::new(service), &names, stop, &ending).await?;
                instances.close().await;
            }
        }
        Ok(())
    }
}

/// Serves the routes with reflection of the services in both versions: grpc-go's clients ask by `v1alpha`.
async fn run(
    listener: UnixListener,
    routes: Routes,
    services: &[&str],
    stop: impl Future<Output = ()> + Send,
    ending: &CancellationToken,
) -> Result<(), ServerError> {
    let reflection = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
            .include_reflection_service(false)
            .with_service_name("grpc.reflection.v1.ServerReflection")
            .with_service_name("grpc.reflection.v1alpha.ServerReflection");
        services
            .iter()
            .fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let routes = routes
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let serving = tonic::transport::Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            ending.clone().cancelled_owned(),
        );
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = stop => ending.cancel(),
    }
    match tokio::time::timeout(GRACE, serving).await {
        Ok(ended) => Ok(ended?),
        Err(_) => {
            tracing::warn!(target: "dapr.component", "calls were still under way after {GRACE:?}");
            Ok(())
        }
    }
}
