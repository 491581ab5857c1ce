//! The public gRPC API as clients see it.

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use outrigger_resources::api_rules::{ApiRule, ApiSpec};
use outrigger_sidecar_api::Body;
use outrigger_sidecar_grpc::{JobScope, absent, api_rules};
use outrigger_sidecar_http::{HttpService, HttpServiceOptions};
use outrigger_telemetry::{
    Metrics, Tracer,
    metrics::MetricsOptions,
    trace::{SpanContext, TracerOptions},
};
use outrigger_wire::{
    dapr::proto::{common::v1::*, runtime::v1::*},
    durabletask::{
        CreateInstanceRequest, GetWorkItemsRequest,
        task_hub_sidecar_service_client::TaskHubSidecarServiceClient,
    },
};
use support::{Raw, Sidecar, echo_app};
use tonic::{Code, Request, client::Grpc, codec::CompressionEncoding};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt as _;

fn save(key: &str, value: impl Into<Bytes>) -> SaveStateRequest {
    SaveStateRequest {
        store_name: "mystore".to_owned(),
        states: vec![StateItem {
            key: key.to_owned(),
            value: value.into(),
            ..StateItem::default()
        }],
    }
}

fn get(key: &str) -> GetStateRequest {
    GetStateRequest {
        store_name: "mystore".to_owned(),
        key: key.to_owned(),
        ..GetStateRequest::default()
    }
}

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

/// Sends messages through the proxy by a bidirectional call.
async fn proxied(sidecar: &Sidecar, method: &str, messages: Vec<&'static str>) -> Vec<Bytes> {
    let mut echo = Grpc::new(sidecar.channel().await);
    echo.ready().await.unwrap();
    let mut request = Request::new(stream::iter(
        messages
            .into_iter()
            .map(|text| Bytes::from_static(text.as_bytes())),
    ));
    request
        .metadata_mut()
        .insert("dapr-app-id", "myapp".parse().unwrap());
    let path = PathAndQuery::try_from(format!("/echo.Echo/{method}")).unwrap();
    let answer = echo
        .streaming::<_, _, Bytes, _>(request, path, Raw)
        .await
        .unwrap();
    answer.into_inner().map(Result::unwrap).collect().await
}

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
async fn answers_carry_trace_and_baggage() {
    let tracer = Tracer::start(&TracerOptions::new("myapp", "1")).unwrap();
    let sidecar = Sidecar::start(|options| options.tracer = Some(tracer)).await;
    let mut client = sidecar.client().await;
    let with = |key: &'static str, value: &str| {
        let mut request = Request::new(get("k"));
        request.metadata_mut().insert(key, value.parse().unwrap());
        request
    };
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = client.get_state(with("traceparent", parent)).await.unwrap();
    let binary = answer
        .metadata()
        .get_bin("grpc-trace-bin")
        .unwrap()
        .to_bytes()
        .unwrap();
    let context = SpanContext::from_binary(&binary).unwrap();
    assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_ne!(context.span_id().to_string(), "b7ad6b7169203331");

    let answer = client.get_state(with("baggage", "a=1,b=2")).await.unwrap();
    let baggage = answer
        .metadata()
        .get("baggage")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(baggage.contains("a=1") && baggage.contains("b=2"), "{baggage}");
    let status = client.get_state(with("baggage", "=")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().starts_with("invalid baggage header: "),
        "{status}"
    );
}

