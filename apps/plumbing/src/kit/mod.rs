//! The version on the kit: state, events and calls go through the sidecar, what is in `resources` says how.

use std::future::Future;

use anyhow::Context as _;
use axum::Router;
use http::Method;
use outrigger_kit::client::Operation;
use outrigger_kit::health::ComponentChecks;
use outrigger_kit::telemetry::{LogFormat, Options};
use outrigger_kit::{Ack, App, Client, Environment, Error, Event, Outbox, Subscription, Telemetry};
use outrigger_todo::model::{Happening, TaskChange, TaskPage, now};
use outrigger_todo::reply::Refusal;
use outrigger_todo::stats::{Counts, Day, Page};
use outrigger_todo::tasks::list::{Change, Done, List, Outcome};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{app_id, routes};

const STORE: &str = "statestore";
const PUBSUB: &str = "pubsub";
const TOPIC: &str = "plumbing";
/// Writers of one list meet this often at most before the caller is asked to come again.
const TRIES: u32 = 12;

/// Serves one of the two services until `stop`.
///
/// # Errors
/// If the environment holds what cannot be used, or the sidecar does not come.
pub async fn run(
    service: &'static str,
    environment: Environment,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let options = Options {
        service: service.to_owned(),
        instance: format!("{service}-{}", std::process::id()),
        level: tracing::Level::INFO,
        format: LogFormat::Json,
    };
    let telemetry = Telemetry::start(&options, &environment)?;
    let served = app(service, &environment)?.serve(listener, stop).await;
    telemetry.shutdown().await;
    served.with_context(|| format!("cannot serve {service}"))
}

fn app(service: &str, environment: &Environment) -> Result<App, Error> {
    let client = Client::builder().environment(environment.clone()).build()?;
    let app = |routes: Router| {
        Ok::<_, Error>(
            App::new(client.clone())
                .environment(environment)?
                .routes(routes)
                .components(ComponentChecks::new().state(STORE).pubsub(PUBSUB)),
        )
    };
    if service == app_id::TASKS {
        let outbox = Outbox::new(&client, STORE, "tasks/", PUBSUB, TOPIC);
        let (recover, relay) = (outbox.clone(), outbox.clone());
        let tasks = Tasks {
            client: client.clone(),
            outbox,
        };
        return Ok(app(routes::tasks(tasks))?
            .recover("outbox", move || {
                let outbox = recover.clone();
                async move { outbox.recover().await }
            })
            .background(move |stop| async move { relay.relay(stop).await }));
    }
    let stats = Stats(client.clone());
    Ok(
        app(routes::stats(stats.clone()))?.subscribe(Subscription::new(PUBSUB, TOPIC), move |event| {
            let stats = stats.clone();
            async move { stats.count(&event).await }
        }),
    )
}

#[derive(Clone)]
struct Tasks {
    client: Client,
    outbox: Outbox,
}

impl routes::Tasks for Tasks {
    async fn list(&self, user: &str) -> Result<TaskPage, Refusal> {
        let stored = self.client.state(STORE).get::<List>(&list_key(user)).await?;
        Ok(stored.map(|item| item.value).unwrap_or_default().page())
    }

    async fn change(&self, user: &str, key: &str, change: Change) -> Result<Done, Refusal> {
        let mut last = None;
        for attempt in 0..TRIES {
            let stored = self.client.state(STORE).get::<List>(&list_key(user)).await?;
            let (mut list, etag) = stored.map_or_else(Default::default, |item| (item.value, item.etag));
            if let Some(done) = list.receipt(key) {
                return Ok(done);
            }
            let Outcome { done, happenings } = list.apply(&change, key, now())?;
            if happenings.is_empty() {
                return Ok(done);
            }
            let events: Vec<_> = happenings
                .into_iter()
                .map(|(happening, task, at)| {
                    let user = user.to_owned();
                    Event::new(
                        happening.name(),
                        app_id::TASKS,
                        json!(TaskChange { user, task, at }),
                    )
                })
                .map(|event| event.about(user))
                .collect();
            let write = Operation::upsert(list_key(user), &list)?.if_match(etag.as_deref());
            match self.outbox.commit(user, vec![write], &events).await {
                Ok(()) => return Ok(done),
                // After a lost answer the list itself tells whether the change took place.
                Err(error) if matches!(error, Error::Conflict { .. }) || error.is_retryable() => {
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        Err(last.map_or_else(|| Refusal::unavailable("too many changes at once"), Refusal::from))
    }

    async fn today(&self, user: &str) -> Result<Day, Refusal> {
        let path = format!("users/{user}/stats");
        let page: Page = self
            .client
            .invoke(app_id::STATS, Method::GET, &path)
            .fetch()
            .await?;
        Ok(page.today)
    }
}

fn list_key(user: &str) -> String {
    format!("lists/{user}")
}

/// Grows with each try and differs between writers, so that they part.
fn pause(attempt: u32) -> std::time::Duration {
    let spread = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * (1 << attempt.min(4)) / 16;
    std::time::Duration::from_millis(2 + spread)
}

#[derive(Clone)]
struct Stats(Client);

impl routes::Stats for Stats {
    async fn counts(&self, user: &str) -> Result<Counts, Refusal> {
        let stored = self.0.state(STORE).get::<Counts>(&counts_key(user)).await?;
        Ok(stored.map(|item| item.value).unwrap_or_default())
    }
}

impl Stats {
    /// Counts an event, unless it was counted before.
    async fn count(&self, event: &Event<TaskChange>) -> Ack {
        let Some(kind) = Happening::from_name(&event.kind) else {
            return Ack::Drop;
        };
        let (state, key) = (self.0.state(STORE), counts_key(&event.data.user));
        for _ in 0..TRIES {
            let counted = async {
                let stored = state.get::<Counts>(&key).await?;
                let (mut counts, etag) = stored.map_or_else(Default::default, |item| (item.value, item.etag));
                if !counts.add(&event.id, kind, event.data.at) {
                    return Ok(());
                }
                let write = Operation::upsert(&*key, &counts)?.if_match(etag.as_deref());
                state.save(&[write]).await
            };
            match counted.await {
                Err(Error::Conflict { .. }) => {}
                other => return other.into(),
            }
        }
        Ack::Retry
    }
}

fn counts_key(user: &str) -> String {
    format!("counts/{user}")
}
