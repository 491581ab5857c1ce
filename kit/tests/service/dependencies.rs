//! What a service knows of the health of what it rests on: circuits, components, configuration.

use std::time::Duration;

use http::Method;
use outrigger_kit::configuration::Origin;
use outrigger_kit::health::{ComponentChecks, HealthStatus};
use outrigger_kit::testing::Cluster;
use outrigger_kit::{
    App, BindingEvent, BreakerPolicy, BreakerState, Client, Configuration, Error, RetryPolicy,
};

use super::{ask, run, until};

#[tokio::test]
async fn a_sidecar_that_keeps_failing_is_left_alone_until_it_is_back() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("app").await.unwrap();
    let client = Client::builder()
        .environment(sidecar.environment())
        .retry(RetryPolicy::none())
        .breaker(BreakerPolicy::new(3, Duration::from_secs(3600)).unwrap())
        .build()
        .unwrap();
    let app = App::new(client.clone());
    let health = app.health();
    let running = run(&sidecar, app).await;
    until("ready", async || ask(&running.url, "/healthz").await.0 == 200).await;

    sidecar.set_down(true);
    let state = client.state("statestore");
    for _ in 0..5 {
        let _ = state.get::<String>("key").await;
    }
    assert_eq!(client.circuit(), BreakerState::Open);
    let error = state.get::<String>("key").await.unwrap_err();
    assert!(
        matches!(&error, Error::CircuitOpen { dependency, .. } if dependency == "dapr"),
        "{error}"
    );
    assert!(error.is_retryable() && error.never_sent());
    let report = health.report(false).await;
    assert_eq!(report.entries["circuits"].status, HealthStatus::Unhealthy);
    assert_eq!(report.entries["circuits"].description, "open: dapr");

    // The break would last an hour: calls notice that the sidecar is back.
    sidecar.set_down(false);
    until("a call goes through", async || {
        state.get::<String>("key").await.is_ok()
    })
    .await;
    assert_eq!(client.circuit(), BreakerState::Closed);
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_app_that_is_gone_has_a_circuit_of_its_own() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("app").await.unwrap();
    let client = Client::builder()
        .environment(sidecar.environment())
        .retry(RetryPolicy::none())
        .breaker(BreakerPolicy::new(2, Duration::from_secs(3600)).unwrap())
        .build()
        .unwrap();
    for _ in 0..2 {
        let error = client
            .invoke("gone", Method::GET, "/hello")
            .send()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::AppUnavailable { .. }), "{error}");
    }
    let error = client
        .invoke("gone", Method::GET, "/hello")
        .send()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::CircuitOpen { dependency, .. } if dependency == "app gone"),
        "{error}"
    );
    client.state("statestore").set("key", "value").await.unwrap();
    assert_eq!(client.circuits_entry().description, "open: app gone");
}

#[tokio::test]
async fn each_component_has_its_entry() {
    let cluster = Cluster::new();
    cluster.add_component("pubsub", "pubsub.in-memory");
    cluster.add_component("statestore", "state.in-memory");
    let sidecar = cluster.sidecar("app").await.unwrap();
    let checks = ComponentChecks::new()
        .state("statestore")
        .pubsub("pubsub")
        .pubsub("statestore")
        .binding("webhook");
    let app = App::new(super::once(&sidecar)).components(checks);
    let report = app.health().report(false).await;
    let status = |name: &str| report.entries[name].status;
    assert_eq!(status("state:statestore"), HealthStatus::Healthy);
    assert_eq!(status("pubsub:pubsub"), HealthStatus::Healthy);
    assert_eq!(
        status("pubsub:statestore"),
        HealthStatus::Unhealthy,
        "it is no broker"
    );
    assert_eq!(status("binding:webhook"), HealthStatus::Unhealthy);
    assert_eq!(
        report.entries["pubsub:pubsub"].description,
        "pubsub.in-memory is loaded"
    );
    sidecar.set_down(true);
    let report = app.health().report(false).await;
    assert_eq!(report.entries["state:statestore"].status, HealthStatus::Unhealthy);
}

#[tokio::test]
async fn configuration_has_priorities_defaults_and_a_memory() {
    let cluster = Cluster::new();
    cluster.set_configuration("first", "colour", "red");
    cluster.set_configuration("second", "colour", "blue");
    cluster.set_configuration("second", "size", "7");
    let sidecar = cluster.sidecar("app").await.unwrap();
    let configuration = Configuration::builder(super::once(&sidecar))
        .store("first")
        .store("second")
        .key("colour")
        .default("size", "1")
        .default("shape", "round")
        .build();
    assert_eq!(
        configuration.text("size").as_deref(),
        Some("1"),
        "nothing is read yet"
    );
    let app = App::new(super::once(&sidecar)).configuration(&configuration);
    let running = run(&sidecar, app).await;
    until("ready", async || ask(&running.url, "/healthz").await.0 == 200).await;
    assert_eq!(configuration.text("colour").as_deref(), Some("red"));
    assert_eq!(configuration.parse::<u32>("size"), Some(7));
    assert_eq!(configuration.value("shape").unwrap().origin, Origin::Default);
    assert_eq!(configuration.value("unknown"), None);

    // A change arrives by itself, though the next look is half a minute away.
    let changes = configuration.changes();
    until("the change is told", async || {
        cluster.set_configuration("first", "colour", "green");
        configuration.text("colour").as_deref() == Some("green")
    })
    .await;
    assert!(changes.has_changed().unwrap());

    sidecar.set_down(true);
    assert!(configuration.refresh().await.is_err());
    let value = configuration.value("colour").unwrap();
    assert_eq!((value.value.as_str(), value.origin), ("green", Origin::Cache));
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_input_binding_is_handled_or_read_again() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("app").await.unwrap();
    let app = App::new(super::once(&sidecar)).binding("orders", |event: BindingEvent| async move {
        event.json::<u32>().map(drop)
    });
    let running = run(&sidecar, app).await;
    until("a number is taken", async || {
        sidecar.read_binding("orders", "7").await
    })
    .await;
    assert!(!sidecar.read_binding("orders", "seven").await);
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
}
