//! Every test that needs nothing from outside, and those whose tools are here.

use crate::{args::Args, house, python, repo};

/// House rules first (a second), then all crates, then the example in Python.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let no_python = args.switch("--no-python");
    let cargo_arguments = args.trailing();
    args.finish()?;
    house::check()?;
    repo::step(
        "cargo test",
        repo::cargo()
            .args(["test", "--locked", "--workspace"])
            .args(cargo_arguments),
    )?;
    if no_python {
        println!("==> examples/python-fastapi: skipped by --no-python");
        return Ok(());
    }
    python::test()
}
