//! Connection strings and how connections are opened from them.
//!
//! Source of the rules: components-contrib `common/authentication/sqlite/metadata.go`.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use outrigger_component::{Error, Properties};
use outrigger_types::{GoDuration, is_truthy};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use rusqlite::{Connection, OpenFlags};

use crate::checkpoint::Checkpoints;

/// Upstream's default for `timeout`.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// Upstream's default for `busyTimeout`.
pub(crate) const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Page cache of the writer, KiB. Enough for the hot pages of a state table; the rest is in the kernel's cache.
const WRITER_CACHE_KIB: u32 = 1024;
/// Page cache of each reader, KiB.
const READER_CACHE_KIB: u32 = 512;
/// Statements kept prepared per connection: more than any component here has.
const STATEMENT_CACHE: usize = 64;
/// The WAL is cut back to this after a checkpoint, so that a burst does not keep the disk for ever.
const JOURNAL_SIZE_LIMIT: u32 = 16 << 20;

/// What must be escaped in the path part of a SQLite URI.
const PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

/// How often SQLite waits for the disk (`PRAGMA synchronous`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Synchronous {
    /// Never: a crash of the machine may corrupt the file.
    Off,
    /// At checkpoints: under WAL the last transactions may be lost with the machine's power. Upstream's choice.
    Normal,
    /// At every commit: what was acknowledged survives. Our default; group commit pays for it.
    #[default]
    Full,
    /// As `Full`, and the folder entry of a deleted rollback journal too.
    Extra,
}

impl Synchronous {
    fn parse(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "off" | "0" => Ok(Self::Off),
            "normal" | "1" => Ok(Self::Normal),
            "full" | "2" => Ok(Self::Full),
            "extra" | "3" => Ok(Self::Extra),
            _ => Err(Error::configuration(format!(
                "invalid value for 'synchronous': {text:?} is none of OFF, NORMAL, FULL and EXTRA"
            ))),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Normal => "NORMAL",
            Self::Full => "FULL",
            Self::Extra => "EXTRA",
        }
    }
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Location {
    /// In this process only, gone with its one connection.
    Memory,
    /// A file; a relative path starts at the host's folder.
    File(PathBuf),
}

/// How a write transaction begins (`_txlock`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionLock {
    Deferred,
    Immediate,
    Exclusive,
}

impl TransactionLock {
    pub(crate) fn begin(self) -> &'static str {
        match self {
            Self::Deferred => "BEGIN DEFERRED",
            Self::Immediate => "BEGIN IMMEDIATE",
            Self::Exclusive => "BEGIN EXCLUSIVE",
        }
    }
}

/// A checked connection string with the options around it. Made by `validate`, used by `open`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    location: Location,
    /// URI parameters for SQLite itself (`mode`, `immutable`, `vfs`, …).
    parameters: Vec<(String, String)>,
    /// `_pragma=name(value)` of the connection string, in order.
    pragmas: Vec<(String, String)>,
    pub(crate) transaction_lock: TransactionLock,
    /// How long one operation may take.
    pub(crate) timeout: Duration,
    /// How long to wait for a lock that another process holds.
    pub(crate) busy_timeout: Duration,
    wal: bool,
    pub(crate) synchronous: Synchronous,
}

impl fmt::Debug for Settings {
    /// Without URI parameters and pragmas: a `key` may be among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("location", &self.location)
            .field("timeout", &self.timeout)
            .field("synchronous", &self.synchronous)
            .finish_non_exhaustive()
    }
}

/// Defaults that differ between components.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) timeout: Duration,
    pub(crate) busy_timeout: Duration,
    pub(crate) synchronous: Synchronous,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            busy_timeout: DEFAULT_BUSY_TIMEOUT,
            synchronous: Synchronous::Full,
        }
    }
}

