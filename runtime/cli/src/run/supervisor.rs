//! A run from start to exit code: starts the instances, listens for signals and `stop`, ends all in order.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    control::{Control, Info, StopRequest},
    instance::{self, Ended, Role, Wishes},
    plan::{InstancePlan, Note},
    process::{Context, Ending, Wish},
    readiness::Readiness,
};
use crate::{console::Console, console::Status, guard::Guard, mux::Mux};

/// How long the last lines of ended processes may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plans: Vec<InstancePlan>,
    pub(super) notes: Vec<Note>,
    pub(super) info: Info,
    pub(super) console: Console,
    pub(super) this_program: std::path::PathBuf,
    pub(super) runs_folder: std::path::PathBuf,
}

/// One instance as the supervisor sees it.
#[derive(Debug)]
struct Slot {
    label: String,
    app_id: String,
    wishes: Wishes,
    app: bool,
    sidecar: bool,
    stopping: bool,
}

impl Slot {
    fn gone(&self) -> bool {
        !self.app && !self.sidecar
    }
}

/// Runs until everything ended. On the main thread, because the kernel ties the processes to the thread that
/// started them.
pub(super) fn run(run: Run) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (mux, writer) = Mux::start(run.console).context("cannot start the log writer")?;
    let code = runtime.block_on(supervise(run, mux));
    // Pipes that something still holds open are let go; the writer ends with the last line.
    runtime.shutdown_background();
    let _ = writer.join();
    code
}

async fn supervise(run: Run, mux: Mux) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut hangup = signal_unless_ignored().context("cannot listen for signals")?;
    let guard = Guard::start(&run.this_program).context("cannot start the guard process")?;
    let (pumping, mut pumps) = mpsc::channel(1);
    let context = Context {
        mux: mux.clone(),
        guard,
        this_program: run.this_program,
        pumping,
    };
    let (stops, mut stop_requests) = mpsc::channel(16);
    let alone = run.info.run_template_path.is_none();
    let readiness = Arc::new(Readiness::of(run.plans.iter().map(|plan| plan.label.clone())));
    let _control = Control::listen(&run.runs_folder, run.info, Arc::clone(&readiness), stops)?;
    for (status, text) in run.notes {
        mux.status(status, text).await;
    }

    let (report, mut reports) = mpsc::channel(64);
    let mut slots = Vec::with_capacity(run.plans.len());
    for (index, plan) in run.plans.into_iter().enumerate() {
        mux.status(Status::Info, started(&plan)).await;
        let (label, app_id, app) = (plan.label.clone(), plan.app_id.clone(), plan.app.is_some());
        let wishes = instance::start(plan, index, &context, &readiness, &report);
        slots.push(Slot {
            label,
            app_id,
            wishes,
            app,
            sidecar: true,
            stopping: false,
        });
    }
    drop(report);
    drop(context);

    let mut state = State {
        alone: alone && slots.len() == 1,
        slots,
        ending: false,
        code: None,
        failed: false,
        waiting: Vec::new(),
    };
    while !state.slots.iter().all(Slot::gone) {
        let signalled = tokio::select! {
            ended = reports.recv() => {
                match ended {
                    Some(ended) => state.ended(ended, &mux).await,
                    None => break,
                }
                false
            }
            Some(request) = stop_requests.recv() => {
                state.stop_app(request);
                false
            }
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
            () = received(&mut hangup) => true,
            () = mux.closed(), if !state.ending => true,
        };
        if signalled && state.ending {
            state.kill();
        } else if signalled {
            mux.status(Status::Info, "terminated signal received: shutting down")
                .await;
            state.end();
        }
        state.advance();
    }
    drop(mux);
    // Readers of last lines end when the pipes are closed; something outside our groups may hold one open.
    let _ = timeout(LAST_LINES, pumps.recv()).await;
    Ok(state.exit_code())
}

