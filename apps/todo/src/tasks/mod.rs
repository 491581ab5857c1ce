//! The `tasks` service: every change of a list and the events it means are one transaction (N2, N3).

pub mod list;
mod reminders;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use outrigger_kit::client::Operation;
use outrigger_kit::{Ack, App, Error, Event, Outbox};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::audit;
use crate::instance::{Instance, KEY_HEADER};
use crate::model::{TaskChange, TaskPage, is_user, now};
use crate::reply::Refusal;
use crate::{TOPIC, app_id};
use list::{Change, Done, List, Outcome};

/// Writers of one list meet this often at most before the caller is asked to come again.
const TRIES: u32 = 12;
/// The longest name of a change that is remembered.
const MAX_KEY: usize = 100;

/// The cron binding that says when to look for due reminders.
const REMINDERS: &str = "reminders";

/// Lists that one instance can change at the same time.
const TURNS: usize = 64;

#[derive(Clone)]
struct Tasks {
    instance: Instance,
    outbox: Outbox,
    /// Writers of one list take turns in this process, so that etags only part the instances: to a sidecar every
    /// conflict is a failure, which its retries and breakers count.
    turns: Arc<[Mutex<()>]>,
}

/// The service.
///
/// # Errors
/// If the environment holds settings that it cannot use.
pub fn app(instance: &Instance) -> Result<App, Error> {
    let outbox = Outbox::new(
        &instance.client,
        &instance.store,
        "todo/tasks/",
        &*instance.pubsub,
        TOPIC,
    );
    let tasks = Tasks {
        instance: instance.clone(),
        outbox: outbox.clone(),
        turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
    };
    let routes = Router::new()
        .route("/users/{user}/tasks", get(show).post(create).delete(clear_done))
        .route("/users/{user}/tasks/{id}", patch(update).delete(remove))
        .with_state(tasks.clone());
    let (recover, relay, waiting) = (outbox.clone(), outbox.clone(), outbox);
    Ok(instance
        .service(routes, move || waiting.waiting())?
        .recover("outbox", move || {
            let outbox = recover.clone();
            async move { outbox.recover().await }
        })
        .background(move |stop| async move { relay.relay(stop).await })
        .binding(REMINDERS, move |_| {
            let tasks = tasks.clone();
            async move {
                match tasks.remind().await {
                    Ok(()) => Ack::Success,
                    // The next tick looks again anyway.
                    Err(refusal) => {
                        tracing::warn!(?refusal, "cannot tell of reminders now");
                        Ack::Drop
                    }
                }
            }
        }))
}

fn list_key(user: &str) -> String {
    format!("todo/tasks/{user}")
}

fn check_user(user: &str) -> Result<(), Refusal> {
    if is_user(user) {
        Ok(())
    } else {
        Err(Refusal::not_found("no such user"))
    }
}

