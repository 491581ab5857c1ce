//! The live stream: server-sent events that resume by number (N2).
//!
//! Each stream has its own place in the feed and asks the notifications service for what comes after it. Whatever
//! fails in between, the next question begins at the same place: nothing is missed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::{HeaderMap, Method};
use outrigger_kit::Error;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::session::User;
use super::{Gateway, status};
use crate::app_id;
use crate::model::FeedPage;
use crate::reply::Refusal;

/// Open streams of one gateway.
const MAX_STREAMS: usize = 512;
/// Events on their way to one browser.
const BUFFER: usize = 64;
/// How long one question waits for something new.
const WAIT: Duration = Duration::from_secs(8);
/// The wait after a question that failed.
const PAUSE: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Counts open streams.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<AtomicUsize>);

struct Place(Streams);

impl Streams {
    fn enter(&self) -> Option<Place> {
        let entered = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < MAX_STREAMS).then_some(open + 1)
        });
        entered.ok().map(|_| Place(self.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Deserialize)]
pub(super) struct Start {
    after: Option<u64>,
}

pub(super) async fn events(
    State(gateway): State<Gateway>,
    Extension(User(user)): Extension<User>,
    Query(start): Query<Start>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let place = gateway
        .streams
        .enter()
        .ok_or_else(|| Refusal::unavailable("too many live streams"))?;
    // A browser that reconnects by itself knows better than its first address.
    let last = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let after = last.or(start.after).unwrap_or_default();
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&gateway, &user, after, &sender) => {}
            () = strip(&gateway, &sender) => {}
            () = sender.closed() => {}
            () = gateway.stopping.cancelled() => {}
        }
        drop(place);
    });
    let events = stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

fn event(name: &str, data: &impl serde::Serialize) -> Event {
    Event::default()
        .event(name)
        .data(serde_json::to_string(data).unwrap_or_default())
}

/// Sends the feed from `after` on, until the browser is gone.
async fn follow(gateway: &Gateway, user: &str, mut after: u64, sender: &mpsc::Sender<Event>) {
    let mut told_away = false;
    let mut first = true;
    loop {
        // The first question does not wait, so that the page soon knows that it is up to date.
        let wait = if first { Duration::ZERO } else { WAIT };
        let page = match ask(gateway, user, after, wait).await {
            Ok(page) => page,
            Err(error) => {
                if !std::mem::replace(&mut told_away, true) {
                    tracing::warn!(%error, "the feed cannot be read; streams wait");
                    if sender.send(event("away", &json!({}))).await.is_err() {
                        return;
                    }
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let back = std::mem::take(&mut told_away);
        let mut events: Vec<_> = page
            .entries
            .iter()
            .map(|entry| event("task", entry).id(entry.seq.to_string()))
            .collect();
        if page.reset {
            events.push(event("reset", &json!({})).id(page.head.to_string()));
        }
        if std::mem::take(&mut first) || back {
            events.push(event("live", &json!({"head": page.head})));
        }
        after = page.entries.last().map_or(after, |entry| entry.seq);
        if page.reset {
            after = page.head;
        }
        for event in events {
            if sender.send(event).await.is_err() {
                return;
            }
        }
    }
}

async fn ask(gateway: &Gateway, user: &str, after: u64, wait: Duration) -> Result<FeedPage, Error> {
    let path = format!("users/{user}/feed?after={after}&wait={}", wait.as_millis());
    gateway
        .instance
        .client
        .invoke(app_id::NOTIFICATIONS, Method::GET, &path)
        .timeout(wait + status::CALL_TIMEOUT)
        .once()
        .fetch()
        .await
}

/// Sends the status strip whenever it changes.
async fn strip(gateway: &Gateway, sender: &mpsc::Sender<Event>) {
    let mut watch = gateway.watch.subscribe();
    loop {
        let status = watch.borrow_and_update().clone();
        if let Some(status) = status
            && sender.send(event("status", &*status)).await.is_err()
        {
            return;
        }
        if watch.changed().await.is_err() {
            return;
        }
    }
}
