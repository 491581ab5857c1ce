//! The mDNS resolver: a responder and a browser that interoperate with Dapr's (A1.1, wire.md §5).
//!
//! Behaviour follows `components-contrib/nameresolution/mdns` and the zeroconf library it uses: one second of
//! browsing, addresses believed for 60 s and refreshed every 30 s, namespaces ignored, IPv4 preferred. Better than
//! there: a goodbye removes an address at once, an answer to one query feeds every waiter, and one set of sockets
//! serves both sides for the life of the resolver.

mod cache;
mod link;
mod message;

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use hickory_proto::op::{Message, MessageType, OpCode};
use outrigger_component::{Error, ErrorKind};
use outrigger_name_resolution::{Addresses, Instance, Resolver, Target};
use outrigger_types::AppId;
use parking_lot::Mutex;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use self::{
    cache::Cache,
    link::{Family, Link, Place},
    message::Service,
};

/// How long a resolve waits for the first answer (peer: `browseOneTimeout`).
const BROWSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between refreshes of all wanted apps (peer: `refreshInterval`).
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Time between the two announcements (RFC 6762 §8.3).
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);
/// Least time between two looks at the host's interfaces.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// Largest message (RFC 6762 §17).
const MESSAGE_LIMIT: usize = 9000;
/// Questions in one refresh message; with names of 70 bytes it fits an Ethernet frame.
const QUESTIONS_PER_MESSAGE: usize = 16;
/// Most responses per interface and second, against reflected storms.
const RESPONSES_PER_SECOND: u32 = 500;

/// How mDNS is to be spoken.
#[derive(Debug, Clone)]
pub struct MdnsOptions {
    /// The host's name, without `.local`. Instances are announced as `<hostname>:<instance id>`; Dapr's form wants
    /// the process id as [`Instance::instance_id`].
    pub hostname: String,
    /// Names of the interfaces to use; empty means every one that does multicast, or loopback when there is none.
    pub interfaces: Vec<String>,
}

impl MdnsOptions {
    /// The defaults for a host.
    #[must_use]
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            interfaces: Vec::new(),
        }
    }
}

/// An mDNS responder and browser.
pub struct Mdns {
    shared: Arc<Shared>,
    refresher: AbortHandle,
}

/// What the resolver's tasks work on. Locks are taken in the order network, services, cache.
struct Shared {
    options: MdnsOptions,
    cache: Mutex<Cache>,
    services: Mutex<Vec<Service>>,
    network: Mutex<Network>,
}

/// The open sockets, each with its reading task.
#[derive(Default)]
struct Network {
    links: HashMap<Place, (Arc<Link>, AbortHandle)>,
    scanned: Option<Instant>,
    closed: bool,
}

impl Mdns {
    /// Opens the sockets and starts listening; needs a tokio runtime.
    ///
    /// # Errors
    /// `Unavailable` when no interface can do multicast.
    pub fn open(options: MdnsOptions) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            options,
            cache: Mutex::default(),
            services: Mutex::default(),
            network: Mutex::default(),
        });
        shared.scan(true).map_err(|error| {
            Error::unavailable("no network interface can do multicast DNS").with_source(error)
        })?;
        let refresher = tokio::spawn(refresh(Arc::downgrade(&shared))).abort_handle();
        Ok(Self { shared, refresher })
    }

    /// Says goodbye and lets go of the sockets. Works once.
    fn shut(&self) {
        self.refresher.abort();
        let services = std::mem::take(&mut *self.shared.services.lock());
        services
            .iter()
            .for_each(|service| self.shared.broadcast(&service.goodbye()));
        let mut network = self.shared.network.lock();
        network.closed = true;
        for (_, (_, reader)) in network.links.drain() {
            reader.abort();
        }
    }
}

impl Drop for Mdns {
    fn drop(&mut self) {
        self.shut();
    }
}

