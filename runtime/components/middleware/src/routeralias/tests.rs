use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use outrigger_component::{Error, Host, Properties, Spec};
use outrigger_middleware::{Body, Middleware, Next};

use super::ROUTER_ALIAS;

/// Answers with the address that it sees.
struct Address;

impl Next for Address {
    fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move { Response::new(Body::whole(request.uri().to_string())) })
    }
}

async fn handler(pairs: &[(&str, &str)]) -> Result<Arc<dyn Middleware>, Error> {
    let spec = Spec {
        name: "r".into(),
        type_name: "middleware.http.routeralias".into(),
        version: "v1".into(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    (ROUTER_ALIAS.validate)(&spec)?.run(Host::new("app", "/")).await
}

async fn address(handler: &Arc<dyn Middleware>, uri: &str) -> String {
    let request = Request::builder().uri(uri).body(Body::Empty).unwrap();
    let body = handler
        .handle(request, Box::new(Address))
        .await
        .into_body()
        .collect()
        .await
        .unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

const ROUTES: [(&str, &str); 3] = [
    (
        "/v1.0/mall/activity/info",
        "/v1.0/invoke/srv.default/method/mall/activity/info",
    ),
    (
        "/v1.0/hello/activity/{id}/info",
        "/v1.0/invoke/srv.default/method/hello/activity/info",
    ),
    (
        "/v1.0/hello/activity/{id:[0-9]+}/user",
        "/v1.0/invoke/srv.default/method/hello/activity/user",
    ),
];

#[tokio::test]
async fn all_forms_of_metadata_rewrite_alike() {
    let json = serde_json::to_string(&std::collections::BTreeMap::from(ROUTES)).unwrap();
    let yaml: String = ROUTES
        .iter()
        .map(|(from, to)| format!("\"{from}\": \"{to}\"\n"))
        .collect();
    for pairs in [
        ROUTES.to_vec(),
        vec![("routes", json.as_str())],
        vec![("Routes", yaml.as_str())],
    ] {
        let handler = handler(&pairs).await.unwrap();
        for (from, to) in [
            (
                "/v1.0/mall/activity/info?id=123",
                "/v1.0/invoke/srv.default/method/mall/activity/info?id=123",
            ),
            (
                "/v1.0/hello/activity/1/info",
                "/v1.0/invoke/srv.default/method/hello/activity/info?id=1",
            ),
            (
                "/v1.0/hello/activity/1/user?userid=123",
                "/v1.0/invoke/srv.default/method/hello/activity/user?id=1&userid=123",
            ),
            ("/v1.0/hello/activity/x/user", "/v1.0/hello/activity/x/user"),
            (
                "/v1.0/hello/activity/a%20b%26/info",
                "/v1.0/invoke/srv.default/method/hello/activity/info?id=a+b%26",
            ),
            ("/v1.0/invoke/srv.default", "/v1.0/invoke/srv.default"),
            ("/v1.0/mall/activity/info/more", "/v1.0/mall/activity/info/more"),
        ] {
            assert_eq!(address(&handler, from).await, to);
        }
    }
}

#[tokio::test]
async fn no_metadata_changes_nothing() {
    assert_eq!(address(&handler(&[]).await.unwrap(), "/a?b").await, "/a?b");
}

#[tokio::test]
async fn routes_that_cannot_match_are_left_out() {
    let routes = r#"{"noslash": "/x", "/open{": "/x", "/twice/{a}/{a}": "/x", "/group/{a:(b)}": "/x", "/to": "x", "/ok": "/x y"}"#;
    let handler = handler(&[("routes", routes)]).await.unwrap();
    for same in ["/noslash", "/open%7B", "/twice/1/2", "/group/b", "/to"] {
        assert_eq!(address(&handler, same).await, same);
    }
    assert_eq!(address(&handler, "/ok").await, "/x%20y");
}

#[tokio::test]
async fn metadata_that_is_no_map_is_refused() {
    for routes in ["[1]", "text", "{\"a\": {\"b\": 1}}", "{\"a\": "] {
        let error = handler(&[("routes", routes)]).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("failed to decode 'routes' property as JSON or YAML: ")
        );
    }
    assert!(handler(&[("/a", "/b"), ("/c", "")]).await.is_err());
}

#[tokio::test]
async fn json_may_be_indented_by_tabs_and_the_first_route_wins() {
    let routes = "{\n\t\"/z/{a}\": \"/first\",\n\t\t\"/a\":\"/b\",\n\t\"/z/{b}\": \"/second\"\n}\n";
    let handler = handler(&[("routes", routes)]).await.unwrap();
    assert_eq!(address(&handler, "/a").await, "/b");
    assert_eq!(address(&handler, "/z/1").await, "/first?a=1");
}
