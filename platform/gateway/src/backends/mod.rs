//! Services that nothing here was compiled for: how they are reached, what they tell of themselves, calls of them
//! (G1, G2).

mod link;
pub(crate) mod methods;
mod proxy;
mod reflection;
mod routes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use outrigger_kit::Breakers;
use outrigger_platform_transcoding::{Call, GrpcUpstream, Messages, Upstream};
use parking_lot::Mutex;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

pub use link::{Link, Pool};
pub use methods::Target;
pub(crate) use methods::{call, split};
pub use proxy::{SERVICE_HEADER, forward};
pub use reflection::{Descriptors, Limits, Reflection, ReflectionError};
pub use routes::follow;

use crate::services::{Catalog, Service};

/// The longest message of a backend.
const MAX_MESSAGE: usize = 32 << 20;
/// Descriptors younger than this are not read again because a method is missing in them.
const FRESH: Duration = Duration::from_secs(1);

/// The backends.
#[derive(Debug)]
pub struct Backends {
    catalog: Catalog,
    pool: Pool,
    breakers: Breakers,
    told: Mutex<HashMap<String, Arc<Told>>>,
    max_age: Duration,
    call_timeout: Duration,
    /// Rung when descriptors are to be read again.
    forgotten: tokio::sync::Notify,
}

/// What one backend told; read by one at a time.
#[derive(Debug, Default)]
struct Told {
    reading: tokio::sync::Mutex<()>,
    found: Mutex<Option<(Arc<Descriptors>, Instant)>>,
}

/// Times of [`Backends`].
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Descriptors older than this are read anew.
    pub max_age: Duration,
    /// The limit of a unary call.
    pub call_timeout: Duration,
}

impl Backends {
    /// The services of a catalog, by a pool of channels.
    pub fn new(catalog: Catalog, pool: Pool, breakers: Breakers, times: Times) -> Self {
        Self {
            catalog,
            pool,
            breakers,
            told: Mutex::default(),
            max_age: times.max_age,
            call_timeout: times.call_timeout,
            forgotten: tokio::sync::Notify::new(),
        }
    }

    /// The configured services.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The channels.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The circuits, one per service called.
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// A configured service.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn service(&self, name: &str) -> Result<Arc<Service>, Status> {
        self.catalog
            .service(name)
            .ok_or_else(|| Status::not_found(format!("no service {name:?} is configured")))
    }

    /// What a service tells of itself; kept for some time.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` where its reflection is switched off, else what reading it came to.
    pub async fn descriptors(&self, service: &Service) -> Result<Arc<Descriptors>, Status> {
        self.descriptors_within(service, self.max_age).await
    }

    async fn descriptors_within(&self, service: &Service, age: Duration) -> Result<Arc<Descriptors>, Status> {
        if !service.grpc.reflection_enabled {
            return Err(Status::failed_precondition(format!(
                "{} does not tell its methods: grpc.reflectionEnabled is false",
                service.name
            )));
        }
        let link = self.pool.link(service)?;
        let told = Arc::clone(self.told.lock().entry(service.name.clone()).or_default());
        let young = |told: &Told| {
            let found = told.found.lock();
            found
                .as_ref()
                .filter(|(_, at)| at.elapsed() < age)
                .map(|(descriptors, _)| Arc::clone(descriptors))
        };
        if let Some(descriptors) = young(&told) {
            return Ok(descriptors);
        }
        let _turn = told.reading.lock().await;
        if let Some(descriptors) = young(&told) {
            return Ok(descriptors);
        }
        let permit = self
            .breakers
            .app(&service.name)
            .admit()
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let read = Reflection::new(link, Limits::default()).read().await;
        permit.record(matches!(&read, Err(ReflectionError::Call(status)) if counts(status)));
        let descriptors = Arc::new(read.map_err(|error| refused(&service.name, &error))?);
        *told.found.lock() = Some((Arc::clone(&descriptors), Instant::now()));
        Ok(descriptors)
    }

    /// Forgets what a service told, or what all told.
    pub fn forget(&self, service: Option<&str>) {
        let mut told = self.told.lock();
        match service {
            Some(name) => {
                told.remove(name);
            }
            None => told.clear(),
        }
        self.forgotten.notify_one();
    }

    /// Forgets channels and descriptors of services that changed.
    fn adopt(&self) {
        let services = self.catalog.services();
        self.pool.keep(&services);
        self.told
            .lock()
            .retain(|name, _| services.iter().any(|service| service.name == *name));
    }

    /// A method of a service, by its short or its full name. One that is missing in old descriptors is looked for in
    /// new ones: the service may have been deployed anew (G1.4).
    ///
    /// # Errors
    /// `NOT_FOUND`, `INVALID_ARGUMENT` for a short name that several have, or what reading the descriptors came to.
    pub async fn method(&self, service: &Service, name: &str) -> Result<Target, Status> {
        let descriptors = self.descriptors(service).await?;
        match methods::find(&descriptors, &service.name, name) {
            Err(status) if status.code() == Code::NotFound => self.method_anew(service, name).await,
            outcome => outcome,
        }
    }

    /// As [`method`](Self::method), of descriptors that are read now, unless that was done a moment ago.
    ///
    /// # Errors
    /// As [`method`](Self::method).
    pub async fn method_anew(&self, service: &Service, name: &str) -> Result<Target, Status> {
        let descriptors = self.descriptors_within(service, FRESH).await?;
        methods::find(&descriptors, &service.name, name)
    }

    /// Which service has this gRPC service, named in full.
    pub async fn having(&self, grpc_service: &str) -> Option<Arc<Service>> {
        let services = self.catalog.services();
        let callable = || {
            services
                .iter()
                .filter(|service| service.grpc.reflection_enabled && service.route().is_some())
        };
        for age in [self.max_age, FRESH] {
            let asked = callable().map(|service| async move {
                let told = self.descriptors_within(service, age).await.ok()?;
                told.services
                    .iter()
                    .any(|name| name == grpc_service)
                    .then(|| Arc::clone(service))
            });
            let found = futures::future::join_all(asked).await;
            if let Some(service) = found.into_iter().flatten().next() {
                return Some(service);
            }
        }
        None
    }

    /// A unary call with encoded messages.
    ///
    /// # Errors
    /// The backend's status; `UNAVAILABLE` while its circuit is open; `DEADLINE_EXCEEDED`.
    pub async fn unary(&self, service: &Service, call: Call) -> Result<(MetadataMap, Bytes), Status> {
        refuse_sidecars_calls(call.path.path())?;
        let upstream = GrpcUpstream::new(self.pool.link(service)?, MAX_MESSAGE);
        let permit = self
            .breakers
            .app(&service.name)
            .admit()
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let answer = tokio::time::timeout(self.call_timeout, upstream.unary(call))
            .await
            .unwrap_or_else(|_| {
                let limit = self.call_timeout;
                Err(Status::deadline_exceeded(format!(
                    "{} did not answer within {limit:?}",
                    service.name
                )))
            });
        permit.record(answer.as_ref().is_err_and(counts));
        self.learn(service, answer.as_ref().err());
        answer
    }

    /// A call with a stream of answers. It has no time limit of its own.
    ///
    /// # Errors
    /// As [`unary`](Self::unary).
    pub async fn server_streaming(
        &self,
        service: &Service,
        call: Call,
    ) -> Result<(MetadataMap, Messages), Status> {
        refuse_sidecars_calls(call.path.path())?;
        let upstream = GrpcUpstream::new(self.pool.link(service)?, MAX_MESSAGE);
        let permit = self
            .breakers
            .app(&service.name)
            .admit()
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let answer = upstream.server_streaming(call).await;
        permit.record(answer.as_ref().is_err_and(counts));
        self.learn(service, answer.as_ref().err());
        answer
    }

    /// A method that is not there any more: what the service told is out of date, unless it told it a moment ago.
    fn learn(&self, service: &Service, error: Option<&Status>) {
        if error.is_none_or(|status| status.code() != Code::Unimplemented) {
            return;
        }
        let old = |told: &Arc<Told>| {
            let found = told.found.lock();
            found.as_ref().is_some_and(|(_, at)| at.elapsed() > FRESH)
        };
        if self.told.lock().get(&service.name).is_some_and(old) {
            self.forget(Some(&service.name));
        }
    }
}

