//! What a services file must hold. All mistakes are told at once.

use std::collections::HashSet;

use serde_json::Value;

use super::{Service, is_loopback};

/// Services of one file.
const MAX_SERVICES: usize = 1_000;
/// Jobs of one service.
const MAX_CRONS: usize = 100;

/// Reads and checks a parsed file: `{"services": […]}`, or the list alone.
pub(super) fn services(file: Value) -> Result<Vec<Service>, Vec<String>> {
    let list = match file {
        Value::Array(list) => list,
        Value::Object(mut object) => match (object.remove("services"), object.keys().next()) {
            (_, Some(other)) => return Err(vec![format!("unknown key {other:?} beside \"services\"")]),
            (Some(Value::Array(list)), None) => list,
            _ => return Err(vec!["\"services\" must be a list".to_owned()]),
        },
        _ => return Err(vec!["the file must be {\"services\": […]}".to_owned()]),
    };
    if list.len() > MAX_SERVICES {
        return Err(vec![format!("more than {MAX_SERVICES} services")]);
    }
    let mut mistakes = Vec::new();
    let mut services = Vec::new();
    let mut names = HashSet::new();
    for (index, value) in list.into_iter().enumerate() {
        let place = match value.get("name").and_then(Value::as_str) {
            Some(name) => format!("services[{index}] ({name})"),
            None => format!("services[{index}]"),
        };
        match serde_json::from_value::<Service>(value) {
            Err(error) => mistakes.push(format!("{place}: {error}")),
            Ok(service) => {
                let mut found = Vec::new();
                check(&service, &mut found);
                if !names.insert(service.name.clone()) {
                    found.push("another service has this name".to_owned());
                }
                mistakes.extend(found.into_iter().map(|mistake| format!("{place}: {mistake}")));
                services.push(service);
            }
        }
    }
    if mistakes.is_empty() {
        Ok(services)
    } else {
        Err(mistakes)
    }
}

fn check(service: &Service, mistakes: &mut Vec<String>) {
    if !is_name(&service.name) {
        mistakes.push("a name is 1 to 63 letters, digits, - and _".to_owned());
    }
    let grpc = &service.grpc;
    if !grpc.host.is_empty() && grpc.port == 0 {
        mistakes.push("grpc.host needs grpc.port".to_owned());
    }
    if grpc.host.contains(['/', ' ', '@', '?', '#']) || grpc.host.contains("://") {
        mistakes.push("grpc.host is a host name or an address".to_owned());
    }
    if !grpc.host.is_empty() && grpc.tls.is_none() && !is_loopback(&grpc.host) {
        mistakes.push(
            "grpc.host is not on this machine: give a tls block, or daprAppId in place of the host"
                .to_owned(),
        );
    }
    if let Some(tls) = &grpc.tls {
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            mistakes.push("grpc.tls.certFile and grpc.tls.keyFile go together".to_owned());
        }
        if grpc.port == 0 {
            mistakes.push("grpc.tls is for a host and port; a sidecar has its own mTLS".to_owned());
        }
    }
    if service.state.keys.iter().any(String::is_empty) {
        mistakes.push("state.keys has an empty key".to_owned());
    }
    if service.jobs.crons.len() > MAX_CRONS {
        mistakes.push(format!("more than {MAX_CRONS} crons"));
    }
    let mut names = HashSet::new();
    for (index, cron) in service.jobs.crons.iter().enumerate() {
        let mut tell = |mistake: &str| mistakes.push(format!("jobs.crons[{index}]: {mistake}"));
        if !is_name(&cron.name) {
            tell("name must be 1 to 63 letters, digits, - and _");
        } else if !names.insert(&cron.name) {
            tell("another cron has this name");
        }
        if cron.schedule.trim().is_empty() {
            tell("schedule is missing");
        }
        if cron.topic.is_empty() == cron.method.is_empty() {
            tell("give a topic or a method");
        }
        if !cron.method.is_empty() && service.route().is_none() {
            tell("a method needs daprAppId or grpc");
        }
    }
}

/// Dots would make two services' state keys meet (see `state::keys`).
pub(crate) fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::services::Route;

    fn mistakes(service: &Value) -> Vec<String> {
        services(json!({"services": [service]})).unwrap_err()
    }

    #[test]
    fn a_full_service_is_read_with_its_defaults() {
        let found = services(json!([{
            "name": "orders", "daprAppId": "orders-app",
            "grpc": {"host": "10.0.0.1", "port": 7000, "reflectionEnabled": false, "tls": {"caFile": "/ca.pem"}},
            "pubsub": {"pubsubName": "bus"}, "state": {"storeName": "kv", "keys": ["a", "b/c"]},
            "jobs": {"crons": [{"name": "tick", "schedule": "@every 1m", "topic": "ticks", "data": {"a": 1}}]},
        }, {"name": "plain", "daprAppId": "x"}]))
        .unwrap();
        assert!(matches!(found[0].route(), Some(Route::Direct { port: 7000, .. })));
        assert_eq!(found[0].jobs.crons[0].data_text(), r#"{"a":1}"#);
        assert_eq!(
            found[1].route(),
            Some(Route::Sidecar {
                app_id: "x".to_owned()
            })
        );
        assert!(found[1].grpc.reflection_enabled);
        let local = services(json!([{"name": "l", "grpc": {"port": 1}}])).unwrap();
        assert!(matches!(local[0].route(), Some(Route::Direct { ref host, .. }) if host == "127.0.0.1"));
    }

    #[test]
    fn plaintext_leaves_this_machine_never() {
        for host in [
            "10.0.0.1",
            "example.com",
            "::2",
            "127.0.0.1.example.com",
            "::ffff:10.0.0.1",
        ] {
            let found = mistakes(&json!({"name": "a", "grpc": {"host": host, "port": 1}}));
            assert!(found[0].contains("tls block"), "{host}: {found:?}");
        }
        for host in [
            "127.0.0.1",
            "localhost",
            "::1",
            "[::1]",
            "127.1.2.3",
            "a.localhost",
        ] {
            assert!(
                services(json!([{"name": "a", "grpc": {"host": host, "port": 1}}])).is_ok(),
                "{host}"
            );
        }
    }

    #[test]
    fn mistakes_are_told_all_at_once_with_their_place() {
        let found = services(json!({"services": [
            {"name": "a.b"},
            {"name": "c", "grpc": {"host": "localhost"}},
            {"name": "c", "jobs": {"crons": [{"name": "j", "topic": "t", "method": "m"}]}},
            {"name": "d", "daprAppID": "x"},
            {"daprAppId": "x"},
        ]}))
        .unwrap_err();
        let text = found.join("\n");
        for part in [
            "services[0] (a.b): a name is",
            "services[1] (c): grpc.host needs grpc.port",
            "services[2] (c): jobs.crons[0]: schedule is missing",
            "services[2] (c): jobs.crons[0]: give a topic or a method",
            "services[2] (c): another service has this name",
            "services[3] (d): unknown field `daprAppID`",
            "services[4]: missing field `name`",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(services(json!({"services": {}})).is_err());
        assert!(services(json!({"services": [], "more": 1})).is_err());
        assert!(services(json!(7)).is_err());
    }
}
