//! Canonical protobuf JSON ("protojson").
//!
//! Dapr's HTTP API renders several gRPC messages this way, and embeds them as `Any` in error
//! details. Decoding is strict unless [`Parse::ignore_unknown`] is set, as in Go's protojson.

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::descriptor_pool;

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
    /// Also write fields without presence that hold their default (Go's `EmitUnpopulated`, except
    /// that unset messages and oneofs stay out).
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
pub fn to_json_with<M: Message>(
    full_name: &str,
    message: &M,
    render: Render,
) -> Result<Value, Error> {
    encoded_to_json(full_name, &message.encode_to_vec(), render)
}

/// Renders an already encoded message, for instance the payload of an `Any` or of a status
/// detail.
pub fn encoded_to_json(full_name: &str, encoded: &[u8], render: Render) -> Result<Value, Error> {
    let message = DynamicMessage::decode(descriptor(full_name)?, encoded)?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(true)
        .skip_default_fields(!render.emit_defaults)
        .use_proto_field_name(render.use_proto_names)
        .use_enum_numbers(render.enum_numbers);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Parses protojson into `M`, which is the protobuf message `full_name`. Unknown fields are an
/// error.
pub fn from_json<M: Message + Default>(full_name: &str, json: &Value) -> Result<M, Error> {
    from_json_with(full_name, json, Parse::default())
}

/// [`from_json`] with options.
pub fn from_json_with<M: Message + Default>(
    full_name: &str,
    json: &Value,
    parse: Parse,
) -> Result<M, Error> {
    decode(full_name, json, parse)
}

/// Parses protojson text into `M`; trailing text is an error.
pub fn from_slice<M: Message + Default>(
    full_name: &str,
    json: &[u8],
    parse: Parse,
) -> Result<M, Error> {
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
    let message =
        DynamicMessage::deserialize_with_options(descriptor(full_name)?, deserializer, &options)?;
    Ok(M::decode(message.encode_to_vec().as_slice())?)
}

fn descriptor(full_name: &str) -> Result<MessageDescriptor, Error> {
    descriptor_pool()
        .get_message_by_name(full_name)
        .ok_or_else(|| Error::UnknownType(full_name.to_owned()))
}
