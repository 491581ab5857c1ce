//! Spans as log lines, in the words of the peer's stdout exporter (`pkg/diagnostics/utils/trace_utils.go`).

use std::{sync::Arc, time::SystemTime};

use super::span::SpanData;
use crate::timestamp::Civil;

pub(super) fn export(spans: &[Arc<SpanData>]) {
    for span in spans {
        tracing::info!(
            target: "dapr.runtime.trace",
            "[{}] Trace: {} Span: {}/{} Time: [{} ->  {}] Annotations: []",
            span.name,
            span.context.trace_id(),
            span.parent,
            span.context.span_id(),
            go_time(span.start),
            go_time(span.end),
        );
    }
}

/// A time as Go prints one, in UTC.
fn go_time(time: SystemTime) -> String {
    let civil = Civil::from_system_time(time, 0);
    let mut text = civil.date_time(' ');
    civil.push_fraction(&mut text);
    text.push_str(" +0000 UTC");
    text
}
