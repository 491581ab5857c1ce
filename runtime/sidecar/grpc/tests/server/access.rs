//! Who may call what: the token and the lists.

use bytes::Bytes;
use http::uri::PathAndQuery;
use outrigger_resources::api_rules::{ApiRule, ApiSpec};
use outrigger_sidecar_grpc::api_rules;
use outrigger_wire::dapr::proto::runtime::v1::*;
use tonic::{Code, Request, client::Grpc};
use tonic_types::StatusExt as _;

use crate::{
    bench::{get, proxied},
    support::{Raw, Sidecar, echo_app},
};

#[tokio::test]
async fn the_token_is_asked_of_every_call() {
    let app = echo_app().await;
    let sidecar = Sidecar::with_app(Some(app), |options| options.api_token = Some("secret".into())).await;
    let mut client = sidecar.client().await;
    let status = client.get_state(get("k")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        info.metadata["http.error_message"],
        "missing api token in request metadata"
    );
    let mut request = Request::new(get("k"));
    request
        .metadata_mut()
        .insert("dapr-api-token", "secret".parse().unwrap());
    client.get_state(request).await.unwrap();

    let mut echo = Grpc::new(sidecar.channel().await);
    echo.ready().await.unwrap();
    let path = PathAndQuery::from_static("/echo.Echo/Unary");
    let mut request = Request::new(Bytes::from_static(b"hi"));
    request
        .metadata_mut()
        .insert("dapr-app-id", "myapp".parse().unwrap());
    let status = echo
        .unary::<_, Bytes, _>(request, path.clone(), Raw)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut request = Request::new(Bytes::from_static(b"hi"));
    request
        .metadata_mut()
        .insert("dapr-app-id", "myapp".parse().unwrap());
    request
        .metadata_mut()
        .insert("dapr-api-token", "secret".parse().unwrap());
    echo.ready().await.unwrap();
    let answer = echo.unary::<_, Bytes, _>(request, path, Raw).await.unwrap();
    assert!(
        answer.metadata().get("seen-token").is_none(),
        "the token stays here"
    );
    assert_eq!(answer.into_inner(), "hi");
}

#[tokio::test]
async fn lists_take_methods_out() {
    let rule = |name: &str| ApiRule {
        name: name.to_owned(),
        version: "v1".to_owned(),
        protocol: "grpc".to_owned(),
    };
    let app = echo_app().await;
    let sidecar = Sidecar::with_app(Some(app), |options| {
        options.api_rules = api_rules(&ApiSpec {
            allowed: vec![rule("state"), rule("metadata")],
            denied: vec![rule("metadata")],
        });
    })
    .await;
    let mut client = sidecar.client().await;
    client.get_state(get("k")).await.unwrap();
    for status in [
        client.get_metadata(GetMetadataRequest {}).await.unwrap_err(),
        client.shutdown(ShutdownRequest {}).await.unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unimplemented, "Not Implemented")
        );
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            info.metadata["http.error_message"],
            "requested endpoint is not available"
        );
    }
    assert_eq!(
        proxied(&sidecar, "Unary", vec!["x"]).await,
        ["x"],
        "apps are not subject to the lists"
    );
}
