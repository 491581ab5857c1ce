//! What the HTTP port serves (G3, G7, R4).

use outrigger_platform_wire::virtufin::GetConfigServiceRequest;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::backend::Backend;
use crate::harness::{Gateway, until};
use crate::invoke::everything;

async fn shop() -> (Backend, Gateway) {
    let backend = Backend::start().await;
    let gateway = Gateway::start(json!([backend.entry("shop")]), &[]).await;
    until("the routes are read", async || {
        gateway.get("/shop/v1/sum").await.status == 200
    })
    .await;
    (backend, gateway)
}

#[tokio::test]
async fn methods_of_backends_are_served_by_their_rules() {
    let (_backend, gateway) = shop().await;
    let answer = gateway.send("POST", "/shop/v1/echo", Some(&everything())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (sent, told) = (everything(), answer.json());
    for (name, value) in sent.as_object().unwrap() {
        assert_eq!(&told[name], value, "{name}");
    }
    let answer = gateway
        .get("/shop/v1/echo/hello%20there?an_int32=-4&numbers=1&numbers=2&inner.name=i")
        .await;
    let told = answer.json();
    assert_eq!(told["aString"], "hello there");
    assert_eq!(told["anInt32"], -4);
    assert_eq!(told["numbers"], json!([1, 2]));
    assert_eq!(told["inner"]["name"], "i");
    let told = gateway
        .send("PUT", "/shop/v1/echo/x", Some(&json!({"color": "RED"})))
        .await
        .json();
    assert_eq!((&told["aString"], &told["color"]), (&json!("x"), &json!("RED")));
    let told = gateway
        .send("PATCH", "/shop/v1/echo/x/inner", Some(&json!({"name": "n"})))
        .await
        .json();
    assert_eq!(
        (&told["aString"], &told["inner"]["name"]),
        (&json!("x"), &json!("n"))
    );
    let told = gateway.send("DELETE", "/shop/v1/echo/gone", None).await.json();
    assert_eq!(told["inner"]["name"], "gone");
    assert_eq!(
        gateway.get("/shop/v1/sum?values=1&values=2").await.json(),
        json!({"value": "3"})
    );
    assert_eq!(
        gateway.get("/shop/v1/watch/5").await.json(),
        json!([{"value": "5"}, {"value": "5"}, {"value": "5"}])
    );
}

#[tokio::test]
async fn failures_have_their_http_status() {
    let (_backend, gateway) = shop().await;
    for (code, status) in [(3, 400), (5, 404), (7, 403), (10, 409), (14, 503)] {
        let answer = gateway.get(&format!("/shop/v1/fail/{code}")).await;
        assert_eq!(answer.status, status);
        let body = answer.json();
        assert_eq!(
            (&body["code"], &body["message"]),
            (&json!(code), &json!("it failed"))
        );
        assert_eq!(body["details"][0]["reason"], "BECAUSE");
    }
    assert_eq!(gateway.get("/shop/v1/nothing").await.status, 404);
    assert_eq!(
        gateway.send("PUT", "/shop/v1/sum", Some(&json!({}))).await.status,
        405
    );
    let answer = gateway.get("/v1/state/save-state/k").await;
    assert_eq!(answer.status, 200, "a key of a service of that name");
    assert_eq!(gateway.get("/v1/state/orders/").await.status, 400, "no key");
}

#[tokio::test]
async fn the_gateways_own_routes_are_served() {
    let (backend, gateway) = shop().await;
    assert_eq!(
        gateway.get("/v1/gateway/list-services").await.json(),
        json!({"services": ["shop"]})
    );
    let methods = gateway.get("/v1/gateway/list-methods?service=shop").await.json();
    assert_eq!(methods["methods"][0]["fullName"], "shop.v1.Shop.Echo");
    let body = json!({"service": "shop", "method": "Sum", "requestData": "{\"values\":[4,5]}"});
    let answer = gateway
        .send("POST", "/v1/gateway/invoke", Some(&body))
        .await
        .json();
    assert_eq!(answer["responseData"], r#"{"value":"9"}"#);

    let methods = gateway.get("/v1/grpc/shop/methods").await.json();
    let kinds: Vec<&str> = methods["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| method["streamingType"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["unary", "unary", "unary", "server", "bidi", "unary"]);
    for path in ["Echo", "shop.v1.Shop/Echo"] {
        let schema = gateway
            .get(&format!("/v1/grpc/shop/schema/{path}?type=input"))
            .await
            .json();
        assert_eq!(schema["fields"][20]["oneofCases"][0]["fieldNumber"], 21);
    }
    assert_eq!(gateway.get("/v1/grpc/shop/schema/Nothing").await.status, 404);
    let protos = gateway.get("/v1/grpc/shop/protos").await;
    let told = DescriptorPool::decode(protos.body).unwrap();
    assert!(told.get_service_by_name("shop.v1.Shop").is_some());
    assert_eq!(
        told.get_message_by_name("shop.v1.All").unwrap().fields().len(),
        backend
            .pool
            .get_message_by_name("shop.v1.All")
            .unwrap()
            .fields()
            .len()
    );

    let call = json!({"service": "shop", "method": "Sum", "requestData": {"values": [1]}});
    let answer = gateway.send("POST", "/v1/grpc/call", Some(&call)).await;
    assert_eq!(
        answer.json(),
        json!({"error": null, "statusCode": "OK", "data": {"value": "1"}})
    );
    let call = json!({"service": "shop", "method": "Fail", "requestData": {"value": 10}});
    let answer = gateway.send("POST", "/v1/grpc/call", Some(&call)).await;
    assert_eq!(answer.status, 409);
    assert_eq!(
        answer.json(),
        json!({"error": "it failed", "statusCode": "ABORTED", "data": null})
    );
    let answer = gateway.send("POST", "/v1/grpc/call", Some(&json!({}))).await;
    assert_eq!(answer.json()["statusCode"], "INVALID_ARGUMENT");
}

#[tokio::test]
async fn configured_services_are_told() {
    let backend = Backend::start().await;
    let mut entry = backend.entry("shop");
    entry["state"] = json!({"keys": ["k"]});
    entry["jobs"] = json!({"crons": [{"name": "j", "schedule": "@daily", "topic": "t", "data": {"a": 1}}]});
    let gateway = Gateway::start(json!([entry]), &[]).await;
    let told = gateway.get("/v1/config/get-service?name=shop").await.json();
    assert_eq!(
        told["service"],
        json!({
            "name": "shop", "daprAppId": "",
            "grpc": {"host": "127.0.0.1", "port": backend.address.port(), "reflectionEnabled": true},
            "pubsub": {"pubsubName": "pubsub"}, "state": {"storeName": "statestore", "keys": ["k"]},
            "jobs": {"crons": [
                {"name": "j", "schedule": "@daily", "topic": "t", "method": "", "data": "{\"a\":1}"},
            ]},
        })
    );
    assert_eq!(
        gateway.get("/v1/config/list-services").await.json()["services"][0],
        told["service"]
    );
    assert_eq!(gateway.get("/v1/config/get-service?name=x").await.status, 404);
    let ask = GetConfigServiceRequest {
        name: "shop".to_owned(),
    };
    let service = gateway
        .config()
        .get_service(ask)
        .await
        .unwrap()
        .into_inner()
        .service
        .unwrap();
    assert_eq!(service.jobs.unwrap().crons[0].data, r#"{"a":1}"#);
}

/// Everything below a value that refers to something.
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

#[tokio::test]
async fn the_document_describes_all_routes() {
    let (_backend, gateway) = shop().await;
    let document = gateway.get("/swagger/v1/swagger.json").await.json();
    assert_eq!(document, gateway.get("/openapi.json").await.json());
    assert_eq!(document["openapi"], "3.0.3");
    for (path, method) in [
        ("/v1/gateway/list-services", "get"),
        ("/v1/gateway/list-methods", "get"),
        ("/v1/gateway/invoke", "post"),
        ("/v1/grpc/{service}/methods", "get"),
        ("/v1/grpc/{service}/schema/{method}", "get"),
        ("/v1/grpc/{service}/protos", "get"),
        ("/v1/grpc/call", "post"),
        ("/v1/state/save-state", "post"),
        ("/v1/state/{service}/{key}", "get"),
        ("/v1/state/{service}/{key}", "delete"),
        ("/v1/state/{service}", "get"),
        ("/v1/config/list-services", "get"),
        ("/v1/config/get-service", "get"),
        ("/v1/pubsub/publish", "post"),
        ("/health", "get"),
        ("/shop/v1/echo/{a_string}", "put"),
    ] {
        let operation = &document["paths"][path][method];
        assert!(operation["responses"].is_object(), "{method} {path}");
        // Each part of a path in braces is a parameter, as OpenAPI wants it.
        for name in path.split(['{', '}']).skip(1).step_by(2) {
            let named = |parameter: &Value| parameter["name"] == name && parameter["in"] == "path";
            assert!(
                operation["parameters"].as_array().unwrap().iter().any(named),
                "{method} {path}: {name}"
            );
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    for to in found {
        assert!(document.pointer(to.strip_prefix('#').unwrap()).is_some(), "{to}");
    }
    let echo = &document["paths"]["/shop/v1/echo"]["post"];
    assert_eq!(echo["summary"], "Says back what it hears.");
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let gateway = Gateway::start(json!([]), &[]).await;
    for path in ["/swagger", "/swagger/", "/swagger/index.html"] {
        let page = gateway.get(path).await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        assert!(
            page.headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'none'")
        );
        let text = page.text();
        assert!(text.contains("/openapi.json"));
        assert!(
            !text.contains("http://") && !text.contains("https://"),
            "a link to elsewhere"
        );
    }
}

#[tokio::test]
async fn health_has_its_entries() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let report = gateway.get("/health").await.json();
    assert_eq!(report["status"], "Healthy", "{report}");
    for entry in [
        "dapr",
        "grpc-channel-pool",
        "breaker",
        "services",
        "subscriptions",
        "jobs",
    ] {
        assert_eq!(report["entries"][entry]["status"], "Healthy", "{entry}");
    }
}

#[tokio::test]
async fn another_version_of_the_contract_is_refused() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let mut request = Request::new(outrigger_platform_wire::virtufin::Empty {});
    request
        .metadata_mut()
        .insert("x-api-version", "2.0.0".parse().unwrap());
    let status = gateway.gateway().list_services(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(
        outrigger_platform_service::status::reason(&status).as_deref(),
        Some("API_VERSION_MISMATCH")
    );
    let request = http::Request::get(format!("http://{}/v1/gateway/list-services", gateway.http))
        .header("x-api-version", "2.0.0")
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = crate::harness::send(request).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["details"][0]["reason"], "API_VERSION_MISMATCH");
}
