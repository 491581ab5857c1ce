//! What two plain proxies cost on this machine: a guide beside the table, where nginx is installed.

use std::{fs, process::Command, time::Duration};

use super::{
    Plan, http,
    metrics::Values,
    rig::{App, drive},
    scenario::{guide, number},
};
use crate::{
    process::{self, until},
    repo,
};

/// Loads app ← nginx ← nginx with the requests of the invocation scenario.
pub(crate) fn two_hops(plan: &Plan) -> anyhow::Result<Values> {
    anyhow::ensure!(
        repo::which("nginx").is_some(),
        "nginx is not here (apt-get install nginx-light)"
    );
    let folder = plan.work.join("nginx");
    fs::create_dir_all(&folder)?;
    let app = App::start(plan, &folder, "app", None)?;
    let [first, second] = http::free_ports::<2>()?;
    let mut hops = Vec::new();
    for (name, port, upstream) in [("second", second, app.port), ("first", first, second)] {
        let configuration = folder.join(format!("{name}.conf"));
        fs::write(
            &configuration,
            configure(&folder.join(name).to_string_lossy(), port, upstream),
        )?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(&configuration);
        hops.push(guide(plan, name, &mut command)?);
        until("nginx answers", Duration::from_secs(10), || {
            Ok(http::succeeds(port, "/healthz"))
        })?;
    }
    let before = hops
        .iter()
        .map(|hop| process::cpu(hop.pid()))
        .sum::<anyhow::Result<Duration>>()?;
    let seconds = plan.seconds.to_string();
    let report = drive(
        plan,
        first,
        "/echo",
        &[
            "--method",
            "POST",
            "--event-bytes",
            "100",
            "--connections",
            "16",
            "--seconds",
            &seconds,
        ],
    )?;
    let used = hops
        .iter()
        .map(|hop| process::cpu(hop.pid()))
        .sum::<anyhow::Result<Duration>>()?
        .saturating_sub(before);
    let requests = number(&report, "requests")? + number(&report, "warm_up")?;
    Ok(vec![
        ("call_cpu_us", used.as_secs_f64() * 1e6 / requests),
        ("call_per_second", number(&report, "per_second")?),
    ])
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
