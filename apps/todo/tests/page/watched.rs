//! N7: the whole app under tracing, metrics, JSON logs and both audits, watched by a collector of OTLP over HTTP. What
//! one user does once is found in all of them under one trace id.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as AnyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::Value;

use super::client::Visitor;
use super::running::{Programs, Running, home};
use super::{ALONE, until};

/// A span of a service, or of its sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    service: String,
    sidecar: bool,
    trace_id: String,
    name: String,
}

/// A collector that keeps what it is told.
#[derive(Debug, Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Seen>>>,
    metrics: Arc<Mutex<Vec<Counted>>>,
}

/// A metric of a service, or of its sidecar; of histograms with the labels of each series.
#[derive(Debug, Clone)]
struct Counted {
    service: String,
    name: String,
    series: Vec<String>,
}

impl Collector {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new()
            .route("/v1/traces", post(spans))
            .route("/v1/metrics", post(metrics))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }
}

async fn spans(State(collector): State<Collector>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let service = service(resource.resource);
        for scope in resource.scope_spans {
            let sidecar = scope.scope.is_none_or(|scope| scope.name != "outrigger-kit");
            collector
                .spans
                .lock()
                .extend(scope.spans.into_iter().map(|span| Seen {
                    service: service.clone(),
                    sidecar,
                    trace_id: span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect(),
                    name: span.name,
                }));
        }
    }
}

async fn metrics(State(collector): State<Collector>, body: Bytes) {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    for resource in request.resource_metrics {
        let service = service(resource.resource);
        for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            let series = match metric.data {
                Some(Data::Histogram(histogram)) => histogram
                    .data_points
                    .iter()
                    .map(|point| labels(&point.attributes))
                    .collect(),
                _ => Vec::new(),
            };
            collector.metrics.lock().push(Counted {
                service: service.clone(),
                name: metric.name,
                series,
            });
        }
    }
}

fn service(resource: Option<Resource>) -> String {
    let attributes = resource.unwrap_or_default().attributes;
    let name = attributes
        .iter()
        .find(|attribute| attribute.key == "service.name");
    name.map(text).unwrap_or_default()
}

fn labels(attributes: &[KeyValue]) -> String {
    let mut labels: Vec<_> = attributes
        .iter()
        .map(|attribute| format!("{}={}", attribute.key, text(attribute)))
        .collect();
    labels.sort();
    labels.join(" ")
}

fn text(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(AnyValue::StringValue(text)) => text.clone(),
        Some(AnyValue::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The run file of the app with everything on. One instance of `tasks`: an audit log is one sidecar's.
fn watch(home: &Path, collector: &str) {
    let file = home.join("dapr.yaml");
    let mut run = std::fs::read_to_string(&file).unwrap();
    run = run.replace("    instances: 2\n", "");
    run = run.replace(
        "  env:\n",
        &format!(
            "  env:\n    OTEL_EXPORTER_OTLP_ENDPOINT: http://{collector}\n    \
             OTEL_EXPORTER_OTLP_PROTOCOL: http/protobuf\n    OTEL_METRIC_EXPORT_INTERVAL: \"500\"\n    \
             OTEL_BSP_SCHEDULE_DELAY: \"200\"\n"
        ),
    );
    for app in [
        "notifications",
        "stats",
        "preferences",
        "chat",
        "tasks",
        "gateway",
    ] {
        let configuration = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: watched}}\nspec:\n  tracing:\n    \
             samplingRate: '1'\n    otel: {{endpointAddress: '{collector}', protocol: http, isSecure: false}}\n  \
             metrics:\n    exportInterval: 1s\n    otel: {{endpointAddress: '{collector}', protocol: http, isSecure: \
             false}}\n  logging:\n    audit: {{path: '{}'}}\n  accessControl: {{defaultAction: allow}}\n",
            audit_log(home, app)
        );
        std::fs::write(home.join(format!("{app}.yaml")), configuration).unwrap();
        let command = format!("command: [\"./todo.sh\", \"{app}\"]");
        assert!(run.contains(&command), "{run}");
        run = run.replace(
            &command,
            &format!(
                "configFilePath: ./{app}.yaml\n    command: [\"./todo.sh\", \"{app}\", \"--log-format\", \"json\"]"
            ),
        );
    }
    std::fs::write(file, run).unwrap();
}

