//! Calls of the apps' own gRPC services.

use std::sync::Arc;

use bytes::Bytes;
use outrigger_sidecar_app_channel::Protocol;
use tonic::Code;

use crate::{
    pair,
    support::{GrpcClient, grpc_app},
};

#[tokio::test]
async fn all_kinds_of_grpc_calls_are_proxied_byte_for_byte() {
    let (caller, callee) = pair(grpc_app().await, Protocol::Grpc).await;
    for (name, address) in [("remote", caller.grpc), ("local", callee.grpc)] {
        let client = GrpcClient::connect(address).await;
        // Unary, client streaming, server streaming and both at once are the same to the proxy.
        for messages in [1, 2, 100] {
            let sent: Vec<Bytes> = (0..messages)
                .map(|n| Bytes::from(vec![n as u8; 1 + n * 700]))
                .collect();
            let answer = client
                .call("/test.Echo/All", "callee", &[], sent.clone())
                .await
                .unwrap();
            assert_eq!(answer.messages, sent, "{name}");
            assert_eq!(answer.headers["initial"], "yes", "{name}");
            assert_eq!(answer.trailers["end"], "yes", "{name}");
            assert!(!answer.headers.contains_key("seen-dapr-app-id"));
            assert!(!answer.headers.contains_key("seen-dapr-api-token"));
            if name == "remote" {
                assert_eq!(answer.headers["seen-dapr-caller-app-id"], "caller");
                assert_eq!(answer.headers["seen-dapr-callee-app-id"], "callee");
            }
        }
        let status = client
            .call("/test.Echo/Fail", "callee", &[], vec![Bytes::new()])
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), status.message(), status.details()),
            (Code::Aborted, "no: 100 %", &b"why"[..])
        );
        let echoes = client.ping_pong("/test.Echo/Bidi", "callee", 20).await;
        assert_eq!(
            echoes, 20,
            "{name}: each answer arrives before the next question is asked"
        );
    }
    let client = GrpcClient::connect(caller.grpc).await;
    let status = client.call("/test.Echo/All", "", &[], vec![]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(
        status.message(),
        "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found"
    );
}

#[tokio::test]
async fn many_proxied_streams_share_the_sidecars() {
    let (caller, _callee) = pair(grpc_app().await, Protocol::Grpc).await;
    let client = Arc::new(GrpcClient::connect(caller.grpc).await);
    let calls = (0..300).map(|_| {
        let client = Arc::clone(&client);
        async move { client.ping_pong("/test.Echo/Bidi", "callee", 5).await }
    });
    let all = futures::future::join_all(calls).await;
    assert!(all.iter().all(|echoes| *echoes == 5));
}
