//! What a sidecar makes of its peers: who they are, what they know and what they send.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use outrigger_middleware::Body;
use outrigger_sidecar_app_channel::Protocol;
use outrigger_sidecar_invocation::{InvocationOptions, PeerIdentity};
use tonic::Code;

use crate::{
    pair,
    support::{GrpcClient, Names, Sidecar, echo_app, old_sidecar, text},
};

#[tokio::test]
async fn the_policy_decides_about_the_bytes_that_are_delivered() {
    use outrigger_resources::access_control::{
        AccessControlList, AccessControlSpec, AppOperation, AppPolicySpec,
    };
    let spec = AccessControlSpec {
        default_action: "deny".to_owned(),
        trust_domain: "public".to_owned(),
        policies: Some(vec![AppPolicySpec {
            app_id: "caller".to_owned(),
            default_action: "deny".to_owned(),
            trust_domain: "public".to_owned(),
            namespace: "default".to_owned(),
            operations: vec![AppOperation {
                name: "/public".to_owned(),
                http_verbs: vec!["*".to_owned()],
                action: "allow".to_owned(),
            }],
        }]),
    };
    let policy = AccessControlList::new(&spec, true).unwrap().map(Arc::new);
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let identity = PeerIdentity {
        trust_domain: "public".into(),
        namespace: "default".into(),
        app_id: "caller".into(),
    };
    let _callee = Sidecar::start_as(
        "callee",
        &names,
        Some((echo_app().await, Protocol::Http)),
        Some(identity),
        |options| InvocationOptions {
            access_control: policy,
            ..options
        },
    )
    .await;
    assert_eq!(
        caller.get("/v1.0/invoke/callee/method/public").await.status(),
        201
    );
    for path in [
        "unauthorized",
        "public/../unauthorized",
        "public%2F..%2Funauthorized",
        "public%25/../unauthorized",
        "public/sub%23/../../unauthorized",
        "public%0D/../unauthorized",
    ] {
        let response = caller.get(&format!("/v1.0/invoke/callee/method/{path}")).await;
        assert_eq!(response.status(), 403, "{path}");
        let body = text(response).await;
        assert!(body.contains("access control policy has denied access to id: spiffe://public/ns/default/caller operation: unauthorized verb: GET"), "{body}");
    }
}

#[tokio::test]
async fn peers_without_streams_are_asked_the_old_way() {
    // A peer of long ago: `CallLocalStream` is unknown to it.
    let names = Names::default();
    let caller = Sidecar::start("caller", &names, None, |options| options).await;
    let _callee = old_sidecar("callee", &names, echo_app().await).await;
    let request = Request::post(caller.url("/v1.0/invoke/callee/method/x"))
        .body(Body::whole("old"))
        .unwrap();
    let response = caller.http(request).await;
    assert_eq!(response.status(), 201);
    assert_eq!(text(response).await, "old");
}

#[tokio::test]
async fn actor_calls_and_unknown_methods_are_refused_in_words() {
    let (_caller, callee) = pair(echo_app().await, Protocol::Http).await;
    let client = GrpcClient::connect(callee.internal).await;
    let status = client
        .call(
            "/dapr.proto.internals.v1.ServiceInvocation/CallActor",
            "",
            &[],
            vec![Bytes::new()],
        )
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "placement service is not configured")
    );
    let status = client
        .call(
            "/dapr.proto.internals.v1.ServiceInvocation/Nope",
            "",
            &[],
            vec![Bytes::new()],
        )
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    // Garbage on the internal port ends in a status, not in a panic.
    for garbage in [
        Bytes::from_static(b"\xff\xff\xff"),
        Bytes::from_static(b"\x0a\x02\x08\x01"),
        Bytes::new(),
    ] {
        let outcome = client
            .call(
                "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream",
                "",
                &[],
                vec![garbage],
            )
            .await;
        assert!(outcome.is_err());
    }
}
