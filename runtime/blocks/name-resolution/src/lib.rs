//! The name resolution block: from an app id to the addresses of its sidecars.

use std::{fmt, future::Future, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use outrigger_component::Error;
use outrigger_types::{AppId, Namespace};

/// Whom to find.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The app.
    pub app_id: AppId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The asking sidecar's own internal port, for resolvers that only know names.
    pub port: u16,
}

/// What a resolver tells others about this sidecar.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The app.
    pub app_id: AppId,
    /// Its namespace.
    pub namespace: Namespace,
    /// Where peers reach its internal API.
    pub internal_address: SocketAddr,
    /// Its public HTTP port, for health checks by a registry.
    pub http_port: u16,
    /// The app's port; 0 without an app.
    pub app_port: u16,
    /// Distinguishes instances of one app on one host.
    pub instance_id: String,
}

/// Addresses of the internal API, `host:port`. Never empty.
pub type Addresses = Vec<String>;

/// A resolver. Caching and balancing over the answer are the caller's; a resolver with its own live view answers
/// from that view at once.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// Announces this sidecar until [`Resolver::close`].
    fn register(&self, instance: Instance) -> impl Future<Output = Result<(), Error>> + Send;
    /// Finds the sidecars of an app.
    ///
    /// # Errors
    /// `NotFound` when there is none (yet).
    fn resolve(&self, target: &Target) -> impl Future<Output = Result<Addresses, Error>> + Send;
    /// Tells the resolver that an address did not answer, so that it is not given again soon.
    fn report_failure(&self, _target: &Target, _address: &str) {}
    /// Withdraws the announcement and stops.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`Resolver`].
pub trait DynResolver: fmt::Debug + Send + Sync + 'static {
    /// See [`Resolver::register`].
    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`Resolver::resolve`].
    fn resolve<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Addresses, Error>>;
    /// See [`Resolver::report_failure`].
    fn report_failure(&self, target: &Target, address: &str);
    /// See [`Resolver::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A shared resolver.
pub type SharedResolver = Arc<dyn DynResolver>;

impl<R: Resolver> DynResolver for R {
    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(Resolver::register(self, instance))
    }
    fn resolve<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Addresses, Error>> {
        Box::pin(Resolver::resolve(self, target))
    }
    fn report_failure(&self, target: &Target, address: &str) {
        Resolver::report_failure(self, target, address);
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(Resolver::close(self))
    }
}
