//! Exposition, bounds and exporters over real sockets.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_telemetry::{
    Metrics, Tracer,
    metrics::{
        CircuitBreakerState, ComponentCall, Counter, FlowDirection, HttpServerRequest, MAX_SERIES_PER_FAMILY,
        MetricsOptions, Policy, PolicyKind, ProcessStatus, serve,
    },
    trace::{
        HttpExchange, OtlpOptions, OtlpProtocol, Protocol, RandomIds, SpanContext, SpanKind, TracerOptions,
    },
};
use outrigger_types::Environment;
use tokio::net::TcpListener;

fn options() -> MetricsOptions {
    MetricsOptions {
        app_id: "myapp".into(),
        namespace: "ns".into(),
        latency_buckets: vec![5.0, 50.0],
        ..MetricsOptions::default()
    }
}

fn request<'a>(method: &'a str, path: &'a str) -> HttpServerRequest<'a> {
    HttpServerRequest {
        method,
        path,
        status: 200,
        request_bytes: 10,
        response_bytes: 2_000_000,
        elapsed: Duration::from_micros(7_900),
    }
}

/// The lines of one family.
fn family(metrics: &Metrics, name: &str) -> Vec<String> {
    String::from_utf8(metrics.render())
        .unwrap()
        .lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) || rest.starts_with("_bucket{"))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn exposition_is_what_the_peer_exposes() {
    let metrics = Metrics::new(&options()).unwrap();
    metrics.http_server_request(&request("GET", "/v1.0/invoke/app/method/hi"));
    metrics.http_server_request(&request("BREW", "/x"));
    metrics.pubsub_ingress("pub", ProcessStatus::Drop, "", "t", Duration::ZERO);
    metrics.bulk_pubsub_ingress("pub", "t", Duration::ZERO);
    metrics.component_call(
        ComponentCall::State,
        "store",
        "get",
        true,
        Duration::from_micros(1_500),
    );
    metrics.resiliency_executed(
        &Policy {
            resource: "r",
            namespace: "",
            kind: PolicyKind::CircuitBreaker,
            flow: FlowDirection::Outbound,
            target: "app_b",
        },
        Some(CircuitBreakerState::Open),
    );
    let text = String::from_utf8(metrics.render()).unwrap();
    let ours: Vec<&str> = text.lines().filter(|line| line.contains("dapr_")).collect();
    assert_eq!(
        ours.join("\n"),
        r##"# HELP dapr_component_pubsub_ingress_bulk_count Bulk deliveries to the app
# TYPE dapr_component_pubsub_ingress_bulk_count counter
dapr_component_pubsub_ingress_bulk_count{app_id="myapp",component="pub",namespace="ns",process_status="",topic="t"} 1
# HELP dapr_component_pubsub_ingress_count Messages delivered to the app
# TYPE dapr_component_pubsub_ingress_count counter
dapr_component_pubsub_ingress_count{app_id="myapp",component="pub",namespace="ns",process_status="drop",status="drop",topic="t"} 1
# HELP dapr_component_state_count Calls of state stores
# TYPE dapr_component_state_count counter
dapr_component_state_count{app_id="myapp",component="store",namespace="ns",operation="get",success="true"} 1
# HELP dapr_component_state_latencies Calls of state stores: latency (ms)
# TYPE dapr_component_state_latencies histogram
dapr_component_state_latencies_bucket{app_id="myapp",component="store",namespace="ns",operation="get",success="true",le="5"} 1
dapr_component_state_latencies_bucket{app_id="myapp",component="store",namespace="ns",operation="get",success="true",le="50"} 1
dapr_component_state_latencies_bucket{app_id="myapp",component="store",namespace="ns",operation="get",success="true",le="+Inf"} 1
dapr_component_state_latencies_sum{app_id="myapp",component="store",namespace="ns",operation="get",success="true"} 1.5
dapr_component_state_latencies_count{app_id="myapp",component="store",namespace="ns",operation="get",success="true"} 1
# HELP dapr_http_server_latency Time to answer a request (ms)
# TYPE dapr_http_server_latency histogram
dapr_http_server_latency_bucket{app_id="myapp",method="GET",path="",status="200",le="5"} 0
dapr_http_server_latency_bucket{app_id="myapp",method="GET",path="",status="200",le="50"} 1
dapr_http_server_latency_bucket{app_id="myapp",method="GET",path="",status="200",le="+Inf"} 1
dapr_http_server_latency_sum{app_id="myapp",method="GET",path="",status="200"} 7
dapr_http_server_latency_count{app_id="myapp",method="GET",path="",status="200"} 1
dapr_http_server_latency_bucket{app_id="myapp",method="UNKNOWN",path="",status="200",le="5"} 0
dapr_http_server_latency_bucket{app_id="myapp",method="UNKNOWN",path="",status="200",le="50"} 1
dapr_http_server_latency_bucket{app_id="myapp",method="UNKNOWN",path="",status="200",le="+Inf"} 1
dapr_http_server_latency_sum{app_id="myapp",method="UNKNOWN",path="",status="200"} 7
dapr_http_server_latency_count{app_id="myapp",method="UNKNOWN",path="",status="200"} 1
# HELP dapr_http_server_request_bytes Request body bytes by Content-Length
# TYPE dapr_http_server_request_bytes histogram
dapr_http_server_request_bytes_bucket{app_id="myapp",le="1024"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="2048"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="4096"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="16384"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="65536"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="262144"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="1.048576e+06"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="4.194304e+06"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="1.6777216e+07"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="6.7108864e+07"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="2.68435456e+08"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="1.073741824e+09"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="4.294967296e+09"} 2
dapr_http_server_request_bytes_bucket{app_id="myapp",le="+Inf"} 2
dapr_http_server_request_bytes_sum{app_id="myapp"} 20
dapr_http_server_request_bytes_count{app_id="myapp"} 2
# HELP dapr_http_server_request_count Requests answered by the server
# TYPE dapr_http_server_request_count counter
dapr_http_server_request_count{app_id="myapp",method="GET",path="",status="200"} 1
dapr_http_server_request_count{app_id="myapp",method="UNKNOWN",path="",status="200"} 1
# HELP dapr_http_server_response_bytes Response body bytes
# TYPE dapr_http_server_response_bytes histogram
dapr_http_server_response_bytes_bucket{app_id="myapp",le="1024"} 0
dapr_http_server_response_bytes_bucket{app_id="myapp",le="2048"} 0
dapr_http_server_response_bytes_bucket{app_id="myapp",le="4096"} 0
dapr_http_server_response_bytes_bucket{app_id="myapp",le="16384"} 0
dapr_http_server_response_bytes_bucket{app_id="myapp",le="65536"} 0
dapr_http_server_response_bytes_bucket{app_id="myapp",le="262144"} 0
dapr_http_server_response_bytes_bucket{app_id="myapp",le="1.048576e+06"} 0
dapr_http_server_response_bytes_bucket{app_id="myapp",le="4.194304e+06"} 2
dapr_http_server_response_bytes_bucket{app_id="myapp",le="1.6777216e+07"} 2
dapr_http_server_response_bytes_bucket{app_id="myapp",le="6.7108864e+07"} 2
dapr_http_server_response_bytes_bucket{app_id="myapp",le="2.68435456e+08"} 2
dapr_http_server_response_bytes_bucket{app_id="myapp",le="1.073741824e+09"} 2
dapr_http_server_response_bytes_bucket{app_id="myapp",le="4.294967296e+09"} 2
dapr_http_server_response_bytes_bucket{app_id="myapp",le="+Inf"} 2
dapr_http_server_response_bytes_sum{app_id="myapp"} 4e+06
dapr_http_server_response_bytes_count{app_id="myapp"} 2
# HELP dapr_resiliency_cb_state Circuit breaker states: 1 for the current state of a breaker, 0 for the others
# TYPE dapr_resiliency_cb_state gauge
dapr_resiliency_cb_state{app_id="myapp",flow_direction="outbound",name="r",namespace="",policy="circuitbreaker",status="closed",target="app_b"} 0
dapr_resiliency_cb_state{app_id="myapp",flow_direction="outbound",name="r",namespace="",policy="circuitbreaker",status="half-open",target="app_b"} 0
dapr_resiliency_cb_state{app_id="myapp",flow_direction="outbound",name="r",namespace="",policy="circuitbreaker",status="open",target="app_b"} 1
dapr_resiliency_cb_state{app_id="myapp",flow_direction="outbound",name="r",namespace="",policy="circuitbreaker",status="unknown",target="app_b"} 0
# HELP dapr_resiliency_count Policies applied to calls
# TYPE dapr_resiliency_count counter
dapr_resiliency_count{app_id="myapp",flow_direction="outbound",name="r",namespace="",policy="circuitbreaker",status="open",target="app_b"} 1"##
    );
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"));
    assert!(!text.contains("go_"), "no Go runtime here");
}

