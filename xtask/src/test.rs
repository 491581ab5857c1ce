//! Every test that needs nothing from outside, and those whose tools and servers can be had.

use std::thread;

use anyhow::anyhow;

use crate::{args::Args, clients, house, python, repo, sdks, services::Services};

/// House rules first (a second), then all crates beside real servers, then the example in Python and other makers' clients.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let no_python = args.switch("--no-python");
    let no_clients = args.switch("--no-clients");
    let no_services = args.switch("--no-services");
    let cargo_arguments = args.trailing();
    args.finish()?;
    house::check()?;
    let cargo_test = || {
        let mut command = repo::cargo();
        // One run tells all that fails: the next one is half an hour away.
        command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
        command
    };
    if no_services {
        println!("==> real servers: skipped by --no-services");
        repo::step("cargo test", cargo_test().args(&cargo_arguments))?;
    } else {
        // They install, build and start while the tests compile.
        let starting = thread::spawn(Services::start);
        let built = repo::step(
            "cargo test --no-run",
            cargo_test().arg("--no-run").args(&cargo_arguments),
        );
        let services = starting
            .join()
            .map_err(|_| anyhow!("the start of the servers panicked"))??;
        built?;
        repo::step(
            "cargo test",
            cargo_test().args(&cargo_arguments).envs(services.variables()),
        )?;
    }
    if no_python {
        println!("==> examples/python-fastapi: skipped by --no-python");
    } else {
        python::test()?;
    }
    if no_clients {
        println!("==> tests/clients, sdks: skipped by --no-clients");
        return Ok(());
    }
    clients::test()?;
    sdks::test()
}
