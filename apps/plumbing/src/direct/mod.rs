//! The version by hand, on Redis and RabbitMQ.

pub mod broker;
pub mod discovery;
pub mod event;
pub mod outbox;
pub mod peer;
pub mod resilience;
pub mod store;
pub mod telemetry;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::get;
use http::StatusCode;
use outrigger_todo::model::{TaskChange, TaskPage, now};
use outrigger_todo::reply::Refusal;
use outrigger_todo::stats::{Counts, Day, Page};
use outrigger_todo::tasks::list::{Change, Done, List, Outcome};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{app_id, routes};
use broker::{Broker, Verdict};
use discovery::Discovery;
use event::Event;
use outbox::Outbox;
use peer::Peer;
use resilience::Failure;
use store::{Commit, Store};

/// Writers of one list meet this often at most before the caller is asked to come again.
const TRIES: u32 = 12;
/// How long requests under way and background work may take at the end.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Serves one of the two services until `stop`. `PLUMBING_REDIS`, `PLUMBING_RABBITMQ` and `PLUMBING_PREFIX` say where
/// the servers are and what is ours there.
///
/// # Errors
/// If the environment holds what cannot be used, or serving fails.
pub async fn run(
    service: &'static str,
    environment: &BTreeMap<String, String>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let spans = telemetry::start(service)?;
    let served = serve(service, environment, listener, stop).await;
    // Who has no collector loses nothing by not waiting long for one.
    let flushed = tokio::task::spawn_blocking(move || spans.shutdown_with_timeout(Duration::from_secs(2)));
    let _ = flushed.await;
    served
}

async fn serve(
    service: &'static str,
    environment: &BTreeMap<String, String>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let setting = |name: &str, default: &'static str| environment.get(name).map_or(default, String::as_str);
    let prefix = setting("PLUMBING_PREFIX", "plumbing");
    let store = Arc::new(Store::new(
        setting("PLUMBING_REDIS", "redis://127.0.0.1:6379"),
        prefix,
    )?);
    let broker = Arc::new(Broker::new(
        setting("PLUMBING_RABBITMQ", "amqp://127.0.0.1:5672"),
        prefix,
    ));
    let discovery = Arc::new(Discovery::new(store.clone()));
    let address = listener.local_addr()?;
    let (stopping, finish) = (CancellationToken::new(), CancellationToken::new());
    let (routes, work) = if service == app_id::TASKS {
        let outbox = Arc::new(Outbox::new(store.clone(), broker.clone()));
        recover(&outbox).await;
        let tasks = Tasks {
            store: store.clone(),
            outbox: outbox.clone(),
            stats: Arc::new(Peer::new(app_id::STATS, discovery.clone())),
        };
        let finish = finish.clone();
        let work = tokio::spawn(async move { outbox.relay(&finish).await });
        (routes::tasks(tasks), work)
    } else {
        let stats = Stats(store.clone());
        let (counter, broker, stopping) = (stats.clone(), broker.clone(), stopping.clone());
        let queue = format!("{prefix}-{service}");
        let work = tokio::spawn(async move {
            broker
                .consume(&queue, |body| counter.receive(body), &stopping)
                .await;
        });
        (routes::stats(stats), work)
    };
    let routes = routes
        .layer(from_fn(telemetry::incoming))
        .merge(health(store, broker));
    let leaving = stopping.clone();
    let announced = tokio::spawn(async move { discovery.announce(service, address, &leaving).await });
    let asked = stopping.clone();
    tokio::spawn(async move {
        stop.await;
        asked.cancel();
    });
    let graceful = axum::serve(listener, routes).with_graceful_shutdown(stopping.clone().cancelled_owned());
    let mut server = tokio::spawn(graceful.into_future());
    let served = tokio::select! {
        ended = &mut server => Some(ended),
        () = stopping.cancelled() => None,
    };
    stopping.cancel();
    let ended = tokio::time::timeout(SHUTDOWN, async {
        let served = match served {
            Some(served) => served,
            None => (&mut server).await,
        };
        finish.cancel();
        let _ = tokio::join!(work, announced);
        served
    });
    match ended.await {
        Ok(served) => Ok(served??),
        Err(_) => {
            tracing::warn!("requests or work were still under way at the end of the shutdown time");
            server.abort();
            Ok(())
        }
    }
}

