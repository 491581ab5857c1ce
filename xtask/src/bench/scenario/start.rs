//! From exec to the first 204.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::bench::{
    Plan, http,
    metrics::{Values, median},
    rig::{Components, Side, Sidecar, components, folder},
};

/// Starts per round; five rounds make twenty.
const STARTS: u32 = 4;

/// Executes a sidecar and polls its outbound health every millisecond until the first 204.
pub(super) fn start(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    for (set, key) in [
        (Components::Memory, "start_ms"),
        (Components::Defaults, "start_defaults_ms"),
    ] {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let folder = folder(plan, side, "start")?;
            components(side, &folder, set)?;
            let begun = Instant::now();
            let mut sidecar = Sidecar::spawn(&plan.guard, side, &folder, "start", &[])?;
            while !http::request(sidecar.port, "GET", "/v1.0/healthz/outbound", "")
                .is_ok_and(|(status, _)| status == 204)
            {
                sidecar.ensure_running()?;
                anyhow::ensure!(begun.elapsed() < Duration::from_secs(30), "no 204 within 30 s");
                sleep(Duration::from_millis(1));
            }
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        values.push((key, median(&mut times).context("no start was measured")?));
    }
    Ok(())
}
