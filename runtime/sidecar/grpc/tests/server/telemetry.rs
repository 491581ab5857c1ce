//! What calls leave behind: trace context, baggage and metrics.

use std::sync::Arc;

use outrigger_telemetry::{
    Metrics, Tracer,
    logs::{self, LogLevel, LogOptions, MemorySink},
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

/// Row C9.
#[tokio::test]
async fn log_lines_of_a_call_carry_its_ids() {
    let sink = MemorySink::default();
    let mut log = LogOptions::new("host-1", "1.18.2");
    log.level = LogLevel::Debug;
    let (dispatch, _level) = logs::dispatch(log, Arc::new(sink.clone()));
    // The tasks of this test run on this thread alone.
    let _default = tracing::dispatcher::set_default(&dispatch);
    let tracer = Tracer::start(&TracerOptions::new("myapp", "1")).unwrap();
    let sidecar = Sidecar::start(|options| options.tracer = Some(tracer)).await;
    let mut request = Request::new(GetStateRequest {
        store_name: "nowhere".to_owned(),
        ..GetStateRequest::default()
    });
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request
        .metadata_mut()
        .insert("traceparent", parent.parse().unwrap());
    sidecar.client().await.get_state(request).await.unwrap_err();
    let text = sink.text();
    let line = text
        .lines()
        .find(|line| line.contains("state store nowhere is not found"))
        .unwrap();
    assert!(
        line.contains("trace_id=0af7651916cd43dd8448eb211c80319c"),
        "{line}"
    );
    assert!(line.contains(" span_id="), "{line}");
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
    assert!(!answer.metadata().contains_key("date"));
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
