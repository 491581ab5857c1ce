//! What the app says of itself at `GET /dapr/config` (wire.md §4).

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use outrigger_middleware::Body;
use outrigger_types::AppId;
use serde::Deserialize;

use crate::{AppChannel, AppError};

/// An app configuration larger than this is refused.
const MAX_CONFIG: usize = 4 << 20;

/// The app's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AppConfig {
    /// Actor types it hosts.
    pub entities: Vec<String>,
    /// After which idle time an actor is deactivated (a Go duration).
    pub actor_idle_timeout: String,
    /// How long ongoing calls may take when actors move (a Go duration).
    pub drain_ongoing_call_timeout: String,
    /// Whether to wait for ongoing calls when actors move.
    pub drain_rebalanced_actors: Option<bool>,
    /// Reentrancy of actor calls.
    pub reentrancy: Reentrancy,
    /// No longer used by anything.
    pub reminders_storage_partitions: i64,
    /// Settings of single types.
    pub entities_config: Vec<EntityConfig>,
}

/// Reentrancy of actor calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reentrancy {
    /// On or off.
    pub enabled: bool,
    /// How deep a chain may go.
    pub max_stack_depth: Option<i64>,
}

/// Settings of single actor types.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntityConfig {
    /// The types.
    pub entities: Vec<String>,
    /// See [`AppConfig::actor_idle_timeout`].
    pub actor_idle_timeout: String,
    /// See [`AppConfig::drain_ongoing_call_timeout`].
    pub drain_ongoing_call_timeout: String,
    /// See [`AppConfig::drain_rebalanced_actors`].
    pub drain_rebalanced_actors: Option<bool>,
    /// See [`AppConfig::reentrancy`].
    pub reentrancy: Reentrancy,
    /// No longer used by anything.
    pub reminders_storage_partitions: i64,
}

impl AppChannel {
    /// Reads the app's configuration; any status but 200 means defaults. gRPC apps have none here.
    ///
    /// # Errors
    /// When the app cannot be reached or its answer is not JSON.
    pub async fn app_config(&self, app_id: &AppId) -> Result<AppConfig, AppError> {
        if !self.protocol().is_http() {
            return Ok(AppConfig::default());
        }
        let request = Request::builder()
            .method(Method::GET)
            .uri("/dapr/config")
            .header("dapr-app-id", app_id.as_str())
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::Empty)?;
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Ok(AppConfig::default());
        }
        let body = Limited::new(response.into_body(), MAX_CONFIG)
            .collect()
            .await
            .map_err(|error| AppError::Transport {
                text: error.to_string(),
                connect: false,
            })?
            .to_bytes();
        serde_json::from_slice(&body).map_err(|error| AppError::Transport {
            text: format!("cannot read /dapr/config: {error}"),
            connect: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_actor_settings() {
        let config: AppConfig = serde_json::from_str(
            r#"{"entities":["a","b"],"actorIdleTimeout":"1h","drainRebalancedActors":true,
                "reentrancy":{"enabled":true,"maxStackDepth":32},
                "entitiesConfig":[{"entities":["a"],"actorIdleTimeout":"1s"}]}"#,
        )
        .unwrap();
        assert_eq!(config.entities, ["a", "b"]);
        assert_eq!(config.reentrancy.max_stack_depth, Some(32));
        assert_eq!(config.entities_config[0].actor_idle_timeout, "1s");
    }
}
