//! Removal of expired rows (components-contrib `common/component/sql/cleanup.go`).

use std::time::Duration;

use outrigger_component::Error;
use tokio::task::JoinHandle;

use crate::{connection::failed, database::Database};

/// Removes expired rows now and then until it is dropped. Processes that share the file agree through the time of
/// the last run in the metadata table.
#[derive(Debug)]
pub(super) struct Cleanup(JoinHandle<()>);

impl Cleanup {
    pub(super) fn start(
        database: Database,
        interval: Duration,
        table: String,
        metadata_table: String,
    ) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                match run(&database, interval, table.clone(), metadata_table.clone()).await {
                    Ok(0) => {}
                    Ok(count) => tracing::debug!(count, "removed expired state"),
                    Err(error) => tracing::error!(error = error.chain(), "cannot remove expired state"),
                }
            }
        }))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(
    database: &Database,
    interval: Duration,
    table: String,
    metadata_table: String,
) -> Result<usize, Error> {
    database
        .write(move |connection| {
            let wrap = |error| failed("cannot remove expired rows", error);
            // 100 ms less, so that timers which are not quite even still agree.
            let age = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).saturating_sub(100);
            let due = connection
                .execute(
                    &format!(
                        "INSERT INTO {metadata_table} (key, value) VALUES ('last-cleanup', CURRENT_TIMESTAMP)
                         ON CONFLICT (key) DO UPDATE SET value = CURRENT_TIMESTAMP
                         WHERE (unixepoch(CURRENT_TIMESTAMP) - unixepoch(value)) * 1000 > ?1"
                    ),
                    [age],
                )
                .map_err(wrap)?;
            if due == 0 {
                return Ok(0);
            }
            connection
                .execute(
                    &format!(
                        "DELETE FROM {table} WHERE expiration_time IS NOT NULL AND expiration_time < CURRENT_TIMESTAMP"
                    ),
                    [],
                )
                .map_err(wrap)
        })
        .await
}