impl Settings {
    /// Reads `connectionString` (`url`), `timeout` (`timeoutInSeconds`), `busyTimeout`, `disableWAL` and, ours,
    /// `synchronous`.
    ///
    /// # Errors
    /// Configuration errors with upstream's texts.
    pub(crate) fn from_properties(properties: &Properties, defaults: Defaults) -> Result<Self, Error> {
        let text = properties
            .non_empty("connectionString")
            .or_else(|| properties.non_empty("url"))
            .ok_or_else(|| Error::configuration("missing connection string"))?;
        let timeout =
            duration(properties, &["timeout", "timeoutInSeconds"])?.map_or(defaults.timeout, non_negative);
        if timeout < Duration::from_secs(1) {
            return Err(Error::configuration(
                "invalid value for 'timeout': must be greater than 1s",
            ));
        }
        let busy_timeout =
            duration(properties, &["busyTimeout"])?.map_or(defaults.busy_timeout, non_negative);
        let synchronous = match properties.non_empty("synchronous") {
            Some(text) => Synchronous::parse(text)?,
            None => defaults.synchronous,
        };
        let wal = !properties.get("disableWAL").is_some_and(is_truthy);
        Self::parse(text, timeout, busy_timeout, wal, synchronous)
    }

    fn parse(
        text: &str,
        timeout: Duration,
        busy_timeout: Duration,
        wal: bool,
        synchronous: Synchronous,
    ) -> Result<Self, Error> {
        let (path, query) = match text.find('?') {
            Some(at) if at > 0 => (&text[..at], &text[at + 1..]),
            _ => (text, ""),
        };
        let mut settings = Self {
            location: Location::Memory,
            parameters: Vec::new(),
            pragmas: Vec::new(),
            transaction_lock: TransactionLock::Immediate,
            timeout,
            busy_timeout,
            wal,
            synchronous,
        };
        let mut lock_seen = false;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "_pragma" => settings.pragmas.push(pragma(&value)?),
                // The first of several counts, as upstream keeps it.
                "_txlock" if !lock_seen => {
                    lock_seen = true;
                    settings.transaction_lock = match value.to_ascii_lowercase().as_str() {
                        "deferred" => TransactionLock::Deferred,
                        "immediate" => TransactionLock::Immediate,
                        "exclusive" => TransactionLock::Exclusive,
                        _ => return Err(Error::configuration(format!("unknown _txlock {value:?}"))),
                    };
                }
                // The other names with an underscore tell the Go driver how to convert values between its types and
                // SQLite's; all times here are written and read by SQL functions.
                name if name.starts_with('_') => {}
                _ if settings.parameters.iter().any(|(known, _)| *known == name) => {}
                _ => settings.parameters.push((name.into_owned(), value.into_owned())),
            }
        }
        let lower = path.to_ascii_lowercase();
        let memory = lower.starts_with(":memory:")
            || lower.starts_with("file::memory:")
            || settings.parameter("mode") == Some("memory");
        if memory {
            // Upstream shares `:memory:` among all connections of the process. Here it belongs to its component:
            // several sidecars may live in one process (design D13).
            settings.parameters.retain(|(name, _)| name != "cache");
        } else {
            settings.location = Location::File(uri_path(path)?);
        }
        if matches!(settings.parameter("mode"), Some("ro")) || settings.parameter("immutable") == Some("1") {
            settings.wal = false;
        }
        Ok(settings)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the database lives in memory: then there is one connection and no reader.
    pub(crate) fn is_memory(&self) -> bool {
        self.location == Location::Memory
    }

    /// The path of the database file, if it has one.
    pub(crate) fn path(&self, base_dir: &Path) -> Option<PathBuf> {
        match &self.location {
            Location::Memory => None,
            Location::File(path) => Some(base_dir.join(path)),
        }
    }

    /// Whether commits wait for the disk, and nobody would mind if that was done for them after the commit.
    pub(crate) fn syncs_log(&self) -> bool {
        let told = self
            .pragmas
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("synchronous"));
        self.reads_do_not_wait() && !told && self.synchronous >= Synchronous::Full
    }

    /// Opens the connection that writes, and what keeps its log short.
    pub(crate) fn open_writer(&self, base_dir: &Path) -> Result<(Connection, Checkpoints), Error> {
        let mut connection = self.open(base_dir, WRITER_CACHE_KIB)?;
        let journal = if self.is_memory() {
            "MEMORY"
        } else if self.wal {
            "WAL"
        } else {
            "DELETE"
        };
        let set_up = || {
            // A read-only database keeps the mode it has.
            if self.parameter("mode") != Some("ro") && self.parameter("immutable") != Some("1") {
                // A file yet to be made has nothing to roll back to: its one page is on the disk after one wait in place
                // of four, some milliseconds of a first start.
                if self.reads_do_not_wait()
                    && connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? == 0
                {
                    connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
                }
                connection.pragma_update_and_check(None, "journal_mode", journal, |_| Ok(()))?;
            }
            connection.pragma_update(None, "synchronous", self.synchronous.as_str())?;
            connection.pragma_update_and_check(None, "journal_size_limit", JOURNAL_SIZE_LIMIT, |_| Ok(()))
        };
        let checkpoints = set_up()
            .and_then(|()| Checkpoints::install(&mut connection))
            .map_err(|error| failed("cannot set up the SQLite database", error))?;
        // `_pragma=wal_autocheckpoint` takes the place of ours.
        self.apply_pragmas(&connection)?;
        Ok((connection, checkpoints))
    }

    /// Whether readers never wait for the writer.
    pub(crate) fn reads_do_not_wait(&self) -> bool {
        self.wal && !self.is_memory()
    }

    /// Opens a connection that only reads and never waits: a lock in its way is an error at once.
    pub(crate) fn open_prompt_reader(&self, base_dir: &Path) -> Result<Connection, Error> {
        let connection = self.open_reader(base_dir)?;
        connection
            .busy_timeout(Duration::ZERO)
            .map_err(|error| failed("cannot set up the SQLite database", error))?;
        Ok(connection)
    }

    /// Opens a connection that only reads. The writer must have been opened before.
    pub(crate) fn open_reader(&self, base_dir: &Path) -> Result<Connection, Error> {
        let connection = self.open(base_dir, READER_CACHE_KIB)?;
        self.apply_pragmas(&connection)?;
        // Not opened read-only: such a connection cannot repair the WAL index after a crash.
        connection
            .pragma_update(None, "query_only", true)
            .map_err(|error| failed("cannot set up the SQLite database", error))?;
        Ok(connection)
    }

    fn open(&self, base_dir: &Path, cache_kib: u32) -> Result<Connection, Error> {
        let target = match &self.location {
            Location::Memory => "file::memory:".to_owned(),
            Location::File(path) => {
                let path = base_dir.join(path);
                let text = path
                    .to_str()
                    .ok_or_else(|| Error::configuration("the database path is not UTF-8"))?;
                let mut uri = format!("file:{}", utf8_percent_encode(text, PATH));
                if !self.parameters.is_empty() {
                    uri.push('?');
                    uri.push_str(
                        &form_urlencoded::Serializer::new(String::new())
                            .extend_pairs(&self.parameters)
                            .finish(),
                    );
                }
                uri
            }
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(target, flags)
            .map_err(|error| failed("cannot open the SQLite database", error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        let set_up = || {
            connection.busy_timeout(self.busy_timeout)?;
            connection.pragma_update(None, "cache_size", -i64::from(cache_kib))
        };
        set_up().map_err(|error| failed("cannot set up the SQLite database", error))?;
        Ok(connection)
    }

    fn apply_pragmas(&self, connection: &Connection) -> Result<(), Error> {
        for (name, value) in &self.pragmas {
            // Checked by `pragma`: a name and a plain word or number.
            connection
                .execute_batch(&if value.is_empty() {
                    format!("PRAGMA {name}")
                } else {
                    format!("PRAGMA {name}={value}")
                })
                .map_err(|error| failed("cannot apply a _pragma of the connection string", error))?;
        }
        Ok(())
    }
}

/// The path in a SQLite URI or plain file name (upstream puts `file:` before the latter).
fn uri_path(text: &str) -> Result<PathBuf, Error> {
    let rest = match text.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("file:") => &text[5..],
        _ => text,
    };
    let rest = match rest.strip_prefix("//") {
        Some(after) => {
            let slash = after.find('/').unwrap_or(after.len());
            if !matches!(&after[..slash], "" | "localhost") {
                return Err(Error::configuration(format!(
                    "invalid uri authority: {}",
                    &after[..slash]
                )));
            }
            &after[slash..]
        }
        None => rest,
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let path: Cow<'_, str> = percent_decode_str(rest)
        .decode_utf8()
        .map_err(|_| Error::configuration("the path in the connection string is not UTF-8"))?;
    if path.is_empty() {
        return Err(Error::configuration("the connection string names no file"));
    }
    Ok(PathBuf::from(path.as_ref()))
}

/// Splits `name(value)` or `name=value`.
fn pragma(text: &str) -> Result<(String, String), Error> {
    let lower = text.to_ascii_lowercase();
    for (name, instead) in [
        (
            "busy_timeout",
            "; please use the `busyTimeout` metadata property instead",
        ),
        (
            "journal_mode",
            "; please use the `disableWAL` metadata property instead",
        ),
        ("foreign_keys", ""),
    ] {
        if lower.starts_with(name) {
            tracing::error!("Cannot set `_pragma={name}` option in the connection string{instead}");
            return Err(Error::configuration(format!(
                "found forbidden option '_pragma={name}' in the connection string"
            )));
        }
    }
    let (name, value) = match text.split_once(['(', '=']) {
        Some((name, value)) => (name.trim(), value.trim_end_matches(')').trim()),
        None => (text.trim(), ""),
    };
    let word = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    if name.is_empty() || !word(name) || !word(value) {
        return Err(Error::configuration(
            "malformed option '_pragma' in the connection string",
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A duration property under the first of its names that is there: Go's form or whole seconds (kit
/// `metadata/duration.go`).
///
/// # Errors
/// A configuration error naming the property.
pub(crate) fn duration(properties: &Properties, names: &[&str]) -> Result<Option<GoDuration>, Error> {
    for name in names {
        let Some(text) = properties.get(name) else {
            continue;
        };
        if text.is_empty() {
            return Ok(Some(GoDuration::from_std(Duration::ZERO)));
        }
        if let Ok(parsed) = GoDuration::parse(text) {
            return Ok(Some(parsed));
        }
        let seconds: i64 = text.parse().map_err(|_| {
            Error::configuration(format!(
                "metadata field {name:?}: {text:?} is not a duration such as 30s or 1h30m"
            ))
        })?;
        let duration = Duration::from_secs(seconds.unsigned_abs());
        return Ok(Some(if seconds < 0 {
            GoDuration::default()
        } else {
            GoDuration::from_std(duration)
        }));
    }
    Ok(None)
}

/// Negative durations count as none.
pub(crate) fn non_negative(duration: GoDuration) -> Duration {
    duration.to_std_or_zero()
}

/// A table name that needs no quotes.
///
/// # Errors
/// A configuration error; `what` is upstream's wording before the colon.
pub(crate) fn identifier(text: &str, what: &str) -> Result<String, Error> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Error::configuration(format!("{what}: {text}")));
    }
    Ok(text.to_owned())
}

/// Turns SQLite's error into ours: a busy database and a full disk may get better, the rest will not.
pub(crate) fn failed(what: &'static str, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Code;
    let ours = match error.sqlite_error_code() {
        Some(
            Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::CannotOpen
            | Code::SystemIoFailure
            | Code::DiskFull,
        ) => Error::unavailable(what),
        _ => Error::internal(what),
    };
    ours.with_source(error)
}

#[cfg(test)]
mod tests;