#[test]
fn path_labels_follow_the_cardinality_and_the_patterns() {
    let count = |metrics: &Metrics| family(metrics, "dapr_http_server_request_count");
    let labels = |path: &str, value: u32| {
        format!(
            "dapr_http_server_request_count{{app_id=\"myapp\",method=\"GET\",path=\"{path}\",status=\"200\"}} {value}"
        )
    };
    let paths = [
        "/v1.0/invoke/myapp/method/orders/1111",
        "//v1.0/invoke/myapp/method/orders/9999",
        "/v1.0/invoke/myapp/method/items/123",
        "/v1.0/state/mystore/foo",
    ];
    let patterns = vec![
        "/orders/{orderID}".to_owned(),
        "/v1.0/state/mystore/{key}".to_owned(),
    ];
    let mut options = options();

    options.path_matching = patterns;
    let low = Metrics::new(&options).unwrap();
    paths
        .iter()
        .for_each(|path| low.http_server_request(&request("GET", path)));
    assert_eq!(
        count(&low),
        [
            labels("", 1),
            labels("/v1.0/invoke/{app_id}/method/orders/{orderID}", 2),
            labels("/v1.0/state/mystore/{key}", 1),
        ]
    );

    options.increased_cardinality = true;
    let high = Metrics::new(&options).unwrap();
    paths
        .iter()
        .for_each(|path| high.http_server_request(&request("GET", path)));
    assert_eq!(
        count(&high),
        [
            labels("/v1.0/invoke/myapp/method/items/123", 1),
            labels("/v1.0/invoke/{app_id}/method/orders/{orderID}", 2),
            labels("/v1.0/state/mystore/{key}", 1),
        ]
    );
    assert_eq!(family(&high, "dapr_http_server_response_count").len(), 3);

    options.path_matching.clear();
    options.exclude_verbs = true;
    let legacy = Metrics::new(&options).unwrap();
    legacy.http_server_request(&request("GET", "/v1.0/state/mystore/foo"));
    legacy.http_client_started("POST", "/orders", 5);
    legacy.http_client_completed("POST", "/orders", 500, 3, Duration::from_millis(1));
    assert_eq!(
        count(&legacy),
        [
            "dapr_http_server_request_count{app_id=\"myapp\",method=\"\",path=\"/v1.0/state/mystore\",status=\"200\"} 1"
        ]
    );
    assert_eq!(
        family(&legacy, "dapr_http_client_completed_count"),
        ["dapr_http_client_completed_count{app_id=\"myapp\",method=\"\",path=\"/orders\",status=\"500\"} 1"]
    );
}

