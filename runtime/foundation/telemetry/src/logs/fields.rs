//! The fields of events and spans.

use std::{error::Error, fmt, fmt::Write as _};

use tracing::field::{Field, Visit};

/// A field's value, kept typed because JSON tells numbers from text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
}

/// What an event carries. Events with a message only allocate nothing here: the message is written into a
/// buffer that is used again.
pub(super) struct EventFields<'a> {
    pub(super) message: &'a mut String,
    pub(super) fields: Vec<(&'static str, Value)>,
    pub(super) is_fatal: bool,
}

impl EventFields<'_> {
    fn push(&mut self, field: &Field, value: Value) {
        self.fields.push((field.name(), value));
    }
}

impl Visit for EventFields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "fatal" {
            self.is_fatal = value;
        } else {
            self.push(field, Value::Bool(value));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.push(field, Value::Text(value.to_owned()));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.push(field, Value::Text(text));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.push(field, Value::Text(format!("{value:?}")));
        }
    }
}

/// The fields of a span that reach the lines inside it.
#[derive(Debug, Default)]
pub(super) struct SpanFields(pub(super) Vec<(&'static str, String)>);

impl SpanFields {
    fn is_inherited(name: &str) -> bool {
        matches!(name, "app_id" | "trace_id" | "span_id" | "correlation_id")
    }

    fn set(&mut self, name: &'static str, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Visit for SpanFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if Self::is_inherited(field.name()) {
            self.set(field.name(), value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if Self::is_inherited(field.name()) {
            self.set(field.name(), format!("{value:?}"));
        }
    }
}
