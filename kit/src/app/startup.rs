//! From listening to ready: the sidecar first, then what must be recovered.

use std::time::Duration;

use parking_lot::RwLock;

use super::Recovery;
use crate::health::HealthEntry;
use crate::{Client, Error};

/// The wait between two tries of a recovery step, doubling up to the second.
const RECOVERY_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

#[derive(Debug, Default)]
pub(super) struct Startup(RwLock<Phase>);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Phase {
    #[default]
    Sidecar,
    Recovery {
        step: String,
        problem: Option<String>,
    },
    Ready,
    Stopping,
}

impl Startup {
    /// Waits for the sidecar, then carries out the steps in their order.
    pub(super) async fn run(
        &self,
        client: &Client,
        limit: Duration,
        recoveries: &[(String, Recovery)],
    ) -> Result<(), Error> {
        client.wait_for_sidecar(limit).await?;
        for (step, recover) in recoveries {
            let mut pause = RECOVERY_PAUSE.0;
            let phase = |problem| Phase::Recovery {
                step: step.clone(),
                problem,
            };
            *self.0.write() = phase(None);
            while let Err(error) = recover().await {
                tracing::warn!(step, %error, "a recovery step failed; trying again");
                *self.0.write() = phase(Some(error.to_string()));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECOVERY_PAUSE.1);
            }
        }
        *self.0.write() = Phase::Ready;
        Ok(())
    }

    pub(super) fn is_ready(&self) -> bool {
        // Requests that were accepted before the end are still served.
        matches!(*self.0.read(), Phase::Ready | Phase::Stopping)
    }

    pub(super) fn stop(&self) {
        *self.0.write() = Phase::Stopping;
    }

    pub(super) fn entry(&self) -> HealthEntry {
        match &*self.0.read() {
            Phase::Sidecar => HealthEntry::unhealthy("waiting for the sidecar"),
            Phase::Recovery { step, problem: None } => HealthEntry::unhealthy(format!("recovering: {step}")),
            Phase::Recovery {
                step,
                problem: Some(problem),
            } => HealthEntry::unhealthy(format!("recovering: {step}: {problem}")),
            Phase::Ready => HealthEntry::healthy("ready"),
            Phase::Stopping => HealthEntry::unhealthy("stopping"),
        }
    }
}
