//! Published names and numbers do not move (R4), and the HTTP rules reach run time.

use outrigger_platform_wire::descriptor_pool;
use prost_reflect::Value;

fn number(message: &str, field: &str) -> u32 {
    descriptor_pool()
        .get_message_by_name(&format!("virtufin.{message}"))
        .unwrap_or_else(|| panic!("no message {message}"))
        .get_field_by_name(field)
        .unwrap_or_else(|| panic!("no field {field} in {message}"))
        .number()
}

#[test]
fn published_numbers_stand() {
    for (message, field, expected) in [
        ("InvokeRequest", "request_data", 3),
        ("InvokeResponse", "response_data", 4),
        ("MethodInfo", "is_server_streaming", 6),
        ("FieldSchema", "oneof_cases", 7),
        ("SubscribeRequest", "event_types", 3),
        ("TopicEventRequest", "path", 9),
        ("PubsubSubscribeResponse", "timestamp", 5),
        ("SaveStateRequest", "include_value", 5),
        ("GetStateResponse", "etag", 3),
        ("DeleteStateRequest", "include_value", 3),
        ("CreateWorkerRequest", "group", 4),
        ("WorkerInfo", "status", 8),
        ("CodeSource", "credential", 3),
        ("ConnectRequest", "tags", 3),
        ("WebSocketConnection", "tags", 7),
        ("SendRequest", "content_type", 4),
    ] {
        assert_eq!(number(message, field), expected, "{message}.{field}");
    }
}

#[test]
fn rules_of_methods_are_in_the_descriptors() {
    let pool = descriptor_pool();
    let rule = pool
        .get_extension_by_name("google.api.http")
        .expect("the annotation is known");
    let service = pool.get_service_by_name("virtufin.WorkManager").unwrap();
    let start = service
        .methods()
        .find(|method| method.name() == "StartWorker")
        .unwrap();
    let options = start.options();
    let Value::Message(rule) = options.get_extension(&rule).into_owned() else {
        panic!("a rule is a message");
    };
    assert_eq!(
        rule.get_field_by_name("post").unwrap().as_str(),
        Some("/v1/workers/{id}/start")
    );
}

#[test]
fn only_unary_and_server_streams() {
    for service in descriptor_pool().services() {
        for method in service.methods() {
            assert!(!method.is_client_streaming(), "{}", method.full_name());
        }
    }
}
