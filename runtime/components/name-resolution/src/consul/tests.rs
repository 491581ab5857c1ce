use std::{
    collections::HashMap,
    io::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    response::IntoResponse,
    routing,
};
use http::{HeaderMap, StatusCode};
use outrigger_component::{Error, ErrorKind, Host, Properties, Spec};
use outrigger_name_resolution::{DynResolver, Instance, Target};
use outrigger_types::Environment;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::CONSUL;

/// Instances by service, and the index of the last change.
type Services = (u64, HashMap<String, Vec<Value>>);

/// An agent that knows what it is told: enough of Consul's HTTP API for a resolver, blocking queries included.
#[derive(Clone)]
struct Fake {
    services: Arc<watch::Sender<Services>>,
    /// Path, query and headers of every request.
    asked: Arc<Mutex<Vec<(String, String, HeaderMap)>>>,
    registered: Arc<Mutex<Vec<Value>>>,
    url: String,
}

impl Fake {
    async fn start() -> Self {
        let mut fake = Self {
            services: Arc::new(watch::Sender::new((1, HashMap::new()))),
            asked: Arc::default(),
            registered: Arc::default(),
            url: String::new(),
        };
        let router = Router::new()
            .route("/v1/agent/self", routing::get(|| async { Json(json!({})) }))
            .route(
                "/v1/agent/service/register",
                routing::put(
                    |State(fake): State<Self>, headers: HeaderMap, body: Bytes| async move {
                        fake.note("register", "", headers);
                        let body = serde_json::from_slice(&body).unwrap();
                        fake.registered.lock().unwrap().push(body);
                    },
                ),
            )
            .route(
                "/v1/agent/service/deregister/{id}",
                routing::put(
                    |State(fake): State<Self>, Path(id): Path<String>, headers: HeaderMap| async move {
                        fake.note(&format!("deregister {id}"), "", headers);
                    },
                ),
            )
            .route("/v1/health/service/{name}", routing::get(healthy))
            .with_state(fake.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        fake.url = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    fn note(&self, path: &str, query: &str, headers: HeaderMap) {
        self.asked
            .lock()
            .unwrap()
            .push((path.to_owned(), query.to_owned(), headers));
    }

    fn set(&self, service: &str, instances: Vec<Value>) {
        self.services.send_modify(|(index, services)| {
            *index += 1;
            services.insert(service.to_owned(), instances);
        });
    }

    fn asked(&self) -> Vec<(String, String, HeaderMap)> {
        self.asked.lock().unwrap().clone()
    }
}

async fn healthy(
    State(fake): State<Fake>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> impl IntoResponse {
    let query = query.unwrap_or_default();
    fake.note(&name, &query, headers);
    if name == "broken" {
        return (StatusCode::INTERNAL_SERVER_ERROR, "rpc error: no leader").into_response();
    }
    let known: u64 = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("index=")?.parse().ok())
        .unwrap_or(0);
    let mut services = fake.services.subscribe();
    let (index, found) = {
        let state = services.wait_for(|(index, _)| *index > known).await.unwrap();
        (state.0, state.1.get(&name).cloned().unwrap_or_default())
    };
    ([("x-consul-index", index.to_string())], Json(Value::from(found))).into_response()
}

fn instance(address: &str, node: &str, meta: &Value) -> Value {
    json!({"Node": {"Address": node}, "Service": {"Address": address, "Meta": meta, "Port": 8080}})
}

async fn open(configuration: Value, environment: &[(&str, &str)]) -> Result<Arc<dyn DynResolver>, Error> {
    // As the sidecar hands a configuration on: plain values as text, all else as JSON.
    let pairs: Vec<(String, String)> = configuration
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), text)
        })
        .collect();
    let spec = Spec {
        name: "consul".into(),
        type_name: "nameresolution.consul".into(),
        version: "v1".into(),
        properties: Properties::from_pairs(pairs),
    };
    let mut host = Host::new("app", "/");
    host.environment = Environment::from_pairs(environment.iter().copied());
    (CONSUL.validate)(&spec)?.run(host).await
}

fn target(app_id: &str) -> Target {
    Target {
        app_id: app_id.into(),
        namespace: "default".into(),
        port: 50002,
    }
}

fn this_sidecar() -> Instance {
    Instance {
        app_id: "app".into(),
        namespace: "default".into(),
        internal_address: "10.0.0.7:50005".parse().unwrap(),
        http_port: 3500,
        app_port: 8080,
        instance_id: "1".into(),
    }
}

