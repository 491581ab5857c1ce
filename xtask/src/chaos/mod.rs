//! Faults under load, and what came of every acknowledged event: `cargo xtask chaos`.
//!
//! A publisher's sidecar and a subscriber's sidecar share a broker. While events flow, the subscriber's sidecar is
//! killed, restarted in order, its component reloaded, or the broker restarted, round after round. Afterwards every
//! acknowledged event must have arrived, none on the dead letter topic, and none more often than can have been under
//! way at the faults (A2.6, N6). The page is `docs/zero-loss.md`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context;

use crate::{
    args::Args,
    bench::{
        guard::Guard,
        rig::{Side, Sidecar},
    },
    process::until,
    repo,
};

pub(crate) mod app;
pub(crate) mod brokers;
pub(crate) mod publisher;

use app::App;
use brokers::Broker;
use publisher::Publisher;

const BROKERS: &[&str] = &["redis", "rabbitmq", "sqlite"];
const FAULTS: &[&str] = &["kill", "restart", "broker", "reload"];
/// Load before a fault, and after what it hit is back.
const CALM: Duration = Duration::from_millis(1200);
/// Until the last event must have arrived.
const ARRIVAL: Duration = Duration::from_secs(90);
const READY: Duration = Duration::from_secs(60);

/// What came of one broker under one kind of fault.
struct Outcome {
    broker: &'static str,
    fault: &'static str,
    rounds: u32,
    acknowledged: usize,
    refused: u64,
    lost: usize,
    dead: u64,
    /// Deliveries beyond the first of events that were acknowledged at their first try.
    duplicates: u64,
    window: u64,
    /// Share of events that came within a second of their acknowledgement.
    within_second: f64,
    p50: Duration,
    p99: Duration,
    worst: Duration,
}

impl Outcome {
    fn holds(&self) -> bool {
        self.lost == 0 && self.dead == 0 && self.duplicates <= self.window * u64::from(self.rounds)
    }
}

/// `--rounds N`, `--rate N`, `--brokers redis,…`, `--faults kill,…`, `--profile NAME`, `--ours PATH`, `--no-page`.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let rounds = args.parsed("--rounds", 25_u32)?;
    let rate = args.parsed("--rate", 400_u64)?;
    let brokers = some(args.value("--brokers")?.as_deref(), BROKERS)?;
    let faults = some(args.value("--faults")?.as_deref(), FAULTS)?;
    let profile = args.value("--profile")?.unwrap_or_else(|| "release".to_owned());
    let other = args.value("--ours")?.map(PathBuf::from);
    let page = !args.switch("--no-page") && other.is_none();
    args.finish()?;
    let (side, build) = match other {
        Some(program) => {
            let build = format!("`{}` in our place", program.display());
            (Side::new("ours", program, &[]), build)
        }
        None => {
            let programs = repo::build(&profile, repo::MEASURED)?;
            (
                Side::new("ours", programs.join("outrigger"), &["daprd"]),
                format!("profile `{profile}`"),
            )
        }
    };
    let work = repo::target().join("chaos");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("clear {}", work.display()))?;
    }
    let head = format!(
        "{}, commit {}, {build}; {rounds} rounds, {rate} events/s, an app that takes 2 ms for each",
        repo::today(),
        repo::commit()
    );
    let guard = Guard::start()?;
    let mut outcomes = Vec::new();
    for broker in brokers {
        for fault in &faults {
            println!("==> {broker}: {fault}, {rounds} rounds");
            let folder = work.join(format!("{broker}-{fault}"));
            let outcome = try_out(&guard, &side, &folder, broker, fault, rounds, rate)
                .with_context(|| format!("{broker}: {fault}"))?;
            println!("    {}", line(&outcome));
            outcomes.push(outcome);
        }
    }
    let text = render(&head, &outcomes);
    println!("\n{text}");
    if page {
        fs::write(repo::root().join("docs/zero-loss.md"), text).context("write docs/zero-loss.md")?;
    }
    anyhow::ensure!(outcomes.iter().all(Outcome::holds), "not everything held");
    Ok(())
}

fn some(names: Option<&str>, all: &[&'static str]) -> anyhow::Result<Vec<&'static str>> {
    let Some(names) = names else {
        return Ok(all.to_vec());
    };
    names
        .split(',')
        .map(|name| {
            all.iter()
                .copied()
                .find(|known| *known == name)
                .with_context(|| format!("{name} is none of {}", all.join(", ")))
        })
        .collect()
}

/// The programs of a trial.
struct Trial<'a> {
    guard: &'a Guard,
    side: &'a Side,
    folder: &'a Path,
    app: App,
}

impl Trial<'_> {
    fn subscriber(&self) -> anyhow::Result<Sidecar> {
        let port = self.app.port.to_string();
        Sidecar::start(
            self.guard,
            self.side,
            self.folder,
            "subscriber",
            &["--app-port", &port, "--dapr-graceful-shutdown-seconds", "10"],
        )
    }

    fn publisher(&self) -> anyhow::Result<Sidecar> {
        Sidecar::start(self.guard, self.side, self.folder, "publisher", &[])
    }

    fn delivered(&self) -> usize {
        self.app.look(|deliveries| deliveries.by_number.len())
    }

    /// Waits until events arrive again.
    fn flows(&self) -> anyhow::Result<()> {
        let before = self.delivered();
        until("events arrive", READY, || Ok(self.delivered() > before))
    }
}

