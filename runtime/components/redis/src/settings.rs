//! The metadata all Redis components share (components-contrib `common/component/redis/settings.go`).

use std::time::Duration;

use outrigger_component::{Error, Properties, SecretString};
use outrigger_types::GoDuration;

use crate::link::{Dialer, Retries};

/// More connections than this bring nothing: each carries any number of commands.
const MAX_CONNECTIONS: usize = 64;
/// The port where none is given.
const DEFAULT_PORT: u16 = 6379;

/// Which kind of component asks; the legacy defaults differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    State,
    PubSub,
    Configuration,
    Lock,
    Binding,
}

/// Checked metadata.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Servers, each with its port. The texts upstream prints: joined by commas.
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<SecretString>,
    pub(crate) database: i64,
    pub(crate) is_cluster: bool,
    pub(crate) sentinel: Option<Sentinel>,
    pub(crate) tls: Option<Tls>,
    pub(crate) dial_timeout: Duration,
    /// How long an answer may take; `None` for ever.
    pub(crate) response_timeout: Option<Duration>,
    pub(crate) retries: Retries,
    /// Connections that share the commands.
    pub(crate) connections: usize,
    /// Of these, how many are opened at the start.
    pub(crate) eager: usize,
    /// A connection older than this is replaced.
    pub(crate) max_age: Option<Duration>,
    /// A connection unused for this long is replaced before its next use: the server may have closed it.
    pub(crate) idle_timeout: Option<Duration>,
    /// How long a command may wait for a connection.
    pub(crate) pool_timeout: Duration,
}

/// How the master is found.
#[derive(Debug, Clone)]
pub(crate) struct Sentinel {
    pub(crate) master: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<SecretString>,
}

/// Encryption towards the servers.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) insecure: bool,
    /// Certificate chain and key in PEM.
    pub(crate) client: Option<(String, SecretString)>,
}

/// A duration as go-redis reads it: absent, switched off (negative) or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Absent,
    Off,
    Some(Duration),
}

impl Time {
    /// Zero and absent are the default, negative is nothing.
    fn or(self, default: Duration) -> Option<Duration> {
        match self {
            Self::Absent => Some(default),
            Self::Some(time) if time.is_zero() => Some(default),
            Self::Some(time) => Some(time),
            Self::Off => None,
        }
    }

    /// As [`Time::or`] without a default.
    fn given(self) -> Option<Duration> {
        match self {
            Self::Some(time) if !time.is_zero() => Some(time),
            _ => None,
        }
    }
}

impl Settings {
    /// Reads and checks; no I/O.
    pub(crate) fn parse(properties: &Properties, purpose: Purpose) -> Result<Self, Error> {
        Self::read(properties, purpose).map_err(|error| {
            Error::configuration(format!("redis client configuration error: {}", error.chain()))
        })
    }

    fn read(properties: &Properties, purpose: Purpose) -> Result<Self, Error> {
        for name in ["useEntraID", "useAzureAD", "useOIDC"] {
            if properties.truthy(name) {
                return Err(Error::configuration(format!(
                    "metadata field {name:?} is set, but signing in with tokens is not available: use \
                     redisUsername and redisPassword, or clientCert and clientKey"
                )));
            }
        }
        let hosts = hosts(properties)?;
        let response = time(properties, "readTimeout")?.or(Duration::from_secs(3));
        // go-redis waits this long for the write alone; here a command's time is one budget.
        let write = match time(properties, "writeTimeout")? {
            Time::Absent => response,
            given => given.or(Duration::from_secs(3)),
        };
        let response_timeout = response.zip(write).map(|(read, write)| read.max(write));
        let connections = count(properties, "poolSize")?.clamp(1, MAX_CONNECTIONS);
        // There are at most `poolSize` connections, so none is closed by a timer of its own.
        time(properties, "idleCheckFrequency")?;
        Ok(Self {
            hosts,
            username: text(properties, "redisUsername"),
            password: secret(properties, "redisPassword"),
            database: properties.number("redisDB")?.unwrap_or(0),
            is_cluster: properties.get("redisType") == Some("cluster"),
            sentinel: sentinel(properties)?,
            tls: tls(properties),
            dial_timeout: time(properties, "dialTimeout")?
                .or(Duration::from_secs(5))
                .unwrap_or(Duration::from_secs(5)),
            response_timeout,
            retries: retries(properties, purpose)?,
            connections,
            eager: count(properties, "minIdleConns")?.clamp(1, connections),
            max_age: time(properties, "maxConnAge")?.given(),
            idle_timeout: time(properties, "idleTimeout")?.or(Duration::from_secs(300)),
            pool_timeout: time(properties, "poolTimeout")?
                .given()
                .unwrap_or_else(|| response.unwrap_or(Duration::from_secs(3)) + Duration::from_secs(1)),
        })
    }

