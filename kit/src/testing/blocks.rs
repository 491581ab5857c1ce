//! Secrets, configuration, locks and bindings in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::sidecar::{Inner, refuse};
use super::{BindingCall, Watcher};

type Shared = State<Arc<Inner>>;

pub(super) fn routes() -> Router<Arc<Inner>> {
    Router::new()
        .route("/v1.0/secrets/{store}/bulk", get(secrets))
        .route("/v1.0/secrets/{store}/{secret}", get(secret))
        .route("/v1.0/configuration/{store}", get(configuration))
        .route("/v1.0/configuration/{store}/subscribe", get(watch))
        .route("/v1.0/configuration/{store}/{id}/unsubscribe", get(unwatch))
        .route("/v1.0-alpha1/lock/{store}", post(lock))
        .route("/v1.0-alpha1/unlock/{store}", post(unlock))
        .route("/v1.0/bindings/{binding}", post(binding))
        .route("/v1.0-alpha2/conversation/{component}/converse", post(converse))
}

fn no_store(code: &'static str, store: &str) -> Response {
    refuse((StatusCode::BAD_REQUEST, code, format!("store {store} not found")))
}

async fn secret(State(inner): Shared, Path((store, secret)): Path<(String, String)>) -> Response {
    match inner.cluster.0.secrets.lock().get(&store) {
        None => no_store("ERR_SECRET_STORE_NOT_FOUND", &store),
        Some(secrets) => match secrets.get(&secret) {
            Some(values) => Json(values).into_response(),
            None => refuse((
                StatusCode::INTERNAL_SERVER_ERROR,
                "ERR_SECRET_GET",
                format!(
                    "failed getting secret with key {secret} from secret store {store}: secret not found"
                ),
            )),
        },
    }
}

async fn secrets(State(inner): Shared, Path(store): Path<String>) -> Response {
    match inner.cluster.0.secrets.lock().get(&store) {
        None => no_store("ERR_SECRET_STORE_NOT_FOUND", &store),
        Some(secrets) => Json(secrets).into_response(),
    }
}

async fn configuration(
    State(inner): Shared,
    Path(store): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let stores = inner.cluster.0.configuration.lock();
    let Some(values) = stores.get(&store) else {
        return no_store("ERR_CONFIGURATION_STORE_NOT_FOUND", &store);
    };
    let keys = keys(query);
    let items: serde_json::Map<String, Value> = values
        .iter()
        .filter(|(key, _)| keys.is_empty() || keys.iter().any(|wanted| wanted == *key))
        .map(|(key, value)| (key.clone(), json!({"value": value, "version": ""})))
        .collect();
    Json(items).into_response()
}

/// The keys that a query names.
fn keys(query: Option<String>) -> Vec<String> {
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("key="))
        .map(|key| percent_decode_str(key).decode_utf8_lossy().into_owned())
        .collect()
}

async fn watch(State(inner): Shared, Path(store): Path<String>, RawQuery(query): RawQuery) -> Response {
    if !inner.cluster.0.configuration.lock().contains_key(&store) {
        return no_store("ERR_CONFIGURATION_STORE_NOT_FOUND", &store);
    }
    let id = uuid::Uuid::new_v4().to_string();
    inner.cluster.0.watchers.lock().push(Watcher {
        store,
        keys: keys(query),
        id: id.clone(),
        sidecar: Arc::downgrade(&inner),
    });
    Json(json!({"id": id})).into_response()
}

async fn unwatch(State(inner): Shared, Path((_, id)): Path<(String, String)>) -> Json<Value> {
    let mut watchers = inner.cluster.0.watchers.lock();
    let before = watchers.len();
    watchers.retain(|watcher| watcher.id != id);
    Json(json!({"ok": watchers.len() < before}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LockBody {
    resource_id: String,
    lock_owner: String,
    #[serde(default)]
    expiry_in_seconds: u64,
}

async fn lock(State(inner): Shared, Path(store): Path<String>, Json(body): Json<LockBody>) -> Json<Value> {
    let mut locks = inner.cluster.0.locks.lock();
    let place = format!("{store}/{}", body.resource_id);
    let free = locks
        .get(&place)
        .is_none_or(|(_, until)| *until <= Instant::now());
    if free {
        let until = Instant::now() + Duration::from_secs(body.expiry_in_seconds);
        locks.insert(place, (body.lock_owner, until));
    }
    Json(json!({"success": free}))
}

async fn unlock(State(inner): Shared, Path(store): Path<String>, Json(body): Json<LockBody>) -> Json<Value> {
    let mut locks = inner.cluster.0.locks.lock();
    let place = format!("{store}/{}", body.resource_id);
    let status = match locks.get(&place).filter(|(_, until)| *until > Instant::now()) {
        None => 1,
        Some((owner, _)) if *owner != body.lock_owner => 2,
        Some(_) => {
            locks.remove(&place);
            0
        }
    };
    Json(json!({"status": status}))
}

/// Answers what was prepared for the user's last words, or the words themselves.
async fn converse(State(inner): Shared, Path(component): Path<String>, Json(body): Json<Value>) -> Response {
    let components = inner.cluster.0.conversations.lock();
    let Some(answers) = components.get(&component) else {
        return refuse((
            StatusCode::BAD_REQUEST,
            "ERR_CONVERSATION_NOT_FOUND",
            format!("conversation {component} not found"),
        ));
    };
    let said = body["inputs"]
        .as_array()
        .and_then(|inputs| inputs.last()?["messages"].as_array()?.last().cloned())
        .and_then(|message| Some(message["ofUser"]["content"][0]["text"].as_str()?.to_owned()))
        .unwrap_or_default();
    let content = answers.get(&said).cloned().unwrap_or(said);
    let choice = json!({"finishReason": "stop", "index": "0", "message": {"content": content}});
    Json(json!({"outputs": [{"choices": [choice]}]})).into_response()
}

async fn binding(State(inner): Shared, Path(binding): Path<String>, Json(body): Json<Value>) -> StatusCode {
    if inner.cluster.0.bindings_fail.load(Ordering::Relaxed) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    inner.cluster.0.bindings.lock().push(BindingCall {
        binding,
        operation: body["operation"].as_str().unwrap_or_default().to_owned(),
        data: body["data"].clone(),
    });
    StatusCode::NO_CONTENT
}
