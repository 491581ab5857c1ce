//! Addresses outside Dapr.

use http::Request;
use outrigger_middleware::Body;

use crate::support::{Names, Sidecar, echo_app};

#[tokio::test]
async fn addresses_outside_dapr_are_called_directly() {
    use outrigger_resources::kinds::{HttpEndpoint, HttpEndpointSpec, NameValue, ObjectMeta};
    let names = Names::default();
    let outside = echo_app().await;
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let resource = HttpEndpoint {
        meta: ObjectMeta {
            name: "site".to_owned(),
            ..ObjectMeta::default()
        },
        spec: HttpEndpointSpec {
            base_url: format!("http://localhost:{}/base", outside.port),
            headers: vec![NameValue::new("x-key", "secret")],
            client_tls: None,
        },
        ..HttpEndpoint::default()
    };
    caller.endpoints.upsert(&resource).unwrap();
    let response = caller.get("/v1.0/invoke/site/method/hello?q=1").await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["seen-path"], "/base/hello?q=1");
    assert_eq!(response.headers()["seen-x-key"], "secret");
    let response = caller
        .get(&format!(
            "/v1.0/invoke/http://localhost:{}/method/hello",
            outside.port
        ))
        .await;
    assert_eq!(response.headers()["seen-path"], "/hello");
    let resource = HttpEndpoint {
        spec: HttpEndpointSpec {
            headers: Vec::new(),
            ..resource.spec.clone()
        },
        ..resource
    };
    caller.endpoints.upsert(&resource).unwrap();
    let request = Request::post(caller.url("/v1.0/invoke/site/method/redirect"))
        .body(Body::whole("x"))
        .unwrap();
    let response = caller.http(request).await;
    assert_eq!(
        response.headers()["seen-path"],
        "/elsewhere",
        "redirects of resources are followed"
    );
    assert_eq!(response.headers()["seen-method"], "GET");
    caller.endpoints.remove("site");
    assert_eq!(caller.get("/v1.0/invoke/site/method/hello").await.status(), 500);
}