/// Whether a failure speaks against the backend as a whole.
fn counts(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

fn refused(service: &str, error: &ReflectionError) -> Status {
    let message = format!("{service}: {error}");
    match error {
        ReflectionError::Call(status) if status.code() == Code::Unimplemented => {
            Status::failed_precondition(format!("{service} has no reflection: its methods are not known"))
        }
        ReflectionError::Call(status) => Status::new(status.code(), message),
        ReflectionError::Timeout(_) => Status::deadline_exceeded(message),
        ReflectionError::TooMuch(_) => Status::resource_exhausted(message),
        ReflectionError::Descriptors(_) => Status::internal(message),
    }
}

/// One service, for whom the transcoder hands its calls to.
#[derive(Debug, Clone)]
pub struct ServiceUpstream {
    backends: Arc<Backends>,
    name: String,
}

impl ServiceUpstream {
    /// Of a service by its name; it is looked up at each call.
    pub fn new(backends: Arc<Backends>, name: String) -> Self {
        Self { backends, name }
    }
}

impl Upstream for ServiceUpstream {
    fn unary(&self, call: Call) -> BoxFuture<'_, Result<(MetadataMap, Bytes), Status>> {
        Box::pin(async move {
            let service = self.backends.service(&self.name)?;
            self.backends.unary(&service, call).await
        })
    }

    fn server_streaming(&self, call: Call) -> BoxFuture<'_, Result<(MetadataMap, Messages), Status>> {
        Box::pin(async move {
            let service = self.backends.service(&self.name)?;
            self.backends.server_streaming(&service, call).await
        })
    }
}

/// Calls by which a sidecar speaks to its app (events, jobs, bindings), and an app to its sidecar, are not for clients:
/// the sidecar on the way would add the token that the app knows its sidecar by.
pub(crate) fn refuse_sidecars_calls(path: &str) -> Result<(), Status> {
    if path.trim_start_matches('/').starts_with("dapr.proto.") {
        return Err(Status::permission_denied(format!(
            "{path} is between an app and its sidecar"
        )));
    }
    Ok(())
}

/// Whether a gRPC service belongs to the plumbing and not to what a backend is for.
pub(crate) fn is_plumbing(name: &str) -> bool {
    ["grpc.health.", "grpc.reflection.", "dapr.proto."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
