//! Canonical protobuf JSON ("protojson").
//!
//! Dapr's HTTP API renders several gRPC messages this way, and embeds them as `Any` in error
//! details. Decoding is strict unless [`Parse::ignore_unknown`] is set, as in Go's protojson.
//!
//! Nesting is bounded by prost's limit of 100 messages, so that hostile input cannot exhaust the
//! stack. One level of a `google.protobuf.Value` costs two to three messages: a free-form JSON
//! value may be about 30 objects deep, where Go allows thousands.

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::descriptor_pool;

/// The package whose messages have a JSON form of their own.
const WELL_KNOWN: &str = "google.protobuf";
const ANY: &str = "google.protobuf.Any";

/// Why a message could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such message in [`descriptor_pool`].
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// The Rust type and the named message disagree, or an `Any` holds an undecodable value.
    #[error("message does not match its descriptor: {0}")]
    Mismatch(#[from] prost::DecodeError),
    /// The JSON is malformed, does not fit the message, or cannot be produced (an `Any` of a type
    /// that is not in the pool).
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// How to render. The default is protojson's: lower camel case names, fields at their default
/// left out, 64-bit integers as strings, enums by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Render {
    /// Also write fields that are not set, as Go's `EmitUnpopulated`: defaults, empty lists and
    /// maps, and `null` for messages. Unset `optional` and `oneof` fields stay out.
    pub emit_defaults: bool,
    /// Use the names of the `.proto` file in place of the JSON names.
    pub use_proto_names: bool,
    /// Write enums by number.
    pub enum_numbers: bool,
}

/// How to parse. Both name spellings are always accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parse {
    /// Skip fields the message does not have (Go's `DiscardUnknown`).
    pub ignore_unknown: bool,
}

/// Renders `message`, which is the protobuf message `full_name` (such as
/// `dapr.proto.runtime.v1.Job`), as protojson with default options.
pub fn to_json<M: Message>(full_name: &str, message: &M) -> Result<Value, Error> {
    to_json_with(full_name, message, Render::default())
}

/// [`to_json`] with options.
pub fn to_json_with<M: Message>(full_name: &str, message: &M, render: Render) -> Result<Value, Error> {
    encoded_to_json(full_name, &message.encode_to_vec(), render)
}

/// Renders an already encoded message, for instance the payload of an `Any` or of a status
/// detail.
pub fn encoded_to_json(full_name: &str, encoded: &[u8], render: Render) -> Result<Value, Error> {
    let descriptor = descriptor(full_name)?;
    let message = DynamicMessage::decode(descriptor.clone(), encoded)?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(true)
        .skip_default_fields(!render.emit_defaults)
        .use_proto_field_name(render.use_proto_names)
        .use_enum_numbers(render.enum_numbers);
    let mut json = message.serialize_with_options(serde_json::value::Serializer, &options)?;
    shorten_numbers(&mut json);
    if render.emit_defaults {
        add_nulls(&descriptor, &mut json, render.use_proto_names);
    }
    Ok(json)
}

/// Parses protojson into `M`, which is the protobuf message `full_name`. Unknown fields are an
/// error.
pub fn from_json<M: Message + Default>(full_name: &str, json: &Value) -> Result<M, Error> {
    from_json_with(full_name, json, Parse::default())
}

/// [`from_json`] with options.
pub fn from_json_with<M: Message + Default>(full_name: &str, json: &Value, parse: Parse) -> Result<M, Error> {
    decode(full_name, json, parse)
}

/// Parses protojson text into `M`; trailing text is an error.
pub fn from_slice<M: Message + Default>(full_name: &str, json: &[u8], parse: Parse) -> Result<M, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let message = decode(full_name, &mut deserializer, parse)?;
    deserializer.end()?;
    Ok(message)
}

fn decode<'de, M, D>(full_name: &str, deserializer: D, parse: Parse) -> Result<M, Error>
where
    M: Message + Default,
    D: serde::Deserializer<'de, Error = serde_json::Error>,
{
    let options = DeserializeOptions::new().deny_unknown_fields(!parse.ignore_unknown);
    let message = DynamicMessage::deserialize_with_options(descriptor(full_name)?, deserializer, &options)?;
    Ok(M::decode(message.encode_to_vec().as_slice())?)
}