    /// The servers as upstream's errors name them.
    pub(crate) fn host(&self) -> String {
        let texts: Vec<_> = self
            .hosts
            .iter()
            .map(|(host, port)| {
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            })
            .collect();
        texts.join(",")
    }

    /// What opens connections; certificates are read here.
    pub(crate) fn dialer(&self) -> Result<Dialer, Error> {
        Dialer::new(self)
            .map_err(|error| Error::configuration(format!("redis client configuration error: {error}")))
    }
}

fn text(properties: &Properties, name: &str) -> Option<String> {
    properties.non_empty(name).map(str::to_owned)
}

fn secret(properties: &Properties, name: &str) -> Option<SecretString> {
    properties.non_empty(name).map(SecretString::from)
}

fn count(properties: &Properties, name: &str) -> Result<usize, Error> {
    // go-redis takes a negative size for none given.
    Ok(properties
        .number::<i64>(name)?
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(0))
}

/// Integers are milliseconds, anything else is Go's syntax (`Duration.DecodeString`).
fn time(properties: &Properties, name: &str) -> Result<Time, Error> {
    let Some(value) = properties.non_empty(name) else {
        return Ok(Time::Absent);
    };
    let parsed = GoDuration::parse_millis_or_go(value)
        .map_err(|error| Error::configuration(format!("metadata field {name:?}: {error}")))?;
    Ok(parsed.to_std().map_or(Time::Off, Time::Some))
}

/// Times of pub/sub, where a bare number means milliseconds too; zero switches off.
pub(crate) fn milliseconds(
    properties: &Properties,
    name: &str,
    default: Duration,
) -> Result<Duration, Error> {
    Ok(match time(properties, name)? {
        Time::Absent => default,
        Time::Off => Duration::ZERO,
        Time::Some(time) => time,
    })
}

fn hosts(properties: &Properties) -> Result<Vec<(String, u16)>, Error> {
    let given = properties.get("redisHost").unwrap_or_default().trim();
    let port = match properties.non_empty("redisPort") {
        None => None,
        Some(port) => match port.trim().parse::<u16>() {
            Ok(0) => None,
            Ok(port) => Some(port),
            Err(_) => {
                return Err(Error::configuration(format!(
                    "metadata field \"redisPort\": {port:?} is not a port"
                )));
            }
        },
    };
    // go-redis goes to this host where none is named.
    let given = if given.is_empty() { "localhost" } else { given };
    let hosts: Vec<_> = given
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .collect();
    hosts.into_iter().map(|host| address(host, port)).collect()
}

fn address(host: &str, port: Option<u16>) -> Result<(String, u16), Error> {
    let (name, own) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':')),
        // An IPv6 address without brackets has no room for a port.
        None if host.matches(':').count() > 1 => (host, None),
        None => match host.split_once(':') {
            Some((name, own)) => (name, Some(own)),
            None => (host, None),
        },
    };
    let Some(own) = own else {
        return Ok((name.to_owned(), port.unwrap_or(DEFAULT_PORT)));
    };
    let own_port: u16 = own
        .parse()
        .map_err(|_| Error::configuration(format!("redis host {host:?} has no valid port")))?;
    match port {
        Some(port) if port != own_port => Err(Error::configuration(format!(
            "redis host {host:?} already contains port {own}, but redisPort is set to {port}; either remove the \
             port from redisHost or remove the redisPort setting"
        ))),
        _ => Ok((name.to_owned(), own_port)),
    }
}

fn sentinel(properties: &Properties) -> Result<Option<Sentinel>, Error> {
    if !properties.truthy("failover") {
        return Ok(None);
    }
    let master = text(properties, "sentinelMasterName").ok_or_else(|| {
        Error::configuration("metadata field \"sentinelMasterName\" is required when failover is enabled")
    })?;
    Ok(Some(Sentinel {
        master,
        username: text(properties, "sentinelUsername"),
        password: secret(properties, "sentinelPassword"),
    }))
}

fn tls(properties: &Properties) -> Option<Tls> {
    properties.truthy("enableTLS").then(|| Tls {
        insecure: properties.truthy("insecureSkipTLSVerify"),
        client: text(properties, "clientCert").zip(secret(properties, "clientKey")),
    })
}

