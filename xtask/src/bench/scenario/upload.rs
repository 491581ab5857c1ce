//! One large body through two sidecars.

use super::{megabytes, number};
use crate::bench::{
    Plan,
    metrics::Values,
    rig::{Pair, Setup, Side, run_load},
};

/// In chunks and with its length: how much memory it costs the sidecar that grows more.
pub(super) fn upload(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    for (chunked, [growth_key, speed_key]) in [
        (true, ["upload_chunked_growth_mb", "upload_chunked_mb_per_second"]),
        (false, ["upload_length_growth_mb", "upload_length_mb_per_second"]),
    ] {
        let setup = Setup {
            more: &["--max-body-size", "2Gi"],
            ..Setup::default()
        };
        let pair = Pair::start(plan, side, "upload", setup)?;
        pair.caller.reset_peak()?;
        pair.callee.reset_peak()?;
        let before = (pair.caller.memory()?, pair.callee.memory()?);
        let bytes = plan.upload.to_string();
        let mut arguments = vec!["--bytes", bytes.as_str()];
        if chunked {
            arguments.push("--chunked");
        }
        let report = run_load(
            plan,
            "upload",
            pair.caller.port,
            "/v1.0/invoke/callee/method/sink",
            &arguments,
        )?;
        anyhow::ensure!(
            report["status"].as_u64() == Some(200) && report["bytes"].as_u64() == Some(plan.upload),
            "the body did not arrive whole: {report}"
        );
        let growth = pair
            .caller
            .peak()?
            .saturating_sub(before.0)
            .max(pair.callee.peak()?.saturating_sub(before.1));
        values.push((growth_key, megabytes(growth)));
        values.push((speed_key, megabytes(plan.upload) / number(&report, "seconds")?));
    }
    Ok(())
}
