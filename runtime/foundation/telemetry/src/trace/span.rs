//! One span: its context always, its record only when sampled.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use super::{SpanContext, SpanId, tracer::Shared};

/// The role a span plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Serves a request of another process.
    Server,
    /// Calls another process; the peer also uses it for its own API.
    Client,
    /// Hands a message to a broker.
    Producer,
}

/// The most attributes one span keeps; headers of a client become attributes, so there must be a bound (the
/// OpenTelemetry SDK's default).
const MAX_ATTRIBUTES: usize = 128;

/// The finished record of a span, as exporters see it.
#[derive(Debug, Clone)]
pub(super) struct SpanData {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: SpanKind,
    pub(super) context: SpanContext,
    /// Invalid for a root.
    pub(super) parent: SpanId,
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    pub(super) attributes: Vec<(Cow<'static, str>, String)>,
    /// The description of a failure.
    pub(super) error: Option<String>,
}

/// The mutable part of a span that is recorded.
pub struct Recording {
    shared: Arc<Shared>,
    data: SpanData,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.data.fmt(f)
    }
}

impl Recording {
    pub(super) fn new(
        shared: Arc<Shared>,
        name: Cow<'static, str>,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanId,
    ) -> Self {
        let start = shared.now();
        Self {
            shared,
            data: SpanData {
                name,
                kind,
                context,
                parent,
                start,
                end: start,
                attributes: Vec::with_capacity(8),
                error: None,
            },
        }
    }

    /// Renames the span; the peer does so when the API is known.
    pub fn set_name(&mut self, name: impl Into<Cow<'static, str>>) {
        self.data.name = name.into();
    }

    /// Sets an attribute; an empty value is left out, a repeated key replaced.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        if value.is_empty() {
            return;
        }
        let attributes = &mut self.data.attributes;
        if let Some(index) = attributes.iter().position(|(known, _)| *known == key) {
            attributes[index].1 = value;
        } else if attributes.len() < MAX_ATTRIBUTES {
            attributes.push((key, value));
        }
    }

    /// Marks the span failed.
    pub fn set_error(&mut self, description: impl Into<String>) {
        self.data.error = Some(description.into());
    }
}

/// A span in progress; dropping it ends it.
///
/// Without a record it is three words and an optional shared `tracestate`: nothing is allocated.
#[derive(Debug, Default)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    context: SpanContext,
    record: Option<Box<Recording>>,
}

impl Span {
    /// A span that records nothing and only passes a context on.
    pub const fn passing(context: SpanContext) -> Self {
        Self {
            context,
            record: None,
        }
    }

    pub(super) fn recorded(record: Recording) -> Self {
        Self {
            context: record.data.context.clone(),
            record: Some(Box::new(record)),
        }
    }

    /// What to send on; invalid when tracing is off and the caller sent none.
    #[must_use]
    pub const fn context(&self) -> &SpanContext {
        &self.context
    }

    /// The record, when the span is sampled and exported: compute attributes only then.
    #[must_use]
    pub fn recording(&mut self) -> Option<&mut Recording> {
        self.record.as_deref_mut()
    }

    /// Ends the span now.
    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            let Recording { shared, mut data } = *record;
            data.end = shared.now();
            shared.export(data);
        }
    }
}
