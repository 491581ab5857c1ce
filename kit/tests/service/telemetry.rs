//! What a collector sees of a service: one trace through both of its ends, and durations; and what its page for
//! Prometheus shows.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
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
use outrigger_kit::{Ack, App, Client, Environment, Event, Outbox, Subscription, Telemetry};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;

use super::{ask, read, run, until};

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
        self.count(request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

impl Collector {
    fn count(&self, request: ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.metrics.lock().extend(names);
    }

    /// The same collector over HTTP; metrics alone.
    fn over_http(&self) -> Router {
        let collector = self.clone();
        let metrics = move |headers: http::HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            collector.count(ExportMetricsServiceRequest::decode(body).unwrap());
            std::future::ready(ExportMetricsServiceResponse::default().encode_to_vec())
        };
        Router::new().route("/v1/metrics", post(metrics))
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
    let over_http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http_address = over_http.local_addr().unwrap();
    let routes = collector.over_http();
    let http_server = tokio::spawn(async move { axum::serve(over_http, routes).await });

    let options = Options {
        service: "shop".to_owned(),
        instance: "shop-1".to_owned(),
        level: tracing::Level::WARN,
        format: LogFormat::Json,
    };
    // Each signal by another protocol.
    let environment: Environment = [
        ("ENDPOINT", format!("http://{http_address}/")),
        ("PROTOCOL", "http/protobuf".to_owned()),
        ("TRACES_ENDPOINT", format!("http://{address}")),
        ("TRACES_PROTOCOL", "grpc".to_owned()),
    ]
    .map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), value))
    .into();
    let telemetry = Telemetry::start(&options, &environment).unwrap();
    let prices = opentelemetry::global::meter("shop")
        .u64_counter("shop.prices")
        .build();

    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("shop").await.unwrap();
    let client = super::once(&sidecar);
    let orders = Outbox::new(&client, "statestore", "shop/", "pubsub", "orders");
    let routes = Router::new()
        .route(
            "/price/{item}",
            get(move |State(client): State<Client>| async move {
                client.state("statestore").set("price", "7").await.unwrap();
                prices.add(1, &[]);
                "7"
            }),
        )
        .route(
            "/order",
            get(|State(orders): State<Outbox>| async move {
                let event = Event::new("ordered", "shop", serde_json::Value::Null);
                orders.commit("tea", Vec::new(), &[event]).await.unwrap();
            })
            .with_state(orders.clone()),
        )
        .with_state(client.clone());
    let (tell, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let app = App::new(client)
        .routes(routes)
        .subscribe(
            Subscription::new("pubsub", "orders"),
            move |event: Event<serde_json::Value>| {
                let _ = tell.send(event);
                std::future::ready(Ack::Success)
            },
        )
        .background(move |stop| async move { orders.relay(stop).await });
    let running = run(&sidecar, app).await;
    until("ready", async || ask(&running.url, "/healthz").await.0 == 200).await;
    assert_eq!(ask(&running.url, "/price/tea").await.0, 200);
    let (status, page) = read(&running.url, "/metrics").await;
    assert_eq!(status, 200);
    for parts in [
        &["# TYPE http_server_request_duration_seconds histogram"][..],
        &[
            "http_server_request_duration_seconds_count{",
            "http_request_method=\"GET\"",
            "http_route=\"/price/{item}\"",
            "} 1",
        ],
        &[
            "dapr_client_duration_seconds_bucket{",
            "dapr_api=\"state\"",
            "le=\"+Inf\"",
        ],
        // The service's own.
        &["shop_prices_total", " 1"],
        &["target_info{", "service_name=\"shop\""],
    ] {
        let holds = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(page.lines().any(holds), "{parts:?} in {page}");
    }
    // What a request commits is sent later by another task, and is still part of its trace.
    assert_eq!(ask(&running.url, "/order").await.0, 200);
    let event = tokio::time::timeout(Duration::from_secs(20), hear.recv())
        .await
        .unwrap()
        .unwrap();
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
    let ordered = spans.iter().find(|span| span.name == "GET /order").unwrap();
    let trace_id: String = ordered
        .trace_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(
        event.extension("traceparent").unwrap().contains(&trace_id),
        "{event:?}"
    );
    spans
        .iter()
        .find(|span| span.name == "POST publish" && span.trace_id == ordered.trace_id)
        .expect("the event is published in the trace of its commit");
    assert!(collector.services.lock()[0].contains("shop"));
    let metrics = collector.metrics.lock().clone();
    for name in [
        "http.server.request.duration",
        "dapr.client.duration",
        "shop.prices",
    ] {
        assert!(metrics.iter().any(|known| known == name), "{name} in {metrics:?}");
    }
    server.abort();
    http_server.abort();

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