#[tokio::test]
async fn calls_are_counted() {
    let metrics = Metrics::new(&MetricsOptions {
        app_id: "myapp".to_owned(),
        record_error_codes: true,
        ..MetricsOptions::default()
    })
    .unwrap();
    let app = echo_app().await;
    let sidecar = Sidecar::with_app(Some(app), |options| options.metrics = metrics.clone()).await;
    let mut client = sidecar.client().await;
    client.save_state(save("k", "v")).await.unwrap();
    client
        .schedule_job(ScheduleJobRequest::default())
        .await
        .unwrap_err();
    proxied(&sidecar, "Both", vec!["a"]).await;
    let text = String::from_utf8(metrics.render()).unwrap();
    for line in [
        r#"dapr_grpc_io_server_completed_rpcs{app_id="myapp",grpc_server_method="/dapr.proto.runtime.v1.Dapr/SaveState",grpc_server_status="OK"} 1"#,
        r#"dapr_grpc_io_server_completed_rpcs{app_id="myapp",grpc_server_method="/dapr.proto.runtime.v1.Dapr/ScheduleJob",grpc_server_status="InvalidArgument"} 1"#,
        r#"dapr_grpc_io_server_completed_rpcs{app_id="myapp",grpc_server_method="/echo.Echo/Both",grpc_server_status="OK"} 1"#,
        r#"dapr_error_code_total{app_id="myapp",category="job",error_code="DAPR_SCHEDULER_EMPTY"} 1"#,
        // Store name and item: 9 + 2 + 6 bytes and their tags.
        r#"dapr_grpc_io_server_received_bytes_per_rpc_sum{app_id="myapp",grpc_server_method="/dapr.proto.runtime.v1.Dapr/SaveState"} 17"#,
    ] {
        assert!(text.contains(line), "{line}\nnot in\n{text}");
    }
    assert!(!text.contains(r#"server_received_bytes_per_rpc_sum{app_id="myapp",grpc_server_method="/echo"#));
}

#[tokio::test]
async fn without_engines_the_answers_are_daprs() {
    let sidecar = Sidecar::start(|_| {}).await;
    let mut client = sidecar.client().await;
    let no_placement = (Code::Unavailable, "placement service is not configured");
    let seen = |status: &tonic::Status| (status.code(), status.message().to_owned());
    for status in [
        client
            .invoke_actor(InvokeActorRequest::default())
            .await
            .unwrap_err(),
        client
            .get_actor_state(GetActorStateRequest::default())
            .await
            .unwrap_err(),
        client
            .register_actor_reminder(RegisterActorReminderRequest::default())
            .await
            .unwrap_err(),
        client
            .start_workflow_beta1(StartWorkflowRequest::default())
            .await
            .unwrap_err(),
        client
            .get_workflow_alpha1(GetWorkflowRequest::default())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(seen(&status), (no_placement.0, no_placement.1.to_owned()));
    }
    let reserved = GetActorStateRequest {
        actor_type: "dapr.internal.default.a.workflow".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        client.get_actor_state(reserved).await.unwrap_err().code(),
        Code::PermissionDenied
    );

    let status = client
        .schedule_job(ScheduleJobRequest::default())
        .await
        .unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "Job is empty".to_owned()));
    let job = Job {
        name: "j".to_owned(),
        schedule: Some("@every 1s".to_owned()),
        ..Job::default()
    };
    let status = client
        .schedule_job_alpha1(ScheduleJobRequest {
            job: Some(job),
            overwrite: false,
        })
        .await
        .unwrap_err();
    let text = "failed to schedule job due to: scheduler clients are disabled";
    assert_eq!(seen(&status), (Code::Internal, text.to_owned()));
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "DAPR_SCHEDULER_SCHEDULE_JOB");
    assert_eq!(
        (&*info.metadata["appID"], &*info.metadata["namespace"]),
        ("myapp", "default")
    );

    let mut hub = TaskHubSidecarServiceClient::new(sidecar.channel().await);
    hub.hello(()).await.unwrap();
    let status = hub
        .start_instance(CreateInstanceRequest::default())
        .await
        .unwrap_err();
    let text = "failed to create workflow instance: api error: code = Unavailable desc = placement service is not configured";
    assert_eq!(seen(&status), (Code::Unavailable, text.to_owned()));
    let status = hub
        .get_work_items(GetWorkItemsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn without_engines_http_answers_are_daprs() {
    let scope = JobScope {
        app_id: "myapp".into(),
        namespace: "default".into(),
    };
    let service = HttpService::new(absent::endpoints(&scope), HttpServiceOptions::default());
    let call = async |method: &str, path: &str, body: &'static str| {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .body(Body::whole(body))
            .unwrap();
        let response = service.serve(request).await;
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap()
            .to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let no_placement = (
        400,
        r#"{"errorCode":"ERR_ACTOR_NO_PLACEMENT","message":"placement service is not configured"}"#
            .to_owned(),
    );
    for (method, path, body) in [
        ("PUT", "/v1.0/actors/t/i/method/m", ""),
        ("GET", "/v1.0/actors/t/i/state/k", ""),
        ("POST", "/v1.0/actors/t/i/state", "[]"),
        ("POST", "/v1.0/actors/t/i/reminders/r", "{}"),
        ("DELETE", "/v1.0/actors/t/i/reminders/r", ""),
        ("GET", "/v1.0/actors/t/i/reminders/r", ""),
        ("PUT", "/v1.0/actors/t/i/timers/r", "{}"),
        ("DELETE", "/v1.0/actors/t/i/timers/r", ""),
        ("POST", "/v1.0/workflows/dapr/w/start?instanceID=1", "any"),
        ("GET", "/v1.0-beta1/workflows/dapr/i", ""),
        ("POST", "/v1.0-alpha1/workflows/dapr/i/raiseEvent/e", ""),
        ("POST", "/v1.0/workflows/dapr/i/purge", ""),
    ] {
        assert_eq!(call(method, path, body).await, no_placement, "{method} {path}");
    }
    let (status, body) = call("POST", "/v1.0/actors/t/i/reminders/r", "").await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"failed deserializing HTTP body: EOF"}"#
    );
    assert_eq!(
        call("GET", "/v1.0/actors/dapr.internal.x/i/state/k", "").await.0,
        403
    );
    for (method, body, status, code) in [
        (
            "POST",
            r#"{"schedule":"@every 1s"}"#,
            500,
            "DAPR_SCHEDULER_SCHEDULE_JOB",
        ),
        (
            "POST",
            r#"{"schedule":"@every 1s","name":"x"}"#,
            400,
            "DAPR_SCHEDULER_JOB_NAME",
        ),
        ("POST", "{}", 400, "DAPR_SCHEDULER_SCHEDULE_EMPTY"),
        ("GET", "", 500, "DAPR_SCHEDULER_GET_JOB"),
        ("DELETE", "", 500, "DAPR_SCHEDULER_DELETE_JOB"),
    ] {
        for version in ["v1.0", "v1.0-alpha1"] {
            let (seen, text) = call(method, &format!("/{version}/jobs/j"), body).await;
            assert_eq!(seen, status, "{text}");
            assert!(text.starts_with(&format!(r#"{{"errorCode":"{code}""#)), "{text}");
        }
    }
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
    tokio::time::timeout(Duration::from_secs(5), sidecar.serving)
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
