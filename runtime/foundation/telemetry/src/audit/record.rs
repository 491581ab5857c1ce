//! One record.

use std::time::SystemTime;

use crate::{logs::quote::push_json, timestamp::Civil, trace::SpanContext};

/// The longest field; what callers choose must not fill the disk.
const MAX_FIELD_BYTES: usize = 1_024;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditDecision {
    /// It was allowed and done.
    Allowed,
    /// It was refused.
    Denied,
    /// It was allowed and failed.
    Failed,
}

impl AuditDecision {
    /// `allowed`, `denied` or `failed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditActor<'a> {
    /// The sidecar's own app.
    App,
    /// A peer that has proved who it is: its SPIFFE id.
    Peer(&'a str),
    /// Somebody who has proved nothing.
    Unproven,
}

/// What happened. Nothing here may hold a secret's value.
#[derive(Debug, Clone, Copy)]
pub struct AuditRecord<'a> {
    /// Who.
    pub actor: AuditActor<'a>,
    /// What: `secret.get`, `secret.bulkGet`, `secret.reference`, `invoke`, `authenticate`, `publish`,
    /// `configuration.load`, ….
    pub action: &'a str,
    /// On what: `<store>/<name>`, an operation, a path.
    pub target: &'a str,
    /// The outcome.
    pub decision: AuditDecision,
    /// Which rule decided, by the name of its setting; empty where there is none.
    pub policy: &'a str,
    /// The request's trace; invalid where there is none.
    pub trace: &'a SpanContext,
}

/// A record that owns its texts, on its way to the writer.
#[derive(Debug)]
pub(super) struct Entry {
    time: SystemTime,
    actor: String,
    action: String,
    target: String,
    decision: AuditDecision,
    policy: String,
    trace_id: String,
}

impl Entry {
    pub(super) fn new(record: &AuditRecord<'_>, app: &str, time: SystemTime) -> Self {
        Self {
            time,
            actor: clip(match record.actor {
                AuditActor::App => app,
                AuditActor::Peer(id) => id,
                AuditActor::Unproven => "",
            }),
            action: clip(record.action),
            target: clip(record.target),
            decision: record.decision,
            policy: clip(record.policy),
            trace_id: if record.trace.trace_id().is_valid() {
                record.trace.trace_id().to_string()
            } else {
                String::new()
            },
        }
    }

    /// The line's fields as JSON, without the brace and the chain at its end.
    pub(super) fn push_fields(&self, out: &mut String, sequence: u64, app_id: &str) {
        let mut time = String::new();
        Civil::from_system_time(self.time, 0).push_rfc3339_nano(&mut time);
        out.push_str("{\"seq\":");
        out.push_str(itoa::Buffer::new().format(sequence));
        for (name, value) in [
            ("time", time.as_str()),
            ("app_id", app_id),
            ("actor", &self.actor),
            ("action", &self.action),
            ("target", &self.target),
            ("decision", self.decision.as_str()),
            ("policy", &self.policy),
            ("trace_id", &self.trace_id),
        ] {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            push_json(out, value);
        }
    }
}

/// The longest prefix that fits.
fn clip(text: &str) -> String {
    let mut end = text.len().min(MAX_FIELD_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
