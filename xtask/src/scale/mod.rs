//! A service that grows and shrinks under load, and state under faults: `cargo xtask scale` (A1.6, A3.7, L11, N6).
//!
//! A client's sidecar calls a service, keeps state and publishes events that the service takes, at steady rates, while
//! the service goes from 1 instance to 10, to 50, back to 10, loses one by SIGKILL and goes back to 1. All sidecars are
//! real processes; the apps of all instances listen in this one, each on a port of its own. The page is `docs/scale.md`.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    args::Args,
    bench::{
        guard::Guard,
        http,
        rig::{Side, Sidecar},
    },
    chaos::{
        brokers::Broker,
        publisher::{Acknowledged, Publisher},
    },
    process::until,
    repo,
};

mod faults;
mod fleet;
mod load;
mod page;

use fleet::{Fleet, Ground, Names, Shares};
use load::{Load, Seen, Work};

const CALLS: u32 = 200;
const STATE: u32 = 100;
const EVENTS: u32 = 50;
const READY: Duration = Duration::from_secs(60);
/// Until the last event must have arrived.
const ARRIVAL: Duration = Duration::from_secs(60);
/// Before the first measurement: connections and pools are made.
const WARM: Duration = Duration::from_secs(2);

/// A stretch of time with a name.
#[derive(Debug)]
struct Phase {
    name: String,
    from: Instant,
    to: Instant,
    /// What the instances did, when their number stood still.
    shares: Option<Shares>,
}

/// All that was seen of the ramp.
struct Ramp {
    phases: Vec<Phase>,
    calls: Seen,
    state: Seen,
    events: Acknowledged,
    app: crate::chaos::app::App,
}

/// `--resolver registry|sqlite|mdns`, `--seconds S` of a plateau, `--peak N`, `--rounds N` of a fault, `--profile NAME`,
/// `--outrigger PATH` (built before with that profile), `--ours PATH` (a daprd in our place), `--no-page`.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let names = Names::parse(args.value("--resolver")?.as_deref().unwrap_or("registry"))?;
    let seconds = args.parsed("--seconds", 20_u64)?;
    let peak = args.parsed("--peak", 50_usize)?;
    let rounds = args.parsed("--rounds", 20_u32)?;
    let profile = args.value("--profile")?.unwrap_or_else(|| "release".to_owned());
    let built = args.value("--outrigger")?.map(PathBuf::from);
    let other = args.value("--ours")?.map(PathBuf::from);
    let page = !args.switch("--no-page") && other.is_none() && peak == 50;
    args.finish()?;
    let (side, build) = match (other, built) {
        (Some(program), _) => {
            let build = format!("`{}` in our place", program.display());
            (Side::new("ours", program, &[]), build)
        }
        (None, Some(program)) => {
            let build = format!("profile `{profile}`, built before");
            (Side::new("ours", program, &["daprd"]), build)
        }
        (None, None) => {
            let programs = repo::build(&profile, repo::MEASURED)?;
            let program = programs.join("outrigger");
            (
                Side::new("ours", program, &["daprd"]),
                format!("profile `{profile}`"),
            )
        }
    };
    let work = repo::target().join("scale");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("clear {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    // Sidecars of this machine that are not of this run are not to be found.
    let mut side = side.with_variable("DAPR_HOST_IP", "127.0.0.1");
    if names == Names::Registry {
        let folder = work.join("registry");
        side = side.with_variable("OUTRIGGER_REGISTRY_DIR", folder.to_string_lossy());
    }
    let guard = Guard::start()?;
    let broker = Broker::start("redis", &guard, &work.join("redis"))?;
    let folder = work.join("ramp");
    let ground = Ground {
        guard: &guard,
        side: &side,
        folder: &folder,
        broker: &broker,
        names,
    };
    let begun = Instant::now();
    let ramp = ramp(&ground, Duration::from_secs(seconds), peak)?;
    let mut outcomes = Vec::new();
    for trial in faults::TRIALS {
        println!("==> state on {}: {} killed, {rounds} rounds", trial.0, trial.1);
        let folder = work.join(format!("{}-{}", trial.0, trial.1));
        outcomes.push(faults::run(&guard, &side, &folder, *trial, rounds)?);
    }
    let head = page::Head {
        build: &build,
        names,
        seconds,
        took: begun.elapsed(),
    };
    let (text, failed) = page::render(&head, &ramp, &outcomes);
    println!("\n{text}");
    if page {
        fs::write(repo::root().join("docs/scale.md"), &text).context("write docs/scale.md")?;
    }
    for (what, seen) in [("calls", &ramp.calls), ("state", &ramp.state)]
        .into_iter()
        .chain(outcomes.iter().map(|outcome| (outcome.killed, &outcome.seen)))
    {
        for (why, count) in &seen.failures {
            println!("{what}: {count} × {why}");
        }
    }
    anyhow::ensure!(failed.is_empty(), "does not hold: {}", failed.join("; "));
    Ok(())
}

