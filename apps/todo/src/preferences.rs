//! The `preferences` service: how a user likes the page.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use outrigger_kit::client::Operation;
use outrigger_kit::{App, Error};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::model::is_user;
use crate::reply::Refusal;

/// Writers of one user's preferences meet this often at most.
const TRIES: usize = 10;

/// Light, dark, or as the system says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// As the system says.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// What is stored for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preferences {
    /// The colours.
    pub theme: Theme,
    /// Whether done tasks are left out.
    pub hide_done: bool,
    /// Whether the page tells what happens in other windows.
    pub notify: bool,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            theme: Theme::Auto,
            hide_done: false,
            notify: true,
        }
    }
}

/// A change of some of them; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changes {
    theme: Option<Theme>,
    hide_done: Option<bool>,
    notify: Option<bool>,
}

/// The service.
///
/// # Errors
/// If the environment holds settings that it cannot use.
pub fn app(instance: &Instance) -> Result<App, Error> {
    let routes = Router::new()
        .route("/users/{user}/preferences", get(show).patch(change))
        .with_state(instance.clone());
    instance.service(routes, || 0)
}

fn key(user: &str) -> Result<String, Refusal> {
    if !is_user(user) {
        return Err(Refusal::not_found("no such user"));
    }
    Ok(format!("todo/preferences/{user}"))
}

async fn show(
    State(instance): State<Instance>,
    Path(user): Path<String>,
) -> Result<Json<Preferences>, Refusal> {
    let stored = instance.client.state(&*instance.store).get(&key(&user)?).await?;
    Ok(Json(stored.map(|item| item.value).unwrap_or_default()))
}

/// Changes of different fields merge, whoever comes first: a lost race is read again and repeated (N5).
async fn change(
    State(instance): State<Instance>,
    Path(user): Path<String>,
    Json(changes): Json<Changes>,
) -> Result<Json<Preferences>, Refusal> {
    let key = key(&user)?;
    let state = instance.client.state(&*instance.store);
    for _ in 0..TRIES {
        let stored = state.get::<Preferences>(&key).await?;
        let (mut value, etag) = stored.map_or_else(Default::default, |item| (item.value, item.etag));
        value.theme = changes.theme.unwrap_or(value.theme);
        value.hide_done = changes.hide_done.unwrap_or(value.hide_done);
        value.notify = changes.notify.unwrap_or(value.notify);
        match state
            .save(&[Operation::upsert(&*key, &value)?.if_match(etag.as_deref())])
            .await
        {
            Ok(()) => return Ok(Json(value)),
            Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::unavailable("too many changes at once"))
}
