//! App health probes (A9.8; upstream `pkg/apphealth`).

use std::time::Duration;

use http::{Method, Request};
use http_body_util::BodyExt as _;
use outrigger_middleware::Body;
use tokio::sync::watch;

use crate::AppChannel;

/// What the probes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppHealth {
    /// Not probed yet: requests wait a moment for the first probe, inputs until it succeeds.
    Unknown,
    /// The app answers.
    Healthy,
    /// The app failed as many probes as the threshold says.
    Unhealthy {
        /// Why the last one failed.
        reason: String,
    },
}

impl AppHealth {
    /// Whether requests may go to the app.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }
}

/// The outcome of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthStatus {
    /// The app answers.
    Up,
    /// It does not.
    Down(String),
}

/// How the app is probed.
#[derive(Debug, Clone)]
pub struct HealthOptions {
    /// `--app-health-check-path` (HTTP apps).
    pub path: String,
    /// `--app-health-probe-interval`.
    pub interval: Duration,
    /// `--app-health-probe-timeout`.
    pub timeout: Duration,
    /// `--app-health-threshold`: failures in a row that make the app unhealthy.
    pub threshold: u32,
}

impl AppChannel {
    /// Probes the app until the future is dropped: first at once, then every interval. Starts unhealthy; one success
    /// makes it healthy, `threshold` failures in a row unhealthy. Cancel-safe.
    pub async fn probe_health(&self, options: HealthOptions, health: watch::Sender<AppHealth>) {
        let mut ticks = tokio::time::interval(options.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // As many failures as would make it unhealthy: the state it starts in.
        let mut failures = options.threshold.max(1);
        loop {
            ticks.tick().await;
            let outcome = tokio::time::timeout(options.timeout, self.probe_once(&options))
                .await
                .unwrap_or_else(|_| HealthStatus::Down("health probe timed out".to_owned()));
            match outcome {
                HealthStatus::Up => {
                    failures = 0;
                    health.send_if_modified(|now| {
                        let changed = !now.is_healthy();
                        if changed {
                            tracing::info!(target: "dapr.apphealth", "App entered healthy status");
                            *now = AppHealth::Healthy;
                        }
                        changed
                    });
                }
                HealthStatus::Down(reason) => {
                    failures = failures.saturating_add(1);
                    if failures < options.threshold.max(1) {
                        tracing::debug!(target: "dapr.apphealth", "App health probe failed: {reason}");
                        continue;
                    }
                    health.send_if_modified(|now| {
                        let was_healthy = now.is_healthy();
                        let changed = !matches!(now, AppHealth::Unhealthy { .. });
                        if was_healthy {
                            tracing::warn!(target: "dapr.apphealth", "App entered un-healthy status: {reason}");
                        }
                        if changed {
                            *now = AppHealth::Unhealthy { reason };
                        }
                        changed
                    });
                }
            }
        }
    }

    async fn probe_once(&self, options: &HealthOptions) -> HealthStatus {
        let began = std::time::Instant::now();
        let metrics = self.metrics();
        if let Some(app) = self.grpc() {
            let answer = app.health_check().health_check(()).await;
            let code = answer.as_ref().err().map_or(tonic::Code::Ok, tonic::Status::code);
            metrics.grpc_health_probe(i32::from(code), began.elapsed());
            return match answer {
                Ok(_) => HealthStatus::Up,
                Err(status) => HealthStatus::Down(format!("Health check failed: {}", status.message())),
            };
        }
        let path = format!("/{}", options.path.trim_start_matches('/'));
        let request = Request::builder().method(Method::GET).uri(path).body(Body::Empty);
        let Ok(request) = request else {
            return HealthStatus::Down(format!("Failed to create request: path {:?}", options.path));
        };
        match self.send_unchecked(request).await {
            Ok(response) if response.status().is_success() => {
                let status = response.status().as_u16();
                // Read to the end so that the connection can serve again.
                let _ = response.into_body().collect().await;
                metrics.http_health_probe(status, began.elapsed());
                HealthStatus::Up
            }
            Ok(response) => {
                let status = response.status().as_u16();
                metrics.http_health_probe(status, began.elapsed());
                HealthStatus::Down(format!("Health check failed with status code: {status}"))
            }
            Err(error) => HealthStatus::Down(format!("Network error: {error}")),
        }
    }
}
