//! Messages as JSON schemas, as their proto3 JSON is written.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::prost_types::source_code_info::Location;
use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

/// Schemas by their type's full name, filled in as they are referred to.
#[derive(Default)]
pub(crate) struct Schemas {
    done: BTreeMap<String, Value>,
    /// Under way, so that a type that holds itself ends.
    open: BTreeSet<String>,
}

impl Schemas {
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.done.into_iter().collect::<Map<_, _>>())
    }

    pub(crate) fn insert(&mut self, name: &str, schema: Value) {
        self.done.insert(name.to_owned(), schema);
    }

    /// A reference to a message's schema, or the schema itself where the type's JSON is no object.
    pub(crate) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(schema) = well_known(message.full_name()) {
            return schema;
        }
        let name = message.full_name();
        if !self.done.contains_key(name) && self.open.insert(name.to_owned()) {
            let schema = self.object(message, |_| true);
            self.open.remove(name);
            self.done.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// The object of some fields of a message, for bodies that leave out what the path says.
    pub(crate) fn object(
        &mut self,
        message: &MessageDescriptor,
        keep: impl Fn(&FieldDescriptor) -> bool,
    ) -> Value {
        let properties: Map<String, Value> = message
            .fields()
            .filter(|field| keep(field))
            .map(|field| (field.json_name().to_owned(), self.field(&field)))
            .collect();
        let mut schema = json!({"type": "object", "properties": properties});
        describe(&mut schema, &message.parent_file(), message.path());
        let oneofs: Vec<String> = message
            .oneofs()
            .filter(|oneof| !oneof.is_synthetic())
            .map(|oneof| {
                let cases: Vec<String> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
                format!("At most one of {} ({}).", cases.join(", "), oneof.name())
            })
            .collect();
        if !oneofs.is_empty() {
            let before = schema["description"].as_str().unwrap_or_default().to_owned();
            schema["description"] =
                Value::String([vec![before], oneofs].concat().join("\n").trim().to_owned());
        }
        schema
    }

    /// A field's schema, with the comment before it.
    pub(crate) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            json!({"type": "object", "additionalProperties": self.kind(&entry.map_entry_value_field().kind())})
        } else if field.is_list() {
            json!({"type": "array", "items": self.kind(&field.kind())})
        } else {
            self.kind(&field.kind())
        };
        // Beside a reference OpenAPI 3.0 reads nothing else.
        if let Some(to) = schema.get("$ref").cloned()
            && comment(&field.parent_message().parent_file(), field.path()).is_some()
        {
            schema = json!({"allOf": [{"$ref": to}]});
        }
        if schema.get("$ref").is_none() {
            describe(&mut schema, &field.parent_message().parent_file(), field.path());
        }
        schema
    }

    pub(crate) fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "int64", "minimum": 0}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::Enum(kind) => self.enumeration(kind),
            Kind::Message(message) => self.message(message),
        }
    }

    fn enumeration(&mut self, kind: &EnumDescriptor) -> Value {
        if kind.full_name() == "google.protobuf.NullValue" {
            return json!({"nullable": true});
        }
        let name = kind.full_name();
        if !self.done.contains_key(name) {
            let values: Vec<String> = kind.values().map(|value| value.name().to_owned()).collect();
            let mut schema = json!({"type": "string", "enum": values});
            describe(&mut schema, &kind.parent_file(), kind.path());
            self.done.insert(name.to_owned(), schema);
        }
        reference(name)
    }
}

pub(crate) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Types whose proto3 JSON is of another shape than their fields.
fn well_known(name: &str) -> Option<Value> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": r"^-?\d+(\.\d{1,9})?s$"}),
        "FieldMask" => json!({"type": "string"}),
        "Struct" => json!({"type": "object", "additionalProperties": true}),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array", "items": {}}),
        "Any" => {
            json!({"type": "object", "properties": {"@type": {"type": "string"}}, "additionalProperties": true})
        }
        "Empty" => json!({"type": "object"}),
        "DoubleValue" | "FloatValue" => json!({"type": "number", "nullable": true}),
        "Int32Value" | "UInt32Value" => json!({"type": "integer", "nullable": true}),
        "Int64Value" => json!({"type": "string", "format": "int64", "nullable": true}),
        "UInt64Value" => json!({"type": "string", "format": "uint64", "nullable": true}),
        "BoolValue" => json!({"type": "boolean", "nullable": true}),
        "StringValue" => json!({"type": "string", "nullable": true}),
        "BytesValue" => json!({"type": "string", "format": "byte", "nullable": true}),
        _ => return None,
    })
}

pub(crate) fn describe(schema: &mut Value, file: &FileDescriptor, path: &[i32]) {
    if let Some(text) = comment(file, path) {
        schema["description"] = Value::String(text);
    }
}

/// The comment before a declaration, or beside it, where the descriptors hold source information.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> Option<String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    let location: &Location = info.location.iter().find(|location| location.path == path)?;
    let text = location
        .leading_comments
        .as_deref()
        .or(location.trailing_comments.as_deref())?;
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