/// Design D9: a million distinct paths; unoptimised builds make do with fewer.
#[test]
fn a_million_paths_stay_within_the_cap() {
    const PATHS: u32 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    let mut options = options();
    let low = Metrics::new(&options).unwrap();
    options.increased_cardinality = true;
    let legacy = Metrics::new(&options).unwrap();
    let mut path = String::new();
    for index in 0..PATHS {
        path.clear();
        std::fmt::write(&mut path, format_args!("/v1.0/invoke/a/method/{index}")).unwrap();
        low.http_server_request(&request("GET", &path));
        legacy.http_server_request(&request("GET", &path));
    }
    let series = |metrics: &Metrics| {
        String::from_utf8(metrics.render())
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count()
    };
    assert!(series(&low) <= 200, "{}", series(&low));
    let counts = family(&legacy, "dapr_http_server_request_count");
    assert_eq!(counts.len(), MAX_SERIES_PER_FAMILY + 1);
    let overflow = "dapr_http_server_request_count{app_id=\"myapp\",method=\"overflow\",path=\"overflow\",status=\"overflow\"} ";
    let counted: f64 = counts
        .iter()
        .find_map(|line| line.strip_prefix(overflow)?.parse().ok())
        .unwrap();
    assert!(
        (counted - f64::from(PATHS) + MAX_SERIES_PER_FAMILY as f64).abs() < 0.5,
        "{counted}"
    );
}

