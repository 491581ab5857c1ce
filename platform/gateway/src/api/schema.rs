//! Messages as `GetMethodSchema` tells them (G1.3).

use outrigger_platform_wire::virtufin::{FieldSchema, MethodSchema, OneofCaseSchema};
use prost_reflect::{FieldDescriptor, Kind, MethodDescriptor};
use tonic::Status;

/// The fields of a method's input or output, in their order. Before the first case of a oneof stands an entry of type
/// `oneof` that lists the cases.
///
/// # Errors
/// `INVALID_ARGUMENT` for another side.
pub(crate) fn schema(method: &MethodDescriptor, side: &str) -> Result<MethodSchema, Status> {
    let (side, message) = match side {
        "" | "input" => ("input", method.input()),
        "output" => ("output", method.output()),
        other => {
            return Err(Status::invalid_argument(format!(
                "schema_type is \"input\" or \"output\", not {other:?}"
            )));
        }
    };
    let mut fields = Vec::new();
    for field in message.fields() {
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        match oneof {
            None => fields.push(plain(&field)),
            Some(oneof) => {
                let mut cases = oneof.fields();
                if cases.next().is_some_and(|first| first.number() == field.number()) {
                    fields.push(FieldSchema {
                        name: oneof.name().to_owned(),
                        r#type: "oneof".to_owned(),
                        oneof_group: oneof.name().to_owned(),
                        oneof_cases: oneof.fields().map(|case| case_of(&case)).collect(),
                        ..FieldSchema::default()
                    });
                }
                fields.push(FieldSchema {
                    oneof_group: oneof.name().to_owned(),
                    ..plain(&field)
                });
            }
        }
    }
    Ok(MethodSchema {
        input_type_name: method.input().full_name().to_owned(),
        output_type_name: method.output().full_name().to_owned(),
        schema_type: side.to_owned(),
        fields,
    })
}

fn plain(field: &FieldDescriptor) -> FieldSchema {
    FieldSchema {
        name: field.name().to_owned(),
        r#type: kind(field),
        type_name: type_name(&field.kind()),
        is_repeated: field.is_list(),
        is_optional: field.field_descriptor_proto().proto3_optional(),
        ..FieldSchema::default()
    }
}

fn case_of(field: &FieldDescriptor) -> OneofCaseSchema {
    OneofCaseSchema {
        name: field.name().to_owned(),
        r#type: kind(field),
        type_name: type_name(&field.kind()),
        field_number: i32::try_from(field.number()).unwrap_or_default(),
    }
}

/// The type as a `.proto` file writes it; `message`, `enum` and `map<…>` for what has a name of its own.
fn kind(field: &FieldDescriptor) -> String {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let value = entry.map_entry_value_field();
        let named = type_name(&value.kind());
        let value = if named.is_empty() {
            scalar(&value.kind()).to_owned()
        } else {
            named
        };
        return format!("map<{}, {value}>", scalar(&entry.map_entry_key_field().kind()));
    }
    scalar(&field.kind()).to_owned()
}

fn scalar(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Message(_) => "message",
        Kind::Enum(_) => "enum",
    }
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(kind) => kind.full_name().to_owned(),
        _ => String::new(),
    }
}