fn try_out(
    guard: &Guard,
    side: &Side,
    folder: &Path,
    broker_name: &'static str,
    fault: &'static str,
    rounds: u32,
    rate: u64,
) -> anyhow::Result<Outcome> {
    fs::create_dir_all(folder.join("resources")).with_context(|| folder.display().to_string())?;
    let mut broker = Broker::start(broker_name, guard, &folder.join("broker"))?;
    broker.component(folder, 0)?;
    let trial = Trial {
        guard,
        side,
        folder,
        app: App::start()?,
    };
    let mut subscriber = Some(trial.subscriber()?);
    let mut publisher = trial.publisher()?;
    let publishing = Publisher::start(publisher.port, rate);
    trial.flows()?;
    for round in 1..=rounds {
        thread::sleep(CALM);
        match fault {
            "kill" => {
                if let Some(mut sidecar) = subscriber.take() {
                    sidecar.kill();
                }
                subscriber = Some(trial.subscriber()?);
            }
            "restart" => {
                // Dropping it asks it to leave and waits.
                drop(subscriber.take());
                subscriber = Some(trial.subscriber()?);
            }
            "broker" => {
                if !broker.restart()? {
                    if let Some(mut sidecar) = subscriber.take() {
                        sidecar.kill();
                    }
                    publisher.kill();
                    subscriber = Some(trial.subscriber()?);
                    publisher = trial.publisher()?;
                    publishing.move_to(publisher.port);
                }
            }
            _ => broker.component(folder, round)?,
        }
        trial.flows()?;
    }
    thread::sleep(CALM);
    let acknowledged = publishing.finish();
    let arrived = until("every acknowledged event arrives", ARRIVAL, || {
        Ok(trial.app.look(|deliveries| {
            acknowledged
                .by_number
                .keys()
                .all(|number| deliveries.by_number.contains_key(number))
        }))
    });
    if let Err(error) = arrived {
        println!("    {error:#}");
    }
    // A repeat may still be on its way.
    thread::sleep(Duration::from_secs(2));
    let outcome = trial.app.look(|deliveries| {
        let mut delays = Vec::new();
        let mut lost = 0;
        let mut duplicates = 0;
        for (number, sent) in &acknowledged.by_number {
            match deliveries.by_number.get(number) {
                None => lost += 1,
                Some(delivery) => {
                    delays.push(delivery.first.saturating_duration_since(sent.at));
                    if sent.tries == 1 {
                        duplicates += u64::from(delivery.count - 1);
                    }
                }
            }
        }
        delays.sort_unstable();
        let at = |share: f64| {
            let index = (delays.len() as f64 * share) as usize;
            delays
                .get(index.min(delays.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        let quick = delays.partition_point(|delay| *delay < Duration::from_secs(1));
        Outcome {
            broker: broker_name,
            fault,
            rounds,
            acknowledged: acknowledged.by_number.len(),
            refused: acknowledged.refused,
            lost,
            dead: deliveries.dead,
            duplicates,
            window: broker.window(),
            within_second: quick as f64 / acknowledged.by_number.len().max(1) as f64,
            p50: at(0.5),
            p99: at(0.99),
            worst: delays.last().copied().unwrap_or_default(),
        }
    });
    drop(subscriber);
    drop(publisher);
    Ok(outcome)
}

fn line(outcome: &Outcome) -> String {
    format!(
        "{} acknowledged, {} lost, {} dead, {} twice, {:.3} % within 1 s, p50 {:.1} ms, p99 {:.1} ms, worst {:.0} ms",
        outcome.acknowledged,
        outcome.lost,
        outcome.dead,
        outcome.duplicates,
        outcome.within_second * 100.0,
        millis(outcome.p50),
        millis(outcome.p99),
        millis(outcome.worst)
    )
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn render(head: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "# Nothing is lost\n\n{head}. Written by `cargo xtask chaos`, never by hand.\n\n\
         While events flow from one sidecar to another: `kill` ends the subscriber's sidecar by SIGKILL, `restart` by\n\
         SIGINT, `broker` kills the broker and brings it back (SQLite has no process of its own: both sidecars are\n\
         killed), `reload` changes the component's file. Every acknowledged event must arrive, none on the dead letter\n\
         topic, and none more often than the events that can have been under way at a fault. `refused` publishes were\n\
         repeated by the publisher; what is counted as twice was acknowledged at its first try.\n\n\
         | broker | fault | acknowledged | refused | lost | dead letters | twice (window a round) | within 1 s | p50, ms | p99, ms | worst, ms | |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
    );
    for outcome in outcomes {
        let _ = writeln!(
            text,
            "| {} | {} × {} | {} | {} | {} | {} | {} ({}) | {:.3} % | {:.1} | {:.1} | {:.0} | {} |",
            outcome.broker,
            outcome.fault,
            outcome.rounds,
            outcome.acknowledged,
            outcome.refused,
            outcome.lost,
            outcome.dead,
            outcome.duplicates,
            outcome.window,
            outcome.within_second * 100.0,
            millis(outcome.p50),
            millis(outcome.p99),
            millis(outcome.worst),
            if outcome.holds() { "holds" } else { "**fails**" }
        );
    }
    text
}
