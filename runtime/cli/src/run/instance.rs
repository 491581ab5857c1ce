//! One app with its sidecar: starts both in order and tells the sidecar who they are.

use std::{pin::pin, process, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    plan::InstancePlan,
    process::{Context, Ending, Wish, keep},
    readiness::{AppProbe, Readiness},
};
use crate::{
    console::Status,
    sidecar_api::{Address, SidecarApi},
};

/// How long an app without a port waits for its sidecar (upstream `runtimeWaitTimeoutInSeconds`), and how long the
/// success message waits for both.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How often a port is tried.
const LOOK: Duration = Duration::from_millis(25);

/// Grace of an app (upstream `killProcessGroup`).
const APP_GRACE: Duration = Duration::from_secs(5);

/// Grace of a sidecar: its own graceful shutdown takes up to five seconds.
const SIDECAR_GRACE: Duration = Duration::from_secs(10);

/// Which process of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    App,
    Sidecar,
}

/// What an instance reports.
#[derive(Debug)]
pub(super) struct Ended {
    /// Position among the plans.
    pub(super) instance: usize,
    pub(super) role: Role,
    pub(super) ending: Ending,
}

/// The wishes an instance follows.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) app: watch::Sender<Wish>,
    pub(super) sidecar: watch::Sender<Wish>,
}

/// Starts an instance. Each of its processes reports once, when it ended for good.
pub(super) fn start(
    plan: InstancePlan,
    instance: usize,
    context: &Context,
    readiness: &Arc<Readiness>,
    ended: &mpsc::Sender<Ended>,
) -> Wishes {
    let (app_wish, app_wishes) = watch::channel(Wish::Run);
    let (sidecar_wish, sidecar_wishes) = watch::channel(Wish::Run);
    let (sidecar_alive, sidecar_pid) = watch::channel(None);
    let (app_alive, app_pid) = watch::channel(None);
    let InstancePlan {
        label,
        restart,
        sidecar,
        app,
        app_port,
        probe,
        http,
        grpc,
        api,
        attributes,
        ..
    } = plan;
    let has_app = app.is_some();

    let task = keep(
        sidecar,
        restart,
        SIDECAR_GRACE,
        context.clone(),
        sidecar_wishes,
        sidecar_alive,
    );
    let report = ended.clone();
    tokio::spawn(async move {
        let ending = task.await;
        let _ = report
            .send(Ended {
                instance,
                role: Role::Sidecar,
                ending,
            })
            .await;
    });

    if let Some(app) = app {
        let (context, report) = (context.clone(), ended.clone());
        let mut wishes = app_wishes.clone();
        let label = label.clone();
        let ports = [http, grpc];
        tokio::spawn(async move {
            // An app that listens starts at once: its sidecar waits for it, not the other way round.
            if app_port.is_none() {
                let ready = tokio::select! {
                    ready = timeout(READY_LIMIT, all_accept(&ports)) => ready.is_ok(),
                    _ = wishes.wait_for(|wish| *wish != Wish::Run) => true,
                };
                if !ready {
                    let text = format!("{label}: Dapr sidecar might not be responding.");
                    context.mux.status(Status::Warning, text).await;
                }
            }
            let ending = keep(app, restart, APP_GRACE, context, app_wishes, app_alive).await;
            let _ = report
                .send(Ended {
                    instance,
                    role: Role::App,
                    ending,
                })
                .await;
        });
    }

    let announcer = Announcer {
        label,
        api,
        attributes,
        probe,
        has_app,
        context: context.clone(),
        readiness: Arc::clone(readiness),
    };
    tokio::spawn(announcer.run(sidecar_pid, app_pid));
    Wishes {
        app: app_wish,
        sidecar: sidecar_wish,
    }
}

async fn all_accept(addresses: &[Address]) {
    for address in addresses {
        while !address.accepts().await {
            sleep(LOOK).await;
        }
    }
}

/// Tells each life of the sidecar about its command line and app, and the user when both are up first.
struct Announcer {
    label: String,
    api: SidecarApi,
    attributes: Vec<(&'static str, String)>,
    probe: Option<AppProbe>,
    has_app: bool,
    context: Context,
    readiness: Arc<Readiness>,
}

impl Announcer {
    async fn run(self, mut sidecar: watch::Receiver<Option<u32>>, mut app: watch::Receiver<Option<u32>>) {
        let mut up_said = false;
        loop {
            let lives = (*sidecar.borrow_and_update(), *app.borrow_and_update());
            let announced = async {
                if let (Some(_), app) = lives {
                    self.announce(app).await;
                    if !up_said && (app.is_some() || !self.has_app) {
                        self.up().await;
                        return true;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                up = announced => {
                    up_said = up_said || up;
                    // Wait for the next life without announcing this one again.
                    tokio::select! {
                        changed = sidecar.changed() => if changed.is_err() { return },
                        changed = app.changed(), if self.has_app => if changed.is_err() { return },
                    }
                }
                changed = sidecar.changed() => if changed.is_err() { return },
                // Without an app its sender is gone already.
                changed = app.changed(), if self.has_app => if changed.is_err() { return },
            }
        }
    }

    /// Puts the attributes, again until the sidecar takes them.
    async fn announce(&self, app: Option<u32>) {
        let mut pairs = vec![("cliPID", process::id().to_string())];
        if let Some(pid) = app {
            pairs.push(("appPID", pid.to_string()));
        }
        pairs.extend(self.attributes.iter().cloned());
        for (key, value) in pairs {
            while self.api.put_metadata(key, &value).await.is_err() {
                sleep(LOOK * 4).await;
            }
        }
    }

    /// Waits for health before saying so (requirement D5).
    async fn up(&self) {
        let healthy = async {
            while let Some(probe) = &self.probe
                && !probe.is_ready().await
            {
                sleep(LOOK * 4).await;
            }
            while !self.api.healthy().await {
                sleep(LOOK * 4).await;
            }
            self.readiness.is_up(&self.label);
        };
        let mut healthy = pin!(healthy);
        let mux = &self.context.mux;
        if timeout(READY_LIMIT, &mut healthy).await.is_ok() {
            let logs = if self.has_app {
                "Both Dapr and your app logs"
            } else {
                "Dapr logs"
            };
            mux.status(
                Status::Success,
                format!("{}: You're up and running! {logs} will appear here.", self.label),
            )
            .await;
        } else {
            let seconds = READY_LIMIT.as_secs();
            mux.status(
                Status::Warning,
                format!(
                    "{}: not healthy after {seconds} seconds; still waiting",
                    self.label
                ),
            )
            .await;
            // Whoever waits in the background may have more patience.
            healthy.await;
        }
    }
}
