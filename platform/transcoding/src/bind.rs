//! Text of paths and queries as values of fields.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};

use crate::rule::{field, resolve};

/// Sets a path variable's field.
pub(crate) fn path(message: &mut DynamicMessage, path: &[String], text: &str) -> Result<(), String> {
    let target = resolve(message.descriptor(), path)?;
    let value = single(&target, text).map_err(|reason| format!("{}: {reason}", path.join(".")))?;
    parent(message, path)?.set_field(&target, value);
    Ok(())
}

/// Sets the fields that the query names, each given as `name=value`, `outer.inner=value`, `map[key]=value`; a
/// repeated field is named once per item. `bound` are the field paths of the URL's path, which a query may not name.
pub(crate) fn query<'a>(
    message: &mut DynamicMessage,
    query: &str,
    bound: impl Iterator<Item = &'a [String]>,
) -> Result<(), String> {
    let bound: Vec<String> = bound.map(|path| path.join(".")).collect();
    let mut seen = HashSet::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let (names, key) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((names, key)) => (names, Some(key)),
            None => (name.as_ref(), None),
        };
        let path: Vec<String> = names.split('.').map(str::to_owned).collect();
        let unknown = |reason: String| format!("query parameter {name:?}: {reason}");
        let target = resolve(message.descriptor(), &path).map_err(unknown)?;
        // Under its own name whatever spelling the query has.
        let full = canonical(message.descriptor(), &path).join(".");
        if bound.contains(&full) {
            return Err(unknown("is given by the path".to_owned()));
        }
        if !target.is_list() && !target.is_map() {
            if !seen.insert(full) {
                return Err(unknown("is given twice".to_owned()));
            }
            if let Some(oneof) = target.containing_oneof().filter(|oneof| !oneof.is_synthetic())
                && !seen.insert(oneof.full_name().to_owned())
            {
                return Err(unknown(format!("another case of {} is given", oneof.name())));
            }
        }
        let holder = parent(message, &path)?;
        match (target.is_map(), key) {
            (true, Some(key)) => {
                let Kind::Message(entry) = target.kind() else {
                    return Err(unknown("is no map".to_owned()));
                };
                let key = map_key(&entry.map_entry_key_field(), key).map_err(unknown)?;
                let value = single(&entry.map_entry_value_field(), &text).map_err(unknown)?;
                if let Some(map) = holder.get_field_mut(&target).as_map_mut() {
                    map.insert(key, value);
                }
            }
            (true, None) => return Err(unknown("is a map: name a key in brackets".to_owned())),
            (false, Some(_)) => return Err(unknown("is no map".to_owned())),
            (false, None) => {
                let value = single(&target, &text).map_err(unknown)?;
                if target.is_list() {
                    if let Some(list) = holder.get_field_mut(&target).as_list_mut() {
                        list.push(value);
                    }
                } else {
                    holder.set_field(&target, value);
                }
            }
        }
    }
    Ok(())
}

/// The message that holds the last field of a path, made on the way where it is not there.
fn parent<'a>(message: &'a mut DynamicMessage, path: &[String]) -> Result<&'a mut DynamicMessage, String> {
    let Some((_, outer)) = path.split_last() else {
        return Ok(message);
    };
    let mut at = message;
    for name in outer {
        let step = field(&at.descriptor(), name).ok_or_else(|| format!("no field {name:?}"))?;
        at = at
            .get_field_mut(&step)
            .as_message_mut()
            .ok_or_else(|| format!("{name:?} is no single message"))?;
    }
    Ok(at)
}

fn canonical(mut message: MessageDescriptor, path: &[String]) -> Vec<String> {
    let mut names = Vec::with_capacity(path.len());
    for name in path {
        let Some(found) = field(&message, name) else {
            break;
        };
        names.push(found.name().to_owned());
        if let Kind::Message(inner) = found.kind() {
            message = inner;
        }
    }
    names
}

/// One value of a field's kind; an item where the field is repeated.
fn single(target: &FieldDescriptor, text: &str) -> Result<Value, String> {
    let kind = target.kind();
    Ok(match &kind {
        Kind::Double => Value::F64(number(text, "a number")?),
        Kind::Float => Value::F32(number(text, "a number")?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number(text, "a 32-bit integer")?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number(text, "a 64-bit integer")?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number(text, "a 32-bit integer that is not negative")?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number(text, "a 64-bit integer that is not negative")?),
        Kind::Bool => Value::Bool(boolean(text)?),
        Kind::String => Value::String(text.to_owned()),
        Kind::Bytes => Value::Bytes(bytes(text)?.into()),
        Kind::Enum(kind) => Value::EnumNumber(match kind.get_value_by_name(text) {
            Some(value) => value.number(),
            // A number stands for itself, known or not, as in proto3 JSON.
            None => text
                .parse()
                .map_err(|_| format!("{text:?} is no value of {}", kind.full_name()))?,
        }),
        Kind::Message(kind) => Value::Message(well_known(kind, text)?),
    })
}

/// Messages whose JSON is a text or a number: times, durations, masks, wrappers.
fn well_known(kind: &MessageDescriptor, text: &str) -> Result<DynamicMessage, String> {
    let json = match kind.full_name() {
        "google.protobuf.BoolValue" => serde_json::Value::Bool(boolean(text)?),
        "google.protobuf.Timestamp"
        | "google.protobuf.Duration"
        | "google.protobuf.FieldMask"
        | "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => serde_json::Value::String(text.to_owned()),
        name => return Err(format!("{name} cannot be written as one value")),
    };
    DynamicMessage::deserialize(kind.clone(), json)
        .map_err(|error| format!("{text:?} is no {}: {error}", kind.full_name()))
}

fn map_key(kind: &FieldDescriptor, text: &str) -> Result<MapKey, String> {
    single(kind, text)?
        .into_map_key()
        .ok_or_else(|| "is no key of a map".to_owned())
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not {what}"))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Base64 in either alphabet, with or without padding, as proto3 JSON reads it.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [base64::alphabet::STANDARD, base64::alphabet::URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
        .ok_or_else(|| format!("{text:?} is no Base64"))
}
