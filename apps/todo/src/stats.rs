//! The `stats` service: the second subscriber of task events. Counts per day, each event once.

use std::collections::{BTreeMap, VecDeque};

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use outrigger_kit::client::Operation;
use outrigger_kit::{Ack, App, Error, Event, Subscription};
use serde::{Deserialize, Serialize};

use crate::TOPIC;
use crate::instance::Instance;
use crate::model::{Happening, TaskChange, is_user, now};
use crate::reply::Refusal;

const MAX_DAYS: usize = 30;
/// Events remembered by id, to tell a repeat.
const MAX_SEEN: usize = 300;
const TRIES: usize = 20;

/// What happened on one day (UTC).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Tasks added.
    pub created: u64,
    /// Tasks done.
    pub completed: u64,
    /// Tasks removed.
    pub deleted: u64,
}

/// What is stored for a user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    days: BTreeMap<String, Day>,
    seen: VecDeque<String>,
}

impl Counts {
    /// Counts an event, unless it was counted before. Count and memory are one document, hence one write.
    pub fn add(&mut self, id: &str, kind: Happening, at: i64) -> bool {
        if self.seen.iter().any(|seen| seen == id) {
            return false;
        }
        self.seen.push_back(id.to_owned());
        let surplus = self.seen.len().saturating_sub(MAX_SEEN);
        self.seen.drain(..surplus);
        let day = self.days.entry(date(at)).or_default();
        match kind {
            Happening::Created => day.created += 1,
            Happening::Completed => day.completed += 1,
            Happening::Deleted => day.deleted += 1,
            Happening::Updated | Happening::Reminded => {}
        }
        while self.days.len() > MAX_DAYS {
            self.days.pop_first();
        }
        true
    }

    /// The counts as they are shown.
    pub fn page(self) -> Page {
        let today = self.days.get(&date(now())).copied().unwrap_or_default();
        Page {
            today,
            days: self.days,
        }
    }
}

fn date(at: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    at.strftime("%Y-%m-%d").to_string()
}

/// The service.
///
/// # Errors
/// If the environment holds settings that it cannot use.
pub fn app(instance: &Instance) -> Result<App, Error> {
    let routes = Router::new()
        .route("/users/{user}/stats", get(show))
        .with_state(instance.clone());
    let counter = instance.clone();
    let subscription = Subscription::new(&*instance.pubsub, TOPIC);
    Ok(instance
        .service(routes, || 0)?
        .subscribe(subscription, move |event| {
            let counter = counter.clone();
            async move { count(&counter, &event).await }
        }))
}

fn key(user: &str) -> String {
    format!("todo/stats/{user}")
}

/// A user's counts as they are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Those of today (UTC).
    pub today: Day,
    /// Those of each day that something happened on, by its date.
    pub days: BTreeMap<String, Day>,
}

async fn show(State(instance): State<Instance>, Path(user): Path<String>) -> Result<Json<Page>, Refusal> {
    if !is_user(&user) {
        return Err(Refusal::not_found("no such user"));
    }
    let stored = instance
        .client
        .state(&*instance.store)
        .get::<Counts>(&key(&user))
        .await?;
    Ok(Json(stored.map(|item| item.value).unwrap_or_default().page()))
}

async fn count(instance: &Instance, event: &Event<TaskChange>) -> Ack {
    let Some(kind) = Happening::from_name(&event.kind).filter(|_| is_user(&event.data.user)) else {
        return Ack::Drop;
    };
    let state = instance.client.state(&*instance.store);
    let key = key(&event.data.user);
    for _ in 0..TRIES {
        let written = async {
            let stored = state.get::<Counts>(&key).await?;
            let (mut counts, etag) = stored.map_or_else(Default::default, |item| (item.value, item.etag));
            if !counts.add(&event.id, kind, event.data.at) {
                return Ok(());
            }
            state
                .save(&[Operation::upsert(&*key, &counts)?.if_match(etag.as_deref())])
                .await
        };
        match written.await {
            Err(Error::Conflict { .. }) => {}
            other => return other.into(),
        }
    }
    Ack::Retry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_counts_once() {
        let mut counts = Counts::default();
        assert!(counts.add("1", Happening::Created, 0));
        assert!(counts.add("2", Happening::Completed, 0));
        assert!(!counts.add("1", Happening::Created, 0));
        let day = Day {
            created: 1,
            completed: 1,
            deleted: 0,
        };
        assert_eq!(counts.days["1970-01-01"], day);
        for n in 0..40 {
            counts.add(&format!("day {n}"), Happening::Created, n * 86_400_000);
        }
        assert_eq!(counts.days.len(), MAX_DAYS);
    }
}
