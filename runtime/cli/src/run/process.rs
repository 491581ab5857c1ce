//! One process, kept: started, watched, started again as its restart rule says, stopped with all it started.

use std::{
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::AsyncRead,
    process::{Child, Command},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{backoff::Backoff, plan::ProcessPlan, settings::Restart};
use crate::{console::Status, group::Group, guard::Guard, mux::Mux, ports::random};

/// How long what a dead leader left in its group may take to end before a restart.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);

/// How often a group is looked at while it ends.
const LOOK: Duration = Duration::from_millis(20);

/// What a process shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// Run.
    Run,
    /// End in order.
    Stop,
    /// Be gone.
    Kill,
}

/// What is shared by all processes of a run.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) mux: Mux,
    pub(super) guard: Guard,
    /// This binary, for `__exec`.
    pub(super) this_program: PathBuf,
    /// Held by every reader of a pipe; nothing is sent.
    pub(super) pumping: mpsc::Sender<()>,
}

/// How a process ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was told to.
    Stopped,
    /// By itself, with this exit code; a signal counts 128 and more, as in shells.
    Left(u8),
}

/// Keeps a process until it ends for good. `alive` follows its process id.
pub(super) async fn keep(
    mut plan: ProcessPlan,
    restart: Restart,
    grace: Duration,
    context: Context,
    mut wish: watch::Receiver<Wish>,
    alive: watch::Sender<Option<u32>>,
) -> Ending {
    let mut backoff = Backoff::default();
    loop {
        if *wish.borrow() != Wish::Run {
            return Ending::Stopped;
        }
        // Given back only now: the process takes them next.
        plan.reserved.clear();
        let since = Instant::now();
        let code = match start(&plan, &context) {
            Err(error) => {
                context
                    .mux
                    .news(&plan.source, format!("cannot be started: {error}"))
                    .await;
                1
            }
            Ok((mut child, group)) => {
                context.guard.watch(group).await;
                alive.send_replace(child.id());
                let status = tokio::select! {
                    status = child.wait() => status,
                    () = told(&mut wish) => {
                        stop(&mut child, group, grace, &mut wish).await;
                        alive.send_replace(None);
                        context.guard.forget(group).await;
                        return Ending::Stopped;
                    }
                };
                alive.send_replace(None);
                let code = status.map_or(1, exit_code);
                if restarts(restart, code) {
                    sweep(group, LEFTOVER_GRACE).await;
                    context.guard.forget(group).await;
                } else if group.has_members() {
                    // What it left running ends with the run, not before (as upstream).
                    let guard = context.guard.clone();
                    tokio::spawn(linger(group, grace, wish.clone(), guard));
                } else {
                    context.guard.forget(group).await;
                }
                code
            }
        };
        if *wish.borrow() != Wish::Run {
            return Ending::Stopped;
        }
        if !restarts(restart, code) {
            let how = if code == 0 { "exited" } else { "failed" };
            context
                .mux
                .news(&plan.source, format!("{how} (exit code {code})"))
                .await;
            return Ending::Left(code);
        }
        let wait = backoff.after(since.elapsed(), random());
        context
            .mux
            .news(
                &plan.source,
                format!("restarting in {}ms (exit code {code})", wait.as_millis()),
            )
            .await;
        tokio::select! {
            () = sleep(wait) => {}
            () = told(&mut wish) => return Ending::Stopped,
        }
    }
}

fn restarts(restart: Restart, code: u8) -> bool {
    match restart {
        Restart::Never => false,
        Restart::OnFailure => code != 0,
        Restart::Always => true,
    }
}

/// Starts the process in a group of its own, tied to this process (see [`crate::exec`]).
fn start(plan: &ProcessPlan, context: &Context) -> std::io::Result<(Child, Group)> {
    let mut command = std::process::Command::new(&context.this_program);
    command
        .arg0("outrigger")
        .arg("__exec")
        .arg(std::process::id().to_string())
        .arg(&plan.program)
        .arg(&plan.name)
        .args(&plan.args)
        .envs(plan.env.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(if plan.reads_input {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(dir) = &plan.dir {
        command.current_dir(dir);
    }
    let mut child = Command::from(command).spawn()?;
    let group = child
        .id()
        .and_then(Group::led_by)
        .ok_or_else(|| std::io::Error::other("it ended at once"))?;
    if let Some(output) = child.stdout.take() {
        pump(plan, context, output);
    }
    if let Some(output) = child.stderr.take() {
        pump(plan, context, output);
    }
    Ok((child, group))
}

fn pump(plan: &ProcessPlan, context: &Context, output: impl AsyncRead + Unpin + Send + 'static) {
    let (mux, source, pumping) = (context.mux.clone(), plan.source.clone(), context.pumping.clone());
    tokio::spawn(async move {
        mux.pump(source, output).await;
        drop(pumping);
    });
}

/// Returns when the wish is no longer to run; also when nobody can wish any more.
async fn told(wish: &mut watch::Receiver<Wish>) {
    let _ = wish.wait_for(|wish| *wish != Wish::Run).await;
}

async fn told_to_kill(wish: &mut watch::Receiver<Wish>) {
    let _ = wish.wait_for(|wish| *wish == Wish::Kill).await;
}

/// Ends a process and its group: SIGTERM, the grace, SIGKILL.
async fn stop(child: &mut Child, group: Group, grace: Duration, wish: &mut watch::Receiver<Wish>) {
    let until = Instant::now() + grace;
    if *wish.borrow() == Wish::Stop {
        group.signal(Signal::TERM);
        tokio::select! {
            _ = timeout(grace, child.wait()) => {}
            () = told_to_kill(wish) => {}
        }
    }
    if *wish.borrow() == Wish::Stop {
        sweep(group, until.saturating_duration_since(Instant::now())).await;
    }
    group.signal(Signal::KILL);
    let _ = child.wait().await;
}

/// Ends what is left in a group.
async fn sweep(group: Group, grace: Duration) {
    if !group.has_members() {
        return;
    }
    group.signal(Signal::TERM);
    let gone = async {
        while group.has_members() {
            sleep(LOOK).await;
        }
    };
    if timeout(grace, gone).await.is_err() {
        group.signal(Signal::KILL);
    }
}

/// Waits with what a process left running until the run ends it.
async fn linger(group: Group, grace: Duration, mut wish: watch::Receiver<Wish>, guard: Guard) {
    loop {
        tokio::select! {
            () = told(&mut wish) => {
                sweep(group, grace).await;
                break;
            }
            () = sleep(Duration::from_secs(1)) => if !group.has_members() {
                break;
            }
        }
    }
    guard.forget(group).await;
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

impl Ending {
    /// The status line's kind.
    pub(super) fn status(self) -> Status {
        match self {
            Self::Stopped | Self::Left(0) => Status::Success,
            Self::Left(_) => Status::Failure,
        }
    }
}
