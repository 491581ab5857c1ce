//! The generated contract against the facts of Dapr v1.18.2.
//!
//! `contract.txt` has one fact on a line, sorted by byte: files with their package, messages,
//! fields (number, shape, oneof, unusual JSON name, deprecation), enums with their values,
//! services, and methods. It was taken from the descriptors of the reference implementation, so a
//! missing, extra or changed fact is a break of wire compatibility, not a matter of taste.

use std::{collections::BTreeSet, fmt::Write as _};

use outrigger_wire::{DESCRIPTORS, descriptor_pool};
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const EXPECTED: &str = include_str!("contract.txt");

#[test]
fn every_fact_of_the_contract_holds() {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut facts = Facts::default();
    for file in &set.file {
        if !file.package().starts_with("google.") {
            facts.file(file);
        }
    }
    let expected: BTreeSet<String> = EXPECTED.lines().map(str::to_owned).collect();
    let missing: Vec<_> = expected.difference(&facts.0).collect();
    let extra: Vec<_> = facts.0.difference(&expected).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nextra: {extra:#?}"
    );
}

#[test]
fn the_descriptor_set_is_complete_and_lean() {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let names: BTreeSet<_> = set.file.iter().map(|file| file.name()).collect();
    assert_eq!(names.len(), set.file.len(), "a file is listed twice");
    for file in &set.file {
        assert!(file.source_code_info.is_none(), "{}", file.name());
        for import in &file.dependency {
            assert!(names.contains(import.as_str()), "{import} is not included");
        }
    }
}

#[test]
fn the_pool_knows_error_details() {
    for name in [
        "google.rpc.Status",
        "google.rpc.ErrorInfo",
        "google.rpc.ResourceInfo",
        "google.rpc.BadRequest",
        "google.rpc.Help",
        "dapr.proto.runtime.v1.Job",
        "HistoryEvent",
    ] {
        assert!(descriptor_pool().get_message_by_name(name).is_some(), "{name}");
    }
}

#[derive(Default)]
struct Facts(BTreeSet<String>);

impl Facts {
    fn file(&mut self, file: &prost_types::FileDescriptorProto) {
        let package = file.package();
        let shown = if package.is_empty() { "-" } else { package };
        self.0.insert(format!("file {} {shown}", file.name()));
        let scope = if package.is_empty() {
            String::new()
        } else {
            format!("{package}.")
        };
        for message in &file.message_type {
            self.message(message, &scope);
        }
        for each in &file.enum_type {
            self.enumeration(each, &scope);
        }
        for service in &file.service {
            let service_name = format!("{scope}{}", service.name());
            for method in &service.method {
                let deprecated = method.options.as_ref().is_some_and(|o| o.deprecated());
                self.0.insert(format!(
                    "{service_name}/{} {}{} -> {}{}{}",
                    method.name(),
                    stream(method.client_streaming()),
                    absolute(method.input_type()),
                    stream(method.server_streaming()),
                    absolute(method.output_type()),
                    mark(deprecated),
                ));
            }
            self.0.insert(format!("service {service_name}"));
        }
    }

    fn message(&mut self, message: &DescriptorProto, scope: &str) {
        let name = format!("{scope}{}", message.name());
        let deprecated = message.options.as_ref().is_some_and(|o| o.deprecated());
        self.0.insert(format!("message {name}{}", mark(deprecated)));
        for field in &message.field {
            let mut fact = format!(
                "{name}.{} {} {}",
                field.name(),
                field.number(),
                shape(message, field)
            );
            if let Some(index) = field.oneof_index
                && !field.proto3_optional()
            {
                let oneof = message.oneof_decl[usize::try_from(index).unwrap()].name();
                write!(fact, " oneof={oneof}").unwrap();
            }
            if field.json_name() != lower_camel(field.name()) {
                write!(fact, " json={}", field.json_name()).unwrap();
            }
            fact.push_str(mark(field.options.as_ref().is_some_and(|o| o.deprecated())));
            self.0.insert(fact);
        }
        let inner = format!("{name}.");
        for each in &message.enum_type {
            self.enumeration(each, &inner);
        }
        for nested in &message.nested_type {
            if !is_map_entry(nested) {
                self.message(nested, &inner);
            }
        }
    }

    fn enumeration(&mut self, each: &EnumDescriptorProto, scope: &str) {
        let name = format!("{scope}{}", each.name());
        let deprecated = each.options.as_ref().is_some_and(|o| o.deprecated());
        self.0.insert(format!("enum {name}{}", mark(deprecated)));
        for value in &each.value {
            let deprecated = value.options.as_ref().is_some_and(|o| o.deprecated());
            self.0.insert(format!(
                "{name}.{} {} value{}",
                value.name(),
                value.number(),
                mark(deprecated)
            ));
        }
    }
}

fn shape(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let repeated = field.label() == Label::Repeated;
    if repeated && field.r#type() == Type::Message {
        let last = field.type_name().rsplit('.').next().unwrap();
        let entry = message
            .nested_type
            .iter()
            .find(|nested| nested.name() == last && is_map_entry(nested));
        if let Some(entry) = entry {
            return format!(
                "map<{}, {}>",
                type_name(&entry.field[0]),
                type_name(&entry.field[1])
            );
        }
    }
    let name = type_name(field);
    match (repeated, field.proto3_optional()) {
        (true, _) => format!("repeated {name}"),
        (_, true) => format!("optional {name}"),
        _ => name,
    }
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => absolute(field.type_name()).to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|o| o.map_entry())
}

fn absolute(name: &str) -> &str {
    name.trim_start_matches('.')
}

fn stream(yes: bool) -> &'static str {
    if yes { "stream " } else { "" }
}

fn mark(deprecated: bool) -> &'static str {
    if deprecated { " deprecated" } else { "" }
}

/// protobuf's own rule for JSON names: drop underscores, capitalise what follows them.
fn lower_camel(name: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            out.push(c.to_ascii_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}