impl fmt::Debug for Mdns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mdns")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Resolver for Mdns {
    async fn register(&self, instance: Instance) -> Result<(), Error> {
        if self.shared.network.lock().closed {
            return Err(Error::new(ErrorKind::Closed, "the mDNS resolver is closed"));
        }
        let service = Service::new(&self.shared.options.hostname, &instance)?;
        {
            let mut services = self.shared.services.lock();
            if services.iter().any(|known| known.same_instance(&service)) {
                return Err(Error::configuration("this instance is already announced by mDNS")
                    .with_context("app_id", instance.app_id.as_str()));
            }
            services.push(service.clone());
        }
        self.shared.announce(&service);
        tracing::info!(app_id = %service.app_id, address = %service.address, "announced by mDNS");
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            sleep(ANNOUNCE_PAUSE).await;
            let Some(shared) = shared.upgrade() else { return };
            let still = shared
                .services
                .lock()
                .iter()
                .any(|known| known.same_instance(&service));
            if still {
                shared.announce(&service);
            }
        });
        Ok(())
    }

    async fn resolve(&self, target: &Target) -> Result<Addresses, Error> {
        let shared = &self.shared;
        let app_id = &target.app_id;
        if !message::is_askable(app_id) {
            return Err(not_found(app_id));
        }
        let started = Instant::now();
        let deadline = started + BROWSE_TIMEOUT;
        let mut scanned = false;
        loop {
            let now = Instant::now();
            let changed = shared.cache.lock().want(app_id, now);
            // Listening starts before the look, so that nothing told in between is missed.
            let mut heard = std::pin::pin!(changed.notified());
            heard.as_mut().enable();
            let addresses = shared.addresses(app_id, now);
            if !addresses.is_empty() {
                // Our own instance answers at once, but others of the app may live elsewhere.
                let first = shared.cache.lock().first_query(app_id, now);
                if first {
                    shared.query(std::slice::from_ref(app_id));
                }
                return Ok(addresses);
            }
            if now >= deadline {
                return Err(not_found(app_id));
            }
            if !scanned {
                scanned = true;
                shared
                    .scan(false)
                    .unwrap_or_else(|error| tracing::debug!(%error, "cannot list network interfaces"));
            }
            let next = {
                let mut cache = shared.cache.lock();
                let due = cache.next_query(app_id, now) <= now;
                if due {
                    cache.queried(app_id, now);
                }
                let next = cache.next_query(app_id, now);
                drop(cache);
                if due {
                    shared.query(std::slice::from_ref(app_id));
                }
                next
            };
            // Either something is heard or it is time to ask again; both lead to another look.
            let _ = timeout_at(next.min(deadline), heard).await;
        }
    }

    /// Forgets the address and asks again at once: a sidecar that lives answers and is back.
    fn report_failure(&self, target: &Target, address: &str) {
        let now = Instant::now();
        let known = {
            let mut cache = self.shared.cache.lock();
            let known = cache.forget(&target.app_id, address);
            if known {
                cache.queried(&target.app_id, now);
            }
            known
        };
        if known {
            self.shared.query(std::slice::from_ref(&target.app_id));
        }
    }

    async fn close(&self) -> Result<(), Error> {
        self.shut();
        Ok(())
    }
}

impl Shared {
    /// What is known now: our own instances first, then the network's.
    fn addresses(&self, app_id: &AppId, now: Instant) -> Addresses {
        let own = self
            .services
            .lock()
            .iter()
            .filter(|own| own.app_id == *app_id)
            .map(|own| own.address.to_string())
            .collect();
        let mut addresses: Addresses = own;
        for address in self.cache.lock().addresses(app_id, now) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.network
            .lock()
            .links
            .values()
            .map(|(link, _)| Arc::clone(link))
            .collect()
    }

    /// Sends on every link.
    fn broadcast(&self, message: &Message) {
        match message.to_vec() {
            Ok(datagram) => self.links().iter().for_each(|link| link.multicast(&datagram)),
            Err(error) => tracing::debug!(%error, "mDNS message cannot be encoded"),
        }
    }

    fn announce(&self, service: &Service) {
        self.broadcast(&service.announcement());
    }

    fn query(&self, app_ids: &[AppId]) {
        for app_ids in app_ids.chunks(QUESTIONS_PER_MESSAGE) {
            self.broadcast(&message::browse(app_ids));
        }
    }

