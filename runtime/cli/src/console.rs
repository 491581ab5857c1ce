//! What the verbs say: status lines in the peer's look, plain or as JSON.

use std::io::{IsTerminal as _, Write as _};

use outrigger_types::Environment;

/// What kind of news a status line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    Failure,
    Warning,
    Info,
}

impl Status {
    fn sign(self) -> &'static str {
        match self {
            Self::Success => "✅  ",
            Self::Failure => "❌  ",
            Self::Warning => "⚠  ",
            Self::Info => "ℹ️  ",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    json: bool,
    colour: bool,
}

impl Console {
    /// Colours need a terminal and no `NO_COLOR`; `json` is `--log-as-json`.
    pub(crate) fn new(json: bool, environment: &Environment) -> Self {
        let colour = std::io::stdout().is_terminal()
            && environment.non_empty("NO_COLOR").is_none()
            && environment.get("TERM") != Some("dumb");
        Self { json, colour }
    }

    /// Whether prefixes are coloured.
    pub(crate) fn colour(self) -> bool {
        self.colour
    }

    /// Whether lines are JSON.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// A status line, with its end.
    pub(crate) fn line(self, status: Status, text: &str) -> String {
        if self.json {
            let line = serde_json::json!({
                "time": jiff::Timestamp::now().to_string(),
                "status": status.name(),
                "msg": text,
            });
            return format!("{line}\n");
        }
        format!("{}{text}\n", status.sign())
    }

    /// Prints a status line: failures to standard error, the rest to standard output. A closed output is no error.
    pub(crate) fn say(self, status: Status, text: &str) {
        let line = self.line(status, text);
        let _ = match status {
            Status::Failure => std::io::stderr().write_all(line.as_bytes()),
            _ => std::io::stdout().write_all(line.as_bytes()),
        };
    }

    /// Prints a status line to standard error: standard output is for what was asked for, and programs read it.
    pub(crate) fn remark(self, status: Status, text: &str) {
        let _ = std::io::stderr().write_all(self.line(status, text).as_bytes());
    }
}
