//! Runs the peer's integration suite against our programs and keeps the ledger.
//!
//! The suite is not built here: `CONFORMANCE_SUITE` names it, compiled (`go test -c -tags integration` in the peer's
//! `tests/integration`); `CONFORMANCE_SUITE_DIR` names that folder, the working directory it wants; and
//! `CONFORMANCE_FOREIGN_DIR` the folder of the programs whose roles we do not play.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use anyhow::Context;

use crate::{args::Args, repo};

mod ledger;
mod plan;
mod suite;
mod verdict;

use ledger::{Head, Outcome, tally};
use suite::{Sources, Suite};
use verdict::Verdict;

/// `--stage N` (repeatable by commas), `--focus RE`, `--runs N`, `--retries N`, `--parallel N`, `--ours ROLES`,
/// `--daprd PATH` (another program than ours: nothing is written), `--profile NAME`, `--no-ledger`.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let stages = args.value("--stage")?;
    let focus = args.value("--focus")?;
    let runs: u32 = args.parsed("--runs", 1)?;
    let retries: u32 = args.parsed("--retries", 0)?;
    let parallel: u32 = args.parsed("--parallel", 8)?;
    let profile = args.value("--profile")?.unwrap_or_else(|| "release".to_owned());
    let other = args.value("--daprd")?.map(PathBuf::from);
    let our_roles = args.value("--ours")?.unwrap_or_else(|| "daprd".to_owned());
    let keep = !args.switch("--no-ledger") && other.is_none();
    args.finish()?;
    anyhow::ensure!(runs > 0 && parallel > 0, "--runs and --parallel start at 1");

    let suite_program = variable("CONFORMANCE_SUITE").context(
        "CONFORMANCE_SUITE is not set: it names the peer's integration suite, compiled by \
         `go test -c -tags integration ./tests/integration` at tag v1.18.2",
    )?;
    let folder = variable("CONFORMANCE_SUITE_DIR")
        .context("CONFORMANCE_SUITE_DIR is not set: it names tests/integration in the peer's source")?;
    let cases = plan::cases()?;
    let chosen: Vec<_> = cases
        .iter()
        .filter(|case| {
            stages
                .as_ref()
                .is_none_or(|list| list.split(',').any(|stage| stage == case.stage.to_string()))
        })
        .filter(|case| {
            focus
                .as_ref()
                .is_none_or(|pattern| plan::matches(pattern, &case.name))
        })
        .cloned()
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no case is chosen");

    let ours = match &other {
        Some(program) => program.clone(),
        None => repo::build(&profile, repo::MEASURED)?.join("outrigger"),
    };
    let ours_name = if other.is_some() {
        "another program".to_owned()
    } else {
        format!("{our_roles} (profile {profile})")
    };
    let suite = Suite::prepare(&Sources {
        suite: suite_program,
        folder,
        ours,
        our_roles: our_roles.split(',').map(str::to_owned).collect(),
        foreign: variable("CONFORMANCE_FOREIGN_DIR"),
        parallel,
    })?;

    let commit = repo::commit();
    let mut outcomes = BTreeMap::new();
    let started = Instant::now();
    for (number, (group, batch)) in plan::batches(&chosen).into_iter().enumerate() {
        let measured = measure(
            &suite,
            &format!("{group}-{number}"),
            &batch,
            runs,
            retries,
            &commit,
        )?;
        let (passed, total) = tally(measured.values());
        println!(
            "{passed:>4}/{total:<4} {group}  ({:.0} s)",
            started.elapsed().as_secs_f64()
        );
        for (case, outcome) in measured
            .iter()
            .filter(|(_, outcome)| outcome.verdict != Verdict::Pass)
        {
            println!("          {} {case}", outcome.verdict.word());
        }
        outcomes.extend(measured);
    }
    let (passed, total) = tally(outcomes.values());
    println!(
        "{passed} of {total} pass; logs in {}",
        repo::target().join("conformance").display()
    );
    if keep {
        let head = Head {
            commit,
            date: repo::today(),
            ours: ours_name,
            foreign: suite.foreign_roles(),
            runs,
            retries,
        };
        ledger::update(&cases, &outcomes, &head)?;
        println!("written: docs/conformance.md, docs/conformance/results.tsv");
    } else {
        println!(
            "foreign programs that took part: {}",
            suite.foreign_roles().join(", ")
        );
    }
    Ok(())
}

/// All runs of one batch, with failures run again alone as often as allowed.
fn measure(
    suite: &Suite,
    label: &str,
    batch: &[String],
    runs: u32,
    retries: u32,
    commit: &str,
) -> anyhow::Result<BTreeMap<String, Outcome>> {
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    for run in 0..runs {
        let mut verdicts = suite.run(&format!("{label}-run{run}"), batch)?;
        let mut retried: BTreeMap<String, u32> = BTreeMap::new();
        for attempt in 1..=retries {
            let failed: Vec<String> = batch
                .iter()
                .filter(|case| matches!(verdicts.get(*case), Some(Verdict::Fail | Verdict::Silent)))
                .cloned()
                .collect();
            if failed.is_empty() {
                break;
            }
            for case in &failed {
                *retried.entry(case.clone()).or_default() += 1;
            }
            verdicts.extend(suite.run(&format!("{label}-run{run}-again{attempt}"), &failed)?);
        }
        for case in batch {
            let verdict = verdicts.get(case).copied().unwrap_or(Verdict::Silent);
            let outcome = outcomes.entry(case.clone()).or_insert_with(|| Outcome {
                verdict,
                passed: 0,
                runs: 0,
                retries: 0,
                commit: commit.to_owned(),
            });
            outcome.runs += 1;
            outcome.passed += u32::from(verdict == Verdict::Pass);
            outcome.retries += retried.get(case).copied().unwrap_or(0);
            // One run that does not pass decides.
            if verdict != Verdict::Pass {
                outcome.verdict = verdict;
            }
        }
    }
    Ok(outcomes)
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}
