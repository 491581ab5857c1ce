//! Levels, and changing them while running.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use tracing::{Level, Metadata, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::layer::{Context, Filter};

/// Dapr's log levels, least severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The default.
    #[default]
    Info,
    /// What was recovered from.
    Warn,
    /// What someone must act on.
    Error,
    /// What ends the process.
    Fatal,
}

impl LogLevel {
    const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// The name used by flags and settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for --log-level: {0}")]
pub struct InvalidLogLevel(String);

impl FromStr for LogLevel {
    type Err = InvalidLogLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLogLevel> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| InvalidLogLevel(text.to_owned()))
    }
}

/// Changes the level of a running subscriber; clones share it.
#[derive(Debug, Clone)]
pub struct LevelHandle(Arc<AtomicU8>);

impl LevelHandle {
    pub(super) fn new(level: LogLevel) -> Self {
        Self(Arc::new(AtomicU8::new(level as u8)))
    }

    /// The level now.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        LogLevel::ALL
            .get(usize::from(self.0.load(Relaxed)))
            .copied()
            .unwrap_or_default()
    }

    /// Sets the level, from the next event on.
    pub fn set(&self, level: LogLevel) {
        self.0.store(level as u8, Relaxed);
        // Callsites remember whether they are wanted; that is what makes disabled levels free.
        tracing::callsite::rebuild_interest_cache();
    }

    fn is_wanted(&self, metadata: &Metadata<'_>) -> bool {
        let level = metadata.level();
        let wanted = match self.level() {
            LogLevel::Debug => *level <= Level::DEBUG,
            LogLevel::Info => *level <= Level::INFO,
            LogLevel::Warn => *level <= Level::WARN,
            LogLevel::Error => *level <= Level::ERROR,
            // The request's ids must reach fatal lines too, but no other event does.
            LogLevel::Fatal => *level == Level::ERROR && is_fatal(metadata),
        };
        wanted && (*level <= Level::WARN || is_ours(metadata.target()))
    }
}

/// Whether the event declares the `fatal` field.
pub(super) fn is_fatal(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field("fatal").is_some()
}

/// Libraries log much at debug that is nobody's business here.
fn is_ours(target: &str) -> bool {
    target.starts_with("dapr") || target.starts_with("outrigger")
}

impl<S> Filter<S> for LevelHandle {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.is_wanted(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_wanted(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level() {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Fatal => LevelFilter::ERROR,
        })
    }
}
