//! Invocation where the app, the caller or both speak gRPC.

use std::time::Duration;

use http::Request;
use outrigger_middleware::Body;
use outrigger_sidecar_app_channel::Protocol;
use outrigger_wire::dapr::proto::{
    common::v1::{HttpExtension, InvokeRequest},
    runtime::v1::InvokeServiceRequest,
};
use tonic::Code;

use crate::{
    pair,
    support::{echo_app, grpc_app, text},
};

#[tokio::test]
async fn grpc_apps_are_invoked_over_http_and_grpc() {
    let (caller, callee) = pair(grpc_app().await, Protocol::Grpc).await;
    for sidecar in [&caller, &callee] {
        let request = Request::post(sidecar.url("/v1.0/invoke/callee/method/echo"))
            .header("accept", "text/x")
            .header("x-key", "v")
            .body(Body::whole("hi"));
        let response = sidecar.http(request.unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["seen-dapr-accept"], "text/x");
        assert_eq!(response.headers()["seen-x-key"], "v");
        assert_eq!(response.headers()["content-type"], "text/reply");
        assert_eq!(text(response).await, "echo:hi");
        let response = sidecar.get("/v1.0/invoke/callee/method/fail").await;
        assert_eq!(response.status(), 404);
        assert_eq!(text(response).await, r#"{"code":5,"message":"not here"}"#);

        let invoke = |method: &str| {
            let mut request = tonic::Request::new(InvokeServiceRequest {
                id: "callee".to_owned(),
                message: Some(InvokeRequest {
                    method: method.to_owned(),
                    data: Some(prost_types::Any {
                        type_url: "pfm".to_owned(),
                        value: b"x".to_vec(),
                    }),
                    content_type: String::new(),
                    http_extension: None,
                }),
            });
            request.metadata_mut().insert("x-key", "v".parse().unwrap());
            request
                .metadata_mut()
                .insert_bin("k-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255]));
            request
        };
        let response = sidecar.service.invoke_service(invoke("typed")).await.unwrap();
        assert_eq!(response.metadata().get("seen-x-key").unwrap(), "v");
        assert_eq!(response.metadata().get("seen-k-binary").unwrap(), "AP8=");
        assert_eq!(
            response.metadata().get("seen-dapr-callee-app-id").unwrap(),
            "callee"
        );
        let data = response.into_inner().data.unwrap();
        assert_eq!(
            (data.value, data.type_url),
            (b"x/pfm".to_vec(), "mytype".to_owned())
        );
        let status = sidecar.service.invoke_service(invoke("fail")).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "not here"));
    }
}

#[tokio::test]
async fn apps_with_few_streams_per_connection_get_more_connections() {
    let (caller, callee) = pair(grpc_app().await, Protocol::Grpc).await;
    for sidecar in [&caller, &callee] {
        let calls = (0..150).map(|_| sidecar.get("/v1.0/invoke/callee/method/gather"));
        let all = tokio::time::timeout(Duration::from_secs(30), futures::future::join_all(calls))
            .await
            .unwrap();
        assert!(all.iter().all(|response| response.status() == 200));
    }
}

#[tokio::test]
async fn grpc_callers_get_http_answers_as_statuses() {
    let (caller, _callee) = pair(echo_app().await, Protocol::Http).await;
    let invoke = |method: &str| {
        tonic::Request::new(InvokeServiceRequest {
            id: "callee".to_owned(),
            message: Some(InvokeRequest {
                method: method.to_owned(),
                data: None,
                content_type: "text/x".to_owned(),
                http_extension: Some(HttpExtension {
                    verb: 1,
                    querystring: "a=b c".to_owned(),
                }),
            }),
        })
    };
    let response = caller.service.invoke_service(invoke("foo")).await.unwrap();
    assert_eq!(response.metadata().get("dapr-http-status").unwrap(), "201");
    assert_eq!(response.metadata().get("seen-path").unwrap(), "/foo?a=b%20c");
    let status = caller
        .service
        .invoke_service(invoke("missing"))
        .await
        .unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Not Found"));
    assert_eq!(status.metadata().get("dapr-http-status").unwrap(), "404");
    let status = caller.service.invoke_service(invoke("a#b")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(
        status
            .message()
            .starts_with("failed to invoke, id: callee, err: rpc error: code = InvalidArgument")
    );
}
