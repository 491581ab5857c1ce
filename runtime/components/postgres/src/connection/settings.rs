//! The metadata all PostgreSQL components share (components-contrib `common/authentication/postgresql/metadata.go`).

use std::{fmt, time::Duration};

use outrigger_component::{Error, Properties};
use outrigger_types::GoDuration;

use super::conninfo::{self, Keywords};

/// Upstream's default for `timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// pgx's defaults for its pool.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60 * 60);
const DEFAULT_IDLE: Duration = Duration::from_secs(30 * 60);
const DEFAULT_HEALTH_CHECK: Duration = Duration::from_secs(60);
/// pgx gives a pool as many connections as there are processors, but not fewer than these.
const FEWEST_CONNECTIONS: usize = 4;
/// Far beyond what a server serves.
const MOST_CONNECTIONS: usize = 10_000;

/// How statements travel (`queryExecMode`, pgx's `default_query_exec_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ExecMode {
    /// Prepared once per connection.
    #[default]
    Prepared,
    /// Parsed anew each time, without a name: for poolers that change servers between transactions.
    Unnamed,
    /// As one text with the values in it (`simple_protocol`): for what knows nothing else.
    Simple,
}

impl ExecMode {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "cache_statement" => Some(Self::Prepared),
            "cache_describe" | "describe_exec" | "exec" => Some(Self::Unnamed),
            "simple_protocol" => Some(Self::Simple),
            _ => None,
        }
    }
}

/// Bounds of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolSettings {
    pub(crate) max: usize,
    /// Idle connections are not closed below this number.
    pub(crate) min: usize,
    pub(crate) lifetime: Duration,
    /// Up to this much is added to the lifetime, so that many sidecars do not reconnect at once.
    pub(crate) lifetime_jitter: Duration,
    pub(crate) idle: Duration,
    /// How often idle and old connections are looked for.
    pub(crate) health_check: Duration,
}

/// Checked metadata. Made by `validate`, used by `open`.
#[derive(Clone)]
pub(crate) struct Settings {
    /// What names the server and the session; secrets among them.
    pub(super) keywords: Keywords,
    pub(crate) pool: PoolSettings,
    pub(crate) mode: ExecMode,
    /// How long one operation may take, waiting for a connection included.
    pub(crate) timeout: Duration,
}

impl fmt::Debug for Settings {
    /// Without the keywords: a password is among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("pool", &self.pool)
            .field("mode", &self.mode)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads `connectionString` (`url`), `host`, `hostaddr`, `port`, `database`, `user`, `password`, `sslRootCert`,
    /// `connectionMaxIdleTime`, `maxConns`, `queryExecMode` and `timeout` (`timeoutInSeconds`). Fields of their own
    /// stand before what the connection string says.
    ///
    /// # Errors
    /// Configuration errors, with upstream's texts where it has any.
    pub(crate) fn from_properties(properties: &Properties) -> Result<Self, Error> {
        for (field, what) in [("useAzureAD", "Azure AD"), ("useAWSIAM", "AWS IAM")] {
            if properties.truthy(field) {
                return Err(Error::configuration(format!(
                    "authentication with {what} ({field}) is not supported; use a user and a password or a client certificate"
                )));
            }
        }
        let text = properties
            .non_empty("connectionString")
            .or_else(|| properties.non_empty("url"))
            .unwrap_or_default();
        let mut keywords = conninfo::parse(text.trim())?;
        for field in [
            "host",
            "hostaddr",
            "port",
            "database",
            "user",
            "password",
            "sslRootCert",
        ] {
            if let Some(value) = properties.non_empty(field) {
                keywords.insert(field.to_ascii_lowercase(), value.to_owned());
            }
        }
        if keywords.is_empty() {
            return Err(Error::configuration("failed to build connection string"));
        }
        let timeout = match duration(properties, &["timeout", "timeoutInSeconds"])? {
            Some(timeout) => timeout.to_std_or_zero(),
            None => DEFAULT_TIMEOUT,
        };
        if timeout < Duration::from_secs(1) {
            return Err(Error::configuration(
                "invalid value for 'timeout': must be greater than 1s",
            ));
        }
        let mut mode = match keywords.remove("default_query_exec_mode") {
            None => ExecMode::default(),
            Some(text) => ExecMode::parse(&text)
                .ok_or_else(|| Error::configuration(format!("invalid default_query_exec_mode: {text}")))?,
        };
        // A cache that holds nothing is no cache; any other size is more than the handful of statements here needs.
        if number(&mut keywords, "statement_cache_capacity")? == Some(0) && mode == ExecMode::Prepared {
            mode = ExecMode::Unnamed;
        }
        keywords.remove("description_cache_capacity");
        if let Some(text) = properties.non_empty("queryExecMode") {
            mode = ExecMode::parse(text).ok_or_else(|| {
                Error::configuration(format!("invalid queryExecMode metadata value: {text}"))
            })?;
        }
        let mut pool = pool(&mut keywords)?;
        if let Some(idle) = duration(properties, &["connectionMaxIdleTime"])?
            && !idle.to_std_or_zero().is_zero()
        {
            pool.idle = idle.to_std_or_zero();
        }
        if let Some(max) = properties.number::<i64>("maxConns")?
            && max > 1
        {
            pool.max = usize::try_from(max)
                .unwrap_or(MOST_CONNECTIONS)
                .min(MOST_CONNECTIONS);
        }
        super::target::check(&keywords)?;
        Ok(Self {
            keywords,
            pool,
            mode,
            timeout,
        })
    }
}

