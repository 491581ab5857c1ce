//! Removal of expired rows (components-contrib `common/component/sql/cleanup.go`).

use std::{sync::Arc, time::Duration};

use outrigger_component::{Error, ErrorKind};
use tokio::task::JoinHandle;

use crate::{database::Database, statement::Param};

/// What is removed, and where the time of the last run is kept.
#[derive(Debug)]
pub(crate) struct Expired {
    pub(crate) interval: Duration,
    pub(crate) table: String,
    /// The column with the time of expiry.
    pub(crate) column: &'static str,
    pub(crate) metadata_table: String,
    /// The row of it with the time of the last run.
    pub(crate) key: String,
}

/// Removes expired rows now and then until it is dropped. Sidecars of either make that share the table agree
/// through the time of the last run in the metadata table.
#[derive(Debug)]
pub(crate) struct Cleanup(JoinHandle<()>);

impl Cleanup {
    pub(crate) fn start(database: Arc<Database>, expired: Expired) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(expired.interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                match run(&database, &expired).await {
                    Ok(0) => {}
                    Ok(count) => tracing::debug!(count, "removed expired state"),
                    Err(error) if error.kind() == ErrorKind::Closed => return,
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

async fn run(database: &Database, expired: &Expired) -> Result<i64, Error> {
    // 100 ms less, so that timers which are not quite even still agree.
    let age = i64::try_from(expired.interval.as_millis())
        .unwrap_or(i64::MAX)
        .saturating_sub(100);
    let due = database
        .write(
            "failed to read last cleanup time from database",
            &format!(
                "INSERT INTO {table} AS m (key, value) VALUES ($1, now()::text)
                 ON CONFLICT (key) DO UPDATE SET value = now()::text
                 WHERE (EXTRACT('epoch' FROM now() - m.value::timestamp with time zone) * 1000)::int8 > $2
                 RETURNING key",
                table = expired.metadata_table
            ),
            &[Param::Text(&expired.key), Param::Int(Some(age))],
        )
        .await?;
    if due.is_empty() {
        return Ok(0);
    }
    let (table, column) = (&expired.table, expired.column);
    let removed = database
        .write(
            "cannot remove expired rows",
            &format!(
                "WITH removed AS (DELETE FROM {table} WHERE {column} IS NOT NULL AND {column} < now() RETURNING 1)
                 SELECT count(*) FROM removed"
            ),
            &[],
        )
        .await?;
    removed
        .first()
        .map_or(Ok(0), |row| Ok(row.int(0)?.unwrap_or_default()))
}