/// Goes up and down under load.
fn ramp(ground: &Ground<'_>, plateau: Duration, peak: usize) -> anyhow::Result<Ramp> {
    ground.prepare()?;
    let middle = 10.min(peak);
    let mut fleet = Fleet::new(ground)?;
    fleet.scale_to(1)?;
    let client = ground.sidecar("client", "client", &[])?;
    until("the client reaches the service", READY, || {
        Ok(http::request(client.port, "POST", "/v1.0/invoke/service/method/echo", "{}")?.0 == 200)
    })?;
    let calls = Load::start(Work::Calls, client.port, CALLS, false);
    let state = Load::start(Work::State, client.port, STATE, false);
    let events = Publisher::start(client.port, EVENTS.into());
    std::thread::sleep(WARM);
    let mut phases = Vec::new();
    stand(&mut fleet, &mut phases, plateau)?;
    for wanted in [middle, peak, middle] {
        move_to(&mut fleet, &mut phases, wanted)?;
        stand(&mut fleet, &mut phases, plateau)?;
    }
    let name = format!("{middle}, one killed");
    phase(&mut phases, name, || {
        fleet.kill_one();
        std::thread::sleep(plateau / 3);
        Ok(None)
    })?;
    move_to(&mut fleet, &mut phases, 1)?;
    stand(&mut fleet, &mut phases, plateau)?;
    let (calls, state, events) = (calls.finish(), state.finish(), events.finish());
    let arrived = until("every acknowledged event arrives", ARRIVAL, || {
        Ok(fleet.app.look(|deliveries| {
            events
                .by_number
                .keys()
                .all(|number| deliveries.by_number.contains_key(number))
        }))
    });
    if let Err(error) = arrived {
        println!("    {error:#}");
    }
    drop::<Sidecar>(client);
    Ok(Ramp {
        phases,
        calls,
        state,
        events,
        app: fleet.app.clone(),
    })
}

fn stand(fleet: &mut Fleet<'_>, phases: &mut Vec<Phase>, time: Duration) -> anyhow::Result<()> {
    phase(phases, fleet.len().to_string(), || fleet.watch(time).map(Some))
}

fn move_to(fleet: &mut Fleet<'_>, phases: &mut Vec<Phase>, wanted: usize) -> anyhow::Result<()> {
    let name = format!("{} → {wanted}", fleet.len());
    phase(phases, name, || fleet.scale_to(wanted).map(|()| None))
}

fn phase(
    phases: &mut Vec<Phase>,
    name: String,
    act: impl FnOnce() -> anyhow::Result<Option<Shares>>,
) -> anyhow::Result<()> {
    println!("==> {name}");
    let from = Instant::now();
    let shares = act().with_context(|| name.clone())?;
    phases.push(Phase {
        name,
        from,
        to: Instant::now(),
        shares,
    });
    Ok(())
}
