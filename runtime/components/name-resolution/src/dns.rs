//! `nameresolution.dns`: sidecars found in the domain name system.
//!
//! Ours: Dapr has no such resolver. Properties, of `spec.nameResolution.configuration`:
//!
//! - `srv`: the name of SRV records, for example `_dapr._tcp.{appid}.{namespace}.example.org`; ports come from the
//!   records, of the records those with the best priority count;
//! - `host`: the name of A and AAAA records instead, for example `{appid}-dapr.{namespace}.svc.cluster.local`;
//! - `port`: the sidecars' internal port with `host`; unset, the asking sidecar's own;
//! - `servers`: name servers as `ip` or `ip:port`, by commas, in place of the system's;
//! - `timeout`: how long a question may take (5 s).
//!
//! Names are taken as they are: no search domain is appended.

use std::{net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};
use outrigger_component::{Error, ErrorKind, Open, Properties, Registration, Spec, open_with};
use outrigger_name_resolution::{Addresses, DynResolver, Instance, Resolver, Target};

/// How `nameresolution.dns` is built.
pub const DNS: Registration<dyn DynResolver> = Registration {
    type_names: &["nameresolution.dns"],
    versions: &["v1"],
    validate,
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// More addresses of one app are not used.
const MAX_ADDRESSES: usize = 256;

fn validate(spec: &Spec) -> Result<Open<dyn DynResolver>, Error> {
    let config = Config::parse(&spec.properties)?;
    Ok(open_with(async move |_host| {
        Ok(Arc::new(Dns::open(config)?) as Arc<dyn DynResolver>)
    }))
}

#[derive(Debug, Clone)]
enum Question {
    Srv(String),
    Host { name: String, port: Option<u16> },
}

#[derive(Debug, Clone)]
struct Config {
    question: Question,
    servers: Vec<SocketAddr>,
    timeout: Duration,
}

impl Config {
    fn parse(properties: &Properties) -> Result<Self, Error> {
        let port = properties.number::<u16>("port")?;
        let question = match (properties.non_empty("srv"), properties.non_empty("host")) {
            (Some(srv), None) if port.is_none() => Question::Srv(template("srv", srv)?),
            (None, Some(host)) => Question::Host {
                name: template("host", host)?,
                port,
            },
            (Some(_), None) => {
                return Err(Error::configuration(
                    "port has no meaning with srv: the records have it",
                ));
            }
            _ => return Err(Error::configuration("either srv or host must be set")),
        };
        let servers = properties
            .get("servers")
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty())
            .map(|server| {
                server
                    .parse::<SocketAddr>()
                    .or_else(|_| server.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
                    .map_err(|_| Error::configuration(format!("servers: {server:?} is not an address")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            question,
            servers,
            timeout: properties.duration("timeout")?.unwrap_or(TIMEOUT),
        })
    }
}

/// A name with a place for the app id, made absolute.
fn template(property: &str, text: &str) -> Result<String, Error> {
    if !text.contains("{appid}") {
        return Err(Error::configuration(format!(
            "{property} must contain {{appid}} placeholder"
        )));
    }
    Ok(format!("{}.", text.trim_end_matches('.')))
}

/// The resolver. Answers are kept as long as their records say; nobody is announced.
#[derive(Debug)]
pub struct Dns {
    config: Config,
    resolver: TokioResolver,
}

impl Dns {
    fn open(config: Config) -> Result<Self, Error> {
        let failed = |error: NetError| Error::unavailable("cannot set up name resolution").with_source(error);
        let mut builder = if config.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(failed)?
        } else {
            let servers = config
                .servers
                .iter()
                .map(|server| {
                    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                        .into_iter()
                        .map(|mut connection| {
                            connection.port = server.port();
                            connection
                        })
                        .collect();
                    NameServerConfig::new(server.ip(), true, connections)
                })
                .collect();
            TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), servers),
                TokioRuntimeProvider::default(),
            )
        };
        builder.options_mut().timeout = config.timeout;
        // The deadline around a whole answer is this resolver's own.
        builder.options_mut().attempts = 2;
        let resolver = builder.build().map_err(failed)?;
        Ok(Self { config, resolver })
    }

    async fn ask(&self, target: &Target) -> Result<Addresses, NetError> {
        match &self.config.question {
            Question::Host { name, port } => {
                let port = port.unwrap_or(target.port);
                Ok(self
                    .ips(&fill(name, target))
                    .await?
                    .map(|ip| address(ip, port))
                    .collect())
            }
            Question::Srv(name) => {
                let found = self.resolver.lookup(fill(name, target), RecordType::SRV).await?;
                let mut records: Vec<_> = found
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        RData::SRV(srv) => Some(srv),
                        _ => None,
                    })
                    .collect();
                let best = records.iter().map(|srv| srv.priority).min();
                records.retain(|srv| Some(srv.priority) == best);
                let mut addresses = Vec::new();
                for srv in records.into_iter().take(MAX_ADDRESSES) {
                    match self.ips(&srv.target.to_utf8()).await {
                        Ok(ips) => addresses.extend(ips.map(|ip| address(ip, srv.port))),
                        Err(error) => {
                            tracing::debug!(target = %srv.target, %error, "a target of an SRV record has no address")
                        }
                    }
                }
                Ok(addresses)
            }
        }
    }

    async fn ips(&self, name: &str) -> Result<impl Iterator<Item = IpAddr> + use<>, NetError> {
        let found: Vec<_> = self.resolver.lookup_ip(name).await?.iter().collect();
        Ok(found.into_iter())
    }
}

