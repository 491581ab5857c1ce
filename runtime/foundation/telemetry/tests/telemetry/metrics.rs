//! The exposition, its bounds and its endpoint.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use outrigger_telemetry::{
    Metrics,
    metrics::{
        CircuitBreakerState, ComponentCall, Counter, FlowDirection, HttpServerRequest, MAX_SERIES_PER_FAMILY,
        MetricsOptions, Policy, PolicyKind, ProcessStatus, serve,
    },
};
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

/// Pains F2: a million distinct paths, served and handed to the app, at Dapr's default and in low cardinality;
/// unoptimised builds make do with fewer (the admission of paths has a test with all of them).
#[test]
fn a_million_distinct_paths_make_at_most_200_series() {
    const PATHS: u32 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    let mut options = options();
    let low = Metrics::new(&options).unwrap();
    options.increased_cardinality = true;
    let legacy = Metrics::new(&options).unwrap();
    // A histogram is one series here, as its family counts it.
    let series = |metrics: &Metrics| {
        let page = String::from_utf8(metrics.render()).unwrap();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter(|line| !line.contains("_bucket{") && !line.contains("_sum"))
            .count()
    };
    let before = series(&legacy);
    let mut path = String::new();
    for index in 0..PATHS {
        path.clear();
        std::fmt::write(&mut path, format_args!("/v1.0/invoke/a/method/{index}")).unwrap();
        for metrics in [&low, &legacy] {
            metrics.http_server_request(&request("GET", &path));
            metrics.http_client_started("GET", &path, 0);
            metrics.http_client_completed("GET", &path, 200, 0, Duration::from_millis(1));
        }
    }
    assert!(series(&low) - before <= 200, "{}", series(&low) - before);
    assert!(series(&legacy) - before <= 200, "{}", series(&legacy) - before);
    let counts = family(&legacy, "dapr_http_server_request_count");
    let counted: f64 = counts
        .iter()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(
        (counted - f64::from(PATHS)).abs() < 0.5,
        "no request is lost: {counted}"
    );
    let overflow = "path=\"overflow\",status=\"200\"";
    assert!(counts.iter().any(|line| line.contains(overflow)), "{counts:?}");
}

/// A family of another kind has its cap, whatever its labels are.
#[test]
fn a_family_stays_within_its_cap() {
    let metrics = Metrics::new(&options()).unwrap();
    let families = metrics.families().unwrap();
    let counter = families.counter("test/many", "Many", &["app_id", "id"]).unwrap();
    for id in 0..5_000 {
        counter.with(&["myapp", &id.to_string()], Counter::inc);
    }
    let counts = family(&metrics, "dapr_test_many");
    assert_eq!(counts.len(), MAX_SERIES_PER_FAMILY + 1);
    let overflow = "dapr_test_many{app_id=\"myapp\",id=\"overflow\"} 4000";
    assert!(counts.iter().any(|line| line == overflow), "{:?}", counts.last());
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
    let server = tokio::spawn(serve(listener, move || metrics.clone(), async {
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