#[tokio::test]
async fn healthy_instances_are_found_by_the_port_in_their_meta() {
    let fake = Fake::start().await;
    fake.set(
        "orders",
        vec![
            instance("10.0.0.1", "10.9.9.9", &json!({"DAPR_PORT": "50002"})),
            instance("", "fe80::1", &json!({"DAPR_PORT": "50003"})),
            instance("host.example", "", &json!({"DAPR_PORT": "50004"})),
            instance("10.0.0.2", "", &json!({"DAPR_PORT": "no port"})),
            instance("10.0.0.3", "", &json!({})),
        ],
    );
    fake.set("portless", vec![instance("10.0.0.1", "", &json!({}))]);
    let resolver = open(json!({"client": {"Address": fake.url}}), &[]).await.unwrap();
    let found = resolver.resolve(&target("orders")).await.unwrap();
    assert_eq!(found, ["10.0.0.1:50002", "[fe80::1]:50003", "host.example:50004"]);
    for (app, said) in [
        ("nobody", "no healthy services found with AppID 'nobody'"),
        (
            "portless",
            "target service AppID 'portless' found but DAPR_PORT missing from meta",
        ),
    ] {
        let error = resolver.resolve(&target(app)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::NotFound, said)
        );
    }
    let error = resolver.resolve(&target("broken")).await.unwrap_err();
    assert_eq!(
        error.chain(),
        "failed to query healthy consul services: unexpected response code: 500 (rpc error: no leader)"
    );
    let (_, query, _) = &fake.asked()[0];
    assert_eq!(query, "cached=&passing=1");
    // A name cannot leave its place in the path.
    assert!(resolver.resolve(&target("../../agent/self?x=")).await.is_err());
    assert_eq!(fake.asked().last().unwrap().0, "../../agent/self?x=");
}

#[tokio::test]
async fn options_and_secrets_go_along() {
    let fake = Fake::start().await;
    fake.set("a", vec![instance("10.0.0.1", "", &json!({"MY_PORT": "1"}))]);
    let configuration = json!({
        "client": {"address": fake.url, "scheme": "http", "datacenter": "dc1", "token": "t0ken",
                   "httpAuth": {"username": "u", "password": "p"}},
        "queryOptions": {"datacenter": "dc2", "namespace": "ns", "allowStale": true, "useCache": true,
                         "maxAge": 60_000_000_000_u64, "staleIfError": "5m", "near": "_agent", "relayFactor": 2,
                         "nodeMeta": {"rack": "1"}, "localOnly": true, "connect": true, "filter": "Service.Port == 1"},
        "daprPortMetaKey": "MY_PORT",
    });
    let resolver = open(configuration, &[]).await.unwrap();
    assert_eq!(resolver.resolve(&target("a")).await.unwrap(), ["10.0.0.1:1"]);
    let (_, query, headers) = fake.asked().pop().unwrap();
    let query = query.replace('+', " ").replace("%3A", ":").replace("%3D", "=");
    for part in [
        "ns=ns",
        "dc=dc2",
        "near=_agent",
        "filter=Service.Port == 1",
        "relay-factor=2",
        "node-meta=rack:1",
        "stale=",
        "cached=",
        "local-only=true",
        "connect=true",
        "passing=1",
    ] {
        assert!(query.split('&').any(|pair| pair == part), "{part} in {query}");
    }
    assert_eq!(headers["x-consul-token"], "t0ken");
    assert_eq!(headers["authorization"], "Basic dTpw");
    assert_eq!(headers["cache-control"], "max-age=60, stale-if-error=300");
    assert!(!format!("{resolver:?}").contains("t0ken"));
}

#[tokio::test]
async fn the_environment_says_what_the_configuration_does_not() {
    let fake = Fake::start().await;
    fake.set("a", vec![instance("10.0.0.1", "", &json!({"DAPR_PORT": "1"}))]);
    let environment = [
        ("CONSUL_HTTP_ADDR", fake.url.as_str()),
        ("CONSUL_HTTP_TOKEN", "from-env"),
    ];
    let resolver = open(json!({}), &environment).await.unwrap();
    assert!(resolver.resolve(&target("a")).await.is_ok());
    assert_eq!(fake.asked().pop().unwrap().2["x-consul-token"], "from-env");
}

#[tokio::test]
async fn a_sidecar_registers_and_withdraws() {
    let fake = Fake::start().await;
    let configuration = json!({
        "client": {"address": fake.url}, "selfRegister": true, "selfDeregister": true,
        "tags": ["dapr"], "meta": {"team": "a"},
    });
    let resolver = open(configuration, &[]).await.unwrap();
    resolver.register(this_sidecar()).await.unwrap();
    assert_eq!(
        fake.registered.lock().unwrap()[0],
        json!({
            "ID": "app-10.0.0.7-3500", "Name": "app", "Address": "10.0.0.7", "Port": 8080,
            "Checks": [{"Name": "Dapr Health Status", "CheckID": "daprHealth:app-10.0.0.7-3500", "Interval": "15s",
                        "HTTP": "http://10.0.0.7:3500/v1.0/healthz?appid=app"}],
            "Tags": ["dapr"], "Meta": {"team": "a", "DAPR_PORT": "50005"},
        })
    );
    resolver.close().await.unwrap();
    resolver.close().await.unwrap();
    let paths: Vec<_> = fake.asked().into_iter().map(|(path, ..)| path).collect();
    assert_eq!(paths, ["register", "deregister app-10.0.0.7-3500"]);
}

