//! OpenAPI 3 of the rules (G7.1).

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::rule::{Body, Rule, resolve};
use crate::schema::{Schemas, comment, reference};
use crate::transcoder::Transcoder;

/// How deep nested messages are spelt out as query parameters; a deeper one is left to those who know its name.
const QUERY_DEPTH: usize = 3;
const ERROR: &str = "google.rpc.Status";

/// What a document says about itself.
#[derive(Debug, Clone, Default)]
pub struct Info {
    /// The API's name.
    pub title: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub description: String,
}

/// The OpenAPI 3 document of all rules of these services: paths, parameters, bodies and schemas with the comments
/// of the `.proto` files, where the descriptors carry them.
pub fn openapi<S: AsRef<str>>(pool: &DescriptorPool, services: &[S], info: &Info) -> Value {
    let transcoder = Transcoder::new(pool, services);
    let mut rules: Vec<&Rule> = transcoder.rules().collect();
    rules.sort_by_key(|rule| (rule.template.openapi(), rule.http_method.to_string()));
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    let mut used = Map::new();
    for rule in rules {
        let item = paths.entry(rule.template.openapi()).or_insert_with(|| json!({}));
        let mut operation = operation(rule, &mut schemas);
        // An id stands once in a document; further bindings of a method get numbers.
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let count = used.get(&id).and_then(Value::as_u64).unwrap_or(0) + 1;
        if count > 1 {
            operation["operationId"] = Value::String(format!("{id}_{count}"));
        }
        used.insert(id, count.into());
        item[rule.http_method.as_str().to_ascii_lowercase()] = operation;
    }
    schemas.insert(
        ERROR,
        json!({
            "type": "object",
            "description": "A failed call.",
            "properties": {
                "code": {"type": "integer", "format": "int32", "description": "The gRPC code."},
                "message": {"type": "string"},
                "details": {"type": "array", "items": {
                    "type": "object",
                    "properties": {"@type": {"type": "string"}},
                    "additionalProperties": true,
                }},
            },
        }),
    );
    let tags: Vec<Value> = services
        .iter()
        .filter_map(|name| pool.get_service_by_name(name.as_ref()))
        .map(|service| {
            let text = comment(&service.parent_file(), service.path()).unwrap_or_default();
            json!({"name": service.full_name(), "description": text})
        })
        .collect();
    json!({
        "openapi": "3.0.3",
        "info": {"title": info.title, "version": info.version, "description": info.description},
        "tags": tags,
        "paths": paths,
        "components": {"schemas": schemas.into_value()},
    })
}

/// Adds the tags, paths and schemas of `other` to `document`; where both have a name, `document` keeps its own.
pub fn merge(document: &mut Value, other: Value) {
    let Value::Object(mut other) = other else {
        return;
    };
    if let (Some(Value::Array(tags)), Some(Value::Array(more))) =
        (document.get_mut("tags"), other.remove("tags"))
    {
        for tag in more {
            if !tags.iter().any(|known| known["name"] == tag["name"]) {
                tags.push(tag);
            }
        }
    }
    if let Some(Value::Object(paths)) = other.remove("paths") {
        for (path, operations) in paths {
            fill(&mut document["paths"][path], operations);
        }
    }
    if let Some(schemas) = other.get_mut("components").and_then(|it| it.get_mut("schemas")) {
        fill(&mut document["components"]["schemas"], schemas.take());
    }
}

fn fill(into: &mut Value, from: Value) {
    let Value::Object(from) = from else {
        return;
    };
    for (name, value) in from {
        if into.get(&name).is_none() {
            into[name] = value;
        }
    }
}

fn operation(rule: &Rule, schemas: &mut Schemas) -> Value {
    let method = &rule.method;
    let service = method.parent_service();
    let mut parameters = Vec::new();
    for path in rule.template.variables() {
        let schema = resolve(method.input(), path).map(|field| schemas.field(&field));
        parameters.push(json!({
            "name": path.join("."),
            "in": "path",
            "required": true,
            "schema": schema.unwrap_or_else(|_| json!({"type": "string"})),
        }));
    }
    for number in rule.template.unnamed() {
        parameters.push(json!({
            "name": format!("segment{number}"),
            "in": "path",
            "required": true,
            "schema": {"type": "string"},
        }));
    }
    let taken: Vec<String> = rule.template.variables().map(|path| path.join(".")).collect();
    if rule.body != Body::Whole {
        let in_body = match &rule.body {
            Body::Field(field) => Some(field.name().to_owned()),
            Body::None | Body::Whole => None,
        };
        query_parameters(
            &method.input(),
            "",
            &taken,
            in_body.as_deref(),
            0,
            schemas,
            &mut parameters,
        );
    }
    let answer = match &rule.response_body {
        Some(field) => schemas.field(field),
        None => schemas.message(&method.output()),
    };
    let content = if method.is_server_streaming() {
        json!({
            "application/json": {"schema": {"type": "array", "items": answer}},
            "application/x-ndjson": {"schema": answer},
        })
    } else {
        json!({"application/json": {"schema": answer}})
    };
    let mut operation = json!({
        "operationId": format!("{}_{}", service.name(), method.name()),
        "tags": [service.full_name()],
        "parameters": parameters,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {
                "description": "A failed call.",
                "content": {"application/json": {"schema": reference(ERROR)}},
            },
        },
    });
    let text = comment(&method.parent_file(), method.path());
    operation["summary"] = Value::String(match &text {
        Some(text) => text.lines().next().unwrap_or_default().to_owned(),
        None => method.name().to_owned(),
    });
    if let Some(text) = text.filter(|text| text.contains('\n')) {
        operation["description"] = Value::String(text);
    }
    let body = match &rule.body {
        Body::None => None,
        // What the path says need not be in the body too.
        Body::Whole if taken.is_empty() => Some(schemas.message(&method.input())),
        Body::Whole => Some(schemas.object(&method.input(), |field| {
            !taken.iter().any(|name| name == field.name())
        })),
        Body::Field(field) => Some(schemas.field(field)),
    };
    if let Some(schema) = body {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn query_parameters(
    message: &MessageDescriptor,
    prefix: &str,
    taken: &[String],
    in_body: Option<&str>,
    depth: usize,
    schemas: &mut Schemas,
    parameters: &mut Vec<Value>,
) {
    for field in message.fields() {
        let path = format!("{prefix}{}", field.name());
        if taken.contains(&path) || (depth == 0 && in_body == Some(field.name())) {
            continue;
        }
        if let Some(inner) = object(&field) {
            if depth + 1 < QUERY_DEPTH && !field.is_list() && !field.is_map() {
                let prefix = format!("{path}.");
                query_parameters(&inner, &prefix, taken, None, depth + 1, schemas, parameters);
            }
            continue;
        }
        let mut parameter =
            json!({"name": path, "in": "query", "required": false, "schema": schemas.field(&field)});
        if let Some(text) = comment(&message.parent_file(), field.path()) {
            parameter["description"] = Value::String(text);
        }
        parameters.push(parameter);
    }
}

/// The field's message where one text cannot hold it.
fn object(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) => {
            let text = matches!(
                message.full_name().strip_prefix("google.protobuf."),
                Some(
                    "Timestamp"
                        | "Duration"
                        | "FieldMask"
                        | "BoolValue"
                        | "StringValue"
                        | "BytesValue"
                        | "DoubleValue"
                        | "FloatValue"
                        | "Int32Value"
                        | "Int64Value"
                        | "UInt32Value"
                        | "UInt64Value"
                )
            );
            (!text).then_some(message)
        }
        _ => None,
    }
}
