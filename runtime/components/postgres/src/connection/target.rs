//! Which servers are tried, in which order and how: libpq's keywords as pgx v5 `pgconn/config.go` reads them.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use outrigger_component::{Error, Host};
use rustls::ClientConfig;
use tokio_postgres::config::{ChannelBinding, Config, SslMode, SslNegotiation, TargetSessionAttrs};

use super::{
    conninfo::Keywords,
    tls::{self, Trust},
};

/// Variables that stand behind the keywords of the connection string.
const VARIABLES: [(&str, &str); 17] = [
    ("PGHOST", "host"),
    ("PGPORT", "port"),
    ("PGDATABASE", "database"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGAPPNAME", "application_name"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLSNI", "sslsni"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGTZ", "timezone"),
    ("PGOPTIONS", "options"),
    ("USER", "user"),
];

/// Keywords with a meaning here; all others are parameters of the session.
const KNOWN: [&str; 19] = [
    "host",
    "hostaddr",
    "port",
    "database",
    "user",
    "password",
    "connect_timeout",
    "sslmode",
    "sslkey",
    "sslcert",
    "sslrootcert",
    "sslnegotiation",
    "sslsni",
    "target_session_attrs",
    "min_protocol_version",
    "max_protocol_version",
    "channel_binding",
    "application_name",
    "options",
];

/// Keywords of pgx that are refused rather than forgotten.
const REFUSED: [&str; 6] = [
    "passfile",
    "service",
    "servicefile",
    "krbspn",
    "krbsrvname",
    "sslpassword",
];

/// Where pgx looks for a local server's socket when no host is given.
const SOCKET_FOLDERS: [&str; 3] = ["/var/run/postgresql", "/private/tmp", "/tmp"];

/// One way to connect. They are tried in order.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) config: Config,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Whether it is tried after this failure of the attempt before it.
    pub(super) after: fn(&tokio_postgres::Error) -> bool,
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Checks what can be checked without I/O.
///
/// # Errors
/// A configuration error that names the keyword.
pub(super) fn check(keywords: &Keywords) -> Result<(), Error> {
    for name in REFUSED {
        if keywords.get(name).is_some_and(|value| !value.is_empty()) {
            return Err(Error::configuration(format!(
                "the connection string's {name:?} is not supported"
            )));
        }
    }
    // Protocol 3.0 is what every server and pooler speaks.
    if let Some(least) = keywords.get("min_protocol_version")
        && !matches!(least.as_str(), "" | "3.0")
    {
        return Err(Error::configuration(format!(
            "invalid min_protocol_version: {least:?}; only 3.0 is spoken"
        )));
    }
    mode(keywords)?;
    base(keywords).map(drop)
}

fn mode(keywords: &Keywords) -> Result<Mode, Error> {
    Ok(match keywords.get("sslmode").map_or("", String::as_str) {
        "disable" => Mode::Disable,
        "allow" => Mode::Allow,
        "" | "prefer" => Mode::Prefer,
        "require" => Mode::Require,
        "verify-ca" => Mode::VerifyCa,
        "verify-full" => Mode::VerifyFull,
        other => {
            return Err(Error::configuration(format!(
                "failed to configure TLS: sslmode {other:?} is invalid"
            )));
        }
    })
}

/// Fills in what the environment and the machine say, and makes the attempts.
///
/// # Errors
/// Configuration errors.
pub(super) async fn attempts(keywords: &Keywords, host: &Host) -> Result<(Attempt, Vec<Attempt>), Error> {
    let mut keywords = keywords.clone();
    for (variable, name) in VARIABLES {
        if let Some(value) = host.environment.get(variable).filter(|value| !value.is_empty()) {
            keywords
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
    }
    if !keywords.contains_key("host") && !keywords.contains_key("hostaddr") {
        let folder = SOCKET_FOLDERS
            .iter()
            .find(|folder| Path::new(folder).join(".s.PGSQL.5432").exists());
        keywords.insert("host".into(), (*folder.unwrap_or(&"localhost")).to_owned());
    }
    check(&keywords)?;
    let base = base(&keywords)?;
    let local = base
        .get_hosts()
        .iter()
        .all(|host| !matches!(host, tokio_postgres::config::Host::Tcp(_)))
        && base.get_hostaddrs().is_empty();
    let mode = if local { Mode::Disable } else { mode(&keywords)? };
    let base_dir = &host.base_dir;
    let encrypted = async |trust| tls::config(&keywords, trust, base_dir).await.map(Some);
    let with = |mode, tls, after| {
        let mut config = base.clone();
        config.ssl_mode(mode);
        Attempt { config, tls, after }
    };
    let always: fn(&tokio_postgres::Error) -> bool = |_| true;
    let has_roots = keywords.get("sslrootcert").is_some_and(|value| !value.is_empty());
    let (first, mut rest) = match mode {
        Mode::Disable => (with(SslMode::Disable, None, always), Vec::new()),
        Mode::Allow => (
            with(SslMode::Disable, None, always),
            vec![with(
                SslMode::Require,
                encrypted(Trust::Anyone).await?,
                refused_unencrypted,
            )],
        ),
        Mode::Prefer => (
            with(SslMode::Prefer, encrypted(Trust::Anyone).await?, always),
            vec![with(SslMode::Disable, None, handshake_failed)],
        ),
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => {
            let trust = match mode {
                Mode::VerifyFull => Trust::Full,
                Mode::Require if !has_roots => Trust::Anyone,
                _ => Trust::Chain,
            };
            (
                with(SslMode::Require, encrypted(trust).await?, always),
                Vec::new(),
            )
        }
    };
    // First every way to a standby, then every way to any server.
    if keywords
        .get("target_session_attrs")
        .is_some_and(|value| value == "prefer-standby")
    {
        let standbys: Vec<Attempt> = std::iter::once(&first).chain(&rest).cloned().collect();
        rest.extend(standbys.into_iter().enumerate().map(|(at, mut attempt)| {
            attempt.config.target_session_attrs(TargetSessionAttrs::Any);
            if at == 0 {
                attempt.after = always;
            }
            attempt
        }));
    }
    Ok((first, rest))
}

/// The server wants encryption (`pg_hba.conf`).
fn refused_unencrypted(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// The library tells this kind of failure by its text only.
fn handshake_failed(error: &tokio_postgres::Error) -> bool {
    error.to_string().starts_with("error performing TLS handshake")
}

/// All but TLS.
fn base(keywords: &Keywords) -> Result<Config, Error> {
    let value = |name: &str| {
        keywords
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let wrong = |name: &str, value: &str| Error::configuration(format!("invalid {name}: {value:?}"));
    let mut config = Config::new();
    for host in value("host").into_iter().flat_map(|hosts| hosts.split(',')) {
        config.host(host);
    }
    for address in value("hostaddr").into_iter().flat_map(|list| list.split(',')) {
        config.hostaddr(
            address
                .parse::<IpAddr>()
                .map_err(|_| wrong("hostaddr", address))?,
        );
    }
    let endpoints = config.get_hosts().len().max(config.get_hostaddrs().len());
    let ports: Vec<u16> = value("port")
        .unwrap_or("5432")
        .split(',')
        .map(|port| {
            let number = port.trim().parse().ok().filter(|port| *port != 0);
            number.ok_or_else(|| wrong("port", port))
        })
        .collect::<Result<_, _>>()?;
    // As pgx: a host without a port of its own takes the first.
    for at in 0..endpoints.max(1) {
        config.port(ports.get(at).copied().unwrap_or(ports[0]));
    }
    if let Some(user) = value("user") {
        config.user(user);
    }
    if let Some(password) = value("password") {
        config.password(password);
    }
    if let Some(database) = value("database") {
        config.dbname(database);
    }
    if let Some(seconds) = value("connect_timeout") {
        let number = seconds
            .trim()
            .parse()
            .map_err(|_| wrong("connect_timeout", seconds))?;
        if number > 0 {
            config.connect_timeout(Duration::from_secs(number));
        }
    }
    match value("target_session_attrs") {
        None | Some("any") => {}
        Some("read-write" | "primary") => {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Some("read-only" | "standby" | "prefer-standby") => {
            config.target_session_attrs(TargetSessionAttrs::ReadOnly);
        }
        Some(other) => {
            return Err(Error::configuration(format!(
                "unknown target_session_attrs value: {other}"
            )));
        }
    }
    config.channel_binding(match value("channel_binding") {
        None | Some("prefer") => ChannelBinding::Prefer,
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        Some(other) => {
            return Err(Error::configuration(format!(
                "unknown channel_binding value: {other}"
            )));
        }
    });
    match value("sslnegotiation") {
        None | Some("postgres") => {}
        Some("direct") => {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        Some(other) => return Err(wrong("sslnegotiation", other)),
    }
    if let Some(name) = value("application_name") {
        config.application_name(name);
    }
    let mut options = value("options").unwrap_or_default().to_owned();
    for (name, value) in keywords {
        if KNOWN.contains(&name.as_str()) || REFUSED.contains(&name.as_str()) {
            continue;
        }
        if !options.is_empty() {
            options.push(' ');
        }
        options.push_str("-c ");
        for c in format!("{name}={value}").chars() {
            // The server splits the options at spaces.
            if c == '\\' || c.is_ascii_whitespace() {
                options.push('\\');
            }
            options.push(c);
        }
    }
    if !options.is_empty() {
        config.options(options);
    }
    Ok(config)
}
