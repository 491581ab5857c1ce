//! Who did what: one log line per committed change, apart from other lines by its target (N7).
//!
//! Titles stay out of it: they are the user's own. Under `--log-format json` a line carries the trace's id, which
//! leads to the sidecars' lines of the same request.

use crate::instance::Instance;

/// The target of audit lines.
pub const TARGET: &str = "outrigger_todo::audit";

/// Notes a committed change of a task.
pub fn record(user: &str, action: &str, task: &str, instance: &Instance) {
    tracing::info!(target: "outrigger_todo::audit", user, action, task, by = &*instance.name, "committed");
}

/// Notes that somebody began to act as a user.
pub fn entered(user: &str, instance: &Instance) {
    tracing::info!(target: "outrigger_todo::audit", user, action = "session.begun", by = &*instance.name, "entered");
}
