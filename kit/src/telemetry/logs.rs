//! Log lines on standard error, as text or as JSON with the field names of Dapr's sidecars.

use std::fmt::Write as _;
use std::io::Write as _;

use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, message, fields.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl LogFormat {
    /// Reads `text` or `json`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

pub(super) struct Lines {
    format: LogFormat,
    service: String,
    instance: String,
}

impl Lines {
    pub(super) fn new(format: LogFormat, service: &str, instance: &str) -> Self {
        Self {
            format,
            service: service.to_owned(),
            instance: instance.to_owned(),
        }
    }

    fn line(&self, event: &Event<'_>) -> String {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let now = jiff::Timestamp::now();
        let context = opentelemetry::Context::current();
        let span = context.span().span_context().clone();
        if self.format == LogFormat::Text {
            let mut line = format!("{now:.3} {:5} {}", metadata.level(), fields.message);
            for (name, value) in &fields.rest {
                let _ = write!(line, " {name}={value}");
            }
            if span.is_valid() {
                let _ = write!(line, " trace_id={}", span.trace_id());
            }
            return line;
        }
        let mut object = fields.rest;
        let level = match *metadata.level() {
            tracing::Level::TRACE | tracing::Level::DEBUG => "debug",
            tracing::Level::INFO => "info",
            tracing::Level::WARN => "warning",
            tracing::Level::ERROR => "error",
        };
        for (name, value) in [
            ("time", format!("{now:.9}")),
            ("level", level.to_owned()),
            ("msg", fields.message),
            ("scope", metadata.target().to_owned()),
            ("type", "log".to_owned()),
            ("app_id", self.service.clone()),
            ("instance", self.instance.clone()),
        ] {
            object.insert(name.to_owned(), Value::from(value));
        }
        if span.is_valid() {
            object.insert("trace_id".to_owned(), Value::from(span.trace_id().to_string()));
            object.insert("span_id".to_owned(), Value::from(span.span_id().to_string()));
        }
        Value::Object(object).to_string()
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = self.line(event);
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
        } else {
            self.rest.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps the lines instead of writing them.
    struct Kept(Lines, Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.1.lock().push(self.0.line(event));
        }
    }

    fn logged(format: LogFormat) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let layer = Kept(Lines::new(format, "shop", "shop-1"), lines.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(tries = 3_u64, error = "a \"b\"", "it failed\nagain");
        });
        let lines = lines.lock();
        lines.join("|")
    }

    #[test]
    fn json_lines_have_the_sidecars_fields_and_are_one_line() {
        let line = logged(LogFormat::Json);
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warning");
        assert_eq!(value["msg"], "it failed\nagain");
        assert_eq!(value["tries"], 3);
        assert_eq!(value["app_id"], "shop");
        assert_eq!(value["instance"], "shop-1");
        assert!(value["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }

    #[test]
    fn text_lines_end_with_their_fields() {
        let line = logged(LogFormat::Text);
        assert!(line.contains("WARN  it failed"), "{line}");
        assert!(line.ends_with("error=\"a \\\"b\\\"\" tries=3"), "{line}");
    }
}
