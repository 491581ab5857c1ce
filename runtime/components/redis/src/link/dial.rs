//! Opening connections to a node, a master that Sentinel names, or a cluster.

use std::{fmt, io, sync::Arc, time::Duration};

use outrigger_batching::{Crowd, after_others};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisError, RedisResult, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder, ClusterConfig},
    cluster_async::ClusterConnection,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
    io::tcp::{
        TcpSettings,
        socket2::{SockRef, TcpKeepalive},
    },
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::{net::TcpStream, sync::Mutex};

use crate::{
    certificates::{address, certificates, mode},
    settings::Settings,
};

/// A quiet connection is probed after this long, so that a vanished server is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// What the answer to a read may take beyond the time the read itself may block.
const BLOCK_MARGIN: Duration = Duration::from_secs(3);

/// Knows where the servers are and how to sign in.
#[derive(Clone)]
pub(crate) enum Dialer {
    Node(Box<Client>),
    Sentinel(Arc<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node(_) => "Node",
            Self::Sentinel(_) => "Sentinel",
            Self::Cluster(_) => "Cluster",
        })
    }
}

/// An open connection; clones share it.
#[derive(Clone)]
pub(crate) enum Connection {
    Node(MultiplexedConnection, Crowd),
    Cluster(ClusterConnection, Crowd),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// A node of a cluster by its address; `None` for the one server there is.
pub(crate) type Place = Option<(String, u16)>;

/// Time ran out before there was a connection.
pub(super) fn timed_out() -> RedisError {
    RedisError::from(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"))
}

fn tcp() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
}

fn sign_in(settings: &Settings) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_db(settings.database)
        .set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        info = info.set_username(username);
    }
    if let Some(password) = &settings.password {
        info = info.set_password(password.expose());
    }
    info
}

fn infos(settings: &Settings) -> RedisResult<Vec<ConnectionInfo>> {
    let each = settings.hosts.iter().map(|(host, port)| {
        Ok(address(host, *port, settings.tls.as_ref())
            .into_connection_info()?
            .set_tcp_settings(tcp())
            .set_redis_settings(sign_in(settings)))
    });
    each.collect()
}

fn client(info: ConnectionInfo, settings: &Settings) -> RedisResult<Client> {
    match &settings.tls {
        None => Client::open(info),
        Some(tls) => Client::build_with_tls(info, certificates(tls)),
    }
}

fn sentinel(settings: &Settings, master: &crate::settings::Sentinel) -> RedisResult<SentinelClient> {
    // Upstream speaks TLS to the sentinels too when it does to the servers.
    let addresses = settings
        .hosts
        .iter()
        .map(|(host, port)| address(host, *port, settings.tls.as_ref()));
    let mut builder =
        SentinelClientBuilder::new(addresses, master.master.clone(), SentinelServerType::Master)?
            .set_client_to_redis_db(settings.database)
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(username) = &settings.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &settings.password {
        builder = builder.set_client_to_redis_password(password.expose());
    }
    if let Some(username) = &master.username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &master.password {
        builder = builder.set_client_to_sentinel_password(password.expose());
    }
    if let Some(tls) = &settings.tls {
        builder = builder
            .set_client_to_redis_tls_mode(mode(tls))
            .set_client_to_sentinel_tls_mode(mode(tls))
            .set_client_to_redis_certificates(certificates(tls))
            .set_client_to_sentinel_certificates(certificates(tls));
    }
    builder.build()
}

fn cluster(settings: &Settings) -> RedisResult<ClusterClient> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut builder: ClusterClientBuilder = ClusterClient::builder(infos(settings)?)
        .retries(settings.retries.times)
        .min_retry_wait(milliseconds(settings.retries.least).max(1))
        .max_retry_wait(milliseconds(settings.retries.longest).max(1))
        .connection_timeout(settings.dial_timeout)
        .tcp_settings(tcp());
    if let Some(username) = &settings.username {
        builder = builder.username(username);
    }
    if let Some(password) = &settings.password {
        builder = builder.password(password.expose());
    }
    if let Some(tls) = &settings.tls {
        builder = builder.tls(mode(tls)).certs(certificates(tls));
    }
    builder.build()
}

/// Opens a connection whose commands go out together with those that other callers have at that moment.
async fn connect(client: &Client, config: AsyncConnectionConfig) -> RedisResult<Connection> {
    let crowd = Crowd::default();
    let info = client.get_connection_info();
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        // The library keeps the task of what it encrypts to itself.
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        return Ok(Connection::Node(connection, crowd));
    };
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    let (connection, driver) =
        MultiplexedConnection::new_with_config(info.redis_settings(), stream, config).await?;
    tokio::spawn(after_others(crowd.clone(), driver));
    Ok(Connection::Node(connection, crowd))
}

