//! The layer between `tracing` and a sink.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, filter::Filtered, layer::Context, registry::LookupSpan};

use super::{
    LevelHandle, LogOptions, Sink,
    export::ExportedLine,
    fields::{EventFields, SpanFields, Value},
    format::{Formatter, Line, Severity, scope},
    level::is_fatal,
};
use crate::trace::LogIds;

/// Buffers kept for later lines; more writers at once allocate their own.
const MAX_IDLE_BUFFERS: usize = 16;

/// A buffer grown beyond this by one long line is not kept.
const MAX_KEPT_BYTES: usize = 64 * 1024;

#[derive(Default)]
struct Buffers {
    line: String,
    message: String,
    scratch: String,
}

impl Buffers {
    fn clear(&mut self) {
        self.line.clear();
        self.message.clear();
        self.scratch.clear();
    }

    fn capacity(&self) -> usize {
        self.line.capacity() + self.message.capacity() + self.scratch.capacity()
    }
}

/// Writes events to a sink. Made by [`layer`], which adds the level filter.
pub struct LogLayer {
    formatter: Formatter,
    sink: Arc<dyn Sink>,
    idle: Mutex<Vec<Buffers>>,
}

impl std::fmt::Debug for LogLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogLayer").finish_non_exhaustive()
    }
}

