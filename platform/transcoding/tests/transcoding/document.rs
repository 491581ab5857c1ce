//! The OpenAPI document.

use outrigger_platform_transcoding::{Info, merge, openapi};
use serde_json::{Value, json};

use crate::schema::pool;

fn document() -> Value {
    let info = Info {
        title: "Test".to_owned(),
        version: "1.2.3".to_owned(),
        description: "For tests.".to_owned(),
    };
    openapi(&pool(), &["test.Echo"], &info)
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match (name.as_str(), value) {
                    ("$ref", Value::String(to)) => found.push(to.clone()),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn all_references_lead_somewhere() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for to in found {
        let pointer = to.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{to}");
    }
}

#[test]
fn operations_have_ids_parameters_and_comments() {
    let document = document();
    assert_eq!(document["openapi"], "3.0.3");
    assert_eq!(document["info"]["title"], "Test");
    let post = &document["paths"]["/v1/all"]["post"];
    assert_eq!(post["operationId"], "Echo_Whole");
    assert_eq!(post["summary"], "The whole message.");
    assert_eq!(post["description"], "The whole message.\nIn two lines.");
    assert_eq!(
        post["requestBody"]["content"]["application/json"]["schema"],
        json!({"$ref": "#/components/schemas/test.All"})
    );
    let get = &document["paths"]["/v1/state/{service}/{key}"]["get"];
    assert_eq!(get["parameters"][0]["name"], "service");
    assert_eq!(get["parameters"][0]["in"], "path");
    let names: Vec<&str> = get["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "service",
            "key",
            "include_value",
            "inner.name",
            "inner.size",
            "inner.next.name",
            "inner.next.size"
        ]
    );
    let ids: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
}

#[test]
fn schemas_are_those_of_the_json() {
    let document = document();
    let all = &document["components"]["schemas"]["test.All"]["properties"];
    assert_eq!(all["anInt64"], json!({"type": "string", "format": "int64"}));
    assert_eq!(all["someBytes"]["format"], "byte");
    assert_eq!(all["aString"]["description"], "What it is called.");
    assert_eq!(all["counts"]["additionalProperties"]["type"], "integer");
    assert_eq!(all["colors"]["items"]["$ref"], "#/components/schemas/test.Color");
    assert_eq!(all["at"]["format"], "date-time");
    assert_eq!(all["otherName"]["type"], "string");
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["test.Color"]["enum"],
        json!(["COLOR_UNSPECIFIED", "RED", "BLUE"])
    );
    assert_eq!(
        schemas["test.Inner"]["description"],
        "A thing inside\nanother one."
    );
    assert_eq!(
        schemas["test.Inner"]["properties"]["next"]["$ref"],
        "#/components/schemas/test.Inner"
    );
    let text = schemas["test.All"]["description"].as_str().unwrap();
    assert_eq!(text, "At most one of text, number, thing (choice).");
}

#[test]
fn documents_can_be_merged() {
    let mut whole = json!({"openapi": "3.0.3", "paths": {"/health": {"get": {}}}, "tags": []});
    merge(&mut whole, document());
    assert_eq!(whole["paths"]["/health"], json!({"get": {}}));
    assert_eq!(whole["paths"]["/v1/all"]["post"]["operationId"], "Echo_Whole");
    assert!(whole["components"]["schemas"]["test.All"].is_object());
    assert_eq!(whole["tags"][0]["name"], "test.Echo");
    assert_eq!(whole["tags"][0]["description"], "Says back what it hears.");
}