/// go-redis' retries with the defaults each kind of component had before the names were united.
fn retries(properties: &Properties, purpose: Purpose) -> Result<Retries, Error> {
    let legacy = matches!(purpose, Purpose::State | Purpose::Lock);
    let mut times = properties.number::<i64>("redisMaxRetries")?;
    if legacy && properties.non_empty("redisMaxRetries").is_none() {
        times = properties.number::<i64>("maxRetries")?;
    }
    let mut least = time(properties, "redisMinRetryInterval")?;
    if legacy && least == Time::Absent {
        // An integer of nanoseconds.
        least = match properties.number::<i64>("maxRetryBackoff").map_err(|error| {
            Error::configuration(format!(
                "redis store error: can't parse maxRetryBackoff field: {}",
                error.chain()
            ))
        })? {
            None => Time::Some(Duration::from_secs(2)),
            Some(nanoseconds) => u64::try_from(nanoseconds).map_or(Time::Off, |nanoseconds| {
                Time::Some(Duration::from_nanos(nanoseconds))
            }),
        };
    }
    let longest = match time(properties, "redisMaxRetryInterval")? {
        Time::Absent if purpose == Purpose::Configuration => Time::Some(Duration::from_secs(2)),
        other => other,
    };
    Ok(Retries {
        times: match times {
            None | Some(0) => 3,
            Some(times) => u32::try_from(times.clamp(0, 1000)).unwrap_or(0),
        },
        least: least.or(Duration::from_millis(8)).unwrap_or_default(),
        longest: longest.or(Duration::from_millis(512)).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::parse(&Properties::from_pairs(pairs.iter().copied()), Purpose::State)
    }

    fn host(pairs: &[(&str, &str)]) -> String {
        parse(pairs).unwrap().host()
    }

    #[test]
    fn hosts_get_their_ports() {
        assert_eq!(host(&[]), "localhost:6379");
        assert_eq!(host(&[("redisHost", "a")]), "a:6379");
        assert_eq!(host(&[("redishost", "a:1")]), "a:1");
        assert_eq!(host(&[("redisHost", "a"), ("redisPort", "2")]), "a:2");
        assert_eq!(host(&[("redisHost", "a, b:2"), ("redisPort", "2")]), "a:2,b:2");
        assert_eq!(host(&[("redisHost", "::1")]), "[::1]:6379");
        assert_eq!(host(&[("redisHost", "[::1]:7")]), "[::1]:7");
        let error = parse(&[("redisHost", "a:1"), ("redisPort", "2")]).unwrap_err();
        assert_eq!(
            error.chain(),
            "redis client configuration error: redis host \"a:1\" already contains port 1, but redisPort is set \
             to 2; either remove the port from redisHost or remove the redisPort setting"
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for wrong in [
            ("redisHost", "a:b"),
            ("redisPort", "70000"),
            ("redisDB", "one"),
            ("readTimeout", "soon"),
            ("redisMaxRetries", "x"),
            ("maxRetryBackoff", "2s"),
            ("failover", "true"),
            ("useEntraID", "true"),
            ("useAzureAD", "1"),
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_and_retries_are_those_of_go_redis() {
        let plain = parse(&[]).unwrap();
        assert_eq!(plain.response_timeout, Some(Duration::from_secs(3)));
        assert_eq!(plain.retries.times, 3);
        assert_eq!(plain.retries.longest, Duration::from_millis(512));
        let given = parse(&[
            ("readTimeout", "500"),
            ("writeTimeout", "-1"),
            ("maxRetries", "7"),
            ("redisMinRetryInterval", "-1"),
            ("idleTimeout", "-1"),
        ])
        .unwrap();
        assert_eq!(given.response_timeout, None);
        assert_eq!(given.retries.times, 7);
        assert_eq!(given.retries.least, Duration::ZERO);
        assert_eq!(given.idle_timeout, None);
        assert_eq!(parse(&[("redisMaxRetries", "-1")]).unwrap().retries.times, 0);
    }

    #[test]
    fn secrets_do_not_print() {
        let settings = parse(&[
            ("redisPassword", "hidden"),
            ("enableTLS", "true"),
            ("clientCert", "public"),
            ("clientKey", "hidden"),
        ])
        .unwrap();
        assert!(!format!("{settings:?}").contains("hidden"));
        assert!(settings.dialer().is_err(), "the certificate is no PEM");
    }
}
