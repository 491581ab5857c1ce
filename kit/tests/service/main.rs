//! A service built on the kit beside an in-memory sidecar.

mod callback;
mod dependencies;
mod stream;
mod telemetry;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use http::Method;
use outrigger_kit::client::{Operation, Publication, UnlockStatus};
use outrigger_kit::testing::{Cluster, Sidecar};
use outrigger_kit::{
    Ack, App, CancellationToken, Client, Error, Event, Outbox, RetryPolicy, ServeError, Subscription,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
    url: String,
}

async fn run(sidecar: &Sidecar, app: App) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    sidecar.attach(address);
    let stop = CancellationToken::new();
    let task = tokio::spawn(app.serve(listener, stop.clone().cancelled_owned()));
    Running {
        stop,
        task,
        url: format!("http://{address}"),
    }
}

/// Waits until `condition` holds; each test has its own deadline by this.
async fn until<F: AsyncFn() -> bool>(what: &str, condition: F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

/// Status and JSON of a plain request to the app itself.
async fn ask(url: &str, path: &str) -> (u16, Value) {
    let (status, body) = read(url, path).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

async fn read(url: &str, path: &str) -> (u16, String) {
    use http_body_util::BodyExt;
    let pool: hyper_util::client::legacy::Client<_, http_body_util::Empty<bytes::Bytes>> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let response = pool.get(format!("{url}{path}").parse().unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn once(sidecar: &Sidecar) -> Client {
    Client::builder()
        .environment(sidecar.environment())
        .retry(RetryPolicy::none())
        .build()
        .unwrap()
}

#[tokio::test]
async fn state_keeps_etags_and_transactions() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("app").await.unwrap();
    let state = sidecar.client().state("statestore");
    assert_eq!(state.get::<Value>("a/b c").await.unwrap(), None);
    state.set("a/b c", &json!({"n": 1})).await.unwrap();
    let first = state.get::<Value>("a/b c").await.unwrap().unwrap();

    let write = |n: u8, etag: Option<&str>| {
        Operation::upsert("a/b c", &json!({"n": n}))
            .unwrap()
            .if_match(etag)
    };
    state.save(&[write(2, first.etag.as_deref())]).await.unwrap();
    let late = state.save(&[write(3, first.etag.as_deref())]).await;
    assert!(matches!(late, Err(Error::Conflict { .. })));
    assert!(matches!(
        state.save(&[write(3, None)]).await,
        Err(Error::Conflict { .. })
    ));
    assert!(matches!(
        state.delete("a/b c", first.etag.as_deref()).await,
        Err(Error::Conflict { .. })
    ));

    let both = [
        Operation::upsert("other", &1).unwrap(),
        write(4, first.etag.as_deref()),
    ];
    assert!(matches!(
        state.transaction(&both).await,
        Err(Error::Conflict { .. })
    ));
    let keys = ["other".to_owned(), "a/b c".to_owned()];
    let found = state.get_bulk::<Value>(&keys).await.unwrap();
    assert_eq!(found[0], None, "nothing of a refused transaction stays");
    assert_eq!(found[1].as_ref().unwrap().value, json!({"n": 2}));
    state.transaction(&[Operation::delete("a/b c")]).await.unwrap();
    assert_eq!(state.get::<Value>("a/b c").await.unwrap(), None);
}

#[tokio::test]
async fn the_small_blocks_answer() {
    let cluster = Cluster::new();
    cluster.set_secret("vault", "db", "password", "p");
    cluster.set_configuration("config", "colour", "red");
    let sidecar = cluster.sidecar("app").await.unwrap();
    let client = sidecar.client();
    assert_eq!(client.secret("vault", "db").await.unwrap()["password"], "p");
    assert!(matches!(
        client.secret("vault", "none").await,
        Err(Error::SecretNotFound { .. })
    ));
    assert!(matches!(
        client.secret("none", "db").await,
        Err(Error::NotFound { .. })
    ));
    assert_eq!(client.secrets("vault").await.unwrap().len(), 1);
    assert_eq!(
        client.configuration("config", &["colour"]).await.unwrap()["colour"].value,
        "red"
    );
    assert!(
        client
            .configuration("config", &["shape"])
            .await
            .unwrap()
            .is_empty()
    );

    let lock = client
        .try_lock("locks", "job", "me", Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        client
            .try_lock("locks", "job", "you", Duration::from_secs(60))
            .await
            .unwrap(),
        None
    );
    assert_eq!(client.unlock(&lock).await.unwrap(), UnlockStatus::Success);
    assert_eq!(client.unlock(&lock).await.unwrap(), UnlockStatus::DoesNotExist);

    client
        .invoke_binding("mail", "create", &"hello", &Default::default())
        .await
        .unwrap();
    assert_eq!(cluster.binding_calls()[0].operation, "create");
    client.set_metadata("owner", "me").await.unwrap();
    let metadata = client.metadata().await.unwrap();
    assert_eq!(
        (metadata.id.as_str(), metadata.extended["owner"].as_str()),
        ("app", "me")
    );
}

#[tokio::test]
async fn a_missing_sidecar_is_a_typed_retryable_error() {
    let client = Client::builder()
        .endpoint("http://127.0.0.1:9")
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let error = client.metadata().await.unwrap_err();
    assert!(matches!(error, Error::SidecarUnavailable { reached: false, .. }));
    assert!(error.is_retryable() && error.never_sent());
}

#[tokio::test]
async fn transient_errors_are_retried_and_others_are_not() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("app").await.unwrap();
    let state = sidecar.client().state("statestore");
    cluster.lose_state_answers(2);
    state.set("k", &1).await.unwrap();
    cluster.lose_state_answers(1);
    let create = Operation::upsert("new", &1).unwrap().if_match(None);
    let lost = state.transaction(&[create]).await;
    assert!(
        matches!(&lost, Err(error) if error.is_retryable()),
        "a conditional write is not repeated behind the caller's back: {lost:?}"
    );
}

#[tokio::test]
async fn apps_call_each_other_by_id() {
    let cluster = Cluster::new();
    let (front, back) = (
        cluster.sidecar("front").await.unwrap(),
        cluster.sidecar("back").await.unwrap(),
    );
    let client = once(&front);
    let missing = client.invoke("back", Method::GET, "double/4").send().await;
    assert!(
        matches!(missing, Err(Error::AppUnavailable { .. })),
        "{missing:?}"
    );

    let double = |axum::extract::Path(n): axum::extract::Path<u32>| async move { axum::Json(n * 2) };
    let app = App::new(back.client()).routes(Router::new().route("/double/{n}", get(double)));
    let _running = run(&back, app).await;
    until("the app is ready", async || {
        client
            .invoke("back", Method::GET, "double/4")
            .fetch::<u32>()
            .await
            .is_ok_and(|n| n == 8)
    })
    .await;
    let wrong = client
        .invoke("back", Method::GET, "nowhere")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status, 404, "the app's own answers are no errors");
}

#[tokio::test]
async fn only_good_events_reach_the_handler_and_refused_ones_come_again() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar_with_tokens("app", "in", "out").await.unwrap();
    let client = sidecar.client();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let app = App::new(client.clone())
        .environment(&sidecar.environment())
        .unwrap()
        .subscribe(
            Subscription::new("pubsub", "numbers"),
            move |event: Event<u32>| {
                let nth = count.fetch_add(1, Ordering::Relaxed);
                async move {
                    if nth == 0 && event.data == 7 {
                        Ack::Retry
                    } else {
                        Ack::Success
                    }
                }
            },
        );
    let running = run(&sidecar, app).await;
    client
        .publish("pubsub", "numbers", Publication::json(&"not a number"))
        .await
        .unwrap();
    client
        .publish("pubsub", "numbers", Publication::json(&7))
        .await
        .unwrap();
    until("the number was delivered twice", async || {
        seen.load(Ordering::Relaxed) == 2
    })
    .await;

    let (status, body) = ask(&running.url, "/dapr/subscribe").await;
    assert_eq!(
        (status, body["error"]["code"].as_str()),
        (401, Some("UNAUTHENTICATED"))
    );
    assert_eq!(
        ask(&running.url, "/health/live").await.0,
        200,
        "health needs no token"
    );
}