fn fill(name: &str, target: &Target) -> String {
    name.replace("{appid}", target.app_id.as_str())
        .replace("{namespace}", target.namespace.as_str())
}

fn address(ip: IpAddr, port: u16) -> String {
    SocketAddr::new(ip, port).to_string()
}

/// Whether a text is one label of a name: an app id with a dot or worse in it would be another name.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Resolver for Dns {
    async fn register(&self, _instance: Instance) -> Result<(), Error> {
        Ok(())
    }

    async fn resolve(&self, target: &Target) -> Result<Addresses, Error> {
        let id = target.app_id.as_str();
        if !is_label(id) || !is_label(target.namespace.as_str()) {
            return Err(Error::invalid(format!(
                "app id {id:?} cannot be a name in the DNS"
            )));
        }
        let nobody = || Error::new(ErrorKind::NotFound, format!("couldn't find service: {id}"));
        let answered = tokio::time::timeout(self.config.timeout, self.ask(target))
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, format!("no answer about service: {id}")))?;
        match answered {
            Ok(mut addresses) if !addresses.is_empty() => {
                addresses.truncate(MAX_ADDRESSES);
                Ok(addresses)
            }
            Ok(_) => Err(nobody()),
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => Err(nobody()),
            Err(error) => Err(Error::unavailable(format!("cannot look up service: {id}")).with_source(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use outrigger_component::Host;
    use tokio::net::UdpSocket;

    use super::*;

    /// The record data of one answer.
    enum Data {
        A([u8; 4]),
        Srv(u16, u16, &'static str),
    }

    /// The wire's form of a name.
    fn labels(name: &str) -> Vec<u8> {
        let mut wire: Vec<u8> = name
            .trim_end_matches('.')
            .split('.')
            .flat_map(|label| {
                let mut part = vec![u8::try_from(label.len()).unwrap()];
                part.extend_from_slice(label.as_bytes());
                part
            })
            .collect();
        wire.push(0);
        wire
    }

    /// What the server knows, by name and type.
    fn zone(name: &str, kind: u16) -> Vec<Data> {
        match (name, kind) {
            ("_dapr._tcp.orders.shop.test", 33) => vec![
                Data::Srv(10, 7001, "one.test"),
                Data::Srv(20, 7009, "late.test"),
                Data::Srv(10, 7002, "two.test"),
                Data::Srv(10, 7003, "gone.test"),
            ],
            ("one.test", 1) => vec![Data::A([10, 0, 0, 1]), Data::A([10, 0, 0, 2])],
            ("two.test", 1) => vec![Data::A([10, 0, 0, 3])],
            ("late.test", 1) => vec![Data::A([10, 0, 0, 9])],
            ("orders-dapr.shop.test", 1) => vec![Data::A([10, 1, 0, 1])],
            _ => Vec::new(),
        }
    }

    fn answer(question: &[u8]) -> Vec<u8> {
        let mut name = Vec::new();
        let mut at = 12;
        while question[at] != 0 {
            let length = usize::from(question[at]);
            name.push(String::from_utf8(question[at + 1..=at + length].to_vec()).unwrap());
            at += length + 1;
        }
        let name = name.join(".").to_ascii_lowercase();
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let records = zone(&name, kind);
        let known = !name.starts_with("nobody");
        let mut wire = question[..2].to_vec();
        wire.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0]);
        wire.push(u8::try_from(records.len()).unwrap());
        wire.extend([0, 0, 0, 0]);
        wire.extend_from_slice(&question[12..at + 5]);
        for record in records {
            let data = match &record {
                Data::A(ip) => ip.to_vec(),
                Data::Srv(priority, port, target) => {
                    let mut data = priority.to_be_bytes().to_vec();
                    data.extend([0, 1]);
                    data.extend(port.to_be_bytes());
                    data.extend(labels(target));
                    data
                }
            };
            wire.extend([0xc0, 12]);
            wire.extend(kind.to_be_bytes());
            wire.extend([0, 1, 0, 0, 0, 60]);
            wire.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            wire.extend(data);
        }
        wire
    }

    /// A name server on a port of its own.
    async fn server() -> String {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&answer(&buffer[..length]), from).await;
            }
        });
        address
    }

    async fn open(pairs: &[(&str, &str)]) -> Result<Arc<dyn DynResolver>, Error> {
        let spec = Spec {
            name: "dns".into(),
            type_name: "nameresolution.dns".into(),
            version: "v1".into(),
            properties: Properties::from_pairs(pairs.iter().copied()),
        };
        (DNS.validate)(&spec)?.run(Host::new("app", "/")).await
    }

    fn target(app_id: &str) -> Target {
        Target {
            app_id: app_id.into(),
            namespace: "shop".into(),
            port: 50002,
        }
    }

    #[tokio::test]
    async fn srv_records_of_the_best_priority_are_used() {
        let servers = server().await;
        let resolver = open(&[
            ("srv", "_dapr._tcp.{appid}.{namespace}.test"),
            ("servers", &servers),
        ])
        .await
        .unwrap();
        let mut found = resolver.resolve(&target("orders")).await.unwrap();
        found.sort();
        assert_eq!(found, ["10.0.0.1:7001", "10.0.0.2:7001", "10.0.0.3:7002"]);
        for nobody in ["nobody", "others"] {
            let error = resolver.resolve(&target(nobody)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{nobody}: {}", error.chain());
        }
    }

    #[tokio::test]
    async fn a_host_has_the_callers_port_unless_told() {
        let servers = server().await;
        let host = ("host", "{appid}-dapr.{namespace}.test.");
        for (port, expected) in [("", "10.1.0.1:50002"), ("3501", "10.1.0.1:3501")] {
            let resolver = open(&[host, ("port", port), ("servers", &servers)])
                .await
                .unwrap();
            assert_eq!(resolver.resolve(&target("orders")).await.unwrap(), [expected]);
        }
    }

    #[tokio::test]
    async fn an_app_id_cannot_become_another_name() {
        let resolver = open(&[("host", "{appid}.test"), ("servers", "127.0.0.1:1")])
            .await
            .unwrap();
        let long = "x".repeat(64);
        for id in ["", "a.b", "a b", "*", "a/b", &long] {
            let error = resolver.resolve(&target(id)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{id}");
        }
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let servers = socket.local_addr().unwrap().to_string();
        let resolver = open(&[
            ("host", "{appid}.test"),
            ("servers", &servers),
            ("timeout", "100ms"),
        ])
        .await
        .unwrap();
        let error = resolver.resolve(&target("orders")).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable),
            "{}",
            error.chain()
        );
    }

    #[tokio::test]
    async fn wrong_configurations_are_said_at_the_start() {
        for pairs in [
            vec![],
            vec![("srv", "{appid}.a"), ("host", "{appid}.b")],
            vec![("srv", "same.for.all")],
            vec![("srv", "{appid}.a"), ("port", "1")],
            vec![("host", "{appid}.a"), ("port", "70000")],
            vec![("host", "{appid}.a"), ("servers", "ns.example")],
            vec![("host", "{appid}.a"), ("timeout", "soon")],
        ] {
            let error = open(&pairs).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{pairs:?}");
        }
    }
}