/// Takes pgx's `pool_*` out of the keywords.
fn pool(keywords: &mut Keywords) -> Result<PoolSettings, Error> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let max = number(keywords, "pool_max_conns")?.unwrap_or(processors.max(FEWEST_CONNECTIONS));
    if max == 0 {
        return Err(Error::configuration("pool_max_conns too small: 0"));
    }
    let max = max.min(MOST_CONNECTIONS);
    let min = number(keywords, "pool_min_conns")?.unwrap_or(0);
    let min_idle = number(keywords, "pool_min_idle_conns")?.unwrap_or(0);
    Ok(PoolSettings {
        max,
        min: min.max(min_idle).min(max),
        lifetime: time(keywords, "pool_max_conn_lifetime")?.unwrap_or(DEFAULT_LIFETIME),
        lifetime_jitter: time(keywords, "pool_max_conn_lifetime_jitter")?.unwrap_or(Duration::ZERO),
        idle: time(keywords, "pool_max_conn_idle_time")?.unwrap_or(DEFAULT_IDLE),
        health_check: time(keywords, "pool_health_check_period")?
            .unwrap_or(DEFAULT_HEALTH_CHECK)
            .max(Duration::from_secs(1)),
    })
}

fn number(keywords: &mut Keywords, name: &str) -> Result<Option<usize>, Error> {
    let Some(text) = keywords.remove(name) else {
        return Ok(None);
    };
    text.trim()
        .parse()
        .map(Some)
        .map_err(|_| Error::configuration(format!("cannot parse {name}: {text:?} is not a number")))
}

fn time(keywords: &mut Keywords, name: &str) -> Result<Option<Duration>, Error> {
    let Some(text) = keywords.remove(name) else {
        return Ok(None);
    };
    GoDuration::parse(&text)
        .map(|duration| Some(duration.to_std_or_zero()))
        .map_err(|_| {
            Error::configuration(format!(
                "invalid {name}: {text:?} is not a duration such as 30s or 1h30m"
            ))
        })
}

/// A duration of Go's spelling or a number of seconds, under the first of these names that is there; empty is zero
/// (dapr/kit `metadata` decodes them so).
///
/// # Errors
/// A configuration error that names the field and the value.
pub(crate) fn duration(properties: &Properties, names: &[&str]) -> Result<Option<GoDuration>, Error> {
    let Some((name, text)) = names
        .iter()
        .find_map(|name| properties.get(name).map(|text| (name, text)))
    else {
        return Ok(None);
    };
    if text.is_empty() {
        return Ok(Some(GoDuration::ZERO));
    }
    let seconds = || text.trim().parse().ok().map(GoDuration::from_secs);
    let parsed = GoDuration::parse(text).ok().or_else(seconds);
    parsed.map(Some).ok_or_else(|| {
        Error::configuration(format!(
            "metadata field {name:?}: {text:?} is not a duration such as 30s or 1h30m"
        ))
    })
}