#[tokio::test]
async fn readiness_waits_for_the_sidecar_and_for_recovery() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("app").await.unwrap();
    sidecar.set_down(true);
    let recovered = CancellationToken::new();
    let gate = recovered.clone();
    let app = App::new(once(&sidecar))
        .routes(Router::new().route("/work", get(|| async { "done" })))
        .recover("outbox", move || {
            let done = gate.is_cancelled();
            async move {
                if done {
                    Ok(())
                } else {
                    Err(Error::Timeout(Duration::from_secs(1)))
                }
            }
        });
    let running = run(&sidecar, app).await;
    let (status, report) = ask(&running.url, "/health/ready").await;
    assert_eq!(status, 503);
    assert_eq!(
        report["entries"]["startup"]["description"],
        "waiting for the sidecar"
    );
    assert_eq!(report["entries"]["dapr"]["status"], "Unhealthy");
    assert!(report["totalDuration"].is_string());

    sidecar.set_down(false);
    until("recovery is under way", async || {
        let report = ask(&running.url, "/health").await.1;
        report["entries"]["startup"]["description"]
            .as_str()
            .is_some_and(|text| text.starts_with("recovering: outbox: "))
    })
    .await;
    assert_eq!(
        ask(&running.url, "/work").await.0,
        503,
        "no traffic before readiness"
    );
    recovered.cancel();
    until("it is ready", async || {
        ask(&running.url, "/healthz").await.0 == 200
    })
    .await;
    assert_eq!(ask(&running.url, "/work").await.0, 200);
}