#[test]
fn disabled_metrics_render_nothing_and_families_can_be_added() {
    let off = Metrics::disabled();
    off.http_server_request(&request("GET", "/"));
    off.component_loaded();
    assert!(off.render().is_empty() && off.families().is_none());

    let on = Metrics::new(&options()).unwrap();
    let mine = on
        .families()
        .unwrap()
        .counter("mine/count", "Mine", &["x"])
        .unwrap();
    mine.with(&["1"], Counter::inc);
    assert_eq!(family(&on, "dapr_mine_count"), ["dapr_mine_count{x=\"1\"} 1"]);
    assert!(
        on.families()
            .unwrap()
            .counter("mine/count", "Mine", &["x"])
            .is_err()
    );
}

async fn get(address: std::net::SocketAddr, path: &str) -> Response<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "x")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn the_endpoint_answers_every_path_until_shutdown() {
    let metrics = Metrics::new(&options()).unwrap();
    metrics.component_loaded();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, metrics, async {
        let _ = stopped.await;
    }));
    for path in ["/", "/metrics", "/any/thing"] {
        let response = get(address, path).await;
        assert_eq!(response.status(), 200);
        assert!(
            response.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/plain; version=0.0.4"),
        );
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert!(
            text.contains("dapr_runtime_component_loaded{app_id=\"myapp\"} 1\n"),
            "{text}"
        );
    }
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

/// What a collector was sent: path, headers, body.
type Sent = Arc<Mutex<Vec<(String, http::HeaderMap, Bytes)>>>;

/// A server that keeps requests and answers with `status`; over HTTP/2 as gRPC does.
async fn collector(http2: bool, statuses: Vec<u16>) -> (std::net::SocketAddr, Sent) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Sent::default();
    let statuses = Arc::new(Mutex::new(statuses.into_iter()));
    let keep = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let keep = Arc::clone(&keep);
            let statuses = Arc::clone(&statuses);
            let service = service_fn(move |request: Request<Incoming>| {
                let keep = Arc::clone(&keep);
                let status = statuses.lock().unwrap().next().unwrap_or(200);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    keep.lock()
                        .unwrap()
                        .push((head.uri.path().to_owned(), head.headers, body));
                    let mut response = Response::new(Full::new(Bytes::new()));
                    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                    if http2 {
                        response
                            .headers_mut()
                            .insert("content-type", "application/grpc".parse().unwrap());
                        response.headers_mut().insert("grpc-status", "0".parse().unwrap());
                    }
                    Ok::<_, hyper::Error>(response)
                }
            });
            let io = TokioIo::new(stream);
            if http2 {
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service),
                );
            } else {
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        }
    });
    (address, sent)
}

