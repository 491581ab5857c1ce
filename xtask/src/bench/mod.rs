//! Measures our sidecar beside a reference daprd, in pairs, and writes `docs/performance.md`.
//!
//! `REFERENCE_DAPRD_DIR` names the folder of a real `daprd`; without it only ours is measured. Both sides get the same
//! flags, components, app and generator; they take turns at every scenario, each going first in every other round, so
//! that what the machine does meanwhile falls on both, and medians are compared. The page is written after every
//! measurement: a run that is ended early leaves what it has, under a line that says so.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;

use crate::{args::Args, repo, services::Services};

pub(crate) mod guard;
pub(crate) mod http;
mod metrics;
mod nginx;
mod report;
pub(crate) mod rig;
mod rows;
mod scenario;
mod soak;
mod targets;

use guard::Guard;
use metrics::{Failure, Measured, Values};
use report::Progress;
use rig::Side;
use scenario::{SCENARIOS, Scenario, Who};

/// What every scenario of a run has in common.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The load generator and app.
    load: PathBuf,
    /// A folder for components, databases and logs of this run.
    work: PathBuf,
    /// How ours was built, for the page.
    build: String,
    /// Pairs of rounds.
    rounds: u32,
    /// How long one measurement lasts.
    seconds: f64,
    /// How long a sidecar rests before its idle memory and CPU are read.
    rest: f64,
    /// Bytes of the large body.
    upload: u64,
    /// The scenarios asked for, when not all.
    only: Option<Vec<String>>,
    /// Minutes of the soak.
    soak: f64,
    /// Whether there is a reference.
    reference: bool,
    engines: Engines,
    guard: Guard,
}

impl Plan {
    /// Whether a scenario is asked for.
    fn wants(&self, scenario: &Scenario) -> bool {
        self.only.as_ref().map_or(scenario.usual, |only| {
            only.iter().any(|name| name == scenario.name)
        })
    }
}

/// Real servers of this run.
#[derive(Debug, Default)]
pub(crate) struct Engines {
    redis: Option<String>,
    postgres: Option<String>,
}

impl Engines {
    fn of(services: &Services) -> Self {
        let variable = |wanted: &str| {
            services
                .variables()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.to_owned())
        };
        Self {
            redis: variable("OUTRIGGER_TEST_REDIS"),
            postgres: variable("OUTRIGGER_TEST_POSTGRES"),
        }
    }

    fn redis(&self) -> anyhow::Result<&str> {
        self.redis.as_deref().context("there is no redis here")
    }

    fn postgres(&self) -> anyhow::Result<&str> {
        self.postgres.as_deref().context("there is no postgres here")
    }
}

