//! House rules that are tests: arrows between rooms point down, files stay short, links lead somewhere, and the tests
//! that the requirement pages name exist.

use anyhow::bail;

use crate::args::Args;

mod evidence;
mod layers;
mod length;
mod links;

pub(crate) use links::links;

/// Only the rules.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    args.finish()?;
    check()
}

/// All rules; fails when one is broken.
pub(crate) fn check() -> anyhow::Result<()> {
    report("layers", &layers::layers()?)?;
    report("file lengths", &length::length()?)?;
    report("links", &links()?)?;
    report("tests of requirements", &evidence::evidence()?)
}

/// Prints what broke a rule, and fails when something did.
pub(crate) fn report(rule: &str, faults: &[String]) -> anyhow::Result<()> {
    println!("==> house rule: {rule}");
    for fault in faults {
        println!("    {fault}");
    }
    if !faults.is_empty() {
        bail!("house rule broken: {rule} ({} times)", faults.len());
    }
    Ok(())
}
