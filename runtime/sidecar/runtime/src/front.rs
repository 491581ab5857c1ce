//! What is in front of the instances of a sidecar: its ports, and which instance answers on them (design D13,
//! decision record 0009).
//!
//! Ports are bound once and stay. Servers ask for the instance per request, so a change of instance is seen by no
//! connection.

use std::{net::SocketAddr, sync::Arc};

use outrigger_sidecar_api::Switch;
use outrigger_sidecar_grpc::GrpcServer;
use outrigger_sidecar_http::{HttpService, ServeOptions};
use outrigger_sidecar_invocation::InternalService;
use outrigger_telemetry::Metrics;
use outrigger_types::is_truthy;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    assembly::{Assembly, Common},
    listeners::{Addresses, Listeners},
    options::SidecarOptions,
};

const LOG: &str = "dapr.runtime";

/// Ports, and who answers.
pub(crate) struct Front {
    options: SidecarOptions,
    addresses: Addresses,
    listeners: Mutex<Listeners>,
    http: Switch<HttpService>,
    public: Switch<HttpService>,
    grpc: Switch<GrpcServer>,
    internal: Switch<InternalService>,
    metrics: Switch<Metrics>,
    servers: TaskTracker,
    close: CancellationToken,
    close_internal: CancellationToken,
    /// Asks for the orderly end.
    pub(crate) stop: CancellationToken,
    /// Asks for the end at once.
    pub(crate) force: CancellationToken,
    /// Asks for the next instance.
    pub(crate) renew: Arc<Notify>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Front {
    /// Nothing is served yet; `first` will answer.
    pub(crate) fn new(
        options: SidecarOptions,
        listeners: Listeners,
        addresses: Addresses,
        common: Common,
        first: &Assembly,
    ) -> Self {
        Self {
            options,
            addresses,
            listeners: Mutex::new(listeners),
            http: first.http.clone().into(),
            public: first.public_http.clone().into(),
            grpc: first.grpc.clone().into(),
            internal: first.invocation.internal_service().into(),
            metrics: first.metrics.clone().into(),
            servers: TaskTracker::new(),
            close: CancellationToken::new(),
            close_internal: CancellationToken::new(),
            stop: common.stop,
            force: common.force,
            renew: Arc::default(),
        }
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub(crate) fn options(&self) -> &SidecarOptions {
        &self.options
    }

    /// What instances share.
    pub(crate) fn common(&self) -> Common {
        Common {
            internal_port: self.addresses.internal.map_or(0, |address| address.port()),
            stop: self.stop.clone(),
            force: self.force.clone(),
        }
    }

    /// Lets an instance answer from the next request on.
    pub(crate) fn show(&self, assembly: &Assembly) {
        self.metrics.replace(assembly.metrics.clone());
        self.internal.replace(assembly.invocation.internal_service());
        self.grpc.replace(assembly.grpc.clone());
        self.public.replace(assembly.public_http.clone());
        self.http.replace(assembly.http.clone());
    }

    /// Serves what depends on no component: health, metadata, metrics, the gRPC API.
    pub(crate) fn open_early(&self) {
        let (public, metrics, profile, grpc) = {
            let mut bound = self.listeners.lock();
            (
                bound.public.take(),
                bound.metrics.take(),
                bound.profile.take(),
                std::mem::take(&mut bound.grpc),
            )
        };
        if let Some(bound) = public {
            self.servers.spawn(outrigger_sidecar_http::serve(
                bound,
                self.public.clone(),
                self.serve_options(),
                self.close.clone(),
            ));
        }
        if let Some(listener) = metrics {
            let metrics = self.metrics.clone();
            let close = self.close.clone();
            self.servers.spawn(async move {
                let current = move || Metrics::clone(&metrics.current());
                let served =
                    outrigger_telemetry::metrics::serve(listener, current, close.cancelled_owned()).await;
                if let Err(error) = served {
                    tracing::error!(target: LOG, "metrics are no longer served: {error}");
                }
            });
        }
        if let Some(listener) = profile {
            self.servers
                .spawn(crate::profile::serve(listener, self.close.clone()));
        }
        for bound in grpc {
            self.servers.spawn(outrigger_sidecar_grpc::serve(
                bound,
                self.grpc.clone(),
                self.close.clone(),
            ));
        }
        tracing::info!(
            target: LOG,
            "API gRPC server is running on port {}",
            bound_port(&self.addresses.grpc, self.options.grpc_port)
        );
    }

    /// Serves the HTTP API; nothing happens when it is served.
    pub(crate) fn open_http(&self) {
        let listeners = std::mem::take(&mut self.listeners.lock().http);
        if listeners.is_empty() {
            return;
        }
        for bound in listeners {
            self.servers.spawn(outrigger_sidecar_http::serve(
                bound,
                self.http.clone(),
                self.serve_options(),
                self.close.clone(),
            ));
        }
        tracing::info!(target: LOG, "HTTP server is running on port {}", bound_port(&self.addresses.http, self.options.http_port));
        tracing::info!(target: LOG, "The request body size parameter is: {} bytes", self.options.max_body_size);
    }

    /// Serves peers; nothing happens when they are served.
    pub(crate) fn open_internal(&self) {
        if let Some(listener) = self.listeners.lock().internal.take() {
            self.servers.spawn(InternalService::serve_listener(
                self.internal.clone(),
                listener,
                self.close_internal.clone(),
            ));
        }
    }

    /// Takes no more requests and waits for those under way.
    pub(crate) async fn close(&self) {
        self.close_internal.cancel();
        self.close.cancel();
        self.servers.close();
        self.servers.wait().await;
    }

    fn serve_options(&self) -> ServeOptions {
        ServeOptions {
            read_buffer_size: self.options.read_buffer_size,
            h2c: serves_h2c(&self.options),
        }
    }
}

/// The port that was bound, which is another one than was asked for when that was 0.
pub(crate) fn bound_port(addresses: &[SocketAddr], asked: u16) -> u16 {
    addresses.first().map_or(asked, SocketAddr::port)
}

/// Whether the HTTP servers take HTTP/2 in clear text.
fn serves_h2c(options: &SidecarOptions) -> bool {
    !options
        .environment
        .get("DAPR_HTTP_DISABLE_H2C")
        .is_some_and(is_truthy)
}