    /// Follows the host's interfaces: opens sockets on new ones, drops those of vanished ones. Fails only if there
    /// is no socket at all.
    fn scan(self: &Arc<Self>, must: bool) -> io::Result<()> {
        let now = Instant::now();
        let mut network = self.network.lock();
        if network.closed
            || (!must
                && network
                    .scanned
                    .is_some_and(|scanned| now < scanned + SCAN_INTERVAL))
        {
            return Ok(());
        }
        network.scanned = Some(now);
        let places = link::places(&self.options.interfaces)?;
        network.links.retain(|place, (_, reader)| {
            let keep = places.contains(place) && !reader.is_finished();
            if !keep {
                reader.abort();
            }
            keep
        });
        let mut failure = None;
        for place in places {
            if network.links.contains_key(&place) {
                continue;
            }
            match Link::open(place.clone()) {
                Ok(link) => {
                    let link = Arc::new(link);
                    self.services
                        .lock()
                        .iter()
                        .for_each(|service| send(&link, &service.announcement(), None));
                    let reader = tokio::spawn(listen(Arc::downgrade(self), Arc::clone(&link))).abort_handle();
                    network.links.insert(place, (link, reader));
                }
                Err(error) => {
                    tracing::debug!(interface = %place.name, family = ?place.family, %error, "no mDNS on this interface");
                    failure = Some(error);
                }
            }
        }
        if network.links.is_empty() {
            return Err(failure
                .unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no multicast interface is up")));
        }
        Ok(())
    }

    /// Takes in one datagram. Whatever is malformed is ignored: anybody on the link can send anything.
    fn take(&self, link: &Link, datagram: &[u8], from: SocketAddr, limit: &mut RateLimit) {
        let Ok(message) = Message::from_vec(datagram) else {
            return;
        };
        if message.metadata.op_code != OpCode::Query {
            return;
        }
        match message.metadata.message_type {
            MessageType::Query => {
                // Browsers ask from the mDNS port and get multicast answers, even those who would take unicast:
                // on a shared port it would reach any one process of the host. Others are plain resolvers.
                let legacy = from.port() != link::PORT;
                let services = self.services.lock().clone();
                for answer in services
                    .iter()
                    .filter_map(|service| service.answer(&message, legacy))
                {
                    if !limit.admit() {
                        return;
                    }
                    send(link, &answer, legacy.then_some(from));
                }
            }
            // Responses from elsewhere are forged (RFC 6762 §6).
            MessageType::Response if from.port() == link::PORT => {
                let now = Instant::now();
                for mut sighting in message::sightings(&message) {
                    scope(&mut sighting, link);
                    self.cache.lock().hear(sighting, now);
                }
            }
            MessageType::Response => {}
        }
    }
}

/// A link-local IPv6 address means something only together with the interface it was heard on.
fn scope(sighting: &mut message::Sighting, link: &Link) {
    if let Some(SocketAddr::V6(address)) = &mut sighting.v6
        && address.ip().is_unicast_link_local()
        && link.place.family == Family::V6
    {
        address.set_scope_id(link.place.index.get());
    }
}

fn send(link: &Link, message: &Message, to: Option<SocketAddr>) {
    match (message.to_vec(), to) {
        (Ok(datagram), Some(to)) => link.unicast(&datagram, to),
        (Ok(datagram), None) => link.multicast(&datagram),
        (Err(error), _) => tracing::debug!(%error, "mDNS message cannot be encoded"),
    }
}

/// Reads one link until it fails; the next scan opens it anew.
async fn listen(shared: Weak<Shared>, link: Arc<Link>) {
    let mut buffer = vec![0; MESSAGE_LIMIT];
    let mut limit = RateLimit::default();
    loop {
        match link.receive(&mut buffer).await {
            Ok((length, from)) => {
                let Some(shared) = shared.upgrade() else { return };
                shared.take(&link, &buffer[..length], from, &mut limit);
            }
            Err(error) => {
                tracing::debug!(interface = %link.place.name, %error, "mDNS stops on this interface");
                return;
            }
        }
    }
}

/// Every 30 s: looks for new interfaces, forgets the stale, asks again for the wanted.
async fn refresh(shared: Weak<Shared>) {
    let mut next = Instant::now();
    loop {
        next += REFRESH_INTERVAL;
        sleep_until(next).await;
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = shared.scan(true) {
            tracing::debug!(%error, "no network interface can do multicast DNS now");
        }
        let now = Instant::now();
        let wanted = shared.cache.lock().sweep(now);
        shared.query(&wanted);
        next = next.max(now);
    }
}

fn not_found(app_id: &AppId) -> Error {
    // The peer's words; callers see them in the invocation error.
    Error::new(ErrorKind::NotFound, format!("couldn't find service: {app_id}"))
}

/// Counts responses per second.
#[derive(Debug, Default)]
struct RateLimit {
    since: Option<Instant>,
    sent: u32,
}

impl RateLimit {
    fn admit(&mut self) -> bool {
        let now = Instant::now();
        if self
            .since
            .is_none_or(|since| now >= since + Duration::from_secs(1))
        {
            self.since = Some(now);
            self.sent = 0;
        }
        self.sent += 1;
        self.sent <= RESPONSES_PER_SECOND
    }
}
