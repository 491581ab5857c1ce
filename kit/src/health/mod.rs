//! Health of a service: `/health`, `/health/live`, `/health/ready`, `/healthz` (E1.9).

mod components;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

pub use components::ComponentChecks;

/// A check that has not answered by then counts as unhealthy.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// How a part, or the whole, is. Ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HealthStatus {
    /// It works.
    Healthy,
    /// It works, but not as it should.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthEntry {
    /// How it is.
    pub status: HealthStatus,
    /// Why, in a few words.
    pub description: String,
}

impl HealthEntry {
    /// It works.
    pub fn healthy(description: impl Into<String>) -> Self {
        Self {
            status: HealthStatus::Healthy,
            description: description.into(),
        }
    }

    /// It works, but not as it should.
    pub fn degraded(description: impl Into<String>) -> Self {
        Self {
            status: HealthStatus::Degraded,
            description: description.into(),
        }
    }

    /// It does not work.
    pub fn unhealthy(description: impl Into<String>) -> Self {
        Self {
            status: HealthStatus::Unhealthy,
            description: description.into(),
        }
    }
}

/// The answer of a health route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The worst of the entries.
    pub status: HealthStatus,
    /// How long the checks took, `hh:mm:ss.fffffff`.
    #[serde(rename = "totalDuration")]
    pub total_duration: String,
    /// Each check by name.
    pub entries: BTreeMap<String, HealthEntry>,
}

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = HealthEntry> + Send>> + Send + Sync>;

/// The checks of one service. Clones share them.
#[derive(Clone, Default)]
pub struct Health(Arc<RwLock<BTreeMap<String, (Check, Scope)>>>);

/// Which routes a check counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only `/health`: worth knowing, but requests can be served.
    Report,
    /// Also `/health/ready` and `/healthz`: without it requests cannot be served.
    Readiness,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.read().keys()).finish()
    }
}

impl Health {
    /// Adds a check, in place of one with the same name.
    pub fn register<F, Fut>(&self, name: impl Into<String>, scope: Scope, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HealthEntry> + Send + 'static,
    {
        self.0
            .write()
            .insert(name.into(), (Arc::new(move || Box::pin(check())), scope));
    }

    /// Runs all checks, or only those that readiness rests on; all at once.
    pub async fn report(&self, only_readiness: bool) -> HealthReport {
        let began = Instant::now();
        let checks: Vec<_> = self
            .0
            .read()
            .iter()
            .filter(|(_, (_, scope))| !only_readiness || *scope == Scope::Readiness)
            .map(|(name, (check, _))| (name.clone(), check.clone()))
            .collect();
        let run = checks.into_iter().map(|(name, check)| async move {
            let entry = tokio::time::timeout(CHECK_TIMEOUT, check())
                .await
                .unwrap_or_else(|_| {
                    HealthEntry::unhealthy(format!("no answer within {} s", CHECK_TIMEOUT.as_secs()))
                });
            (name, entry)
        });
        let entries: BTreeMap<_, _> = futures::future::join_all(run).await.into_iter().collect();
        HealthReport {
            status: entries
                .values()
                .map(|entry| entry.status)
                .max()
                .unwrap_or(HealthStatus::Healthy),
            total_duration: time_span(began.elapsed()),
            entries,
        }
    }

    /// The four routes.
    pub fn routes(&self) -> Router {
        let route = |only_readiness| {
            let health = self.clone();
            get(move || async move { health.report(only_readiness).await })
        };
        // Liveness says that the process answers, nothing else: restarting it helps no neighbour.
        let live = get(|| async { Health::default().report(false).await });
        Router::new()
            .route("/health", route(false))
            .route("/health/live", live)
            .route("/health/ready", route(true))
            .route("/healthz", route(true))
    }
}

impl IntoResponse for HealthReport {
    fn into_response(self) -> Response {
        let status = match self.status {
            HealthStatus::Healthy | HealthStatus::Degraded => StatusCode::OK,
            HealthStatus::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(self)).into_response()
    }
}

fn time_span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!(
        "{:02}:{:02}:{:02}.{:07}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        duration.subsec_nanos() / 100
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_worst_entry_and_a_silent_check_decide() {
        let health = Health::default();
        health.register("outbox", Scope::Report, || async {
            HealthEntry::degraded("2 wait")
        });
        assert_eq!(health.report(false).await.status, HealthStatus::Degraded);
        assert_eq!(health.report(true).await.status, HealthStatus::Healthy);
        health.register("dapr", Scope::Readiness, std::future::pending);
        let report = health.report(true).await;
        assert_eq!(report.status, HealthStatus::Unhealthy);
        assert_eq!(report.entries["dapr"].description, "no answer within 3 s");
    }

    #[test]
    fn the_report_has_the_documented_shape() {
        assert_eq!(
            time_span(Duration::from_micros(3_661_001_234)),
            "01:01:01.0012340"
        );
        let entry = serde_json::to_value(HealthEntry::healthy("ok")).unwrap();
        assert_eq!(
            entry,
            serde_json::json!({"status": "Healthy", "description": "ok"})
        );
    }
}
