//! Log lines pushed to an OpenTelemetry collector (ours; rows C9, O1).
//!
//! Logging begins before anything is configured, so records are kept, up to a bound, until somebody decides whether
//! and where they are sent.

use std::{fmt, mem, sync::Arc, time::SystemTime};

use parking_lot::RwLock;
use tokio::time::Instant;

use super::{fields::Value, format::Severity, otlp::LogsExporter};
use crate::export::{Batcher, EXPORT_SCOPE, ExporterError, Limits, PushOptions, Signal};

/// Records kept before the decision; start-up logs a few dozen lines.
const MAX_EARLY: usize = 512;

/// A line on its way to the collector.
#[derive(Debug)]
pub(super) struct ExportedLine {
    pub(super) time: SystemTime,
    pub(super) severity: Severity,
    pub(super) message: String,
    pub(super) scope: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

enum State {
    /// Not decided yet.
    Early(Vec<ExportedLine>),
    Off,
    On(Arc<Batcher<ExportedLine>>),
}

/// The handle between a log layer and whoever knows the configuration; a cheap clone. Never blocks a thread that logs.
#[derive(Clone)]
pub struct LogExport(Arc<RwLock<State>>);

impl fmt::Debug for LogExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self.0.read() {
            State::Early(_) => "LogExport(undecided)",
            State::Off => "LogExport(off)",
            State::On(_) => "LogExport(on)",
        })
    }
}

/// A running push: that of one sidecar, or of one instance of it.
pub struct LogPush {
    export: LogExport,
    batcher: Arc<Batcher<ExportedLine>>,
}

impl fmt::Debug for LogPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogPush")
    }
}

impl LogPush {
    /// Sends what is queued and ends; gives up at the deadline. Unless another push has taken over, later records are
    /// kept again, for the next [`LogExport::start`].
    pub async fn shutdown(&self, deadline: Instant) {
        {
            let mut state = self.export.0.write();
            if matches!(&*state, State::On(batcher) if Arc::ptr_eq(batcher, &self.batcher)) {
                *state = State::Early(Vec::new());
            }
        }
        self.batcher.stop();
        self.batcher.stopped(deadline).await;
    }
}

impl Default for LogExport {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(State::Early(Vec::new()))))
    }
}

impl LogExport {
    /// Sends records from now on, and those kept so far, on the current tokio runtime. One that runs already goes on
    /// until it has sent its own.
    ///
    /// # Errors
    /// When the endpoint is not an address or TLS cannot be prepared; nothing changes then.
    pub fn start(&self, options: &PushOptions) -> Result<LogPush, ExporterError> {
        let exporter = LogsExporter::new(options)?;
        let limits = Limits::from_environment(Signal::Logs, &options.environment);
        let batcher = Arc::new(Batcher::start(
            Signal::Logs,
            exporter,
            limits,
            options.counts.clone(),
        ));
        let mut state = self.0.write();
        let before = mem::replace(&mut *state, State::On(Arc::clone(&batcher)));
        drop(state);
        match before {
            State::Early(records) => records.into_iter().for_each(|record| batcher.offer(record)),
            State::On(old) => old.stop(),
            State::Off => {}
        }
        Ok(LogPush {
            export: self.clone(),
            batcher,
        })
    }

    /// Sends nothing from now on and forgets what was kept.
    pub fn decline(&self) {
        let before = mem::replace(&mut *self.0.write(), State::Off);
        if let State::On(old) = before {
            old.stop();
        }
    }

    /// Whether a line of this scope is wanted. What exporters say about themselves is not: it would never end.
    pub(super) fn wants(&self, target: &str) -> bool {
        target != EXPORT_SCOPE && !matches!(*self.0.read(), State::Off)
    }

    pub(super) fn offer(&self, record: ExportedLine) {
        if let State::On(batcher) = &*self.0.read() {
            batcher.offer(record);
            return;
        }
        if let State::Early(records) = &mut *self.0.write()
            && records.len() < MAX_EARLY
        {
            records.push(record);
        }
    }
}
