//! One line from one event: logrus' text and JSON formatters (1.9, with Dapr's field names).

use std::{cmp::Ordering, fmt::Write as _, time::SystemTime};

use super::{
    LogExport, LogFormat, LogOptions,
    fields::Value,
    quote::{push_json, push_logrus},
};
use crate::{float::push_float, timestamp::Civil};

/// A level as logrus names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// The first four letters, for terminals.
    fn short(self) -> &'static str {
        match self {
            Self::Debug => "DEBU",
            Self::Info => "INFO",
            Self::Warning => "WARN",
            Self::Error => "ERRO",
            Self::Fatal => "FATA",
        }
    }

    fn colour(self) -> u8 {
        match self {
            Self::Debug => 37,
            Self::Info => 36,
            Self::Warning => 33,
            Self::Error | Self::Fatal => 31,
        }
    }
}

/// Everything one line says.
pub(super) struct Line<'a> {
    pub(super) severity: Severity,
    pub(super) message: &'a str,
    pub(super) target: &'a str,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// A value about to be written.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Text(&'a str),
    /// A Rust module path whose scope is `dapr.` and its last segment.
    Module(&'a str),
    Value(&'a Value),
}

/// The key of an extra field: the three every line has are kept apart by a prefix.
fn key(name: &'static str) -> &'static str {
    match name {
        "time" => "fields.time",
        "level" => "fields.level",
        "msg" => "fields.msg",
        other => other,
    }
}

/// Writes lines; built once per layer.
pub(super) struct Formatter {
    options: LogOptions,
    started: SystemTime,
}

impl Formatter {
    pub(super) fn new(options: LogOptions) -> Self {
        let started = (options.clock)().0;
        Self { options, started }
    }

    /// The time of day.
    pub(super) fn now(&self) -> SystemTime {
        (self.options.clock)().0
    }

    /// Where lines go beside the sink.
    pub(super) fn export(&self) -> Option<&LogExport> {
        self.options.export.as_ref()
    }

    /// Appends the line and its newline. `scratch` is only there to be used again.
    pub(super) fn push(&self, out: &mut String, scratch: &mut String, mut line: Line<'_>) {
        for (name, _) in &mut line.fields {
            *name = key(name);
        }
        line.fields.sort_by_key(|(name, _)| *name);
        let (now, offset) = (self.options.clock)();
        match self.options.format {
            LogFormat::Text => {
                out.push_str("time=\"");
                Civil::from_system_time(now, offset).push_rfc3339_nano(out);
                out.push_str("\" level=");
                out.push_str(line.severity.as_str());
                if !line.message.is_empty() {
                    out.push_str(" msg=");
                    push_logrus(out, line.message);
                }
                self.each_field(&line, false, now, offset, |name, value| {
                    out.push(' ');
                    out.push_str(name);
                    out.push('=');
                    push_text_value(out, scratch, value);
                });
            }
            LogFormat::Terminal => {
                let elapsed = now.duration_since(self.started).unwrap_or_default().as_secs();
                let colour = line.severity.colour();
                let _ = write!(
                    out,
                    "\x1b[{colour}m{}\x1b[0m[{elapsed:04}] {:<44} ",
                    line.severity.short(),
                    line.message.strip_suffix('\n').unwrap_or(line.message)
                );
                self.each_field(&line, false, now, offset, |name, value| {
                    let _ = write!(out, " \x1b[{colour}m{name}\x1b[0m=");
                    push_text_value(out, scratch, value);
                });
            }
            LogFormat::Json => {
                let mut separator = '{';
                self.each_field(&line, true, now, offset, |name, value| {
                    out.push(separator);
                    separator = ',';
                    push_json(out, name);
                    out.push(':');
                    push_json_value(out, scratch, value);
                });
                out.push('}');
            }
        }
        out.push('\n');
    }

    /// Visits fixed and extra fields in the order of their keys; an extra field replaces a fixed one.
    fn each_field(
        &self,
        line: &Line<'_>,
        with_standard: bool,
        now: SystemTime,
        offset: i32,
        mut visit: impl FnMut(&str, Shown<'_>),
    ) {
        let mut time = String::new();
        if with_standard {
            Civil::from_system_time(now, offset).push_rfc3339_nano(&mut time);
        }
        let scope = if is_module(line.target) {
            Shown::Module(line.target)
        } else {
            Shown::Text(line.target)
        };
        let standard = |value| with_standard.then_some(Shown::Text(value));
        // In the order of their keys.
        let fixed = [
            ("app_id", self.options.app_id.as_deref().map(Shown::Text)),
            ("instance", Some(Shown::Text(&self.options.instance))),
            ("level", standard(line.severity.as_str())),
            ("msg", standard(line.message)),
            ("scope", Some(scope)),
            ("time", standard(&time)),
            ("type", Some(Shown::Text("log"))),
            ("ver", Some(Shown::Text(&self.options.version))),
        ];
        let mut fixed = fixed.into_iter().peekable();
        let mut extra = line.fields.iter().peekable();
        loop {
            let order = match (fixed.peek(), extra.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => (*a).cmp(*b),
            };
            if order != Ordering::Greater
                && let Some((name, value)) = fixed.next()
                && order == Ordering::Less
                && let Some(value) = value
            {
                visit(name, value);
            }
            if order != Ordering::Less
                && let Some((name, value)) = extra.next()
                // Of a repeated key the last is kept, as in Go's map.
                && extra.peek().is_none_or(|(next, _)| next != name)
            {
                visit(
                    name,
                    match value {
                        Value::Text(text) => Shown::Text(text),
                        value => Shown::Value(value),
                    },
                );
            }
        }
    }
}

/// Scopes are written as Dapr has them; only Rust paths have `::` or begin with a crate of ours.
fn is_module(target: &str) -> bool {
    target.contains("::") || target.starts_with("outrigger")
}

/// The scope of a target: itself, or `dapr.` and the last segment of a Rust path.
pub(super) fn scope(target: &str) -> String {
    let mut scope = String::new();
    push_raw(
        &mut scope,
        if is_module(target) {
            Shown::Module(target)
        } else {
            Shown::Text(target)
        },
    );
    scope
}

/// Writes a value's text as `fmt.Sprint` would.
fn push_raw(out: &mut String, value: Shown<'_>) {
    let _ = match value {
        Shown::Text(text) => out.write_str(text),
        Shown::Value(Value::Text(text)) => out.write_str(text),
        Shown::Module(path) => write!(out, "dapr.{}", path.rsplit("::").next().unwrap_or(path)),
        Shown::Value(Value::Signed(number)) => write!(out, "{number}"),
        Shown::Value(Value::Unsigned(number)) => write!(out, "{number}"),
        Shown::Value(Value::Bool(value)) => write!(out, "{value}"),
        Shown::Value(Value::Float(number)) => {
            push_float(out, *number);
            Ok(())
        }
    };
}

fn push_text_value(out: &mut String, scratch: &mut String, value: Shown<'_>) {
    match value {
        Shown::Text(text) => push_logrus(out, text),
        value => {
            scratch.clear();
            push_raw(scratch, value);
            push_logrus(out, scratch);
        }
    }
}

fn push_json_value(out: &mut String, scratch: &mut String, value: Shown<'_>) {
    match value {
        Shown::Text(text) => push_json(out, text),
        Shown::Value(Value::Float(number)) if number.is_finite() => push_json_float(out, *number),
        // JSON has no infinities: they become text.
        Shown::Module(_) | Shown::Value(Value::Float(_)) => {
            scratch.clear();
            push_raw(scratch, value);
            push_json(out, scratch);
        }
        value => push_raw(out, value),
    }
}

/// Go's JSON doubles: plain between 1e-6 and 1e21.
fn push_json_float(out: &mut String, number: f64) {
    let magnitude = number.abs();
    if number == 0.0 || (1e-6..1e21).contains(&magnitude) {
        let _ = write!(out, "{number}");
        return;
    }
    let text = format!("{number:e}");
    if magnitude >= 1.0 {
        out.push_str(&text.replace('e', "e+"));
    } else {
        out.push_str(&text);
    }
}