fn tracing_to(endpoint: &str, protocol: OtlpProtocol) -> TracerOptions {
    TracerOptions {
        otlp: Some(OtlpOptions {
            endpoint: endpoint.to_owned(),
            protocol,
            is_secure: false,
            headers: Vec::new(),
            timeout: Some(Duration::from_secs(5)),
        }),
        ids: Arc::new(RandomIds::seeded(1)),
        clock: Arc::new(|| UNIX_EPOCH + Duration::from_secs(1_763_720_000)),
        ..TracerOptions::new("app", "1")
    }
}

mod otlp {
    //! The collector's side, as the published protocol has it; read by a real gRPC server.

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(crate) resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(crate) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) scope_spans: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(crate) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub(crate) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(crate) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub(crate) parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(crate) name: String,
        #[prost(int32, tag = "6")]
        pub(crate) kind: i32,
        #[prost(fixed64, tag = "7")]
        pub(crate) start: u64,
        #[prost(message, repeated, tag = "9")]
        pub(crate) attributes: Vec<KeyValue>,
        #[prost(message, optional, tag = "15")]
        pub(crate) status: Option<Status>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Status {
        #[prost(string, tag = "2")]
        pub(crate) message: String,
        #[prost(int32, tag = "3")]
        pub(crate) code: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(crate) key: String,
        #[prost(message, optional, tag = "2")]
        pub(crate) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct AnyValue {
        #[prost(string, tag = "1")]
        pub(crate) text: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Reply {}

    pub(crate) fn pairs(attributes: &[KeyValue]) -> Vec<(String, String)> {
        let mut pairs: Vec<_> = attributes
            .iter()
            .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default().text))
            .collect();
        pairs.sort();
        pairs
    }
}

/// A tonic server: what real collectors are made of.
mod grpc_collector {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
        task::{Context, Poll},
    };

    use tonic::{body::Body, codegen::BoxFuture, server::Grpc};

    use super::otlp::{Reply, Request};

    pub(crate) type Calls = Arc<Mutex<Vec<(tonic::metadata::MetadataMap, Request)>>>;

    #[derive(Clone, Default)]
    pub(crate) struct Collector(pub(crate) Calls);

    impl tonic::server::NamedService for Collector {
        const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    }

    impl tonic::server::UnaryService<Request> for Collector {
        type Response = Reply;
        type Future = BoxFuture<tonic::Response<Reply>, tonic::Status>;

        fn call(&mut self, request: tonic::Request<Request>) -> Self::Future {
            let (metadata, _, message) = request.into_parts();
            self.0.lock().unwrap().push((metadata, message));
            Box::pin(async { Ok(tonic::Response::new(Reply {})) })
        }
    }

    impl tonic::codegen::Service<http::Request<Body>> for Collector {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            let collector = self.clone();
            Box::pin(async move {
                assert!(request.uri().path().ends_with("/Export"));
                let codec = tonic_prost::ProstCodec::<Reply, Request>::default();
                Ok(Grpc::new(codec).unary(collector, request).await)
            })
        }
    }
}