impl Dialer {
    pub(crate) fn new(settings: &Settings) -> RedisResult<Self> {
        // Upstream's cluster client over Sentinel talks to the master and its replicas, not to a cluster.
        if let Some(master) = &settings.sentinel {
            return Ok(Self::Sentinel(Arc::new(Mutex::new(sentinel(settings, master)?))));
        }
        if settings.is_cluster {
            return Ok(Self::Cluster(Box::new(cluster(settings)?)));
        }
        // go-redis' plain client takes the text as one address.
        let mut infos = infos(settings)?;
        if infos.len() != 1 {
            return Err(RedisError::from((
                redis::ErrorKind::InvalidClientConfig,
                "several hosts need redisType cluster or failover",
            )));
        }
        Ok(Self::Node(Box::new(client(infos.remove(0), settings)?)))
    }

    /// Opens a connection. `block` is how long one of its commands may block on the server.
    pub(super) async fn dial(&self, settings: &Settings, block: Duration) -> RedisResult<Connection> {
        let response = if block.is_zero() {
            settings.response_timeout
        } else {
            Some(block + BLOCK_MARGIN)
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.dial_timeout))
            .set_response_timeout(response);
        let opened = async {
            match self {
                Self::Node(client) => connect(client, config).await,
                Self::Sentinel(client) => {
                    let client = client.lock().await.async_get_client().await?;
                    connect(&client, config).await
                }
                Self::Cluster(client) => {
                    let mut config = ClusterConfig::new().set_connection_timeout(settings.dial_timeout);
                    if let Some(response) = response {
                        config = config.set_response_timeout(response);
                    }
                    client
                        .get_async_connection_with_config(config)
                        .await
                        .map(|connection| Connection::Cluster(connection, Crowd::default()))
                }
            }
        };
        // The library's own limit does not cover the sentinels and the cluster's map.
        match tokio::time::timeout(settings.dial_timeout.saturating_mul(2), opened).await {
            Ok(connection) => connection,
            Err(_) => Err(timed_out()),
        }
    }

    /// One listener per node whose keys matter: events stay on the node that has the key.
    pub(super) async fn listeners(&self, settings: &Settings) -> RedisResult<Vec<redis::aio::PubSub>> {
        match self {
            Self::Node(client) => Ok(vec![client.get_async_pubsub().await?]),
            Self::Sentinel(sentinel) => {
                let client = sentinel.lock().await.async_get_client().await?;
                Ok(vec![client.get_async_pubsub().await?])
            }
            Self::Cluster(cluster) => {
                let mut connection = cluster.get_async_connection().await?;
                let mut listeners = Vec::new();
                for (host, port) in primaries(&mut connection).await? {
                    let info = address(&host, port, settings.tls.as_ref())
                        .into_connection_info()?
                        .set_tcp_settings(tcp())
                        .set_redis_settings(sign_in(settings).set_db(0));
                    listeners.push(client(info, settings)?.get_async_pubsub().await?);
                }
                Ok(listeners)
            }
        }
    }
}

/// The addresses of the cluster's primaries: `CLUSTER SLOTS` answers ranges as `[from, to, [host, port, …], …]`.
async fn primaries(connection: &mut ClusterConnection) -> RedisResult<Vec<(String, u16)>> {
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    let answer = connection.req_packed_command(&slots).await?;
    let mut nodes = Vec::new();
    for range in answer.as_sequence().unwrap_or_default() {
        let primary = range.as_sequence().and_then(|parts| parts.get(2));
        let Some([Value::BulkString(host), Value::Int(port), ..]) = primary.and_then(Value::as_sequence)
        else {
            continue;
        };
        let node = (
            String::from_utf8_lossy(host).into_owned(),
            u16::try_from(*port).unwrap_or_default(),
        );
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok(nodes)
}

impl Connection {
    /// Whether both are clones of one.
    pub(super) fn is(&self, other: &Self) -> bool {
        let (Self::Node(_, this) | Self::Cluster(_, this)) = self;
        let (Self::Node(_, that) | Self::Cluster(_, that)) = other;
        this.is(that)
    }

    pub(crate) async fn command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Node(connection, crowd) => {
                let _member = crowd.join();
                connection.req_packed_command(command).await?
            }
            Self::Cluster(connection, _) => connection.req_packed_command(command).await?,
        };
        answer.extract_error()
    }

    pub(crate) async fn pipeline(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Self::Node(connection, crowd) => {
                let _member = crowd.join();
                connection.req_packed_commands(commands, 0, commands.len()).await
            }
            Self::Cluster(connection, _) => connection.req_packed_commands(commands, 0, commands.len()).await,
        }
    }

    /// The primaries of a cluster; one unnamed place otherwise.
    pub(crate) async fn places(&mut self) -> RedisResult<Vec<Place>> {
        match self {
            Self::Node(..) => Ok(vec![None]),
            Self::Cluster(connection, _) => Ok(primaries(connection).await?.into_iter().map(Some).collect()),
        }
    }

    /// Sends a command to one of the places.
    pub(crate) async fn command_at(&mut self, place: &Place, command: &Cmd) -> RedisResult<Value> {
        match (self, place) {
            (Self::Cluster(connection, _), Some((host, port))) => {
                let to = SingleNodeRoutingInfo::ByAddress {
                    host: host.clone(),
                    port: *port,
                };
                let routing = RoutingInfo::SingleNode(to);
                connection
                    .route_command(command.clone(), routing)
                    .await?
                    .extract_error()
            }
            (this, _) => this.command(command).await,
        }
    }
}
