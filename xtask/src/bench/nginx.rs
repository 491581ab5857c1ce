//! What two plain proxies cost on this machine: for scale beside the table, where nginx is installed.

use std::{fs, process::Command, time::Duration};

use super::{
    Plan,
    guard::Program,
    http,
    metrics::Values,
    rig::{App, Side, drive, folder},
    scenario::{BUSY, HUNDRED_BYTES, micros, number, requests, timed},
};
use crate::process::{self, until};

/// Loads app ← nginx ← nginx with the requests of the invocation scenario.
pub(crate) fn two_hops(plan: &Plan, side: &Side, values: &mut Values) -> anyhow::Result<()> {
    let folder = folder(plan, side, "hops")?;
    let app = App::start(plan, &folder, &[])?;
    let [first, second] = outrigger_test_ports::free::<2>()?;
    let mut hops = Vec::new();
    for (name, port, upstream) in [("second", second, app.port), ("first", first, second)] {
        let configuration = folder.join(format!("{name}.conf"));
        fs::write(
            &configuration,
            configure(&folder.join(name).to_string_lossy(), port, upstream),
        )?;
        let mut command: Command = side.command();
        command.args(["-e", "stderr", "-p"]).arg(&folder);
        command.arg("-c").arg(&configuration);
        let log = folder.join(format!("{name}.log"));
        hops.push(Program::start(&plan.guard, name, &mut command, &log)?);
        until("nginx answers", Duration::from_secs(10), || {
            Ok(http::succeeds(port, "/healthz"))
        })?;
    }
    let cpu = || {
        hops.iter()
            .map(|hop| process::cpu(hop.pid()))
            .sum::<anyhow::Result<Duration>>()
    };
    let seconds = plan.seconds.to_string();
    let one = timed(&[HUNDRED_BYTES, &["--connections", "1"]], &seconds);
    values.push((
        "call_p50_us",
        number(&drive(plan, first, "/echo", &one)?, "p50_us")?,
    ));
    let before = cpu()?;
    let busy = timed(&[HUNDRED_BYTES, &["--connections", BUSY]], &seconds);
    let report = drive(plan, first, "/echo", &busy)?;
    values.push((
        "call_cpu_us",
        micros(cpu()?.saturating_sub(before)) / requests(&report)?,
    ));
    values.push(("call_per_second", number(&report, "per_second")?));
    values.push(("call_busy_p99_us", number(&report, "p99_us")?));
    Ok(())
}

/// One process, in the foreground, with kept connections to the next hop.
fn configure(files: &str, port: u16, upstream: u16) -> String {
    format!(
        "daemon off; master_process off; pid {files}.pid; error_log {files}.error.log;\n\
         events {{}}\n\
         http {{\n\
           access_log off; client_body_temp_path {files}.body; proxy_temp_path {files}.proxy;\n\
           fastcgi_temp_path {files}.fastcgi; uwsgi_temp_path {files}.uwsgi; scgi_temp_path {files}.scgi;\n\
           keepalive_requests 100000000;\n\
           upstream next {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}\n\
           server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://next; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n\
         }}\n"
    )
}
