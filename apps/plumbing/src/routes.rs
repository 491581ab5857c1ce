//! What both versions answer: their routes, over what a version can do.

use std::future::Future;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use outrigger_todo::instance::KEY_HEADER;
use outrigger_todo::model::{TaskPage, is_user};
use outrigger_todo::reply::Refusal;
use outrigger_todo::stats::{Counts, Day, Page};
use outrigger_todo::tasks::list::{Change, Done};
use serde::{Deserialize, Serialize};

/// What the `tasks` service of a version can do.
pub trait Tasks: Clone + Send + Sync + 'static {
    /// The user's tasks.
    fn list(&self, user: &str) -> impl Future<Output = Result<TaskPage, Refusal>> + Send;

    /// Makes a change, once for each key, and answers when it and its events are committed.
    fn change(
        &self,
        user: &str,
        key: &str,
        change: Change,
    ) -> impl Future<Output = Result<Done, Refusal>> + Send;

    /// Asks the `stats` service what it has counted for a user today.
    fn today(&self, user: &str) -> impl Future<Output = Result<Day, Refusal>> + Send;
}

/// What the `stats` service of a version can do.
pub trait Stats: Clone + Send + Sync + 'static {
    /// What was counted for a user.
    fn counts(&self, user: &str) -> impl Future<Output = Result<Counts, Refusal>> + Send;
}

/// The routes of the `tasks` service.
pub fn tasks<T: Tasks>(tasks: T) -> Router {
    Router::new()
        .route(
            "/users/{user}/tasks",
            get(list::<T>).post(create::<T>).delete(clear_done::<T>),
        )
        .route("/users/{user}/tasks/{id}", patch(update::<T>).delete(remove::<T>))
        .route("/users/{user}/overview", get(overview::<T>))
        .with_state(tasks)
}

/// The routes of the `stats` service.
pub fn stats<S: Stats>(stats: S) -> Router {
    Router::new()
        .route("/users/{user}/stats", get(counts::<S>))
        .with_state(stats)
}

fn checked(user: &str) -> Result<&str, Refusal> {
    if is_user(user) {
        Ok(user)
    } else {
        Err(Refusal::not_found("no such user"))
    }
}

/// The change's name, or a new one.
fn key(headers: &HeaderMap) -> String {
    let given = headers.get(KEY_HEADER).and_then(|key| key.to_str().ok());
    given
        .filter(|key| (1..=100).contains(&key.len()))
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

async fn list<T: Tasks>(State(tasks): State<T>, Path(user): Path<String>) -> Result<Json<TaskPage>, Refusal> {
    Ok(Json(tasks.list(checked(&user)?).await?))
}

#[derive(Deserialize)]
struct NewTask {
    title: String,
}

async fn create<T: Tasks>(
    State(tasks): State<T>,
    Path(user): Path<String>,
    headers: HeaderMap,
    Json(body): Json<NewTask>,
) -> Result<Response, Refusal> {
    let change = Change::create(&body.title, None)?;
    let done = tasks.change(checked(&user)?, &key(&headers), change).await?;
    Ok((StatusCode::CREATED, Json(done)).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskPatch {
    title: Option<String>,
    done: Option<bool>,
    if_rev: Option<u64>,
}

async fn update<T: Tasks>(
    State(tasks): State<T>,
    Path((user, id)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<TaskPatch>,
) -> Result<Json<Done>, Refusal> {
    let change = Change::update(id, body.title.as_deref(), body.done, None, body.if_rev)?;
    Ok(Json(tasks.change(checked(&user)?, &key(&headers), change).await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IfRev {
    if_rev: Option<u64>,
}

async fn remove<T: Tasks>(
    State(tasks): State<T>,
    Path((user, id)): Path<(String, String)>,
    Query(query): Query<IfRev>,
    headers: HeaderMap,
) -> Result<Json<Done>, Refusal> {
    let if_rev = query.if_rev;
    let change = Change::Delete { id, if_rev };
    Ok(Json(tasks.change(checked(&user)?, &key(&headers), change).await?))
}

async fn clear_done<T: Tasks>(
    State(tasks): State<T>,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Done>, Refusal> {
    Ok(Json(
        tasks
            .change(checked(&user)?, &key(&headers), Change::ClearDone)
            .await?,
    ))
}

#[derive(Serialize)]
struct Overview {
    tasks: TaskPage,
    today: Day,
}

async fn overview<T: Tasks>(
    State(tasks): State<T>,
    Path(user): Path<String>,
) -> Result<Json<Overview>, Refusal> {
    let user = checked(&user)?;
    let (tasks, today) = (tasks.list(user).await?, tasks.today(user).await?);
    Ok(Json(Overview { tasks, today }))
}

async fn counts<S: Stats>(State(stats): State<S>, Path(user): Path<String>) -> Result<Json<Page>, Refusal> {
    Ok(Json(stats.counts(checked(&user)?).await?.page()))
}