/// Sends what a crash left behind, before anything else; again until it succeeds.
async fn recover(outbox: &Outbox) {
    while let Err(error) = outbox.drain().await {
        tracing::warn!(%error, "cannot send what was left behind; it is tried again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Ready is who reaches both servers.
fn health(store: Arc<Store>, broker: Arc<Broker>) -> Router {
    let ready = move || {
        let (store, broker) = (store.clone(), broker.clone());
        async move {
            match tokio::try_join!(store.ping(), broker.ping()) {
                Ok(_) => (StatusCode::OK, "ready".to_owned()),
                Err(failure) => (StatusCode::SERVICE_UNAVAILABLE, failure.to_string()),
            }
        }
    };
    Router::new()
        .route("/health/ready", get(ready))
        .route("/health/live", get(|| async { "alive" }))
}

#[derive(Clone)]
struct Tasks {
    store: Arc<Store>,
    outbox: Arc<Outbox>,
    stats: Arc<Peer>,
}

impl routes::Tasks for Tasks {
    async fn list(&self, user: &str) -> Result<TaskPage, Refusal> {
        let (list, _) = self.store.get::<List>(&list_key(user)).await?;
        Ok(list.page())
    }

    async fn change(&self, user: &str, key: &str, change: Change) -> Result<Done, Refusal> {
        for attempt in 0..TRIES {
            let (mut list, version) = self.store.get::<List>(&list_key(user)).await?;
            if let Some(done) = list.receipt(key) {
                return Ok(done);
            }
            let Outcome { done, happenings } = list.apply(&change, key, now())?;
            if happenings.is_empty() {
                return Ok(done);
            }
            let events: Result<Vec<_>, _> = happenings
                .into_iter()
                .map(|(happening, task, at)| {
                    let user = user.to_owned();
                    serde_json::to_string(&Event::new(happening, TaskChange { user, task, at }))
                })
                .collect();
            let events = events.map_err(|error| Failure::Broken("event", error.to_string()))?;
            // After a lost answer a repeat is a conflict, and then the list itself tells that the change took place.
            match self
                .store
                .commit(&list_key(user), &list, version, &events)
                .await?
            {
                Commit::Done => {
                    self.outbox.wake();
                    return Ok(done);
                }
                Commit::Conflict => tokio::time::sleep(pause(attempt)).await,
            }
        }
        Err(Refusal::unavailable("too many changes at once"))
    }

    async fn today(&self, user: &str) -> Result<Day, Refusal> {
        let page: Page = self.stats.get(&format!("/users/{user}/stats")).await?;
        Ok(page.today)
    }
}

fn list_key(user: &str) -> String {
    format!("lists/{user}")
}

/// Grows with each try and differs between writers, so that they part.
fn pause(attempt: u32) -> Duration {
    let spread = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * (1 << attempt.min(4)) / 16;
    Duration::from_millis(2 + spread)
}

#[derive(Clone)]
struct Stats(Arc<Store>);

impl routes::Stats for Stats {
    async fn counts(&self, user: &str) -> Result<Counts, Refusal> {
        let (counts, _) = self.0.get(&counts_key(user)).await?;
        Ok(counts)
    }
}

impl Stats {
    async fn receive(&self, body: Vec<u8>) -> Verdict {
        let event: Event = match serde_json::from_slice(&body) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "dropping a message that is no event");
                return Verdict::Drop;
            }
        };
        match self.count(&event).instrument(event.span()).await {
            Ok(true) => Verdict::Done,
            Ok(false) => Verdict::Again,
            Err(error) => {
                tracing::warn!(%error, "asking for another delivery");
                Verdict::Again
            }
        }
    }

    /// Counts an event, unless it was counted before. Tells whether writers met too often.
    async fn count(&self, event: &Event) -> Result<bool, Failure> {
        let key = counts_key(&event.data.user);
        for _ in 0..TRIES {
            let (mut counts, version) = self.0.get::<Counts>(&key).await?;
            if !counts.add(&event.id, event.kind, event.data.at)
                || self.0.commit(&key, &counts, version, &[]).await? == Commit::Done
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn counts_key(user: &str) -> String {
    format!("counts/{user}")
}
