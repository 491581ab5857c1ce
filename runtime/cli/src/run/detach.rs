//! `run --detach`: the run in the background, and an exit code when all of it is healthy (requirement D5).
//!
//! The command line starts itself once more, as the head of a session of its own, and watches it by its control socket.
//! What the second one says goes into a file; the processes of the run write their own.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use jiff::Zoned;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use super::{control, flags::RunFlags};
use crate::{
    console::Status,
    program::DETACHED,
    verbs::{Surroundings, logs},
};

/// How often the run is asked.
const LOOK: Duration = Duration::from_millis(50);

/// How long a run that is given up may take to end: the graces of its apps and sidecars and some.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Lines of each log that a failure shows.
const LAST_LINES: usize = 20;

/// What came of the waiting.
enum Outcome {
    Ready,
    /// It ended by itself.
    Ended(ExitStatus),
    /// Not ready in time: what is waited for.
    Late(Vec<String>),
    /// Told to leave.
    Interrupted,
}

/// Starts the run and waits until it is healthy.
pub(super) fn main(flags: &RunFlags, around: &Surroundings, this_program: &Path) -> Result<ExitCode> {
    let folder = around.working_dir.join(".dapr/logs");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let app_id = flags.app_id.as_str();
    let path = folder.join(format!(
        "{}_run_{}.log",
        if app_id.is_empty() { "outrigger" } else { app_id },
        Zoned::now().strftime("%Y%m%d%H%M%S")
    ));
    let log = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let child = Command::new(this_program)
        .arg0(around.name)
        .arg(DETACHED)
        .args(&around.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot write the log")?)
        .stderr(log)
        .spawn()
        .context("cannot start the run")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(watch(child, flags, around, &path))
}

/// The second start: in a session of its own, so that neither the terminal nor the shell that started it takes it along.
pub(crate) fn leave_the_terminal() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

async fn watch(mut child: Child, flags: &RunFlags, around: &Surroundings, log: &Path) -> Result<ExitCode> {
    let socket = around.folders.runs()?.join(format!("{}.sock", child.id()));
    let mut apps: Vec<String> = Some(flags.app_id.clone())
        .filter(|app_id| !app_id.is_empty())
        .into_iter()
        .collect();
    let outcome = wait(&mut child, &socket, &mut apps, flags.wait_timeout()).await?;
    let (console, name) = (around.console, around.name);
    let text = match &outcome {
        Outcome::Ready => {
            let text = format!(
                "{}: up and healthy in the background, process {}. {name} logs and {name} stop reach it by its app id",
                apps.join(", "),
                child.id()
            );
            console.say(Status::Success, &text);
            return Ok(ExitCode::SUCCESS);
        }
        Outcome::Ended(status) => format!("the run ended before it was healthy: {status}"),
        Outcome::Late(missing) => format!(
            "not healthy after {} s: {}; the run is ended",
            flags.wait_timeout().as_secs(),
            missing.join(", ")
        ),
        Outcome::Interrupted => "interrupted; the run is ended".to_owned(),
    };
    let status = match outcome {
        Outcome::Ended(status) => status,
        _ => end(&mut child).await?,
    };
    show_logs(log, &apps, around);
    console.say(Status::Failure, &text);
    // The app's own code, where it is one: scripts look at it.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.filter(|code| *code != 0).unwrap_or(1)))
}

/// Waits for health, the end, or the limit. `apps` becomes what the run says of itself.
async fn wait(child: &mut Child, socket: &Path, apps: &mut Vec<String>, limit: Duration) -> Result<Outcome> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let until = Instant::now() + limit;
    let mut missing = vec!["the run".to_owned()];
    loop {
        if let Some(status) = child.try_wait().context("cannot look at the run")? {
            return Ok(Outcome::Ended(status));
        }
        // Before it listens there is nothing to ask.
        if let Ok(state) = control::state(socket).await {
            *apps = state.apps;
            if state.missing.is_empty() {
                return Ok(Outcome::Ready);
            }
            missing = state.missing;
        }
        if Instant::now() >= until {
            return Ok(Outcome::Late(missing));
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            _ = interrupt.recv() => return Ok(Outcome::Interrupted),
            _ = terminate.recv() => return Ok(Outcome::Interrupted),
        }
    }
}

/// Ends the run in order; one that does not end is killed, and its guard ends the rest.
async fn end(child: &mut Child) -> Result<ExitStatus> {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        bail!("the run has no process id");
    };
    let _ = kill_process(pid, Signal::TERM);
    let until = Instant::now() + END_LIMIT;
    loop {
        if let Some(status) = child.try_wait().context("cannot look at the run")? {
            return Ok(status);
        }
        if Instant::now() >= until {
            let _ = kill_process(pid, Signal::KILL);
            return child.wait().context("cannot look at the run");
        }
        sleep(LOOK).await;
    }
}

/// What was said, to standard error: a script that fails shows why without another command.
fn show_logs(log: &Path, apps: &[String], around: &Surroundings) {
    let logs: Vec<PathBuf> = std::iter::once(log.to_owned())
        .chain(logs::newest_of(&around.working_dir.join(".dapr/logs"), apps))
        .collect();
    for path in logs {
        match logs::tail(&path, LAST_LINES) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => eprint!("==> {} <==\n{text}", path.display()),
            Err(error) => eprintln!("cannot read {}: {error:#}", path.display()),
        }
    }
}
