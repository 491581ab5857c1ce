//! Real servers for tests, private to a run: `cargo xtask services [-- CMD…]`, and `cargo xtask test`.
//!
//! Each server listens on free loopback ports and keeps its data in a temporary folder. One that cannot be had here is
//! skipped with the reason; the tests that need it then say so. None outlives this program (see [`guardian`]).

use std::{
    io::Write,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{args::Args, repo};

mod guardian;
mod openbao;
mod packages;
mod place;
mod postgres;
mod rabbitmq;
mod redis;
mod user;

use packages::Package;
use place::{Place, Process};

/// A kind of server: what it is called, the Debian package that has it, and how it is started.
struct Server {
    name: &'static str,
    package: Option<Package>,
    start: fn(&Place) -> anyhow::Result<Started>,
}

/// A server that answers: its processes and the variables that tell tests where it is.
struct Started {
    processes: Vec<Process>,
    variables: Vec<(&'static str, String)>,
}

const SERVERS: &[Server] = &[redis::SERVER, postgres::SERVER, rabbitmq::SERVER, openbao::SERVER];

/// Servers that run; dropping it stops them and removes their data.
pub(crate) struct Services {
    started: Vec<Started>,
    place: Arc<Place>,
}

impl Services {
    /// Starts whatever can be had here, side by side. Progress and reasons go to stderr.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_some(SERVERS.iter().collect())
    }

    /// Starts the servers of a list of names with commas.
    pub(crate) fn start_named(names: &str) -> anyhow::Result<Self> {
        Self::start_some(chosen(Some(names))?)
    }

    fn start_some(servers: Vec<&'static Server>) -> anyhow::Result<Self> {
        let place = Arc::new(Place::create()?);
        packages::install(servers.iter().filter_map(|server| server.package));
        let threads: Vec<_> = servers
            .into_iter()
            .map(|server| {
                let place = Arc::clone(&place);
                thread::spawn(move || {
                    let begun = Instant::now();
                    let started = (server.start)(&place);
                    match &started {
                        Ok(_) => eprintln!(
                            "services: {} is ready ({:.1} s)",
                            server.name,
                            begun.elapsed().as_secs_f64()
                        ),
                        Err(reason) => eprintln!("services: {} skipped: {reason:#}", server.name),
                    }
                    started.ok()
                })
            })
            .collect();
        let started = threads
            .into_iter()
            .filter_map(|thread| thread.join().ok().flatten())
            .collect();
        Ok(Self { started, place })
    }

    /// Where the servers are, as tests read it.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.started
            .iter()
            .flat_map(|server| &server.variables)
            .map(|(name, value)| (*name, value.as_str()))
    }

    /// Fails when one of them has ended.
    fn check(&mut self) -> anyhow::Result<()> {
        self.started
            .iter_mut()
            .flat_map(|server| &mut server.processes)
            .try_for_each(Process::ensure_running)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let mut processes: Vec<_> = self
            .started
            .iter_mut()
            .flat_map(|server| &mut server.processes)
            .collect();
        self.place.guardian.dismiss(|| {
            // Else the dead would count as living: nobody but their parent can bury them.
            for process in &mut processes {
                process.reap();
            }
        });
    }
}

/// The servers of a list of names with commas; all without one.
fn chosen(names: Option<&str>) -> anyhow::Result<Vec<&'static Server>> {
    let Some(names) = names else {
        return Ok(SERVERS.iter().collect());
    };
    names
        .split(',')
        .map(|name| {
            SERVERS
                .iter()
                .find(|server| server.name == name)
                .with_context(|| format!("no server {name}"))
        })
        .collect()
}

/// Runs until Ctrl-C, or as long as the given command.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let only = args.value("--only")?;
    let command = args.trailing();
    args.finish()?;
    let mut services = Services::start_some(chosen(only.as_deref())?)?;
    let Some((program, arguments)) = command.split_first() else {
        let mut out = std::io::stdout().lock();
        for (name, value) in services.variables() {
            writeln!(out, "export {name}={value}")?;
        }
        out.flush()?;
        drop(out);
        eprintln!("services: running until Ctrl-C");
        loop {
            thread::sleep(Duration::from_millis(500));
            services.check()?;
        }
    };
    let status = Command::new(program)
        .args(arguments)
        .envs(services.variables())
        .current_dir(repo::root())
        .status()
        .with_context(|| format!("start {program}"))?;
    drop(services);
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_chosen_by_name() {
        assert_eq!(chosen(None).unwrap().len(), SERVERS.len());
        let two = chosen(Some("redis,rabbitmq")).unwrap();
        assert!(two.iter().map(|server| server.name).eq(["redis", "rabbitmq"]));
        assert!(chosen(Some("rabbit")).is_err());
    }
}
