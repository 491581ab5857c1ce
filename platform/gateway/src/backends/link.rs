//! Channels to backends: made at the first call, one per backend, the least recently used one given up when there are
//! too many (G11).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use outrigger_kit::{Environment, health::HealthEntry};
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::services::{Route, Service, Tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pings on idle connections, so that a backend that vanished is not found out by a caller's call.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const APP_ID: HeaderName = HeaderName::from_static("dapr-app-id");
const API_TOKEN: HeaderName = HeaderName::from_static("dapr-api-token");

/// A channel to a backend, with the metadata that leads there. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Link {
    channel: Channel,
    headers: HeaderMap,
}

impl tower::Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as tower::Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        keep_callers_own(request.headers_mut());
        request.headers_mut().extend(self.headers.clone());
        self.channel.call(request)
    }
}

/// Takes out what sidecars say to one another and to their apps: where a call goes, its token, who calls. What a caller
/// says about that does not count.
fn keep_callers_own(headers: &mut HeaderMap) {
    let sidecars: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("dapr-"))
        .cloned()
        .collect();
    for name in sidecars {
        headers.remove(name);
    }
}

/// The channels.
#[derive(Debug)]
pub struct Pool {
    sidecar: Endpoint,
    token: Option<HeaderValue>,
    capacity: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    links: HashMap<String, Held>,
    /// Counts uses; the lowest one is the least recent.
    uses: u64,
    given_up: u64,
}

#[derive(Debug)]
struct Held {
    route: Route,
    link: Link,
    used: u64,
}

impl Pool {
    /// A pool of at most `capacity` channels; sidecar and token are those of the environment.
    ///
    /// # Errors
    /// If the sidecar's address or the token cannot be used.
    pub fn new(environment: &Environment, capacity: usize) -> anyhow::Result<Self> {
        let address = outrigger_kit::Endpoint::grpc_from_environment(environment)?;
        let mut sidecar = endpoint(address.as_str())?;
        if address.as_str().starts_with("https:") {
            sidecar = sidecar.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let token = environment
            .get("DAPR_API_TOKEN")
            .filter(|token| !token.is_empty());
        let token = token.map(|token| HeaderValue::from_str(token)).transpose();
        let mut token = token.map_err(|_| anyhow::anyhow!("DAPR_API_TOKEN cannot be sent in a header"))?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        Ok(Self {
            sidecar,
            token,
            capacity: capacity.max(1),
            open: Mutex::default(),
        })
    }

    /// The channel to a service. Nothing is connected here.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` for a service that cannot be called, or whose certificates cannot be read.
    pub fn link(&self, service: &Service) -> Result<Link, Status> {
        let route = service.route().ok_or_else(|| {
            Status::failed_precondition(format!(
                "{} has neither daprAppId nor grpc: it cannot be called",
                service.name
            ))
        })?;
        let mut open = self.open.lock();
        open.uses += 1;
        let now = open.uses;
        if let Some(held) = open
            .links
            .get_mut(&service.name)
            .filter(|held| held.route == route)
        {
            held.used = now;
            return Ok(held.link.clone());
        }
        let link = self
            .make(&route)
            .map_err(|error| Status::failed_precondition(format!("{}: {error:#}", service.name)))?;
        let held = Held {
            route,
            link: link.clone(),
            used: now,
        };
        open.links.insert(service.name.clone(), held);
        if open.links.len() > self.capacity
            && let Some(oldest) = open
                .links
                .iter()
                .min_by_key(|(_, held)| held.used)
                .map(|(name, _)| name.clone())
        {
            open.links.remove(&oldest);
            open.given_up += 1;
        }
        Ok(link)
    }

    /// Gives up the channels of services that are gone or elsewhere now. Calls under way go on.
    pub fn keep(&self, services: &[Arc<Service>]) {
        self.open.lock().links.retain(|name, held| {
            services
                .iter()
                .any(|service| service.name == *name && service.route().as_ref() == Some(&held.route))
        });
    }

    /// How full it is.
    pub fn health(&self) -> HealthEntry {
        let open = self.open.lock();
        HealthEntry::healthy(format!(
            "{} of at most {} channels, {} given up for others",
            open.links.len(),
            self.capacity,
            open.given_up
        ))
    }

    fn make(&self, route: &Route) -> anyhow::Result<Link> {
        let mut headers = HeaderMap::new();
        let channel = match route {
            Route::Sidecar { app_id } => {
                headers.insert(APP_ID, HeaderValue::from_str(app_id)?);
                if let Some(token) = &self.token {
                    headers.insert(API_TOKEN, token.clone());
                }
                self.sidecar.connect_lazy()
            }
            Route::Direct { host, port, tls } => {
                let host = if host.contains(':') && !host.starts_with('[') {
                    format!("[{host}]")
                } else {
                    host.clone()
                };
                match tls {
                    None => endpoint(&format!("http://{host}:{port}"))?,
                    Some(tls) => endpoint(&format!("https://{host}:{port}"))?.tls_config(config(tls)?)?,
                }
                .connect_lazy()
            }
        };
        Ok(Link { channel, headers })
    }
}

fn endpoint(address: &str) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(address.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .tcp_nodelay(true))
}

fn config(tls: &Tls) -> anyhow::Result<ClientTlsConfig> {
    let mut config = match &tls.ca_file {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    Ok(config)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::GrpcTarget;

    fn service(name: &str, port: u16) -> Service {
        Service {
            name: name.to_owned(),
            dapr_app_id: String::new(),
            grpc: GrpcTarget {
                port,
                ..GrpcTarget::default()
            },
            pubsub: Default::default(),
            state: Default::default(),
            jobs: Default::default(),
        }
    }

    #[test]
    fn callers_do_not_speak_for_sidecars() {
        let mut headers: HeaderMap = [
            ("dapr-app-id", "elsewhere"),
            ("dapr-api-token", "stolen"),
            ("dapr-caller-app-id", "admin"),
            ("authorization", "mine"),
        ]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
        headers.append("dapr-app-id", HeaderValue::from_static("again"));
        keep_callers_own(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["authorization"]);
    }

    #[tokio::test]
    async fn the_least_recently_used_channel_is_given_up() {
        let pool = Pool::new(&Environment::new(), 2).unwrap();
        for name in ["a", "b", "a", "c"] {
            pool.link(&service(name, 1)).unwrap();
        }
        let names: Vec<String> = pool.open.lock().links.keys().cloned().collect();
        assert!(
            names.contains(&"a".to_owned()) && names.contains(&"c".to_owned()),
            "{names:?}"
        );
        assert_eq!(
            pool.health().description,
            "2 of at most 2 channels, 1 given up for others"
        );
        // One that moved is connected anew; one that left is forgotten.
        pool.keep(&[Arc::new(service("a", 2)), Arc::new(service("c", 1))]);
        assert_eq!(pool.open.lock().links.keys().collect::<Vec<_>>(), ["c"]);
    }

    #[tokio::test]
    async fn what_cannot_be_called_says_why() {
        let pool = Pool::new(&Environment::new(), 2).unwrap();
        let status = pool.link(&service("a", 0)).unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        let mut secured = service("b", 1);
        secured.grpc.tls = Some(Tls {
            ca_file: Some("/nowhere/ca.pem".into()),
            ..Tls::default()
        });
        let status = pool.link(&secured).unwrap_err();
        assert!(status.message().contains("/nowhere/ca.pem"), "{status}");
    }
}
