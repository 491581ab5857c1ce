//! Sessions: a cookie names a record in the state store (N3), which every gateway instance can read.
//!
//! There are no passwords: choosing a name is how two people share a list on one machine. An app with accounts would
//! put its sign-in here.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use outrigger_kit::client::Operation;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Gateway, json};
use crate::model::{is_user, now};
use crate::reply::Refusal;

const COOKIE: &str = "todo_session";
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Who opens the page for the first time.
const FIRST_USER: &str = "me";

/// The user of a request.
#[derive(Debug, Clone)]
pub(super) struct User(pub(super) String);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    user: String,
    since: i64,
}

fn key(id: uuid::Uuid) -> String {
    format!("todo/session/{id}")
}

/// The session named by the cookie; only a well-formed id gets near a key.
fn id(headers: &HeaderMap) -> Option<uuid::Uuid> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .and_then(|(_, id)| id.parse().ok())
}

async fn find(gateway: &Gateway, headers: &HeaderMap) -> Result<Option<(uuid::Uuid, Session)>, Refusal> {
    let Some(id) = id(headers) else { return Ok(None) };
    let state = gateway.instance.client.state(&*gateway.instance.store);
    let stored = state.get::<Session>(&key(id)).await?;
    Ok(stored.map(|item| (id, item.value)))
}

/// Lets in who has a session and says whose it is.
pub(super) async fn required(
    State(gateway): State<Gateway>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Some((_, session)) = find(&gateway, request.headers()).await? else {
        let message = "open /api/session first";
        return Err(Refusal::new(
            http::StatusCode::UNAUTHORIZED,
            "NO_SESSION",
            message,
        ));
    };
    request.extensions_mut().insert(User(session.user));
    Ok(next.run(request).await)
}

/// Tells the session, beginning one if there is none.
pub(super) async fn show(State(gateway): State<Gateway>, headers: HeaderMap) -> Result<Response, Refusal> {
    match find(&gateway, &headers).await? {
        Some((_, session)) => Ok(json(&json!({"user": session.user, "since": session.since}))),
        None => begin(&gateway, FIRST_USER).await,
    }
}

#[derive(Deserialize)]
pub(super) struct Choice {
    user: String,
}

/// Begins a session as somebody else. The old one ends: its id may be known to who used the browser before.
pub(super) async fn choose(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Json(choice): Json<Choice>,
) -> Result<Response, Refusal> {
    let user = choice.user.trim().to_lowercase();
    if !is_user(&user) {
        return Err(Refusal::invalid("a name has 1 to 40 letters a-z, digits, - or _"));
    }
    if let Some(old) = id(&headers) {
        let state = gateway.instance.client.state(&*gateway.instance.store);
        state.delete(&key(old), None).await?;
    }
    begin(&gateway, &user).await
}

async fn begin(gateway: &Gateway, user: &str) -> Result<Response, Refusal> {
    let id = uuid::Uuid::new_v4();
    let session = Session {
        user: user.to_owned(),
        since: now(),
    };
    let state = gateway.instance.client.state(&*gateway.instance.store);
    state
        .save(&[Operation::upsert(key(id), &session)?.ttl(LIFETIME)])
        .await?;
    crate::audit::entered(user, &gateway.instance);
    let mut response = json(&json!({"user": session.user, "since": session.since})).into_response();
    let cookie = format!(
        "{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
        LIFETIME.as_secs()
    );
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_ids_are_looked_up() {
        let found = |cookie: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
            id(&headers).is_some()
        };
        assert!(found("a=b; todo_session=7c9e6679-7425-40de-944b-e07fc1f90ae7"));
        assert!(!found("todo_session=../tasks/me"));
        assert!(!found("other=7c9e6679-7425-40de-944b-e07fc1f90ae7"));
    }
}
