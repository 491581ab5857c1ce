//! A client of the pipeline that measures: what arrives through the gateway, how late, and what is missing.

use std::time::Duration;

use jiff::Timestamp;
use outrigger_platform_client::gateway::GatewayClient;

use crate::ledger::{Ledger, Report};
use crate::pipeline::{Results, results_topics};

/// The wait before a broken stream is opened anew.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads results for `span`, through restarts of the gateway, and tells the sums every second to `each`. Ticks of before
/// it began do not count: the first reader of a topic gets what waited there.
pub async fn watch(gateway: &GatewayClient, span: Duration, mut each: impl FnMut(&Report)) -> Report {
    let mut ledger = Ledger::default();
    let began = now_ns();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.reset();
    let over = tokio::time::sleep(span);
    tokio::pin!(over);
    loop {
        let mut events = match gateway.subscribe(results_topics()).await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "no stream of the gateway; trying again");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => continue,
                    () = &mut over => return ledger.report(),
                }
            }
        };
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = second.tick() => {
                    each(&ledger.report());
                    continue;
                }
                () = &mut over => return ledger.report(),
            };
            let Ok(Some(event)) = event else { break };
            let now = now_ns();
            match Results::read(&event.data) {
                Ok(Results(results)) => {
                    for result in results.iter().filter(|result| result.tick.event_time_ns >= began) {
                        ledger.record(&result.tick, now);
                    }
                }
                Err(error) => tracing::warn!(%error, topic = event.topic, "an event is no result"),
            }
        }
    }
}

fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
