//! The services beside the API: the app's own and reflection.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use tonic::{Code, Request, client::Grpc};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{
    bench::proxied,
    support::{Raw, Sidecar, echo_app},
};

#[tokio::test]
async fn other_services_are_an_apps() {
    let app = echo_app().await;
    let sidecar = Sidecar::with_app(Some(app), |_| {}).await;
    let mut echo = Grpc::new(sidecar.channel().await);
    fn with_id<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("dapr-app-id", "myapp".parse().unwrap());
        request
    }
    let path = PathAndQuery::from_static;
    echo.ready().await.unwrap();
    let one = Bytes::from_static(b"one");
    let answer = echo
        .unary::<_, Bytes, _>(with_id(one.clone()), path("/echo.Echo/Unary"), Raw)
        .await
        .unwrap();
    assert_eq!(answer.into_inner(), one);
    echo.ready().await.unwrap();
    let messages = stream::iter([one.clone(), Bytes::from_static(b"two")]);
    let answer = echo
        .client_streaming::<_, _, Bytes, _>(with_id(messages), path("/echo.Echo/Client"), Raw)
        .await
        .unwrap();
    assert_eq!(answer.into_inner(), one);
    echo.ready().await.unwrap();
    let answer = echo
        .server_streaming::<_, Bytes, _>(with_id(one.clone()), path("/echo.Echo/Server"), Raw)
        .await
        .unwrap();
    let all: Vec<_> = answer.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(all, ["one"]);
    assert_eq!(
        proxied(&sidecar, "Both", vec!["a", "b", "c"]).await,
        ["a", "b", "c"]
    );

    echo.ready().await.unwrap();
    let status = echo
        .unary::<_, Bytes, _>(Request::new(one), path("/echo.Echo/Unary"), Raw)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert!(
        status
            .message()
            .contains("required metadata dapr-callee-app-id or dapr-app-id not found"),
        "{status}"
    );
}

#[tokio::test]
async fn both_reflections_list_what_is_served() {
    let sidecar = Sidecar::start(|_| {}).await;
    let wanted = [
        "TaskHubSidecarService",
        "dapr.proto.runtime.v1.Dapr",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    {
        use v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let mut client = ServerReflectionClient::new(sidecar.channel().await);
        let ask = |message_request| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        let asked = stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(
                "dapr.proto.runtime.v1.Dapr.GetState".to_owned(),
            )),
        ]);
        let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no list");
        };
        assert_eq!(
            list.service
                .into_iter()
                .map(|service| service.name)
                .collect::<Vec<_>>(),
            wanted
        );
        let file = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))));
    }
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let mut client = ServerReflectionClient::new(sidecar.channel().await);
    let asked = stream::iter([ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    }]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list");
    };
    assert_eq!(
        list.service
            .into_iter()
            .map(|service| service.name)
            .collect::<Vec<_>>(),
        wanted
    );
}