/// `--soak-minutes N` (for `--only soak`), `--rounds N`, `--seconds S`, `--rest S`, `--upload-mib N`, `--only NAME,…`, `--ours PATH`, `--profile NAME`, `--no-page`.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let rounds = args.parsed("--rounds", 5_u32)?;
    let seconds = args.parsed("--seconds", 4.0_f64)?;
    let rest = args.parsed("--rest", 10.0_f64)?;
    let upload = args.parsed("--upload-mib", 1024_u64)? << 20;
    let soak = args.parsed("--soak-minutes", 20.0_f64)?;
    let only = args
        .value("--only")?
        .map(|only| only.split(',').map(str::to_owned).collect::<Vec<_>>());
    for name in only.iter().flatten() {
        anyhow::ensure!(
            SCENARIOS.iter().any(|scenario| scenario.name == name),
            "--only {name}: there is no such scenario"
        );
    }
    let profile = args.value("--profile")?.unwrap_or_else(|| "release".to_owned());
    let other = args.value("--ours")?.map(PathBuf::from);
    let record = !args.switch("--no-page") && other.is_none() && only.is_none();
    args.finish()?;

    let programs = repo::build(&profile, repo::MEASURED)?;
    let load = programs.join("outrigger-load");
    let (ours, build) = match other {
        Some(program) => {
            let build = format!("`{}` in our place", program.display());
            (Side::new("ours", program, &[]), build)
        }
        None => (
            Side::new("ours", programs.join("outrigger"), &["daprd"]),
            format!("profile `{profile}`"),
        ),
    };
    let reference = reference()?;
    let nginx = repo::which("nginx").map(|program| Side::new("nginx", program, &[]));
    if nginx.is_none() {
        println!("skipped: two nginx hops for scale: nginx is not here (apt-get install nginx-light)");
    }
    let work = repo::target().join("bench");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("clear {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let mut pages = vec![work.join("performance.md")];
    if record {
        pages.push(repo::root().join("docs/performance.md"));
    }
    let mut plan = Plan {
        load,
        work,
        build,
        rounds,
        seconds,
        rest,
        upload,
        only,
        soak,
        reference: reference.is_some(),
        engines: Engines::default(),
        guard: Guard::start()?,
    };
    let wanted_engines: Vec<&str> = ["redis", "postgres"]
        .into_iter()
        .filter(|name| {
            SCENARIOS
                .iter()
                .any(|scenario| scenario.name == *name && plan.wants(scenario))
        })
        .collect();
    let services = if wanted_engines.is_empty() {
        None
    } else {
        Some(Services::start_named(&wanted_engines.join(","))?)
    };
    if let Some(services) = &services {
        plan.engines = Engines::of(services);
    }
    let head = report::head(&plan, &ours, reference.as_ref(), nginx.as_ref());

    let sides = |scenario: &Scenario| {
        let of: [Option<&Side>; 2] = match scenario.who {
            Who::Both => [Some(&ours), reference.as_ref()],
            Who::Ours => [Some(&ours), None],
            Who::Nginx => [nginx.as_ref(), None],
        };
        of.into_iter().flatten().collect::<Vec<_>>()
    };
    let wanted = || SCENARIOS.iter().filter(|scenario| plan.wants(scenario));
    let all = wanted().map(|scenario| sides(scenario).len()).sum::<usize>() * rounds as usize;
    let mut measured = Measured::default();
    let mut done = 0;
    let begun = Instant::now();
    for round in 1..=rounds {
        for scenario in wanted() {
            let mut sides = sides(scenario);
            if round % 2 == 0 {
                sides.reverse();
            }
            for side in sides {
                println!("==> round {round} of {rounds}: {} {}", side.name, scenario.name);
                measure(&plan, side, scenario, round, &mut measured);
                done += 1;
                write(
                    &pages,
                    &report::page(&head, &plan, &measured, Progress::After(done, all)),
                )?;
            }
        }
    }
    let text = report::page(&head, &plan, &measured, Progress::Done);
    write(&pages, &text)?;
    println!("\n{text}");
    for page in &pages {
        println!("written: {}", page.display());
    }
    println!("measured for {:.0} s", begun.elapsed().as_secs_f64());
    anyhow::ensure!(
        measured.failures().is_empty(),
        "{} of {all} measurements failed; the page says which",
        measured.failures().len()
    );
    Ok(())
}

/// The real daprd, when there is one.
fn reference() -> anyhow::Result<Option<Side>> {
    let Some(folder) = std::env::var_os("REFERENCE_DAPRD_DIR") else {
        println!("REFERENCE_DAPRD_DIR is not set: only ours is measured, without ratios");
        return Ok(None);
    };
    let program = Path::new(&folder).join("daprd");
    anyhow::ensure!(program.is_file(), "{} does not exist", program.display());
    Ok(Some(Side::new("daprd", program, &[])))
}

/// Runs one scenario. One that cannot be measured is said so in the record; the others still count.
fn measure(plan: &Plan, side: &Side, scenario: &'static Scenario, round: u32, measured: &mut Measured) {
    let begun = Instant::now();
    let mut values = Values::new();
    let outcome = (scenario.run)(plan, side, &mut values);
    for (key, value) in &values {
        println!("    {key:<36} {value:>12.2}");
    }
    println!("    {:.0} s", begun.elapsed().as_secs_f64());
    measured.add(side.name, values);
    if let Err(error) = outcome {
        println!("    failed: {error:#}");
        measured.fail(Failure {
            side: side.name,
            scenario: scenario.name,
            round,
            error: format!("{error:#}"),
        });
    }
}

/// Replaces the pages whole: an interruption leaves the old one or the new one.
fn write(pages: &[PathBuf], text: &str) -> anyhow::Result<()> {
    for page in pages {
        let fresh = page.with_extension("new");
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, page))
            .with_context(|| format!("write {}", page.display()))?;
    }
    Ok(())
}