#[tokio::test]
async fn an_advanced_registration_is_taken_as_it_is() {
    let fake = Fake::start().await;
    let configuration = json!({
        "client": {"address": fake.url}, "selfRegister": true, "selfDeregister": false, "tags": ["ignored"],
        "advancedRegistration": {"name": "shop", "Port": 1, "meta": {"a": "b"}, "Checks": [{"TTL": "5s"}]},
    });
    let resolver = open(configuration, &[]).await.unwrap();
    resolver.register(this_sidecar()).await.unwrap();
    assert_eq!(
        fake.registered.lock().unwrap()[0],
        json!({"name": "shop", "Port": 1, "meta": {"a": "b", "DAPR_PORT": "50005"}, "Checks": [{"TTL": "5s"}]})
    );
    resolver.close().await.unwrap();
    assert_eq!(fake.asked().len(), 1, "it stays registered");
}

#[tokio::test]
async fn a_watched_service_is_followed_without_asking() {
    let fake = Fake::start().await;
    fake.set("a", vec![instance("10.0.0.1", "", &json!({"DAPR_PORT": "1"}))]);
    let resolver = open(json!({"client": {"address": fake.url}, "useCache": true}), &[])
        .await
        .unwrap();
    let becomes = async |address: &str| {
        let found = async {
            while !resolver
                .resolve(&target("a"))
                .await
                .is_ok_and(|found| found == [address])
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found)
            .await
            .unwrap();
    };
    becomes("10.0.0.1:1").await;
    let watching = async {
        while !fake.asked().iter().any(|(_, query, _)| query.contains("index=2")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), watching)
        .await
        .unwrap();
    let before = fake.asked().len();
    for _ in 0..100 {
        assert_eq!(resolver.resolve(&target("a")).await.unwrap(), ["10.0.0.1:1"]);
    }
    assert_eq!(fake.asked().len(), before, "known services cost no call");
    fake.set("a", vec![instance("10.0.0.2", "", &json!({"DAPR_PORT": "2"}))]);
    becomes("10.0.0.2:2").await;
    resolver.close().await.unwrap();
}

#[tokio::test]
async fn wrong_configurations_are_said_at_the_start() {
    for configuration in [
        json!({"client": "text"}),
        json!({"client": {"address": 1}}),
        json!({"client": {"address": "unix:///run/consul.sock"}}),
        json!({"client": {"tlsConfig": {"certFile": "/absent"}}}),
        json!({"client": {"tlsConfig": {"caFile": "/absent.pem"}}}),
        json!({"client": {"tokenFile": "/absent"}}),
        json!({"queryOptions": {"waitTime": "soon"}}),
        json!({"selfRegister": "perhaps"}),
        json!({"tags": [1]}),
        json!({"meta": {"a": 1}}),
        json!({"checks": ["x"]}),
        json!({"advancedRegistration": []}),
    ] {
        let error = open(configuration.clone(), &[]).await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Configuration,
            "{configuration}: {}",
            error.chain()
        );
    }
    // Nobody is there: worth another try.
    let error = open(json!({"client": {"address": "127.0.0.1:1"}}), &[])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.chain().starts_with("failed check on consul agent: "),
        "{}",
        error.chain()
    );
}

/// Against a real agent, such as `consul agent -dev`.
#[tokio::test]
async fn a_real_agent_agrees() {
    let Ok(address) = std::env::var("OUTRIGGER_TEST_CONSUL") else {
        let reason = "skipped: OUTRIGGER_TEST_CONSUL (host:port of an agent) is not set";
        let _ = writeln!(std::io::stderr(), "{reason}");
        return;
    };
    let configuration = json!({
        "client": {"address": address}, "selfRegister": true, "selfDeregister": true, "useCache": true,
        // Healthy at once: nobody serves the sidecar's health here.
        "checks": [{"Name": "fine", "TTL": "10m", "Status": "passing"}],
    });
    let resolver = open(configuration, &[]).await.unwrap();
    resolver.register(this_sidecar()).await.unwrap();
    let found = async {
        loop {
            if let Ok(found) = resolver.resolve(&target("app")).await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), found)
        .await
        .unwrap();
    assert_eq!(found, ["10.0.0.7:50005"]);
    resolver.close().await.unwrap();
}
