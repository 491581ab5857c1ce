//! The `notifications` service: a numbered feed per user, made from task events (N2).
//!
//! A live stream asks for what comes after the last number it has and waits a while for it. Nothing about streams is
//! kept here, so any instance can answer and a restart loses nothing.

mod feed;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use outrigger_kit::client::Operation;
use outrigger_kit::{Ack, App, CancellationToken, Error, Event, Subscription};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::instance::Instance;
use crate::model::{FeedPage, Happening, TaskChange, is_user};
use crate::reply::Refusal;
use crate::{OUTSIDE_TOPIC, TOPIC};
use feed::Feed;

/// No caller waits longer than this; resiliency time-outs must be above it.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How often a waiting caller looks for what another instance has added.
const LOOK: Duration = Duration::from_millis(400);
/// Writers of one feed meet this often at most before the event is asked for again.
const TRIES: usize = 20;

#[derive(Clone)]
struct Notifications {
    instance: Instance,
    added: Arc<Notify>,
    stopping: CancellationToken,
    /// Whether the outside is told; known before the service is ready.
    outside: Arc<AtomicBool>,
}

/// The service.
///
/// # Errors
/// If the environment holds settings that it cannot use.
pub fn app(instance: &Instance) -> Result<App, Error> {
    let stopping = CancellationToken::new();
    let service = Notifications {
        instance: instance.clone(),
        added: Arc::new(Notify::new()),
        stopping: stopping.clone(),
        outside: Arc::default(),
    };
    let routes = Router::new()
        .route("/users/{user}/feed", get(show))
        .with_state(service.clone());
    let app = instance.service(routes, || 0)?;
    // Waiting callers are sent home when the service is asked to stop.
    let asked = app.stopping();
    tokio::spawn(async move {
        asked.cancelled().await;
        stopping.cancel();
    });
    let subscription = Subscription::new(&*instance.pubsub, TOPIC);
    let outside = Subscription::new(&*instance.pubsub, OUTSIDE_TOPIC);
    let (look, tell) = (service.clone(), service.clone());
    Ok(app
        .recover("webhook", move || {
            let service = look.clone();
            async move {
                let there = webhook::is_there(&service.instance).await?;
                service.outside.store(there, Ordering::Relaxed);
                Ok(())
            }
        })
        .subscribe(subscription, move |event| {
            let service = service.clone();
            async move { service.add(event).await }
        })
        .subscribe(outside, move |event| {
            let service = tell.clone();
            async move {
                if service.outside.load(Ordering::Relaxed) {
                    webhook::call(&service.instance, event).await
                } else {
                    Ack::Success
                }
            }
        }))
}

fn key(user: &str) -> String {
    format!("todo/feed/{user}")
}

#[derive(Deserialize)]
struct Range {
    after: Option<u64>,
    /// How long to wait if there is nothing yet, in milliseconds.
    #[serde(default)]
    wait: u64,
}

async fn show(
    State(service): State<Notifications>,
    Path(user): Path<String>,
    Query(range): Query<Range>,
) -> Result<Json<FeedPage>, Refusal> {
    if !is_user(&user) {
        return Err(Refusal::not_found("no such user"));
    }
    let deadline = Instant::now() + Duration::from_millis(range.wait).min(MAX_WAIT);
    loop {
        // Armed before the look, so that what is added in between is not missed.
        let added = service.added.notified();
        let page = service.feed(&user).await?.0.page(range.after);
        let something = !page.entries.is_empty() || page.reset;
        let over = Instant::now() >= deadline || service.stopping.is_cancelled();
        if something || range.after.is_none() || over {
            return Ok(Json(page));
        }
        tokio::select! {
            () = added => {}
            () = tokio::time::sleep(LOOK) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = service.stopping.cancelled() => {}
        }
    }
}

impl Notifications {
    async fn feed(&self, user: &str) -> Result<(Feed, Option<String>), Error> {
        let stored = self
            .instance
            .client
            .state(&*self.instance.store)
            .get::<Feed>(&key(user))
            .await?;
        Ok(stored.map_or_else(Default::default, |item| (item.value, item.etag)))
    }

    async fn add(&self, event: Event<TaskChange>) -> Ack {
        let Some(kind) = Happening::from_name(&event.kind).filter(|_| is_user(&event.data.user)) else {
            tracing::warn!(kind = event.kind, "dropping an event of unknown kind or user");
            return Ack::Drop;
        };
        let state = self.instance.client.state(&*self.instance.store);
        for _ in 0..TRIES {
            let written = async {
                let (mut feed, etag) = self.feed(&event.data.user).await?;
                if !feed.add(&event.id, kind, &event.data) {
                    return Ok(());
                }
                let write = Operation::upsert(key(&event.data.user), &feed)?.if_match(etag.as_deref());
                state.save(&[write]).await
            };
            match written.await {
                Err(Error::Conflict { .. }) => {}
                Ok(()) => {
                    self.added.notify_waiters();
                    if self.outside.load(Ordering::Relaxed) {
                        return webhook::pass_on(&self.instance, &event, kind).await.into();
                    }
                    return Ack::Success;
                }
                Err(error) => return Err::<(), _>(error).into(),
            }
        }
        Ack::Retry
    }
}
