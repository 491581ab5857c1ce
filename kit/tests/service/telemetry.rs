//! What a collector sees of a service: one trace through both of its ends, and durations.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use outrigger_kit::telemetry::{LogFormat, Options};
use outrigger_kit::testing::Cluster;
use outrigger_kit::{App, Client, Environment, Telemetry};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::{ask, run, until};

#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<Vec<String>>>,
    services: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for resource in request.into_inner().resource_spans {
            for attribute in resource.resource.unwrap_or_default().attributes {
                if attribute.key == "service.name" {
                    self.services.lock().push(format!("{:?}", attribute.value));
                }
            }
            for scope in resource.scope_spans {
                self.spans.lock().extend(scope.spans);
            }
        }
        Ok(tonic::Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        for resource in request.into_inner().resource_metrics {
            for scope in resource.scope_metrics {
                self.metrics
                    .lock()
                    .extend(scope.metrics.into_iter().map(|metric| metric.name));
            }
        }
        Ok(tonic::Response::new(Default::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_runs_through_a_service_and_its_durations_are_told() {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let services = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()))
        .serve_with_incoming(tokio_stream_of(listener));
    let server = tokio::spawn(services);

    let options = Options {
        service: "shop".to_owned(),
        instance: "shop-1".to_owned(),
        level: tracing::Level::WARN,
        format: LogFormat::Json,
    };
    let environment = Environment::from([(
        "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
        format!("http://{address}"),
    )]);
    let telemetry = Telemetry::start(&options, &environment).unwrap();

    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("shop").await.unwrap();
    let client = super::once(&sidecar);
    let routes = Router::new()
        .route(
            "/price/{item}",
            get(|State(client): State<Client>| async move {
                client.state("statestore").set("price", "7").await.unwrap();
                "7"
            }),
        )
        .with_state(client.clone());
    let running = run(&sidecar, App::new(client).routes(routes)).await;
    until("ready", async || ask(&running.url, "/healthz").await.0 == 200).await;
    assert_eq!(ask(&running.url, "/price/tea").await.0, 200);
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
    telemetry.shutdown().await;

    until("spans and metrics have arrived", async || {
        let names: Vec<String> = collector
            .spans
            .lock()
            .iter()
            .map(|span| span.name.clone())
            .collect();
        names.iter().any(|name| name == "GET /price/{item}") && !collector.metrics.lock().is_empty()
    })
    .await;
    let spans = collector.spans.lock().clone();
    let served = spans
        .iter()
        .find(|span| span.name == "GET /price/{item}")
        .unwrap();
    let called = spans
        .iter()
        .find(|span| span.name == "POST state" && span.trace_id == served.trace_id)
        .expect("the call is part of the request's trace");
    assert_eq!(called.parent_span_id, served.span_id);
    assert!(collector.services.lock()[0].contains("shop"));
    let metrics = collector.metrics.lock().clone();
    for name in ["http.server.request.duration", "dapr.client.duration"] {
        assert!(metrics.iter().any(|known| known == name), "{name} in {metrics:?}");
    }
    server.abort();

    // Without a collector a service ends as soon as with one.
    let nobody = Environment::from([(
        "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
        "http://127.0.0.1:9".to_owned(),
    )]);
    let telemetry = Telemetry::start(&options, &nobody).unwrap();
    let began = std::time::Instant::now();
    telemetry.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(20));
}

fn tokio_stream_of(
    listener: TcpListener,
) -> impl futures::Stream<Item = std::io::Result<tokio::net::TcpStream>> {
    futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    })
}