#[tokio::test]
async fn spans_reach_a_grpc_collector_with_the_peers_names_and_attributes() {
    let collector = grpc_collector::Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = collector.clone();
    tokio::spawn(async move {
        let incoming = tokio_stream(listener);
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });

    let mut options = tracing_to(&address.to_string(), OtlpProtocol::Grpc);
    options.environment = Environment::from_pairs([
        ("OTEL_SERVICE_NAME", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=production"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-env-header=env-value"),
    ]);
    if let Some(otlp) = &mut options.otlp {
        otlp.headers = vec!["x-config-header=config-value".into(), "broken".into()];
    }
    let tracer = Tracer::start(&options).unwrap();
    assert!(
        tracer
            .sampler()
            .unwrap()
            .to_string()
            .contains("TraceIDRatioBased{1}")
    );

    let parent =
        SpanContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let mut span = tracer.http_api("/v1.0/invoke/b/method/go", &parent);
    assert_eq!(span.context().trace_id(), parent.trace_id());
    assert_ne!(span.context().span_id(), parent.span_id());
    let record = span.recording().unwrap();
    record.dapr_headers(Protocol::Http, [("Dapr-X", "1"), ("Other", "2")]);
    record.http_exchange(&HttpExchange {
        method: "POST",
        path: "/v1.0/invoke/b/method/go",
        target: "/v1.0/invoke/b/method/go?q=1",
        remote: "127.0.0.1:4000",
        status: 404,
    });
    record.invocation("b", "go");
    span.end();
    tracer
        .grpc_api(
            "/dapr.proto.internals.v1.ServiceInvocation/CallLocal",
            None,
            &parent,
        )
        .end();
    tracer.shutdown().await;

    let calls = collector.0.lock().unwrap();
    let (metadata, request) = &calls[0];
    assert_eq!(metadata.get("x-config-header").unwrap(), "config-value");
    assert!(metadata.get("x-env-header").is_none());
    let resource = &request.resource_spans[0];
    assert_eq!(
        otlp::pairs(&resource.resource.as_ref().unwrap().attributes),
        [
            ("service.name".to_owned(), "mine".to_owned()),
            ("service.namespace".to_owned(), "production".to_owned()),
        ]
    );
    let spans = &resource.scope_spans[0].spans;
    assert_eq!(spans.len(), 2);
    assert_eq!((spans[0].name.as_str(), spans[0].kind), ("CallLocal/b/go", 3));
    assert_eq!(spans[0].trace_id, parent.trace_id().to_bytes());
    assert_eq!(spans[0].parent_span_id, parent.span_id().to_bytes());
    assert_eq!(spans[0].start, 1_763_720_000_000_000_000);
    let status = spans[0].status.as_ref().unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (2, "Code(404): Not Found")
    );
    let expected: Vec<(String, String)> = [
        ("dapr-x", "1"),
        ("dapr.api", "POST /v1.0/invoke/b/method/go"),
        ("dapr.protocol", "http"),
        ("dapr.status_code", "404"),
        ("http.request.method", "POST"),
        ("net.peer.name", "b"),
        ("rpc.service", "ServiceInvocation"),
        ("server.address", "127.0.0.1"),
        ("server.port", "4000"),
        ("url.full", "/v1.0/invoke/b/method/go?q=1"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    assert_eq!(otlp::pairs(&spans[0].attributes), expected);
    assert_eq!(spans[1].kind, 2, "internal calls are served");
}

/// The listener as the stream tonic wants.
fn tokio_stream(
    listener: TcpListener,
) -> impl tonic::codegen::tokio_stream::Stream<Item = std::io::Result<tokio::net::TcpStream>> {
    tonic::codegen::tokio_stream::wrappers::TcpListenerStream::new(listener)
}

#[tokio::test]
async fn spans_reach_an_http_collector_and_are_sent_again_when_it_is_busy() {
    let (address, sent) = collector(false, vec![503]).await;
    let mut options = tracing_to(
        &format!("http://localhost:{}", address.port()),
        OtlpProtocol::Http,
    );
    options.environment = Environment::from_pairs([
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-env=a%20b"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ]);
    let tracer = Tracer::start(&options).unwrap();
    tracer
        .span("one", SpanKind::Producer, &SpanContext::default())
        .end();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while sent.lock().unwrap().len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "no second try");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tracer.shutdown().await;
    let sent = sent.lock().unwrap();
    let (path, headers, body) = &sent[1];
    assert_eq!(path, "/v1/traces");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["x-env"], "a b");
    let request = <otlp::Request as prost::Message>::decode(body.clone()).unwrap();
    assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].name, "one");
    assert_eq!(body, &sent[0].2, "the same batch");
}