/// A layer that writes to `sink`, filtered by a level of its own, and the handle of that level.
#[must_use]
pub fn layer<S>(options: LogOptions, sink: Arc<dyn Sink>) -> (Filtered<LogLayer, LevelHandle, S>, LevelHandle)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let handle = LevelHandle::new(options.level);
    let layer = LogLayer {
        formatter: Formatter::new(options),
        sink,
        idle: Mutex::new(Vec::new()),
    };
    (layer.with_filter(handle.clone()), handle)
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        if !fields.0.is_empty()
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut extensions = span.extensions_mut();
            if let Some(fields) = extensions.get_mut::<SpanFields>() {
                values.record(fields);
            } else {
                let mut fields = SpanFields::default();
                values.record(&mut fields);
                if !fields.0.is_empty() {
                    extensions.insert(fields);
                }
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut buffers = self.idle.lock().pop().unwrap_or_default();
        let Buffers {
            line,
            message,
            scratch,
        } = &mut buffers;
        let mut visited = EventFields {
            message,
            fields: Vec::new(),
            is_fatal: false,
        };
        event.record(&mut visited);
        let EventFields {
            message,
            mut fields,
            is_fatal: has_fatal,
        } = visited;
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(inherited) = span.extensions().get::<SpanFields>() {
                for (name, value) in &inherited.0 {
                    // From the innermost span outwards: what is there already wins.
                    if !fields.iter().any(|(known, _)| known == name) {
                        fields.push((name, Value::Text(value.clone())));
                    }
                }
            }
        }
        if let Some((trace, span)) = LogIds::current() {
            for (name, id) in [("trace_id", trace.to_string()), ("span_id", span.to_string())] {
                if !fields.iter().any(|(known, _)| *known == name) {
                    fields.push((name, Value::Text(id)));
                }
            }
        }
        let metadata = event.metadata();
        let severity = match *metadata.level() {
            Level::ERROR if has_fatal && is_fatal(metadata) => Severity::Fatal,
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warning,
            Level::INFO => Severity::Info,
            Level::DEBUG | Level::TRACE => Severity::Debug,
        };
        if let Some(export) = self.formatter.export()
            && export.wants(metadata.target())
        {
            export.offer(ExportedLine {
                time: self.formatter.now(),
                severity,
                message: message.clone(),
                scope: scope(metadata.target()),
                fields: fields.clone(),
            });
        }
        self.formatter.push(
            line,
            scratch,
            Line {
                severity,
                message,
                target: metadata.target(),
                fields,
            },
        );
        self.sink.write_line(line.as_bytes());
        buffers.clear();
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE_BUFFERS && buffers.capacity() <= MAX_KEPT_BYTES {
            idle.push(buffers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::{LogFormat, LogLevel, MemorySink, dispatch};
    use super::*;
    use crate::trace::SpanContext;

    fn options(format: LogFormat) -> LogOptions {
        LogOptions {
            format,
            level: LogLevel::Debug,
            clock: Arc::new(|| (UNIX_EPOCH + Duration::new(1_763_720_000, 123_456_000), 0)),
            ..LogOptions::new("host-1", "1.18.2")
        }
    }

    fn lines(options: LogOptions, log: impl FnOnce(&LevelHandle)) -> Vec<String> {
        let sink = MemorySink::default();
        let (dispatch, handle) = dispatch(options, Arc::new(sink.clone()));
        tracing::dispatcher::with_default(&dispatch, || log(&handle));
        sink.text().lines().map(str::to_owned).collect()
    }

    fn samples() {
        tracing::warn!(target: "dapr.runtime", "plain");
        tracing::error!(
            target: "dapr.runtime",
            zeta = 1,
            alpha = true,
            level = "x",
            method = "GET /a",
            ratio = 0.5,
            big = 1_000_000.0,
            neg = -3,
            "many\nlines"
        );
        tracing::debug!(target: "dapr.runtime", "");
        tracing::error!(target: "dapr.runtime", fatal = true, "the end");
    }

    /// Printed by logrus 1.9.4 with Dapr's field map.
    #[test]
    fn text_lines_are_logrus_lines() {
        let mut with_app = options(LogFormat::Text);
        with_app.app_id = Some("my app".into());
        assert_eq!(
            lines(
                with_app,
                |_| tracing::info!(target: "dapr.runtime", "hello {:?}", "world")
            ),
            [
                r#"time="2025-11-21T10:13:20.123456Z" level=info msg="hello \"world\"" app_id="my app" instance=host-1 scope=dapr.runtime type=log ver=1.18.2"#
            ]
        );
        assert_eq!(
            lines(options(LogFormat::Text), |_| samples()),
            [
                r#"time="2025-11-21T10:13:20.123456Z" level=warning msg=plain instance=host-1 scope=dapr.runtime type=log ver=1.18.2"#,
                r#"time="2025-11-21T10:13:20.123456Z" level=error msg="many\nlines" alpha=true big=1e+06 fields.level=x instance=host-1 method="GET /a" neg=-3 ratio=0.5 scope=dapr.runtime type=log ver=1.18.2 zeta=1"#,
                r#"time="2025-11-21T10:13:20.123456Z" level=debug instance=host-1 scope=dapr.runtime type=log ver=1.18.2"#,
                r#"time="2025-11-21T10:13:20.123456Z" level=fatal msg="the end" instance=host-1 scope=dapr.runtime type=log ver=1.18.2"#,
            ]
        );
    }

    #[test]
    fn json_lines_are_logrus_lines() {
        assert_eq!(
            lines(options(LogFormat::Json), |_| samples()),
            [
                r#"{"instance":"host-1","level":"warning","msg":"plain","scope":"dapr.runtime","time":"2025-11-21T10:13:20.123456Z","type":"log","ver":"1.18.2"}"#,
                r#"{"alpha":true,"big":1000000,"fields.level":"x","instance":"host-1","level":"error","method":"GET /a","msg":"many\nlines","neg":-3,"ratio":0.5,"scope":"dapr.runtime","time":"2025-11-21T10:13:20.123456Z","type":"log","ver":"1.18.2","zeta":1}"#,
                r#"{"instance":"host-1","level":"debug","msg":"","scope":"dapr.runtime","time":"2025-11-21T10:13:20.123456Z","type":"log","ver":"1.18.2"}"#,
                r#"{"instance":"host-1","level":"fatal","msg":"the end","scope":"dapr.runtime","time":"2025-11-21T10:13:20.123456Z","type":"log","ver":"1.18.2"}"#,
            ]
        );
    }

    #[test]
    fn terminal_lines_are_logrus_lines() {
        assert_eq!(
            lines(
                options(LogFormat::Terminal),
                |_| tracing::warn!(target: "dapr.runtime", "plain")
            ),
            [
                "\x1b[33mWARN\x1b[0m[0000] plain                                         \x1b[33minstance\x1b[0m=host-1 \x1b[33mscope\x1b[0m=dapr.runtime \x1b[33mtype\x1b[0m=log \x1b[33mver\x1b[0m=1.18.2"
            ]
        );
    }

    #[test]
    fn module_paths_become_scopes_and_events_may_override_fixed_fields() {
        let lines = lines(options(LogFormat::Text), |_| {
            tracing::info!(target: "outrigger_sidecar_http::server", "a");
            tracing::info!(target: "dapr.x", app_id = "b", "type" = "request", "a");
        });
        assert!(lines[0].contains(" scope=dapr.server "), "{}", lines[0]);
        assert!(
            lines[1].ends_with(" app_id=b instance=host-1 scope=dapr.x type=request ver=1.18.2"),
            "{}",
            lines[1]
        );
    }

    #[test]
    fn the_level_changes_while_running_and_libraries_are_kept_from_warnings_on() {
        let lines = lines(options(LogFormat::Text), |handle| {
            let log = || {
                tracing::debug!(target: "dapr.runtime", "debug");
                tracing::info!(target: "dapr.runtime", "info");
                tracing::info!(target: "h2::proto", "library");
                tracing::warn!(target: "h2::proto", "library");
                tracing::error!(target: "dapr.runtime", "error");
                tracing::error!(target: "dapr.runtime", fatal = true, "fatal");
            };
            for level in [LogLevel::Info, LogLevel::Fatal, LogLevel::Debug] {
                handle.set(level);
                log();
            }
        });
        let levels: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.split(" msg=").nth(1)?.split(' ').next())
            .collect();
        assert_eq!(
            levels,
            [
                "info", "library", "error", "fatal", // info
                "fatal", // fatal
                "debug", "info", "library", "error", "fatal"
            ]
        );
    }

    /// Several sidecars in one process, and the request's ids (row C9).
    #[test]
    fn the_innermost_span_gives_app_and_trace_ids() {
        let mut with_app = options(LogFormat::Json);
        with_app.app_id = Some("configured".into());
        let lines = lines(with_app, |_| {
            let outer = tracing::info_span!(target: "dapr.runtime", "sidecar", app_id = "one", other = "no");
            let _outer = outer.enter();
            let request = tracing::info_span!(
                target: "dapr.runtime",
                "request",
                trace_id = %"4bf9",
                span_id = tracing::field::Empty,
                correlation_id = "c"
            );
            request.record("span_id", "00f0");
            let _request = request.enter();
            tracing::info!(target: "dapr.runtime", "a");
        });
        assert_eq!(
            lines,
            [
                r#"{"app_id":"one","correlation_id":"c","instance":"host-1","level":"info","msg":"a","scope":"dapr.runtime","span_id":"00f0","time":"2025-11-21T10:13:20.123456Z","trace_id":"4bf9","type":"log","ver":"1.18.2"}"#
            ]
        );
    }

    #[test]
    fn lines_within_a_traced_request_carry_its_ids() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::from_headers(Some(traceparent), None).unwrap();
        let lines = lines(options(LogFormat::Json), |_| {
            context
                .log_ids()
                .within(|| tracing::info!(target: "dapr.runtime", "a"));
            SpanContext::default()
                .log_ids()
                .within(|| tracing::info!(target: "dapr.runtime", "b"));
        });
        assert_eq!(
            lines,
            [
                r#"{"instance":"host-1","level":"info","msg":"a","scope":"dapr.runtime","span_id":"b7ad6b7169203331","time":"2025-11-21T10:13:20.123456Z","trace_id":"0af7651916cd43dd8448eb211c80319c","type":"log","ver":"1.18.2"}"#,
                r#"{"instance":"host-1","level":"info","msg":"b","scope":"dapr.runtime","time":"2025-11-21T10:13:20.123456Z","type":"log","ver":"1.18.2"}"#,
            ]
        );
    }
}
