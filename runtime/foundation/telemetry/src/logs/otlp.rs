//! Log records in OTLP.

use std::collections::BTreeMap;

use super::{export::ExportedLine, fields::Value, format::Severity};
use crate::export::{
    Export, ExportError, ExporterError, OtlpClient, PushOptions, Signal, nanoseconds,
    proto::{
        self, AnyValue, InstrumentationScope, KeyValue,
        logs::{LogRecord, Request, ResourceLogs, ScopeLogs},
    },
};

/// Sends records to one collector.
pub(super) struct LogsExporter {
    client: OtlpClient,
    resource: proto::Resource,
}

impl LogsExporter {
    pub(super) fn new(options: &PushOptions) -> Result<Self, ExporterError> {
        Ok(Self {
            client: OtlpClient::new(
                Signal::Logs,
                &options.otlp,
                &options.environment,
                options.resolver.clone(),
                options.counts.clone(),
            )?,
            resource: options.resource().to_proto(),
        })
    }
}

impl Export for LogsExporter {
    type Item = ExportedLine;

    async fn export(&self, batch: &[ExportedLine]) -> Result<(), ExportError> {
        let mut scopes: BTreeMap<&str, Vec<LogRecord>> = BTreeMap::new();
        for record in batch {
            scopes.entry(&record.scope).or_default().push(encode(record));
        }
        let message = Request {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: scopes
                    .into_iter()
                    .map(|(name, log_records)| ScopeLogs {
                        scope: Some(InstrumentationScope {
                            name: name.to_owned(),
                        }),
                        log_records,
                    })
                    .collect(),
            }],
        };
        self.client.send(&message).await
    }
}

fn encode(record: &ExportedLine) -> LogRecord {
    let (mut trace_id, mut span_id) = (Vec::new(), Vec::new());
    let mut attributes = Vec::with_capacity(record.fields.len());
    for (name, value) in &record.fields {
        // The ids of the request have places of their own.
        let id = match (*name, value) {
            ("trace_id", Value::Text(text)) => hex(text, 16).map(|bytes| (&mut trace_id, bytes)),
            ("span_id", Value::Text(text)) => hex(text, 8).map(|bytes| (&mut span_id, bytes)),
            _ => None,
        };
        match id {
            Some((place, bytes)) => *place = bytes,
            None => attributes.push(KeyValue {
                key: (*name).to_owned(),
                value: Some(any(value)),
            }),
        }
    }
    let time = nanoseconds(record.time);
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: match record.severity {
            Severity::Debug => 5,
            Severity::Info => 9,
            Severity::Warning => 13,
            Severity::Error => 17,
            Severity::Fatal => 21,
        },
        severity_text: record.severity.as_str().to_owned(),
        body: Some(AnyValue {
            value: Some(proto::Value::Text(record.message.clone())),
        }),
        attributes,
        trace_id,
        span_id,
    }
}

fn any(value: &Value) -> AnyValue {
    AnyValue {
        value: Some(match value {
            Value::Text(text) => proto::Value::Text(text.clone()),
            Value::Signed(number) => proto::Value::Int(*number),
            // OTLP has no unsigned numbers.
            Value::Unsigned(number) => match i64::try_from(*number) {
                Ok(number) => proto::Value::Int(number),
                Err(_) => proto::Value::Text(number.to_string()),
            },
            Value::Float(number) => proto::Value::Double(*number),
            Value::Bool(value) => proto::Value::Bool(*value),
        }),
    }
}

/// Bytes from exactly so many of them in hexadecimal.
fn hex(text: &str, length: usize) -> Option<Vec<u8>> {
    if text.len() != 2 * length || !text.is_ascii() {
        return None;
    }
    (0..length)
        .map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok())
        .collect()
}