/// SIGHUP, unless whoever started us had it ignored (`nohup`).
fn signal_unless_ignored() -> std::io::Result<Option<Signal>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let bit = 1 << (rustix::process::Signal::HUP.as_raw() - 1);
    if ignored.unwrap_or(0) & bit != 0 {
        Ok(None)
    } else {
        signal(SignalKind::hangup()).map(Some)
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn started(plan: &InstancePlan) -> String {
    use crate::sidecar_api::Address::{Port, Socket};
    match (&plan.http, &plan.grpc) {
        (Port(http), Port(grpc)) => format!(
            "Starting Dapr with id {}. HTTP Port: {http}. gRPC Port: {grpc}",
            plan.label
        ),
        (Socket(http), Socket(grpc)) => {
            format!(
                "Starting Dapr with id {}. HTTP Socket: {}. gRPC Socket: {}.",
                plan.label,
                http.display(),
                grpc.display()
            )
        }
        _ => format!("Starting Dapr with id {}", plan.label),
    }
}

/// What is running and what shall end.
#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    /// A single app: the end of either process ends the run.
    alone: bool,
    ending: bool,
    /// The app's exit code, for a single app that ended by itself.
    code: Option<u8>,
    failed: bool,
    /// Who waits for an app to be stopped.
    waiting: Vec<(String, oneshot::Sender<bool>)>,
}

impl State {
    async fn ended(&mut self, ended: Ended, mux: &Mux) {
        let slot = &mut self.slots[ended.instance];
        let what = match ended.role {
            Role::App => {
                slot.app = false;
                "App"
            }
            Role::Sidecar => {
                slot.sidecar = false;
                "Dapr"
            }
        };
        let text = match ended.ending {
            Ending::Stopped | Ending::Left(0) => format!("{}: Exited {what} successfully", slot.label),
            Ending::Left(code) => format!("{}: {what} exited with error code: {code}", slot.label),
        };
        mux.status(ended.ending.status(), text).await;
        if let Ending::Left(code) = ended.ending {
            if self.alone {
                // The first to leave decides; what follows is our doing.
                self.code.get_or_insert(code);
                self.end();
            }
            self.failed |= code != 0;
        }
    }

    /// Stops everything.
    fn end(&mut self) {
        self.ending = true;
        for slot in &mut self.slots {
            slot.stopping = true;
        }
    }

    fn kill(&mut self) {
        for slot in &self.slots {
            slot.wishes.app.send_replace(Wish::Kill);
            slot.wishes.sidecar.send_replace(Wish::Kill);
        }
    }

    fn stop_app(&mut self, (app_id, done): StopRequest) {
        let mut known = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.app_id == app_id) {
            known |= !slot.gone();
            slot.stopping = true;
        }
        if known {
            self.waiting.push((app_id, done));
        } else {
            let _ = done.send(false);
        }
    }

    /// Apps first; sidecars when their app is gone, at the end of a run when every app is.
    fn advance(&mut self) {
        let apps = self.slots.iter().any(|slot| slot.app);
        for slot in self.slots.iter().filter(|slot| slot.stopping) {
            raise(&slot.wishes.app);
            let waits = slot.app || (self.ending && apps);
            if !waits {
                raise(&slot.wishes.sidecar);
            }
        }
        let slots = &self.slots;
        let all_gone = |app_id: &str| slots.iter().filter(|slot| slot.app_id == app_id).all(Slot::gone);
        for (app_id, done) in std::mem::take(&mut self.waiting) {
            if all_gone(&app_id) {
                let _ = done.send(true);
            } else {
                self.waiting.push((app_id, done));
            }
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self.code {
            Some(code) => ExitCode::from(code),
            // Stopped by wish, or everything ended by itself.
            None if self.ending || !self.failed => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        }
    }
}

fn raise(wish: &tokio::sync::watch::Sender<Wish>) {
    wish.send_if_modified(|wish| {
        let raised = *wish == Wish::Run;
        if raised {
            *wish = Wish::Stop;
        }
        raised
    });
}
