//! Measures our sidecar beside a reference daprd, in pairs, and writes `docs/performance.md`.
//!
//! `REFERENCE_DAPRD_DIR` names the folder of a real `daprd`; without it only ours is measured. Both sides get the same
//! flags, components, app and generator; rounds alternate (A B A B …), so that what the machine does meanwhile falls on
//! both, and medians are compared.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{args::Args, repo};

mod http;
mod metrics;
mod nginx;
mod report;
mod rig;
mod scenario;

use metrics::Measured;
use rig::Side;

/// What every scenario of a run has in common.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The load generator and app.
    load: PathBuf,
    /// A folder for components, databases and logs of this run.
    work: PathBuf,
    /// Pairs of rounds.
    rounds: u32,
    /// How long one measurement lasts.
    seconds: f64,
    /// How long a sidecar rests before its idle memory and CPU are read.
    rest: f64,
    /// Bytes of the large body.
    upload: u64,
}

/// `--rounds N`, `--seconds S`, `--rest S`, `--upload-mib N`, `--only NAME,…`, `--ours PATH`, `--profile NAME`, `--no-page`.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let rounds = args.parsed("--rounds", 5_u32)?;
    let seconds = args.parsed("--seconds", 4.0_f64)?;
    let rest = args.parsed("--rest", 10.0_f64)?;
    let upload = args.parsed("--upload-mib", 1024_u64)? << 20;
    let only = args.value("--only")?;
    let profile = args.value("--profile")?.unwrap_or_else(|| "release".to_owned());
    let other = args.value("--ours")?.map(PathBuf::from);
    let page = !args.switch("--no-page") && other.is_none() && only.is_none();
    args.finish()?;

    let load = repo::build("fast", &["outrigger-load"])?.join("outrigger-load");
    let ours = match other {
        Some(program) => Side::new("ours", program, &[]),
        None => Side::new(
            "ours",
            repo::build(&profile, &["outrigger"])?.join("outrigger"),
            &["daprd"],
        ),
    };
    let reference = std::env::var_os("REFERENCE_DAPRD_DIR").map(|folder| Path::new(&folder).join("daprd"));
    let reference = match reference {
        Some(program) => {
            anyhow::ensure!(program.is_file(), "{} does not exist", program.display());
            Some(Side::new("daprd", program, &[]))
        }
        None => {
            println!("REFERENCE_DAPRD_DIR is not set: only ours is measured, without ratios");
            None
        }
    };
    let work = repo::target().join("bench");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("clear {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let plan = Plan {
        load,
        work,
        rounds,
        seconds,
        rest,
        upload,
    };

    let mut measured = Measured::default();
    for round in 0..rounds {
        for side in std::iter::once(&ours).chain(&reference) {
            for scenario in scenario::SCENARIOS {
                if only
                    .as_ref()
                    .is_some_and(|only| !only.split(',').any(|name| name == scenario.name))
                    || (scenario.once && round > 0)
                    || (scenario.only_ours && side.name != "ours")
                {
                    continue;
                }
                println!(
                    "==> round {} of {rounds}: {} {}",
                    round + 1,
                    side.name,
                    scenario.name
                );
                match (scenario.run)(&plan, side) {
                    Ok(values) => {
                        for (key, value) in &values {
                            println!("    {key:<36} {value:>12.1}");
                        }
                        measured.add(side.name, values);
                    }
                    // One scenario that cannot be measured is said so in the record; the others still count.
                    Err(error) => {
                        println!("    failed: {error:#}");
                        measured.note(format!(
                            "{} {} (round {}): {error:#}",
                            side.name,
                            scenario.name,
                            round + 1
                        ));
                    }
                }
            }
        }
    }
    match nginx::two_hops(&plan) {
        Ok(values) => measured.add("nginx", values),
        Err(reason) => measured.note(format!("two nginx hops: {reason:#}")),
    }
    let text = report::page(&plan, &measured, &ours, reference.as_ref());
    println!("\n{text}");
    if page {
        fs::write(repo::root().join("docs/performance.md"), text).context("write docs/performance.md")?;
        println!("written: docs/performance.md");
    }
    Ok(())
}
