//! The instances of the service: an app and its sidecar each.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    bench::{
        guard::Guard,
        http,
        rig::{Side, Sidecar},
    },
    chaos::{app::App, brokers::Broker},
};

/// How many come or go at a time.
const STEP: usize = 5;
/// Between two steps.
const PAUSE: Duration = Duration::from_millis(500);
/// A port that was free may be taken by a connection before the sidecar binds it.
const TRIES: u32 = 3;
/// Values that are written at one instance and read at another.
const PROBES: usize = 100;

/// How sidecars find one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// The registry of this user's sidecars, as `outrigger run` sets it, with mDNS behind it.
    Registry,
    /// `nameresolution.sqlite`.
    Sqlite,
    /// mDNS alone: daprd's default.
    Mdns,
}

impl Names {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "registry" => Self::Registry,
            "sqlite" => Self::Sqlite,
            "mdns" => Self::Mdns,
            other => anyhow::bail!("no resolver {other}: registry, sqlite, mdns"),
        })
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Registry => "the registry of `outrigger run`",
            Self::Sqlite => "`nameresolution.sqlite`",
            Self::Mdns => "mDNS",
        }
    }
}

/// What all sidecars of a run share.
pub(super) struct Ground<'a> {
    pub(super) guard: &'a Guard,
    pub(super) side: &'a Side,
    pub(super) folder: &'a Path,
    pub(super) broker: &'a Broker,
    pub(super) names: Names,
}

impl Ground<'_> {
    /// Writes what all sidecars read.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.folder).with_context(|| self.folder.display().to_string())?;
        let resolution = match self.names {
            Names::Sqlite => format!(
                "  nameResolution:\n    component: sqlite\n    version: v1\n    configuration:\n      connectionString: \"{}\"\n",
                self.folder.join("names.db").display()
            ),
            Names::Registry | Names::Mdns => "  {}\n".to_owned(),
        };
        let text = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: scale\nspec:\n{resolution}"
        );
        fs::write(self.configuration(), text).context("write the configuration")
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("configuration.yaml")
    }

    /// Starts a sidecar in a folder of its own.
    pub(super) fn sidecar(&self, name: &str, app_id: &str, more: &[&str]) -> anyhow::Result<Sidecar> {
        let folder = self.folder.join(name);
        fs::create_dir_all(folder.join("resources")).with_context(|| folder.display().to_string())?;
        self.broker.component(&folder, 0)?;
        self.broker.state_component(&folder)?;
        let configuration = self.configuration().to_string_lossy().into_owned();
        let flags = [&["--config", &configuration], more].concat();
        let mut tries = 1;
        loop {
            match Sidecar::start(self.guard, self.side, &folder, app_id, &flags) {
                Err(_) if tries < TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }
}

/// An instance.
struct Member {
    // Stopped before its app.
    sidecar: Sidecar,
    app: App,
}

/// What each instance did during a plateau, and what the sidecars cost.
#[derive(Debug)]
pub(super) struct Shares {
    /// Calls answered, by instance.
    pub(super) calls: Vec<u64>,
    /// Events taken, by instance.
    pub(super) events: Vec<u64>,
    /// CPU of all sidecars of the service, as a share of one core.
    pub(super) cpu: f64,
    /// Resident memory of all of them in bytes, shared pages counted once for each, and divided among them.
    pub(super) resident: u64,
    pub(super) proportional: u64,
    /// Values read right at an instance at once after another one had written them, of [`PROBES`].
    pub(super) consistent: usize,
}

impl Shares {
    pub(super) const PROBES: usize = PROBES;
}

/// All instances of the service.
pub(super) struct Fleet<'a> {
    ground: &'a Ground<'a>,
    /// Takes no calls itself: it knows what arrived at all.
    pub(super) app: App,
    members: Vec<Member>,
    started: usize,
    probed: usize,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(ground: &'a Ground<'a>) -> anyhow::Result<Self> {
        Ok(Self {
            ground,
            app: App::start()?,
            members: Vec::new(),
            started: 0,
            probed: 0,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds or removes instances, a few at a time, until there are so many.
    pub(super) fn scale_to(&mut self, wanted: usize) -> anyhow::Result<()> {
        while self.members.len() < wanted {
            let count = STEP.min(wanted - self.members.len());
            let numbers = self.started + 1..=self.started + count;
            self.started += count;
            let (ground, app) = (self.ground, &self.app);
            let fresh: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = numbers
                    .map(|number| scope.spawn(move || member(ground, app, number)))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| {
                        thread
                            .join()
                            .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
                    })
                    .collect::<anyhow::Result<_>>()
            })?;
            self.members.extend(fresh);
            thread::sleep(PAUSE);
        }
        while self.members.len() > wanted {
            let count = STEP.min(self.members.len() - wanted);
            // The oldest go first: the one that was alone in the beginning is not the one that is in the end.
            let leaving: Vec<_> = self.members.drain(..count).collect();
            thread::scope(|scope| {
                for member in leaving {
                    scope.spawn(move || drop(member));
                }
            });
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Ends one sidecar by SIGKILL.
    pub(super) fn kill_one(&mut self) {
        if !self.members.is_empty() {
            self.members.remove(0).sidecar.kill();
        }
    }

    /// Watches the instances for a while.
    pub(super) fn watch(&mut self, time: Duration) -> anyhow::Result<Shares> {
        let cpu = |members: &[Member]| {
            members.iter().try_fold(Duration::ZERO, |sum, member| {
                Ok::<_, anyhow::Error>(sum + member.sidecar.cpu()?)
            })
        };
        let before: Vec<_> = self.members.iter().map(|member| member.app.done()).collect();
        let (cpu_before, begun) = (cpu(&self.members)?, Instant::now());
        thread::sleep(time);
        let used = (cpu(&self.members)? - cpu_before).as_secs_f64() / begun.elapsed().as_secs_f64();
        let done: Vec<_> = self
            .members
            .iter()
            .zip(before)
            .map(|(member, (calls, events))| {
                let now = member.app.done();
                (now.0 - calls, now.1 - events)
            })
            .collect();
        let mut shares = Shares {
            calls: done.iter().map(|(calls, _)| *calls).collect(),
            events: done.iter().map(|(_, events)| *events).collect(),
            cpu: used,
            resident: 0,
            proportional: 0,
            consistent: self.probe()?,
        };
        for member in &self.members {
            shares.resident += member.sidecar.memory()?;
            shares.proportional += member.sidecar.share()?;
        }
        Ok(shares)
    }

    /// Writes at one instance and reads at another.
    fn probe(&mut self) -> anyhow::Result<usize> {
        let mut right = 0;
        for _ in 0..PROBES {
            self.probed += 1;
            let number = self.probed;
            let port = |at: usize| self.members[at % self.members.len()].sidecar.port;
            let body = format!("[{{\"key\":\"probe-{}\",\"value\":{number}}}]", number % 10);
            let (status, _) = http::request(port(number), "POST", "/v1.0/state/statestore", &body)?;
            let path = format!("/v1.0/state/statestore/probe-{}", number % 10);
            let (_, answer) = http::request(port(number * 7 + 1), "GET", &path, "")?;
            right += usize::from(status == 204 && answer == number.to_string());
        }
        Ok(right)
    }
}

fn member(ground: &Ground<'_>, app: &App, number: usize) -> anyhow::Result<Member> {
    let app = app.another()?;
    let port = app.port.to_string();
    let sidecar = ground.sidecar(
        &format!("service-{number}"),
        "service",
        &["--app-port", &port, "--dapr-graceful-shutdown-seconds", "10"],
    )?;
    Ok(Member { sidecar, app })
}