#[tokio::test]
async fn spans_reach_zipkin_as_v2_json() {
    let (address, sent) = collector(false, vec![202]).await;
    let options = TracerOptions {
        zipkin_endpoint: format!("http://{address}/api/v2/spans"),
        ids: Arc::new(RandomIds::seeded(1)),
        clock: Arc::new(|| UNIX_EPOCH + Duration::from_secs(1_763_720_000)),
        ..TracerOptions::new("App", "1")
    };
    let tracer = Tracer::start(&options).unwrap();
    let parent =
        SpanContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let mut span = tracer.subscription("Orders", &parent).unwrap();
    let id = span.context().span_id().to_string();
    let record = span.recording().unwrap();
    record.subscription("Orders");
    record.state(Protocol::Grpc, "store", "/m");
    record.set_error("no");
    drop(span);
    tracer.shutdown().await;
    let sent = sent.lock().unwrap();
    let (path, headers, body) = &sent[0];
    assert_eq!(path, "/api/v2/spans");
    assert_eq!(headers["content-type"], "application/json");
    let spans: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(
        spans,
        serde_json::json!([{
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
            "id": id,
            "parentId": "00f067aa0ba902b7",
            "name": "pubsub/orders",
            "kind": "CLIENT",
            "timestamp": 1_763_720_000_000_000u64,
            "localEndpoint": {"serviceName": "app"},
            "remoteEndpoint": {"serviceName": "store"},
            "tags": {
                "messaging.system": "pubsub",
                "messaging.destination.name": "Orders",
                "rpc.service": "Dapr",
                "db.system": "state",
                "db.connection_string": "state",
                "db.statement": "/m",
                "db.name": "store",
                "service.name": "App",
                "otel.status_code": "ERROR",
                "otel.scope.name": "dapr-diagnostics",
                "error": "no"
            }
        }])
    );
}

#[tokio::test]
async fn sampling_follows_the_parent_and_tracing_off_passes_contexts_on() {
    let parent = |flags| {
        SpanContext::from_headers(
            Some(&format!(
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0{flags}"
            )),
            Some("vendor=1"),
        )
        .unwrap()
    };
    let off = Tracer::start(&TracerOptions::new("app", "")).unwrap();
    assert!(off.sampler().is_none());
    assert_eq!(off.http_api("/", &parent(1)).context(), &parent(1));
    assert!(!off.http_api("/", &SpanContext::default()).context().is_valid());

    // A rate without an exporter: contexts are decided on, nothing is recorded.
    let rate = Tracer::start(&TracerOptions::new("app", "0")).unwrap();
    let mut span = rate.http_api("/", &parent(1));
    assert!(span.context().is_sampled() && span.recording().is_none());
    assert_eq!(span.context().tracestate(), Some("vendor=1"));
    assert!(!rate.http_api("/", &SpanContext::default()).context().is_sampled());
    assert!(rate.http_api("/", &SpanContext::default()).context().is_valid());
    assert!(
        rate.subscription("t", &parent(1)).is_none(),
        "no callback spans at rate 0"
    );

    let (address, sent) = collector(true, Vec::new()).await;
    let tracer = Tracer::start(&tracing_to(&address.to_string(), OtlpProtocol::Grpc)).unwrap();
    tracer.http_api("/", &parent(0)).end();
    tracer.shutdown().await;
    assert!(
        sent.lock().unwrap().is_empty(),
        "an unsampled parent is respected"
    );
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_shutdown_does_not_wait_for_a_dead_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = tracing_to(&listener.local_addr().unwrap().to_string(), OtlpProtocol::Grpc);
    options.environment = Environment::from_pairs([("OTEL_BSP_MAX_QUEUE_SIZE", "4")]);
    if let Some(otlp) = &mut options.otlp {
        // It accepts connections and never says a word.
        otlp.timeout = Some(Duration::from_millis(100));
    }
    let tracer = Tracer::start(&options).unwrap();
    for _ in 0..100 {
        tracer.http_api("/", &SpanContext::default()).end();
    }
    // Nothing ran in between: four are queued, the rest is lost and counted.
    assert_eq!(tracer.dropped(), 96);
    let before = SystemTime::now();
    tracer.shutdown().await;
    assert!(before.elapsed().unwrap() < Duration::from_secs(4));
    drop(listener);
}