/// Go writes a floating-point whole number without a fraction (`1`, not `1.0`), which is what
/// applications see when a `google.protobuf.Value` carries their JSON.
fn shorten_numbers(json: &mut Value) {
    match json {
        Value::Number(number) => {
            // Beyond 2^53 not every integer is a float; below it the conversion is exact.
            const EXACT: f64 = 9_007_199_254_740_992.0;
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() <= EXACT
                && !(float == 0.0 && float.is_sign_negative())
            {
                *number = serde_json::Number::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten_numbers),
        Value::Object(entries) => entries.values_mut().for_each(shorten_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// prost-reflect leaves unset message fields out where Go writes `null`.
fn add_nulls(message: &MessageDescriptor, json: &mut Value, proto_names: bool) {
    let Value::Object(object) = json else {
        return;
    };
    if message.full_name() == ANY {
        // The payload's fields stand beside `@type`, unless its own JSON is no plain object, in
        // which case the type is well-known and its descriptor's fields do not apply.
        let inner = object
            .get("@type")
            .and_then(Value::as_str)
            .and_then(|url| url.rsplit('/').next())
            .and_then(|name| descriptor_pool().get_message_by_name(name));
        if let Some(inner) = inner {
            add_nulls(&inner, json, proto_names);
        }
        return;
    }
    if message.package_name() == WELL_KNOWN {
        return;
    }
    for field in message.fields() {
        let Kind::Message(inner) = field.kind() else {
            continue;
        };
        let name = if proto_names {
            field.name()
        } else {
            field.json_name()
        };
        match object.get_mut(name) {
            Some(Value::Array(items)) if field.is_list() => {
                for item in items {
                    add_nulls(&inner, item, proto_names);
                }
            }
            Some(Value::Object(entries)) if field.is_map() => {
                if let Kind::Message(value) = inner.map_entry_value_field().kind() {
                    for entry in entries.values_mut() {
                        add_nulls(&value, entry, proto_names);
                    }
                }
            }
            Some(single) => add_nulls(&inner, single, proto_names),
            // `optional` is a oneof of one in a descriptor, so this leaves both out.
            None if field.containing_oneof().is_none() => {
                object.insert(name.to_owned(), Value::Null);
            }
            None => {}
        }
    }
}

fn descriptor(full_name: &str) -> Result<MessageDescriptor, Error> {
    descriptor_pool()
        .get_message_by_name(full_name)
        .ok_or_else(|| Error::UnknownType(full_name.to_owned()))
}

#[cfg(test)]
mod tests {
    use prost_types::{Any, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::dapr::proto::{
        common::v1::{JobFailurePolicy, JobFailurePolicyConstant, job_failure_policy::Policy},
        internals::v1::JobHttpRequest,
        runtime::v1::{
            ConversationResponseAlpha2, ConversationResultAlpha2, ConversationResultChoices,
            GetActorReminderResponse, GetJobResponse, GetWorkflowResponse, Job,
        },
    };

    const JOB: &str = "dapr.proto.runtime.v1.Job";

    fn job() -> Job {
        Job {
            name: "j".to_owned(),
            due_time: Some("10s".to_owned()),
            failure_policy: Some(JobFailurePolicy {
                policy: Some(Policy::Constant(JobFailurePolicyConstant {
                    interval: Some(prost_types::Duration {
                        seconds: 1,
                        nanos: 500_000_000,
                    }),
                    max_retries: Some(3),
                })),
            }),
            ..Job::default()
        }
    }

    #[test]
    fn names_are_camel_case_and_defaults_are_left_out() {
        assert_eq!(
            to_json(JOB, &job()).unwrap(),
            json!({
                "name": "j",
                "dueTime": "10s",
                "failurePolicy": {"constant": {"interval": "1.500s", "maxRetries": 3}},
            })
        );
    }

    #[test]
    fn declared_json_names_win() {
        let reminder = GetActorReminderResponse {
            actor_id: "a".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            to_json("dapr.proto.runtime.v1.GetActorReminderResponse", &reminder).unwrap(),
            json!({"actorID": "a"})
        );
        let workflow = GetWorkflowResponse {
            created_at: Some(Timestamp { seconds: 1, nanos: 0 }),
            ..Default::default()
        };
        let render = Render {
            use_proto_names: true,
            ..Render::default()
        };
        assert_eq!(
            to_json_with("dapr.proto.runtime.v1.GetWorkflowResponse", &workflow, render).unwrap(),
            json!({"created_at": "1970-01-01T00:00:01Z"})
        );
    }

    #[test]
    fn emitted_defaults_have_nulls_for_messages_but_not_for_optionals() {
        let render = Render {
            emit_defaults: true,
            ..Render::default()
        };
        assert_eq!(
            to_json_with(
                "dapr.proto.runtime.v1.GetJobResponse",
                &GetJobResponse::default(),
                render
            )
            .unwrap(),
            json!({"job": null})
        );
        let response = ConversationResponseAlpha2 {
            outputs: vec![ConversationResultAlpha2 {
                choices: vec![ConversationResultChoices::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(
            to_json_with(
                "dapr.proto.runtime.v1.ConversationResponseAlpha2",
                &response,
                render
            )
            .unwrap(),
            json!({"outputs": [
                {"choices": [{"finishReason": "", "index": "0", "message": null}]}
            ]})
        );
    }

    #[test]
    fn status_details_are_rendered_in_place() {
        let info = tonic_types::pb::ErrorInfo {
            reason: "DAPR_STATE_NOT_FOUND".to_owned(),
            domain: "dapr.io".to_owned(),
            ..Default::default()
        };
        let status = tonic_types::pb::Status {
            code: 3,
            message: "no".to_owned(),
            details: vec![Any {
                type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
                value: info.encode_to_vec(),
            }],
        };
        assert_eq!(
            to_json("google.rpc.Status", &status).unwrap(),
            json!({
                "code": 3,
                "message": "no",
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "DAPR_STATE_NOT_FOUND",
                    "domain": "dapr.io",
                }],
            })
        );
    }

    #[test]
    fn parses_both_spellings_and_any_json_value() {
        let full_name = "dapr.proto.internals.v1.JobHTTPRequest";
        let text = br#"{"due_time":"1s","data":{"a":[1,1.5,null]},"failurePolicy":{"drop":{}}}"#;
        let request: JobHttpRequest = from_slice(full_name, text, Parse::default()).unwrap();
        assert_eq!(request.due_time.as_deref(), Some("1s"));
        assert!(matches!(
            request.failure_policy.and_then(|p| p.policy),
            Some(Policy::Drop(_))
        ));
        let json = to_json(
            full_name,
            &JobHttpRequest {
                data: request.data,
                ..Default::default()
            },
        )
        .unwrap();
        assert_eq!(json, json!({"data": {"a": [1, 1.5, null]}}));
    }

    #[test]
    fn round_trips() {
        let json = to_json(JOB, &job()).unwrap();
        assert_eq!(from_json::<Job>(JOB, &json).unwrap(), job());
    }

    #[test]
    fn unknown_fields_are_refused_unless_ignored() {
        let json = json!({"name": "j", "nope": 1});
        assert!(matches!(from_json::<Job>(JOB, &json), Err(Error::Json(_))));
        let lenient = Parse { ignore_unknown: true };
        assert_eq!(from_json_with::<Job>(JOB, &json, lenient).unwrap().name, "j");
    }

    #[test]
    fn bad_input_is_an_error() {
        assert!(from_slice::<Job>(JOB, b"{} x", Parse::default()).is_err());
        assert!(from_slice::<Job>(JOB, b"[]", Parse::default()).is_err());
        assert!(matches!(
            to_json("no.such.Message", &job()),
            Err(Error::UnknownType(_))
        ));
        assert!(matches!(
            encoded_to_json(JOB, &[0xff], Render::default()),
            Err(Error::Mismatch(_))
        ));
    }

    #[test]
    fn nesting_is_bounded() {
        let parse = |depth: usize| {
            let text = format!("{{\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
            from_slice::<JobHttpRequest>(
                "dapr.proto.internals.v1.JobHTTPRequest",
                text.as_bytes(),
                Parse::default(),
            )
        };
        assert!(parse(20).is_ok());
        assert!(parse(10_000).is_err());
    }
}
