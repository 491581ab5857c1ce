//! Spans and the collectors they are sent to.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_telemetry::{
    Tracer,
    export::{OtlpOptions, OtlpProtocol},
    trace::{HttpExchange, Protocol, RandomIds, SpanContext, SpanKind, TracerOptions},
};
use outrigger_types::Environment;
use tokio::net::TcpListener;

use crate::{grpc_collector, otlp};

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

/// When a shutdown gives up: later than any of these tests should take.
fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(5)
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
    tracer.shutdown(soon()).await;

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
pub(crate) fn tokio_stream(
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
    tracer.shutdown(soon()).await;
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
    tracer.shutdown(soon()).await;
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
    tracer.shutdown(soon()).await;
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
    tracer.shutdown(soon()).await;
    assert!(before.elapsed().unwrap() < Duration::from_secs(4));
    drop(listener);
}
