//! `outrigger __guard`: ends the process groups of a run whose command line was killed.
//!
//! The command line writes `+<group>` and `-<group>` lines into the guard's standard input. When that closes while
//! groups are left, the command line is gone: the kernel has told the leaders (see [`crate::exec`]), so the guard
//! waits for them, tells the other members, and kills what is left after [`GRACE`].

use std::{
    collections::BTreeSet,
    io,
    os::unix::process::CommandExt as _,
    process::{ExitCode, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use crate::group::{Group, runs};

/// How long processes may take to end by themselves.
const GRACE: Duration = Duration::from_secs(6);

/// How often the guard looks.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the guard until its input closes and all groups are gone.
pub(crate) fn main() -> ExitCode {
    let mut groups = BTreeSet::new();
    for line in io::stdin().lines() {
        let Ok(line) = line else { break };
        let group = line
            .get(1..)
            .and_then(|text| text.parse().ok())
            .and_then(Group::led_by);
        match (line.chars().next(), group) {
            (Some('+'), Some(group)) => groups.insert(group),
            (Some('-'), Some(group)) => groups.remove(&group),
            _ => false,
        };
    }
    if groups.is_empty() {
        return ExitCode::SUCCESS;
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(end(groups)),
        Err(_) => groups.into_iter().for_each(|group| group.signal(Signal::KILL)),
    }
    ExitCode::SUCCESS
}

/// Ends groups whose leaders have been told already.
async fn end(mut groups: BTreeSet<Group>) {
    let until = Instant::now() + GRACE;
    let mut told = BTreeSet::new();
    loop {
        groups.retain(|group| group.has_members());
        if groups.is_empty() {
            return;
        }
        if Instant::now() >= until {
            break;
        }
        for group in &groups {
            // A leader gets one SIGTERM, not two: programs take a second one as "at once".
            if !runs(group.leader()) && told.insert(*group) {
                group.signal(Signal::TERM);
            }
        }
        sleep(LOOK).await;
    }
    for group in groups {
        group.signal(Signal::KILL);
    }
}

/// What the command line tells its guard.
#[derive(Debug)]
enum Order {
    Watch(Group, oneshot::Sender<()>),
    Forget(Group),
}

/// The command line's end: keeps a guard running, starts another one if it dies.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    orders: mpsc::Sender<Order>,
}

impl Guard {
    /// Starts the guard.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn start(program: &std::path::Path) -> io::Result<Self> {
        let program = program.to_owned();
        let child = spawn(&program)?;
        let (orders, inbox) = mpsc::channel(64);
        tokio::spawn(keep(program, child, inbox));
        Ok(Self { orders })
    }

    /// Watches a group; returns when the guard has been told.
    pub(crate) async fn watch(&self, group: Group) {
        let (done, told) = oneshot::channel();
        if self.orders.send(Order::Watch(group, done)).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Forgets a group that ended.
    pub(crate) async fn forget(&self, group: Group) {
        let _ = self.orders.send(Order::Forget(group)).await;
    }
}

fn spawn(program: &std::path::Path) -> io::Result<Child> {
    let mut command = std::process::Command::new(program);
    // A group of its own: a terminal's Ctrl-C is for the command line.
    command.arg0("outrigger").arg("__guard").process_group(0);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Command::from(command).spawn()
}

async fn keep(program: std::path::PathBuf, mut child: Child, mut inbox: mpsc::Receiver<Order>) {
    let mut groups = BTreeSet::new();
    // Kept apart: waiting for a child closes the input that is still with it.
    let mut input = child.stdin.take();
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                None => return,
                Some(Order::Watch(group, done)) => {
                    groups.insert(group);
                    tell(&mut input, '+', group).await;
                    let _ = done.send(());
                }
                Some(Order::Forget(group)) => {
                    groups.remove(&group);
                    tell(&mut input, '-', group).await;
                }
            },
            _ = child.wait() => {
                match spawn(&program) {
                    Ok(mut next) => {
                        input = next.stdin.take();
                        child = next;
                    }
                    Err(_) => sleep(Duration::from_secs(1)).await,
                }
                for group in &groups {
                    tell(&mut input, '+', *group).await;
                }
            }
        }
    }
}

/// A guard that just died is noticed by its exit, not here.
async fn tell(input: &mut Option<ChildStdin>, sign: char, group: Group) {
    if let Some(input) = input {
        let _ = input
            .write_all(format!("{sign}{}\n", group.leader()).as_bytes())
            .await;
    }
}
