//! From a target to where it is: names kept for a moment, addresses taken in turn (rows A1.1, A1.6).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use outrigger_name_resolution::Target;
use outrigger_types::{AppId, Namespace};
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::{
    external::External,
    peers::{Peer, PeerName},
    service::InvocationService,
    status::InvokeError,
    target::{is_url, split_app_id},
};

/// How long an answer of the resolver is used. Short, so that instances that come and go are noticed; resolvers
/// with slow sources keep caches of their own.
const FRESH: Duration = Duration::from_secs(1);
/// Most targets remembered at a time; beyond, all are forgotten.
const MAX_TARGETS: usize = 4096;
/// Upstream asks a resolver without an answer this many times more.
const EMPTY_RETRIES: usize = 5;
const EMPTY_PAUSE: Duration = Duration::from_millis(100);
/// Most other instances that are asked at once for one that is gone; then the retries have their turn.
const FAILOVERS: usize = 3;
/// How long looking for them may take in all. A resolver that has to search is for the retries to wait for, and so is a
/// host that does not even refuse.
const FAILOVER_TIME: Duration = Duration::from_secs(1);
const FAILOVER_LOOKUP: Duration = Duration::from_millis(100);

/// Where a target is.
#[derive(Debug)]
pub(crate) enum Destination {
    /// The sidecar's own app.
    Local,
    /// An address outside Dapr.
    External(Arc<External>),
    /// Another sidecar.
    Remote(Remote),
}

/// An app behind other sidecars.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) target: Target,
    peers: Vec<Arc<Peer>>,
    next: AtomicUsize,
}

impl Remote {
    /// The next instance in turn.
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        let index = match self.peers.len() {
            1 => 0,
            len => self.next.fetch_add(1, Relaxed) % len,
        };
        &self.peers[index]
    }

    /// The next instance in turn that is none of these.
    fn peer_besides(&self, gone: &[Arc<Peer>]) -> Option<&Arc<Peer>> {
        let start = self.next.fetch_add(1, Relaxed);
        (0..self.peers.len())
            .map(|step| &self.peers[start.wrapping_add(step) % self.peers.len()])
            .find(|peer| gone.iter().all(|gone| gone.address() != peer.address()))
    }
}

/// Instances that one request did not reach.
#[derive(Debug)]
pub(crate) struct Gone {
    peers: Vec<Arc<Peer>>,
    begun: Instant,
}

impl Default for Gone {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            begun: Instant::now(),
        }
    }
}

impl Destination {
    /// The app id within a target, or the target itself.
    pub(crate) fn app_id<'a>(&'a self, target: &'a str) -> &'a str {
        match self {
            Self::Remote(remote) => remote.target.app_id.as_str(),
            Self::Local | Self::External(_) => target,
        }
    }
}

#[derive(Debug, Clone)]
struct Known {
    destination: Arc<Destination>,
    until: Instant,
}

/// Targets resolved lately, by the text that callers write.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    known: RwLock<HashMap<Box<str>, Known>>,
    /// Where the next list of addresses is entered, so that a fresh list does not start at its head again.
    turn: AtomicUsize,
}

impl Destinations {
    fn get(&self, target: &str) -> Option<Arc<Destination>> {
        let known = self.known.read();
        let known = known.get(target)?;
        (Instant::now() < known.until).then(|| Arc::clone(&known.destination))
    }

    fn put(&self, target: &str, destination: &Arc<Destination>) {
        let mut known = self.known.write();
        if known.len() >= MAX_TARGETS && !known.contains_key(target) {
            known.clear();
        }
        let until = Instant::now() + FRESH;
        known.insert(
            target.into(),
            Known {
                destination: Arc::clone(destination),
                until,
            },
        );
    }

    /// Resolves the target anew next time.
    pub(crate) fn forget(&self, target: &str) {
        self.known.write().remove(target);
    }
}

impl InvocationService {
    /// Finds a target.
    pub(crate) async fn destination(&self, target: &str) -> Result<Arc<Destination>, InvokeError> {
        if let Some(endpoint) = self.options.http_endpoints.get(target) {
            return Ok(Arc::new(Destination::External(endpoint)));
        }
        if let Some(known) = self.destinations.get(target) {
            return Ok(known);
        }
        if is_url(target) {
            let endpoint = self.options.http_endpoints.url(target)?;
            let destination = Arc::new(Destination::External(endpoint));
            self.destinations.put(target, &destination);
            return Ok(destination);
        }
        let (id, namespace) = split_app_id(target).map_err(InvokeError::plain)?;
        let own = &self.options;
        if id == own.app_id.as_str() && namespace.is_none_or(|namespace| namespace == own.namespace.as_str())
        {
            let destination = Arc::new(Destination::Local);
            self.destinations.put(target, &destination);
            return Ok(destination);
        }
        let namespace = namespace.map_or_else(|| own.namespace.clone(), Namespace::from);
        let remote = self
            .resolve(Target {
                app_id: AppId::from(id),
                namespace,
                port: own.internal_port,
            })
            .await?;
        let destination = Arc::new(Destination::Remote(remote));
        self.destinations.put(target, &destination);
        Ok(destination)
    }

    async fn resolve(&self, target: Target) -> Result<Remote, InvokeError> {
        let Some(resolver) = &self.options.resolver else {
            return Err(InvokeError::plain("name resolver not initialized"));
        };
        let mut left = EMPTY_RETRIES;
        let addresses = loop {
            let addresses = resolver
                .resolve(&target)
                .await
                .map_err(|error| InvokeError::plain(error.to_string()))?;
            if !addresses.is_empty() {
                break addresses;
            }
            if left == 0 {
                return Err(InvokeError::plain(format!(
                    "resolver returned empty address for app id {}/{}",
                    target.namespace, target.app_id
                )));
            }
            left -= 1;
            tokio::time::sleep(EMPTY_PAUSE).await;
        };
        let peers = addresses
            .iter()
            .map(|address| {
                self.peers.get(PeerName {
                    address,
                    app_id: &target.app_id,
                    namespace: &target.namespace,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let turn = self.destinations.turn.fetch_add(1, Relaxed);
        Ok(Remote {
            target,
            peers,
            next: AtomicUsize::new(turn),
        })
    }

    /// Another instance for a request of which nothing reached `peer`.
    ///
    /// An instance that leaves withdraws its name before it lets go of its port, but is remembered here for a moment
    /// longer: names are looked up anew, and no retry is spent (A1.6; upstream waits a second and spends one).
    pub(crate) async fn elsewhere(
        &self,
        target: &str,
        peer: &Arc<Peer>,
        gone: &mut Gone,
    ) -> Option<Arc<Peer>> {
        self.destinations.forget(target);
        gone.peers.push(Arc::clone(peer));
        if gone.peers.len() > FAILOVERS || gone.begun.elapsed() > FAILOVER_TIME {
            return None;
        }
        let found = tokio::time::timeout(FAILOVER_LOOKUP, self.destination(target))
            .await
            .ok()?
            .ok()?;
        match &*found {
            Destination::Remote(remote) => remote.peer_besides(&gone.peers).cloned(),
            Destination::Local | Destination::External(_) => None,
        }
    }

    /// Tells the resolver that a peer did not answer.
    pub(crate) fn report_failure(&self, remote: &Remote, peer: &Peer) {
        peer.destroy();
        if let Some(resolver) = &self.options.resolver {
            resolver.report_failure(&remote.target, peer.address());
        }
    }
}
