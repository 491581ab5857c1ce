//! `market watch`: measures what arrives through the gateway.

use std::io::Write as _;
use std::time::Duration;

use outrigger_kit::settings::{Key, Kind, Settings};
use outrigger_market::ledger::Report;
use outrigger_market::watch::watch;

use super::{gateway, gateway_keys, key};

/// Its settings.
pub(crate) fn keys() -> Vec<Key> {
    let mut keys = gateway_keys().to_vec();
    keys.extend([
        key(
            "Seconds",
            "--seconds",
            &["MARKET_SECONDS"],
            Some("30"),
            Kind::Number { min: 1, max: 86_400 },
            "how long",
        ),
        key(
            "Output",
            "--output",
            &["MARKET_OUTPUT"],
            Some("text"),
            Kind::OneOf(&["text", "json"]),
            "how the sums are told",
        ),
    ]);
    keys
}

fn line(report: &Report) -> String {
    let millis = |ns: i64| ns as f64 / 1e6;
    format!(
        "{} ticks, {} again, {} missing; age p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        report.ticks,
        report.repeats,
        report.missing,
        millis(report.median_ns),
        millis(report.p99_ns),
        millis(report.slowest_ns),
    )
}

/// Measures for the time asked for; the sums go to stdout, how it goes to stderr.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let span = Duration::from_secs(super::number(settings, "Seconds")?);
    let gateway = gateway(settings)?;
    let mut before = 0;
    let report = watch(&gateway, span, |report| {
        let _ = writeln!(
            std::io::stderr(),
            "{} ticks/s; {}",
            report.ticks - before,
            line(report)
        );
        before = report.ticks;
    })
    .await;
    let text = if settings.text("Output") == "json" {
        serde_json::to_string(&report)?
    } else {
        line(&report)
    };
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
