//! Invocation over gRPC through two sidecars, in both forms that Dapr has.

use super::{BUSY, generator, micros, number, requests, timed};
use crate::bench::{
    Plan,
    metrics::Values,
    rig::{Pair, Setup, Side, drive_grpc},
};

/// Callers on one connection, as an app's channel has them: the app's own service through the proxy, then
/// `InvokeService` to the app's `OnInvoke`. Last, whether a compressed call is answered compressed.
pub(super) fn grpc(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let setup = Setup {
        protocol: "grpc",
        ..Setup::default()
    };
    let pair = Pair::start(plan, side, "grpc", setup)?;
    let seconds = plan.seconds.to_string();
    for (path, message, [second_key, cpu_key, p99_key, app_key, generator_key]) in [
        (
            "/load.Echo/Call",
            "bytes",
            [
                "grpc_per_second",
                "grpc_cpu_us",
                "grpc_p99_us",
                "grpc_app_cpu_us",
                "grpc_generator_cpu_us",
            ],
        ),
        (
            "/dapr.proto.runtime.v1.Dapr/InvokeService",
            "invoke-service",
            [
                "grpc_service_per_second",
                "grpc_service_cpu_us",
                "grpc_service_p99_us",
                "grpc_service_app_cpu_us",
                "grpc_service_generator_cpu_us",
            ],
        ),
    ] {
        let arguments = timed(
            &[&["--app-id", "callee", "--message", message, "--streams", BUSY]],
            &seconds,
        );
        let before = (pair.cpu()?, pair.app.cpu()?);
        let report = drive_grpc(plan, pair.caller.grpc, path, &arguments)?;
        let count = requests(&report)?;
        values.push((second_key, number(&report, "per_second")?));
        values.push((cpu_key, micros(pair.cpu()?.saturating_sub(before.0)) / count));
        values.push((p99_key, number(&report, "p99_us")?));
        values.push((app_key, micros(pair.app.cpu()?.saturating_sub(before.1)) / count));
        values.push((generator_key, generator(&report)?));
    }

    let compressed = timed(&[&["--message", "empty", "--gzip"]], "0.1");
    let answer = drive_grpc(
        plan,
        pair.caller.grpc,
        "/dapr.proto.runtime.v1.Dapr/GetMetadata",
        &compressed,
    );
    let gzip = match answer {
        Ok(report) => f64::from(report["encoding"] == "gzip"),
        // 12, unimplemented: how a server refuses an encoding that it does not know.
        Err(error) if format!("{error:#}").contains("grpc-status 12") => 0.0,
        Err(error) => return Err(error),
    };
    values.push(("grpc_gzip", gzip));
    Ok(())
}
