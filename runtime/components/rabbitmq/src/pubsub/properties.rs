//! AMQP properties as metadata of a delivery (`addAMQPPropertiesToMetadata` in components-contrib `pubsub/rabbitmq`).

use lapin::{BasicProperties, types::AMQPValue};
use outrigger_component::Metadata;

/// The properties that upstream passes on, and all headers, below `metadata.`.
pub(super) fn metadata(properties: &BasicProperties) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in [
        ("metadata.messageid", properties.message_id()),
        ("metadata.correlationid", properties.correlation_id()),
        ("metadata.type", properties.kind()),
        ("metadata.contenttype", properties.content_type()),
    ] {
        if let Some(value) = value.as_ref().filter(|value| !value.as_str().is_empty()) {
            metadata.insert(key.to_owned(), value.as_str().to_owned());
        }
    }
    for (key, value) in properties.headers().iter().flat_map(|headers| headers.inner()) {
        if !matches!(value, AMQPValue::Void) {
            metadata.insert(format!("metadata.{key}"), text(value));
        }
    }
    metadata
}

/// A value as Go's `%v` prints it.
fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::DecimalValue(value) => format!("{{{} {}}}", value.scale, value.value),
        AMQPValue::ShortString(value) => value.as_str().to_owned(),
        AMQPValue::LongString(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        AMQPValue::ByteArray(value) => String::from_utf8_lossy(value.as_slice()).into_owned(),
        AMQPValue::Timestamp(seconds) => seconds.to_string(),
        AMQPValue::FieldArray(values) => {
            let items: Vec<_> = values.as_slice().iter().map(text).collect();
            format!("[{}]", items.join(" "))
        }
        AMQPValue::FieldTable(table) => {
            let items: Vec<_> = table
                .inner()
                .iter()
                .map(|(key, value)| format!("{key}:{}", text(value)))
                .collect();
            format!("map[{}]", items.join(" "))
        }
        AMQPValue::Void => "<nil>".to_owned(),
    }
}
