//! What calls leave behind: trace context, baggage and metrics.

use outrigger_telemetry::{
    Metrics, Tracer,
    metrics::MetricsOptions,
    trace::{SpanContext, TracerOptions},
};
use outrigger_wire::dapr::proto::runtime::v1::*;
use tonic::{Code, Request};

use crate::{
    bench::{get, proxied, save},
    support::{Sidecar, echo_app},
};

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
async fn a_refused_stream_carries_its_trace() {
    let tracer = Tracer::start(&TracerOptions::new("myapp", "1")).unwrap();
    let sidecar = Sidecar::start(|options| options.tracer = Some(tracer)).await;
    let mut client = sidecar.client().await;
    let answer = client
        .subscribe_configuration(SubscribeConfigurationRequest {
            store_name: "nowhere".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert!(answer.metadata().get_bin("grpc-trace-bin").is_some());
    answer.into_inner().message().await.unwrap_err();
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