#[tokio::test]
async fn a_sidecar_that_never_comes_ends_the_service() {
    let client = Client::builder()
        .endpoint("http://127.0.0.1:9")
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = App::new(client).health_timeout(Duration::from_millis(20));
    let ended = app.serve(listener, std::future::pending()).await;
    assert!(matches!(
        ended,
        Err(ServeError::Start(Error::SidecarUnavailable { .. }))
    ));
}

#[tokio::test]
async fn shutdown_finishes_requests_then_background_work() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("app").await.unwrap();
    let (entered, release) = (CancellationToken::new(), CancellationToken::new());
    let (inside, held) = (entered.clone(), release.clone());
    let flushed = CancellationToken::new();
    let flush = flushed.clone();
    let work = post(move || async move {
        inside.cancel();
        held.cancelled().await;
        "finished"
    });
    let app = App::new(sidecar.client())
        .routes(Router::new().route("/work", work))
        .background(|stop| async move {
            stop.cancelled().await;
            flush.cancel();
        });
    let running = run(&sidecar, app).await;
    until("it is ready", async || {
        ask(&running.url, "/healthz").await.0 == 200
    })
    .await;
    let client = once(&sidecar);
    let request = tokio::spawn(async move { client.invoke("app", Method::POST, "work").send().await });
    entered.cancelled().await;
    running.stop.cancel();
    assert!(!flushed.is_cancelled(), "background work outlives requests");
    release.cancel();
    assert_eq!(request.await.unwrap().unwrap().body, "finished");
    running.task.await.unwrap().unwrap();
    assert!(flushed.is_cancelled());
}

#[tokio::test]
async fn the_outbox_sends_what_was_committed_and_nothing_else() {
    let cluster = Cluster::new();
    let sidecar = cluster.sidecar("tasks").await.unwrap();
    let client = sidecar.client();
    let state = client.state("statestore");
    let event = |n: u32| Event::new("task.created", "tasks", json!(n)).about("me");
    let change = |n: u32, etag: Option<&str>| vec![Operation::upsert("list", &n).unwrap().if_match(etag)];

    let crashed = Outbox::new(&client, "statestore", "todo/", "pubsub", "tasks");
    crashed
        .commit("me", change(1, None), &[event(1), event(2)])
        .await
        .unwrap();
    let lost = crashed.commit("me", change(2, None), &[event(3)]).await;
    assert!(matches!(lost, Err(Error::Conflict { .. })));
    assert_eq!(crashed.waiting(), 2);
    drop(crashed);

    // The next start: what was committed leaves, in its order, and only once.
    let outbox = Outbox::new(&client, "statestore", "todo/", "pubsub", "tasks");
    cluster.set_broker_down(true);
    assert!(
        outbox.recover().await.is_err(),
        "not recovered while the broker refuses"
    );
    assert_eq!(outbox.waiting(), 2);
    cluster.set_broker_down(false);
    outbox.recover().await.unwrap();
    outbox.recover().await.unwrap();
    let data = || {
        cluster
            .published("tasks")
            .iter()
            .map(|event| event["data"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(data(), [json!(1), json!(2)]);
    assert_eq!(outbox.waiting(), 0);

    let stop = CancellationToken::new();
    let relay = tokio::spawn({
        let (outbox, stop) = (outbox.clone(), stop.clone());
        async move { outbox.relay(stop).await }
    });
    let item = state.get::<u32>("list").await.unwrap().unwrap();
    outbox
        .commit("me", change(3, item.etag.as_deref()), &[event(3)])
        .await
        .unwrap();
    until("the relay sent it", async || data().len() == 3).await;
    stop.cancel();
    relay.await.unwrap();
}
