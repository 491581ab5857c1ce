//! The dashboards and alerts in `deploy`: every metric and label they name is one that a live sidecar exposes (rows C7,
//! C12).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use http::Method;
use serde_json::json;

use crate::support::{
    app::{App, status},
    client::{get, post, request, send},
    eventually,
    sidecar::{Launch, Sidecar},
};

/// Labels that Prometheus itself adds to what it scrapes, and the one of histogram buckets.
const SCRAPE_LABELS: [&str; 3] = ["instance", "job", "le"];

/// A policy whose breaker opens at the first failure.
const RESILIENCY: &str = "apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata:
  name: policies
spec:
  policies:
    retries:
      once: {policy: constant, duration: 1ms, maxRetries: 1}
    timeouts:
      long: 10s
    circuitBreakers:
      touchy: {trip: consecutiveFailures >= 1, timeout: 60s}
  targets:
    components:
      web: {outbound: {retry: once, timeout: long, circuitBreaker: touchy}}
";

const CONFIGURATION: &str = "apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: observed
spec:
  metrics:
    recordErrorCodes: true
    otel: {endpointAddress: '127.0.0.1:1', isSecure: false}
  logging:
    otel: {endpointAddress: '127.0.0.1:1', isSecure: false}
";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// The metrics and labels that an expression names.
fn names_of(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    let characters: Vec<char> = expression.chars().collect();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut at, mut in_matchers, mut in_grouping) = (0, false, false);
    while at < characters.len() {
        let c = characters[at];
        match c {
            '"' => {
                at += 1;
                while characters[at] != '"' {
                    at += 1;
                }
            }
            '[' => {
                while characters[at] != ']' {
                    at += 1;
                }
            }
            '{' => in_matchers = true,
            '}' => in_matchers = false,
            ')' => in_grouping = false,
            _ if is_name(c) => {
                let from = at;
                while at < characters.len() && is_name(characters[at]) {
                    at += 1;
                }
                let name: String = characters[from..at].iter().collect();
                let next = characters[at..].iter().find(|c| !c.is_whitespace());
                if matches!(name.as_str(), "by" | "without" | "on" | "ignoring") {
                    in_grouping = true;
                } else if in_matchers || in_grouping {
                    labels.insert(name);
                } else if next != Some(&'(') && !name.starts_with(|c: char| c.is_ascii_digit()) {
                    let is_word = matches!(
                        name.as_str(),
                        "and" | "or" | "unless" | "sum" | "max" | "min" | "count"
                    );
                    if !is_word {
                        metrics.insert(name);
                    }
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    (metrics, labels)
}

#[test]
fn names_are_found_in_expressions() {
    let (metrics, labels) = names_of(
        "histogram_quantile(0.99, sum by (app_id, le) (rate(a_bucket{x=~\"$y|z\", status!=\"w\"}[5m]))) > 10 and changes(b[1m]) / c > 0.5",
    );
    assert_eq!(metrics.into_iter().collect::<Vec<_>>(), ["a_bucket", "b", "c"]);
    assert_eq!(
        labels.into_iter().collect::<Vec<_>>(),
        ["app_id", "le", "status", "x"]
    );
}

/// Every expression in `deploy`, with where it stands.
fn expressions() -> Vec<(String, String)> {
    fn walk(value: &serde_json::Value, at: &str, into: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(fields) => {
                let title = fields.get("title").and_then(|title| title.as_str());
                let at = title.map_or_else(|| at.to_owned(), |title| format!("{at}: {title}"));
                for (name, field) in fields {
                    match (name.as_str(), field.as_str()) {
                        ("expr", Some(text)) => into.push((at.clone(), text.to_owned())),
                        _ => walk(field, &at, into),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, at, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let mut dashboards = 0;
    for file in std::fs::read_dir(deploy().join("grafana")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let dashboard: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        walk(&dashboard, &name, &mut found);
        dashboards += 1;
    }
    assert!(dashboards >= 2);
    // The rule file is read line by line: an expression is on the line of `expr:`, or indented below `expr: |`.
    let text = std::fs::read_to_string(deploy().join("prometheus/alerts.yaml")).unwrap();
    let mut alert = "";
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("- alert: ") {
            alert = name;
        } else if line == "expr: |" {
            let mut expression = String::new();
            while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
                expression.push_str(more.trim());
                expression.push(' ');
            }
            found.push((alert.to_owned(), expression));
        } else if let Some(expression) = line.strip_prefix("expr: ") {
            found.push((alert.to_owned(), expression.to_owned()));
        }
    }
    found
}

/// Metrics by name, each with its labels, as a scrape has them.
async fn scrape(sidecar: &Sidecar) -> BTreeMap<String, BTreeSet<String>> {
    let page = get(&format!("http://127.0.0.1:{}/", sidecar.metrics))
        .await
        .unwrap()
        .text();
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let end = line.find(['{', ' ']).unwrap();
        let labels = metrics.entry(line[..end].to_owned()).or_default();
        if let Some(inside) = line[end..].strip_prefix('{') {
            let mut rest = inside;
            while let Some((name, after)) = rest.split_once("=\"") {
                labels.insert(name.trim_start_matches(',').to_owned());
                // Label values here hold no quotes.
                let Some((_, after)) = after.split_once('"') else {
                    break;
                };
                rest = after;
                if rest.starts_with('}') {
                    break;
                }
            }
        }
    }
    metrics
}

#[tokio::test]
async fn every_metric_and_label_of_dashboards_and_alerts_is_live() {
    let files = tempfile::tempdir().unwrap();
    let registry = files.path().join("registry");
    let configuration = files.path().join("configuration.yaml");
    std::fs::write(&configuration, CONFIGURATION).unwrap();
    std::fs::write(files.path().join("secrets.json"), r#"{"k":"v"}"#).unwrap();
    let in_registry = |launch: Launch| launch.env("OUTRIGGER_REGISTRY_DIR", registry.to_str().unwrap());
    let app = App::start(|request| async move {
        match request.uri().path() {
            "/dapr/subscribe" => crate::support::app::json(&json!([
                {"pubsubname": "events", "topic": "orders", "route": "/orders"}
            ])),
            path if path.starts_with("/dapr/") => status(404),
            _ => status(200),
        }
    })
    .await;
    let _callee = in_registry(Launch::new("observed-callee"))
        .start_with_app(app.port)
        .await;
    let sidecar = in_registry(Launch::new("observed"))
        .folder(files.path())
        .resource("resiliency.yaml", RESILIENCY)
        .resource(
            "broken.yaml",
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: broken\nspec:\n  ignoreErrors: true\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    value: /no/such/folder/at/all.db\n",
        )
        .component("store", "state.in-memory", &[])
        .component("events", "pubsub.in-memory", &[])
        .component("web", "bindings.http", &[("url", "http://127.0.0.1:1")])
        .component("often", "bindings.cron", &[("schedule", "@every 1s"), ("direction", "input")])
        .component("vault", "secretstores.local.file", &[("secretsFile", "secrets.json")])
        .args(["--config", configuration.to_str().unwrap()])
        .args(["--enable-app-health-check", "--app-health-probe-interval", "1"])
        .start_with_app(app.port)
        .await;

    let key = json!([{"key": "k", "value": 1}]);
    assert_eq!(
        post(&sidecar.url("/v1.0/state/store"), &key)
            .await
            .unwrap()
            .status,
        204
    );
    assert_eq!(
        get(&sidecar.url("/v1.0/state/nowhere/k")).await.unwrap().status,
        400
    );
    assert_eq!(
        get(&sidecar.url("/v1.0/secrets/vault/k")).await.unwrap().status,
        200
    );
    let event = json!({"a": 1});
    assert_eq!(
        post(&sidecar.url("/v1.0/publish/events/orders"), &event)
            .await
            .unwrap()
            .status,
        204
    );
    for _ in 0..2 {
        let operation = json!({"operation": "get"});
        assert_eq!(
            post(&sidecar.url("/v1.0/bindings/web"), &operation)
                .await
                .unwrap()
                .status,
            500
        );
    }
    eventually("the callee is found", || async {
        let url = sidecar.url("/v1.0/invoke/observed-callee/method/x");
        let answer = send(request(Method::GET, &url, &[], "")).await.unwrap();
        (answer.status == 200).then_some(())
    })
    .await;
    let mut dapr = sidecar.dapr().await;
    dapr.get_metadata(outrigger_wire::dapr::proto::runtime::v1::GetMetadataRequest {})
        .await
        .unwrap();

    let expressions = expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());
    // Deliveries, probes and the timer come by themselves.
    let missing = std::cell::RefCell::new(Vec::new());
    let look = || async {
        let live = scrape(&sidecar).await;
        let mut unknown = Vec::new();
        for (place, expression) in &expressions {
            let (metrics, labels) = names_of(expression);
            assert!(!metrics.is_empty(), "{place}: {expression}");
            for label in labels
                .iter()
                .filter(|label| !SCRAPE_LABELS.contains(&label.as_str()))
            {
                let known = metrics
                    .iter()
                    .any(|metric| live.get(metric).is_some_and(|labels| labels.contains(label)));
                if !known {
                    unknown.push(format!("{place}: label {label} of {metrics:?}"));
                }
            }
            let unknown_metrics = metrics.iter().filter(|metric| !live.contains_key(*metric));
            unknown.extend(unknown_metrics.map(|metric| format!("{place}: {metric}")));
        }
        let done = unknown.is_empty();
        *missing.borrow_mut() = unknown;
        done.then_some(())
    };
    let found = tokio::time::timeout(
        std::time::Duration::from_secs(30),
        eventually("all metrics", look),
    )
    .await;
    assert!(found.is_ok(), "{:#?}\n{}", missing.borrow(), sidecar.log());
}
