//! What a sidecar tells about itself: all three signals pushed to a collector, an audit log, and no secret anywhere
//! (rows A4.8, B7, B8, C6, O1, F2).

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::Method;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use crate::support::{
    app::App,
    client::{Pool, get, post, request, send},
    eventually,
    sidecar::{Launch, Sidecar},
};

/// The value that must be nowhere but in the answer to who asked for it.
const CANARY: &str = "canary-7f3a91c2d5e8";

/// A collector made of OpenTelemetry's own services.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    logs: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
}

impl Collector {
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = tonic::service::Routes::new(TraceServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()))
            .add_service(LogsServiceServer::new(self.clone()));
        tokio::spawn(async move {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_routes(routes)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        address
    }

    /// Everything received, as bytes to search in.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for request in self.spans.lock().unwrap().iter() {
            bytes.extend(request.encode_to_vec());
        }
        for request in self.metrics.lock().unwrap().iter() {
            bytes.extend(request.encode_to_vec());
        }
        for request in self.logs.lock().unwrap().iter() {
            bytes.extend(request.encode_to_vec());
        }
        bytes
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.spans.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

#[tokio::test]
async fn one_collector_gets_spans_metrics_and_logs_by_the_environment_alone() {
    let collector = Collector::default();
    let address = collector.start().await;
    let mut sidecar = Launch::new("pushed")
        .component("store", "state.in-memory", &[])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}"))
        .env("OTEL_EXPORTER_OTLP_INSECURE", "true")
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .start()
        .await;
    let key = json!([{"key": "k", "value": 1}]);
    assert_eq!(
        post(&sidecar.url("/v1.0/state/store"), &key)
            .await
            .unwrap()
            .status,
        204
    );
    // The end sends what is left, well before any interval is over.
    assert_eq!(sidecar.stop().await.code(), Some(0), "{}", sidecar.log());
    let spans = collector.spans.lock().unwrap();
    let metrics = collector.metrics.lock().unwrap();
    let logs = collector.logs.lock().unwrap();
    let bytes: Vec<Vec<u8>> = vec![
        spans.iter().flat_map(prost::Message::encode_to_vec).collect(),
        metrics.iter().flat_map(prost::Message::encode_to_vec).collect(),
        logs.iter().flat_map(prost::Message::encode_to_vec).collect(),
    ];
    for (bytes, wanted) in bytes.iter().zip([
        "/v1.0/state/store",
        "dapr_component_state_count",
        "dapr initialized",
    ]) {
        assert!(holds(bytes, wanted), "{wanted} is missing:\n{}", sidecar.log());
        assert!(holds(bytes, "pushed") && holds(bytes, "deployment.environment.name"));
    }
    // From the first line to the last.
    for line in ["Starting Dapr Runtime", "Dapr runtime stopped"] {
        assert!(holds(&bytes[2], line), "{line}");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_nothing_but_a_line_and_a_count() {
    let mut sidecar = Launch::new("unheard")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .start()
        .await;
    sidecar.logs(&["metrics export:"]).await;
    sidecar.logs(&["logs export:"]).await;
    eventually("failures are counted", || async {
        let page = get(&format!("http://127.0.0.1:{}/", sidecar.metrics))
            .await
            .unwrap()
            .text();
        ["logs", "metrics"]
            .iter()
            .all(|signal| {
                let series = format!("result=\"failed\",signal=\"{signal}\"}} ");
                page.lines()
                    .any(|line| line.contains(&series) && !line.ends_with(" 0"))
            })
            .then_some(())
    })
    .await;
    assert_eq!(sidecar.log().matches("metrics export:").count(), 1, "said once");
    assert_eq!(sidecar.stop().await.code(), Some(0), "{}", sidecar.log());
}

const AUDITED: &str = "apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: audited
spec:
  tracing:
    samplingRate: '1'
    stdout: true
    otel: {endpointAddress: 'COLLECTOR', protocol: grpc, isSecure: false}
  metrics:
    recordErrorCodes: true
    otel: {endpointAddress: 'COLLECTOR', isSecure: false}
    exportInterval: 1s
  logging:
    otel: {endpointAddress: 'COLLECTOR', isSecure: false}
    audit: {path: audit.log}
    apiLogging: {enabled: true}
  secrets:
    scopes:
    - storeName: vault
      deniedSecrets: [forbidden]
";

async fn audited(folder: &std::path::Path, collector: SocketAddr) -> Sidecar {
    let configuration = folder.join("configuration.yaml");
    std::fs::write(
        &configuration,
        AUDITED.replace("COLLECTOR", &collector.to_string()),
    )
    .unwrap();
    let secrets = json!({"key": CANARY, "forbidden": CANARY, "broken": {"deep": CANARY}});
    std::fs::write(folder.join("secrets.json"), secrets.to_string()).unwrap();
    let app = App::echo().await;
    Launch::new("audited")
        .folder(folder)
        .env("DAPR_API_TOKEN", "audited-token")
        .env("APP_API_TOKEN", CANARY)
        .component(
            "vault",
            "secretstores.local.file",
            &[("secretsFile", "secrets.json"), ("nestedSeparator", ".")],
        )
        .resource(
            "referring.yaml",
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: referring\nspec:\n  type: bindings.http\n  version: v1\n  metadata:\n  - name: url\n    value: http://127.0.0.1:1\n  - name: securityToken\n    secretKeyRef: {name: key, key: key}\n  - name: securityTokenHeader\n    value: x-token\nauth:\n  secretStore: vault\n",
        )
        .resource(
            "failing.yaml",
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: failing\nspec:\n  ignoreErrors: true\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    value: ''\n  - name: timeoutInSeconds\n    secretKeyRef: {name: key, key: key}\nauth:\n  secretStore: vault\n",
        )
        .args(["--config", configuration.to_str().unwrap()])
        .args(["--log-level", "debug", "--enable-api-logging=true"])
        .start_with_app(app.port)
        .await
}

/// Every access to a secret is in the audit log; the value is in none of the outputs, at the most talkative level.
#[tokio::test]
async fn a_canary_secret_is_audited_by_name_and_its_value_leaks_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::default();
    let mut sidecar = audited(folder.path(), collector.start().await).await;
    let token = [("dapr-api-token", "audited-token")];
    let ask = async |path: &str| {
        send(request(Method::GET, &sidecar.url(path), &token, ""))
            .await
            .unwrap()
    };
    assert!(
        ask("/v1.0/secrets/vault/key").await.text().contains(CANARY),
        "who asks gets it"
    );
    assert!(ask("/v1.0/secrets/vault/bulk").await.text().contains(CANARY));
    let mut pages = Vec::new();
    for path in [
        "/v1.0/secrets/vault/forbidden",
        "/v1.0/secrets/vault/none",
        "/v1.0/secrets/nowhere/key",
        "/v1.0/metadata",
        "/v1.0/healthz",
        "/v1.0/state/failing/k",
    ] {
        pages.push(ask(path).await.text());
    }
    let operation = json!({"operation": "get"}).to_string();
    let failed = send(request(
        Method::POST,
        &sidecar.url("/v1.0/bindings/referring"),
        &token,
        operation,
    ));
    pages.push(failed.await.unwrap().text());
    assert_eq!(
        get(&sidecar.url("/v1.0/secrets/vault/key")).await.unwrap().status,
        401
    );
    pages.push(
        get(&format!("http://127.0.0.1:{}/", sidecar.metrics))
            .await
            .unwrap()
            .text(),
    );
    assert_eq!(sidecar.stop().await.code(), Some(0), "{}", sidecar.log());

    let audit = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    for (name, text) in [
        ("log", sidecar.log()),
        ("audit log", audit.clone()),
        ("answers", pages.join("\n")),
    ] {
        assert!(!text.contains(CANARY), "the {name} holds the secret: {text}");
        assert!(
            !text.contains("audited-token"),
            "the {name} holds the API token: {text}"
        );
    }
    assert!(
        !holds(&collector.bytes(), CANARY),
        "the collector was sent the secret"
    );
    assert!(!collector.spans.lock().unwrap().is_empty() && !collector.logs.lock().unwrap().is_empty());

    let records: Vec<serde_json::Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |action: &str, target: &str, decision: &str| {
        records
            .iter()
            .find(|record| {
                record["action"] == action && record["target"] == target && record["decision"] == decision
            })
            .unwrap_or_else(|| panic!("no {action} {target} {decision} in {audit}"))
    };
    let read = find("secret.get", "vault/key", "allowed");
    assert_eq!(read["actor"], "spiffe://public/ns/default/audited");
    assert_eq!(read["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(
        find("secret.get", "vault/forbidden", "denied")["policy"],
        "secrets.scopes"
    );
    find("secret.get", "vault/none", "failed");
    find("secret.get", "nowhere/key", "denied");
    find("secret.bulkGet", "vault/*", "allowed");
    find("secret.reference", "vault/key", "allowed");
    let refused = find("authenticate", "GET /v1.0/secrets/vault/key", "denied");
    assert_eq!(
        (&refused["actor"], &refused["policy"]),
        (&json!(""), &json!("DAPR_API_TOKEN"))
    );
    assert!(
        records
            .iter()
            .any(|record| record["action"] == "configuration.load")
    );
}

/// A scanner, or ids in paths: the default configuration labels metrics with paths, and must stay small all the same.
/// The million itself is sent to the metrics directly (`outrigger-telemetry`'s tests); here are enough to fill every
/// table, through the real server.
#[tokio::test]
async fn many_distinct_paths_make_at_most_200_series() {
    let app = App::echo().await;
    let sidecar = Launch::new("scanned").start_with_app(app.port).await;
    let series = async || {
        let page = get(&format!("http://127.0.0.1:{}/", sidecar.metrics))
            .await
            .unwrap()
            .text();
        page.lines()
            .filter(|line| !line.starts_with('#') && !line.contains("_bucket{") && !line.contains("_sum"))
            .count()
    };
    let before = series().await;
    let pool = Pool::new();
    for number in 0..3_000 {
        let url = sidecar.url(&format!("/v1.0/invoke/scanned/method/things/{number}"));
        assert_eq!(
            pool.send(request(Method::GET, &url, &[], ""))
                .await
                .unwrap()
                .status,
            200
        );
    }
    let made = series().await - before;
    assert!(made <= 200, "{made} series");
}
