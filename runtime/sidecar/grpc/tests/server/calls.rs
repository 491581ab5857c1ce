//! Calls of the API and their limits: methods, compression, sizes and the shutdown.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use outrigger_sidecar_api::Body;
use outrigger_wire::dapr::proto::runtime::v1::*;
use tonic::{Code, Request, client::Grpc, codec::CompressionEncoding};
use tonic_types::StatusExt as _;

use crate::{
    bench::{get, save},
    support::{Raw, Sidecar, echo_app},
};

#[tokio::test]
async fn methods_reach_their_services() {
    let sidecar = Sidecar::start(|_| {}).await;
    let mut client = sidecar.client().await;
    client.save_state(save("k", "v")).await.unwrap();
    assert_eq!(client.get_state(get("k")).await.unwrap().into_inner().data, "v");
    let missing = GetStateRequest {
        store_name: "nope".to_owned(),
        ..get("k")
    };
    let status = client.get_state(missing).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "state store nope is not found")
    );
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "DAPR_STATE_NOT_FOUND"
    );

    assert_eq!(
        client
            .get_metadata(GetMetadataRequest {})
            .await
            .unwrap()
            .into_inner()
            .id,
        "myapp"
    );
    let set = SetMetadataRequest {
        key: "a".to_owned(),
        value: "b".to_owned(),
    };
    client.set_metadata(set.clone()).await.unwrap();
    assert_eq!(*sidecar.control.set.lock(), [set]);
    client.shutdown(ShutdownRequest {}).await.unwrap();
    let mut forced = Request::new(ShutdownRequest {});
    forced
        .metadata_mut()
        .insert("dapr-force-shutdown", "TRUE".parse().unwrap());
    client.shutdown(forced).await.unwrap();
    assert_eq!(*sidecar.control.shutdowns.lock(), [false, true]);

    let status = client
        .publish_event(PublishEventRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = client
        .subtle_get_key_alpha1(SubtleGetKeyRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "this API is currently not implemented")
    );
}

#[tokio::test]
async fn a_compressed_call_gets_a_compressed_answer() {
    let sidecar = Sidecar::start(|options| options.max_body_size = 1 << 20).await;
    let encoding = |metadata: &tonic::metadata::MetadataMap| metadata.get("grpc-encoding").cloned();
    let long = "x".repeat(10_000);
    let mut plain = sidecar
        .client()
        .await
        .accept_compressed(CompressionEncoding::Gzip);
    let mut compressed = plain.clone().send_compressed(CompressionEncoding::Gzip);
    compressed.save_state(save("k", long.clone())).await.unwrap();
    let answer = compressed.get_state(get("k")).await.unwrap();
    assert_eq!(encoding(answer.metadata()).unwrap(), "gzip");
    assert_eq!(answer.into_inner().data, long);
    let answer = plain.get_state(get("k")).await.unwrap();
    assert_eq!(encoding(answer.metadata()), None);
    assert_eq!(answer.into_inner().data, long);

    // Two thousand bytes that unfold to two million.
    let bomb = save("bomb", vec![0; 2 << 20]);
    let status = compressed.save_state(bomb).await.unwrap_err();
    assert_ne!(status.code(), Code::Ok, "{status}");
    assert!(
        plain
            .get_state(get("bomb"))
            .await
            .unwrap()
            .into_inner()
            .data
            .is_empty()
    );
}

#[tokio::test]
async fn long_messages_are_refused_in_both_directions() {
    let app = echo_app().await;
    let small = Sidecar::with_app(Some(app), |options| options.max_body_size = 100).await;
    let mut client = small.client().await;
    client.save_state(save("k", vec![b'x'; 60])).await.unwrap();
    let status = client.save_state(save("k", vec![b'x'; 200])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status
            .message()
            .starts_with("grpc: received message larger than max ("),
        "{status}"
    );
    assert!(status.message().ends_with(" vs. 100)"), "{status}");

    // Two values that fit by themselves, but not together.
    client.save_state(save("l", vec![b'x'; 60])).await.unwrap();
    let both = GetBulkStateRequest {
        store_name: "mystore".to_owned(),
        keys: vec!["k".to_owned(), "l".to_owned()],
        ..GetBulkStateRequest::default()
    };
    let status = client.get_bulk_state(both).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status
            .message()
            .starts_with("grpc: trying to send message larger than max ("),
        "{status}"
    );

    let mut echo = Grpc::new(small.channel().await);
    echo.ready().await.unwrap();
    let mut request = Request::new(Bytes::from(vec![1; 101]));
    request
        .metadata_mut()
        .insert("dapr-app-id", "myapp".parse().unwrap());
    let path = PathAndQuery::from_static("/echo.Echo/Unary");
    let status = echo.unary::<_, Bytes, _>(request, path, Raw).await.unwrap_err();
    assert_eq!(
        status.message(),
        "grpc: received message larger than max (101 vs. 100)"
    );
}

#[tokio::test]
async fn shutdown_lets_streams_end() {
    let sidecar = Sidecar::start(|_| {}).await;
    let mut client = sidecar.client().await;
    let register = SubscribeActorEventsRequestAlpha1 {
        request_type: Some(
            subscribe_actor_events_request_alpha1::RequestType::InitialRequest(
                SubscribeActorEventsRequestInitialAlpha1::default(),
            ),
        ),
    };
    let messages = stream::iter([register]).chain(stream::pending());
    let mut events = client
        .subscribe_actor_events_alpha1(messages)
        .await
        .unwrap()
        .into_inner();
    let first = events.message().await.unwrap().unwrap();
    assert!(matches!(
        first.response_type,
        Some(subscribe_actor_events_response_alpha1::ResponseType::InitialResponse(_))
    ));
    sidecar.shutdown.cancel();
    assert!(events.message().await.unwrap().is_none(), "the stream ends well");
    tokio::time::timeout(Duration::from_secs(30), sidecar.serving)
        .await
        .unwrap()
        .unwrap();
    assert!(
        client.get_metadata(GetMetadataRequest {}).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn what_is_no_grpc_call_is_refused() {
    let sidecar = Sidecar::start(|_| {}).await;
    let stream = tokio::net::TcpStream::connect(sidecar.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    for (method, kind, status) in [
        ("GET", "application/grpc", 405),
        ("POST", "application/json", 415),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!(
                "http://{}/dapr.proto.runtime.v1.Dapr/GetState",
                sidecar.address
            ))
            .header("content-type", kind)
            .body(Body::Empty)
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.headers().contains_key("grpc-message"));
    }
}
