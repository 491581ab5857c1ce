//! The contract's structure, `sdks/structure.json`, beside what the generated code sends.

use std::path::Path;

use outrigger_platform_wire::descriptor_pool;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, prost::Message};
use serde_json::{Map, Value, json};

pub(crate) fn structure() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../structure.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn kind(field: &FieldDescriptor) -> String {
    let name = |kind: Kind| match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(kind) => kind.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            panic!("a map has entries");
        };
        let [key, value] =
            [entry.map_entry_key_field(), entry.map_entry_value_field()].map(|field| name(field.kind()));
        return format!("map<{key}, {value}>");
    }
    let name = name(field.kind());
    if field.is_list() {
        format!("repeated {name}")
    } else {
        name
    }
}

/// Fields of a message by its descriptor, in the words of the file.
pub(crate) fn fields(message: &str) -> Value {
    let message = descriptor_pool()
        .get_message_by_name(message)
        .expect("it is there");
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    fields
        .iter()
        .map(|field| json!({"name": field.name(), "number": field.number(), "type": kind(field)}))
        .collect()
}

/// A message with every field set sends each of those of the contract, but for other cases of a oneof.
pub(crate) fn schema(name: &str, full: &impl Message, others: &[&str]) {
    let name = format!("virtufin.{name}");
    assert_eq!(fields(&name), structure()["messages"][&name], "{name}");
    let descriptor = descriptor_pool().get_message_by_name(&name).unwrap();
    let message = DynamicMessage::decode(descriptor.clone(), full.encode_to_vec().as_slice()).unwrap();
    assert_eq!(message.unknown_fields().count(), 0, "{name}");
    for field in descriptor
        .fields()
        .filter(|field| !others.contains(&field.name()))
    {
        assert!(message.has_field(&field), "{name}.{}", field.name());
    }
}

/// Enums and services by their descriptors, in the words of the file.
pub(crate) fn enums() -> Value {
    let mut all = Map::new();
    for kind in descriptor_pool()
        .all_enums()
        .filter(|kind| kind.package_name() == "virtufin")
    {
        let values = kind
            .values()
            .map(|value| (value.name().to_owned(), value.number().into()));
        all.insert(kind.full_name().to_owned(), Value::Object(values.collect()));
    }
    all.into()
}

pub(crate) fn services() -> Value {
    let mut all = Map::new();
    for service in descriptor_pool()
        .services()
        .filter(|service| service.package_name() == "virtufin")
    {
        let methods = service.methods().map(|method| {
            json!({
                "name": method.name(),
                "input": method.input().full_name(),
                "output": method.output().full_name(),
                "stream": method.is_server_streaming(),
            })
        });
        all.insert(service.full_name().to_owned(), methods.collect());
    }
    all.into()
}

/// The names of a service's methods.
pub(crate) fn methods(service: &str) -> Vec<String> {
    let methods = &structure()["services"][service];
    methods
        .as_array()
        .unwrap()
        .iter()
        .map(|method| method["name"].as_str().unwrap().to_owned())
        .collect()
}
