//! One instance takes the place of another; nobody at a port notices (design D13, decision record 0009).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{Router, routing::get};
use outrigger_sidecar::Exit;
use tokio::sync::Notify;

use crate::support::{KeptAlive, PLAIN, Running, app, ask, component};

/// With this the state API is not served.
const NO_STATE: &str = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: plain\nspec:\n  api:\n    denied:\n    - name: state\n      version: v1\n      protocol: http\n";
const ITEM: &str = r#"[{"key":"k","value":1}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_refused_and_no_request_fails_across_reloads() {
    let store = component("store", "state.in-memory", &[]);
    let running = Running::start(None, &[("store.yaml", &store)], PLAIN).await;
    let http = running.http;
    let metrics = running.sidecar.addresses().metrics.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (is_over, asked) = (Arc::clone(&is_over), Arc::clone(&asked));
        clients.push(tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let answer = ask(http, "POST", "/v1.0/state/store", ITEM).await;
                assert_eq!(answer.expect("a connection and an answer").status, 204);
                asked.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for _ in 0..2 {
        let (is_over, asked) = (Arc::clone(&is_over), Arc::clone(&asked));
        clients.push(tokio::spawn(async move {
            let mut client = KeptAlive::connect(http).await.unwrap();
            while !is_over.load(Ordering::SeqCst) {
                let status = client.ask("POST", "/v1.0/state/store", ITEM).await;
                assert_eq!(status.expect("a connection that stays"), 204);
                asked.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for round in 0..5 {
        // What was saved is gone when the next instance, with a store of its own, answers.
        let key = format!("round{round}");
        let item = format!(r#"[{{"key":"{key}","value":1}}]"#);
        assert_eq!(running.ask("POST", "/v1.0/state/store", &item).await.status, 204);
        running.sidecar.reload();
        let path = format!("/v1.0/state/store/{key}");
        running
            .until("GET", &path, "", |answer| answer.status == 204)
            .await;
        assert_eq!(running.ask("GET", "/v1.0/healthz", "").await.status, 204);
        assert_eq!(ask(metrics, "GET", "/metrics", "").await.unwrap().status, 200);
    }
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(asked.load(Ordering::SeqCst) > 20);
    assert_eq!(running.stop().await, Exit::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_ends_on_what_it_began_with() {
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = {
        let (began, go_on) = (Arc::clone(&began), Arc::clone(&go_on));
        Router::new().route(
            "/held",
            get(move || async move {
                began.notify_one();
                go_on.notified().await;
                "held"
            }),
        )
    };
    let store = component("store", "state.in-memory", &[]);
    let running = Running::start(Some(app(router).await), &[("store.yaml", &store)], PLAIN).await;
    let http = running.http;
    let held = tokio::spawn(async move { ask(http, "GET", "/v1.0/invoke/reloaded/method/held", "").await });
    began.notified().await;

    running.configure(NO_STATE);
    running.sidecar.reload();
    running
        .until("POST", "/v1.0/state/store", ITEM, |answer| answer.status == 404)
        .await;
    assert!(!held.is_finished());
    go_on.notify_one();
    let answer = held.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "held"));
    assert_eq!(running.stop().await, Exit::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_leaves_the_sidecar_as_it_is() {
    let store = component("store", "state.in-memory", &[]);
    let running = Running::start(None, &[("store.yaml", &store)], PLAIN).await;
    assert_eq!(running.ask("POST", "/v1.0/state/store", ITEM).await.status, 204);

    running.configure("spec: [");
    running.sidecar.reload();
    for _ in 0..50 {
        assert_eq!(running.ask("GET", "/v1.0/state/store/k", "").await.status, 200);
    }
    running.configure(NO_STATE);
    running.sidecar.reload();
    running
        .until("POST", "/v1.0/state/store", ITEM, |answer| answer.status == 404)
        .await;
    assert_eq!(running.stop().await, Exit::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_among_the_resources_is_a_reload() {
    let store = component("store", "state.in-memory", &[]);
    let running = Running::start(None, &[("store.yaml", &store)], PLAIN).await;
    running.configure(NO_STATE);
    running.write("config.yaml", NO_STATE);
    running
        .until("POST", "/v1.0/state/store", ITEM, |answer| answer.status == 404)
        .await;
    assert_eq!(running.stop().await, Exit::Stopped);
}
