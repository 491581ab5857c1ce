//! `outrigger stop`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use super::{Surroundings, wait_for};
use crate::{
    console::Status,
    group::runs,
    output::{self, TextFormat},
    run::{control, run_file},
    sidecars,
    usage::refuse,
};

/// How long a run may take to end: the graces of its apps and sidecars and some.
const LIMIT: Duration = Duration::from_secs(20);

/// How often a process is looked at while it ends.
const LOOK: Duration = Duration::from_millis(25);

/// Stop sidecars and their apps
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger stop --app-id orders\n  outrigger stop orders cart --output json\n\n  # Everything a run file started\n  outrigger stop -f dapr.yaml\n  outrigger stop -f ./shop"
)]
pub(super) struct StopFlags {
    /// The id of an app to stop
    #[arg(short = 'a', long)]
    app_id: Option<String>,
    /// The run file, or its folder, whose apps to stop
    #[arg(short = 'f', long)]
    run_file: Option<PathBuf>,
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
    /// Stop in Kubernetes
    #[arg(short = 'k', long, hide = true)]
    kubernetes: bool,
    /// More ids of apps to stop
    app_ids: Vec<String>,
}

pub(super) fn main(flags: &StopFlags, around: &Surroundings) -> Result<ExitCode> {
    if flags.kubernetes {
        bail!("--kubernetes is not served by this version; without it the apps of this machine are stopped");
    }
    if flags.run_file.is_none() && flags.app_id.is_none() && flags.app_ids.is_empty() {
        refuse!("nothing to stop: give --app-id or --run-file");
    }
    wait_for(stop(flags, around))
}

async fn stop(flags: &StopFlags, around: &Surroundings) -> Result<ExitCode> {
    let folder = around.folders.runs()?;
    let mut code = ExitCode::SUCCESS;
    let mut answers = Vec::new();
    let json = flags.output == TextFormat::Json;
    let mut say = |target: (&str, &str), result: Result<()>, done: String, failed: String| {
        let error = result.as_ref().err().map(|error| format!("{error:#}"));
        answers.push(serde_json::json!({ target.0: target.1, "stopped": error.is_none(), "error": error }));
        match error {
            None if json => {}
            None => around.console.say(Status::Success, &done),
            Some(error) => {
                around.console.say(Status::Failure, &format!("{failed}: {error}"));
                code = ExitCode::FAILURE;
            }
        }
    };
    if let Some(path) = &flags.run_file {
        let path = run_file::absolute(&run_file::locate(path)?, &around.working_dir);
        let stopped = stop_run(&path, &folder).await;
        say(
            ("runFile", &path.display().to_string()),
            stopped,
            "Dapr and app processes stopped successfully".to_owned(),
            "Failed to stop Dapr and app processes".to_owned(),
        );
    }
    for app_id in flags.app_ids.iter().chain(&flags.app_id) {
        let stopped = stop_app(app_id, &folder).await;
        say(
            ("appId", app_id),
            stopped,
            format!("app stopped successfully: {app_id}"),
            format!("failed to stop app id {app_id}"),
        );
    }
    if json {
        output::print(output::json(&answers)?.as_bytes())?;
    }
    Ok(code)
}

/// Stops every command line that runs the file, ours by their sockets, Dapr's by their sidecars' metadata.
async fn stop_run(path: &Path, folder: &Path) -> Result<()> {
    let ours = control::runs(folder).await;
    let mut pids: Vec<u32> = ours
        .iter()
        .filter(|(info, _)| info.run_template_path.as_deref() == Some(path))
        .map(|(info, _)| info.cli_pid)
        .collect();
    let foreign = sidecars::list().await;
    pids.extend(
        foreign
            .iter()
            .filter(|sidecar| Path::new(sidecar.attribute("runTemplatePath")) == path)
            .map(|sidecar| sidecar.process("cliPID")),
    );
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| *pid > 1);
    if pids.is_empty() {
        bail!(
            "couldn't find apps with run file {:?}",
            path.display().to_string()
        );
    }
    for pid in pids {
        end(pid).await?;
    }
    Ok(())
}

/// Stops an app wherever it runs: in ours by the socket; else by the command line if it runs nothing else, or by
/// the sidecar (upstream `standalone.Stop`).
async fn stop_app(app_id: &str, folder: &Path) -> Result<()> {
    let mut found = false;
    for (info, socket) in control::runs(folder).await {
        if !info.apps.iter().any(|id| id == app_id) {
            continue;
        }
        if info.apps.len() == 1 {
            end(info.cli_pid).await?;
            found = true;
        } else {
            found |= control::stop(&socket, app_id).await?;
        }
    }
    let sidecars = sidecars::list().await;
    for sidecar in sidecars.iter().filter(|sidecar| sidecar.app_id == app_id) {
        found = true;
        let cli = sidecar.process("cliPID");
        let shared = sidecars
            .iter()
            .filter(|other| other.process("cliPID") == cli)
            .count()
            > 1;
        end(if cli == 0 || shared || !runs_as(cli) {
            sidecar.pid
        } else {
            cli
        })
        .await?;
    }
    if !found {
        bail!("couldn't find app id {app_id}");
    }
    Ok(())
}

fn runs_as(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(runs)
}

/// Sends SIGTERM and waits; what does not end within its graces is killed.
async fn end(pid: u32) -> Result<()> {
    let Some(target) = i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 1)
        .and_then(Pid::from_raw)
    else {
        bail!("{pid} is no process");
    };
    match kill_process(target, Signal::TERM) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => bail!("process {pid}: {error}"),
    }
    let gone = async {
        while runs_as(pid) {
            sleep(LOOK).await;
        }
    };
    if timeout(LIMIT, gone).await.is_err() {
        let _ = kill_process(target, Signal::KILL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_processes_do_not_run() {
        assert!(runs_as(std::process::id()));
        assert!(!runs_as(u32::MAX));
    }
}
