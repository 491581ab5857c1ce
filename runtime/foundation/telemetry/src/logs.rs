//! Log lines as Dapr's: logrus text or JSON (rows C9, C11; `dapr/kit` logger).
//!
//! The binary builds one subscriber with [`dispatch`] and installs it; nothing here is global. Targets that
//! begin with `dapr` are scopes as they stand (`tracing::info!(target: "dapr.runtime.http", …)`); a Rust module
//! path becomes `dapr.<last module>`. Libraries' events are kept from warnings on only.
//!
//! Conventions for events:
//! * fields become fields of the line, sorted with the fixed ones;
//! * `fatal = true` on an error makes the level `fatal` and is not printed itself;
//! * an enclosing span's fields `app_id`, `trace_id`, `span_id` and `correlation_id` are printed, the innermost
//!   winning over the configured app id, so several sidecars can share a process.

mod export;
mod fields;
mod format;
mod layer;
mod level;
mod otlp;
pub(crate) mod quote;
mod sink;

use std::{fmt, sync::Arc, time::SystemTime};

pub use export::{LogExport, LogPush};
pub use layer::{LogLayer, layer};
pub use level::{InvalidLogLevel, LevelHandle, LogLevel};
pub use sink::{MemorySink, OpenLogFileError, Sink, open};
use tracing_subscriber::layer::SubscriberExt as _;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `time="…" level=info msg="…" …`.
    #[default]
    Text,
    /// One JSON object per line (`--log-as-json`).
    Json,
    /// Text as logrus writes it to a terminal, with colours.
    Terminal,
}

/// The time of day and the offset of local time from UTC in seconds.
pub type LogClock = Arc<dyn Fn() -> (SystemTime, i32) + Send + Sync>;

/// What every line carries, and how it is written.
#[derive(Clone)]
pub struct LogOptions {
    /// The format.
    pub format: LogFormat,
    /// The least severe level written at first.
    pub level: LogLevel,
    /// `app_id`; `None` for programs that are not sidecars.
    pub app_id: Option<String>,
    /// `instance`: the host's name.
    pub instance: String,
    /// `ver`.
    pub version: String,
    /// The clock.
    pub clock: LogClock,
    /// Where lines go beside the sink; `None` for programs that push no logs.
    pub export: Option<LogExport>,
}

impl LogOptions {
    /// Text at level info with times in UTC.
    #[must_use]
    pub fn new(instance: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
            app_id: None,
            instance: instance.into(),
            version: version.into(),
            clock: Arc::new(|| (SystemTime::now(), 0)),
            export: None,
        }
    }
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("format", &self.format)
            .field("level", &self.level)
            .field("app_id", &self.app_id)
            .field("instance", &self.instance)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A subscriber that writes to `sink`, and the handle that changes its level. The binary installs it as the
/// default; tests use it for a scope.
#[must_use]
pub fn dispatch(options: LogOptions, sink: Arc<dyn Sink>) -> (tracing::Dispatch, LevelHandle) {
    let (layer, handle) = layer(options, sink);
    let subscriber = tracing_subscriber::registry().with(layer);
    (tracing::Dispatch::new(subscriber), handle)
}