fn audit_log(home: &Path, app: &str) -> String {
    home.join(format!("{app}-audit.log")).display().to_string()
}

/// What `outrigger audit verify` says of a file.
fn verified(programs: &Programs, file: &str) -> bool {
    let verify = Command::new(programs.outrigger())
        .args(["audit", "verify", file])
        .output();
    verify.unwrap().status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_action_is_found_in_traces_metrics_logs_and_both_audits() {
    let _alone = ALONE.lock().await;
    let Some(programs) = Programs::find() else { return };
    let home = home();
    let collector = Collector::default();
    let address = collector.start().await;
    watch(home.path(), &address);
    let running = Running::start(&programs, home.path()).await;
    let url = running.url().borrow().clone();
    let visitor = Visitor::enter(&url, "ada").await;
    until("the services that take part answer", async || {
        let answers = async |path| visitor.get(path).await.status == 200;
        (answers("/api/tasks").await && answers("/api/feed").await).then_some(())
    })
    .await;
    visitor.add("Water the plants").await;
    until("the event has arrived", async || {
        (visitor.get("/api/feed").await.body["head"] == 1).then_some(())
    })
    .await;

    // Log and audit of the service: who did what, and its trace.
    let line = until("the audit line of the task is logged", async || {
        running.lines().iter().find_map(|line| {
            let line: Value = serde_json::from_str(line.get(line.find('{')?..)?).ok()?;
            (line["scope"] == "outrigger_todo::audit" && line["action"] == "task.created").then_some(line)
        })
    })
    .await;
    assert_eq!(
        (&line["user"], &line["app_id"]),
        (&"ada".into(), &"tasks".into()),
        "{line}"
    );
    assert!(line["time"].is_string() && line["span_id"].is_string(), "{line}");
    assert!(!line.to_string().contains("plants"), "a title is the user's own");
    let trace_id = line["trace_id"].as_str().unwrap().to_owned();

    // The trace runs through every process that had a part in it.
    until("spans of all of them are told", async || {
        let spans = collector.spans.lock();
        let of = |service: &str, sidecar| {
            spans
                .iter()
                .any(|span| span.trace_id == trace_id && span.service == service && span.sidecar == sidecar)
        };
        let all = ["gateway", "tasks", "notifications"];
        all.iter()
            .all(|service| of(service, false) && of(service, true))
            .then_some(())
    })
    .await;
    let names: Vec<String> = collector
        .spans
        .lock()
        .iter()
        .filter(|span| span.trace_id == trace_id && !span.sidecar)
        .map(|span| format!("{}: {}", span.service, span.name))
        .collect();
    for name in [
        "gateway: POST /api/tasks",
        "gateway: POST invoke",
        "tasks: POST /users/{user}/tasks",
        "tasks: POST publish",
    ] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }

    // It is counted, by the service and by its sidecar.
    let counted = "http.request.method=POST http.response.status_code=201 http.route=/users/{user}/tasks";
    until("metrics are told", async || {
        let metrics = collector.metrics.lock();
        let of_tasks = || metrics.iter().filter(|metric| metric.service == "tasks");
        let by_service = of_tasks().any(|metric| {
            let durations = metric.name == "http.server.request.duration";
            durations && metric.series.iter().any(|labels| labels == counted)
        });
        let by_sidecar = of_tasks().any(|metric| metric.name.starts_with("dapr_http_"));
        (by_service && by_sidecar).then_some(())
    })
    .await;

    // The sidecar's audit: the decision about the call, in a chain that shows every change.
    let log = audit_log(home.path(), "tasks");
    let record = until("the call is in the sidecar's audit", async || {
        let text = std::fs::read_to_string(&log).ok()?;
        let mut records = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.find(|record| record["action"] == "invoke" && record["trace_id"] == *trace_id)
    })
    .await;
    assert_eq!(record["decision"], "allowed", "{record}");
    assert_eq!(record["target"], "POST users/ada/tasks", "{record}");
    running.stop().await;
    assert!(verified(&programs, &log));
    let changed = std::fs::read_to_string(&log)
        .unwrap()
        .replace("users/ada/", "users/eve/");
    std::fs::write(&log, changed).unwrap();
    assert!(!verified(&programs, &log), "a changed line is found");
}