async fn show(State(tasks): State<Tasks>, Path(user): Path<String>) -> Result<Json<TaskPage>, Refusal> {
    check_user(&user)?;
    let stored = tasks
        .instance
        .client
        .state(&*tasks.instance.store)
        .get::<List>(&list_key(&user))
        .await?;
    Ok(Json(stored.map(|item| item.value).unwrap_or_default().page()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewTask {
    title: String,
    remind_at: Option<i64>,
}

async fn create(
    State(tasks): State<Tasks>,
    Path(user): Path<String>,
    headers: HeaderMap,
    Json(body): Json<NewTask>,
) -> Result<Response, Refusal> {
    let outcome = tasks
        .change(&user, &headers, Change::create(&body.title, body.remind_at)?)
        .await?;
    Ok((StatusCode::CREATED, Json(outcome)).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskPatch {
    title: Option<String>,
    done: Option<bool>,
    /// Null takes the reminder away.
    #[serde(default, deserialize_with = "present")]
    remind_at: Option<Option<i64>>,
    if_rev: Option<u64>,
}

/// Tells null from a field that is not there.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

async fn update(
    State(tasks): State<Tasks>,
    Path((user, id)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<TaskPatch>,
) -> Result<Json<Value>, Refusal> {
    let change = Change::update(id, body.title.as_deref(), body.done, body.remind_at, body.if_rev)?;
    tasks.change(&user, &headers, change).await.map(Json)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IfRev {
    if_rev: Option<u64>,
}

async fn remove(
    State(tasks): State<Tasks>,
    Path((user, id)): Path<(String, String)>,
    Query(query): Query<IfRev>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let change = Change::Delete {
        id,
        if_rev: query.if_rev,
    };
    tasks.change(&user, &headers, change).await.map(Json)
}

async fn clear_done(
    State(tasks): State<Tasks>,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    tasks.change(&user, &headers, Change::ClearDone).await.map(Json)
}

impl Tasks {
    /// Makes a change and answers when it and its events are committed. Writers that meet take turns by etag; after
    /// a lost answer the list itself tells whether the change took place.
    async fn change(&self, user: &str, headers: &HeaderMap, change: Change) -> Result<Value, Refusal> {
        let key = headers
            .get(KEY_HEADER)
            .and_then(|key| key.to_str().ok())
            .filter(|key| !key.is_empty());
        if key.is_some_and(|key| key.len() > MAX_KEY) {
            return Err(Refusal::invalid(format!(
                "an idempotency key has at most {MAX_KEY} characters"
            )));
        }
        self.change_named(user, key, change).await
    }

    /// Tells of every reminder that is due. Both instances may be asked at the same time: the list's etag decides.
    async fn remind(&self) -> Result<(), Refusal> {
        let state = self.instance.client.state(&*self.instance.store);
        for shard in 0..reminders::SHARDS {
            for user in reminders::due(&state, shard, now()).await? {
                self.change_named(&user, None, Change::Remind).await?;
            }
        }
        Ok(())
    }

    async fn change_named(&self, user: &str, key: Option<&str>, change: Change) -> Result<Value, Refusal> {
        check_user(user)?;
        // Without a name of the caller's the change still gets one, for the retries in here.
        let key = key.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let state = self.instance.client.state(&*self.instance.store);
        let _turn = self.turn(user).lock().await;
        let mut last = None;
        for attempt in 0..TRIES {
            let stored = state.get::<List>(&list_key(user)).await?;
            let (mut list, etag) = stored.map_or_else(Default::default, |item| (item.value, item.etag));
            if let Some(outcome) = list.receipt(&key) {
                return Ok(answer(&outcome));
            }
            let reminder = list.next_reminder();
            let Outcome { done, happenings } = list.apply(&change, &key, now())?;
            if happenings.is_empty() {
                return Ok(answer(&done));
            }
            let audited: Vec<_> = happenings
                .iter()
                .map(|(kind, task, _)| (*kind, task.id.clone()))
                .collect();
            let events = happenings
                .into_iter()
                .map(|(happening, task, at)| {
                    let data = TaskChange {
                        user: user.to_owned(),
                        task,
                        at,
                    };
                    Event::new(happening.name(), app_id::TASKS, json!(data)).about(user)
                })
                .collect::<Vec<_>>();
            let mut writes = vec![Operation::upsert(list_key(user), &list)?.if_match(etag.as_deref())];
            if list.next_reminder() != reminder {
                writes.push(reminders::write(&state, user, list.next_reminder()).await?);
            }
            match self.outbox.commit(user, writes, &events).await {
                Ok(()) => {
                    for (kind, task) in audited {
                        audit::record(user, kind.name(), &task, &self.instance);
                    }
                    return Ok(answer(&done));
                }
                Err(error @ (Error::Conflict { .. } | Error::Timeout(_))) => last = Some(error),
                Err(error @ (Error::SidecarUnavailable { .. } | Error::Status { .. }))
                    if error.is_retryable() =>
                {
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        Err(last.map_or_else(|| Refusal::unavailable("too many changes at once"), Refusal::from))
    }

    fn turn(&self, user: &str) -> &Mutex<()> {
        let sum = user.bytes().fold(0, |sum: usize, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        &self.turns[sum % TURNS]
    }
}

fn answer(done: &Done) -> Value {
    json!({"task": done.task, "rev": done.rev, "removed": done.removed})
}

/// Grows with each try and differs between writers, so that they part.
fn pause(attempt: u32) -> Duration {
    let spread = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * (1 << attempt.min(4)) / 16;
    Duration::from_millis(2 + spread)
}
