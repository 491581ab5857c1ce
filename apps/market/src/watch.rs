//! A client of the pipeline that measures: what arrives through the gateway, how late, and what is missing.

use std::time::Duration;

use jiff::Timestamp;
use outrigger_platform_client::gateway::GatewayClient;

use crate::ledger::{Ledger, Report};
use crate::pipeline::{Results, results_topics};

/// The wait before a broken stream is opened anew.
const PAUSE: Duration = Duration::from_millis(200);
/// How long after the span its ticks are waited for: brokers deliver side by side, so that later ones may come first.
const PATIENCE: Duration = Duration::from_secs(15);

/// Reads the results of `span`, through restarts of the gateway, and tells the sums every second to `each`. Ticks of before
/// it began do not count: the first reader of a topic gets what waited there. Those of the span are waited for, for 15
/// seconds after it at most, so that what is missing is lost and not only late.
pub async fn watch(gateway: &GatewayClient, span: Duration, mut each: impl FnMut(&Report)) -> Report {
    let mut ledger = Ledger::default();
    let began = now_ns();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.reset();
    let ended = began.saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX));
    let over = tokio::time::sleep(span.saturating_add(PATIENCE));
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
                        if result.tick.event_time_ns < ended {
                            ledger.record(&result.tick, now);
                        } else {
                            ledger.end(&result.tick);
                        }
                    }
                    if now >= ended && ledger.is_complete() {
                        return ledger.report();
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
