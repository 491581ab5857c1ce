//! The developer's tool: one verb per file. `cargo xtask` alone lists the verbs.
//!
//! It must compile in seconds, because it is built first on a fresh clone: the standard library, `anyhow` and
//! `serde_json`, no async runtime. Work that needs one (load generation) is a program of its own, `tests/load`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command line without an executor: it talks on stdout and may block its thread"
)]

use std::process::ExitCode;

mod args;
mod bench;
mod chaos;
mod clients;
mod conformance;
mod contrib;
mod dist;
mod docs;
mod house;
mod images;
mod market;
mod newcomer;
mod node;
mod process;
mod python;
mod repo;
mod scale;
mod sdks;
mod services;
mod setup;
mod test;
mod todo;

use args::Args;

/// A verb: its name, what it does, and the function that does it.
type Verb = (&'static str, &'static str, fn(Args) -> anyhow::Result<()>);

const VERBS: &[Verb] = &[
    (
        "setup",
        "check the tools this repository uses and say how to get the missing ones",
        setup::run,
    ),
    (
        "todo",
        "build quickly and run the todo app on embedded defaults",
        todo::run,
    ),
    (
        "market",
        "build quickly and run the market data pipeline on embedded defaults",
        market::run,
    ),
    (
        "test",
        "house rules, every crate's tests beside real servers, the Python example, other makers' clients [--no-services] \
         [--no-python] [--no-clients] [-- cargo test args]",
        test::run,
    ),
    (
        "services",
        "run Redis, PostgreSQL, RabbitMQ and OpenBao for tests until Ctrl-C, or as long as a command [--only A,B] [-- CMD…]",
        services::run,
    ),
    ("example", "only the Python example's test", python::run),
    (
        "clients",
        "run the SDKs of Dapr, as published, beside our sidecars [--only python,python-1.14,node,rust] [--daprd PATH] [--profile P]",
        clients::run,
    ),
    (
        "sdks",
        "check, generate and test the clients of the platform services [--check] [--write] [--test] [--gateway] \
         [--only rust,python,typescript,csharp]",
        sdks::run,
    ),
    (
        "house",
        "layers, file lengths, links and tests named by requirements only",
        house::run,
    ),
    (
        "docs",
        "build the API documentation with warnings denied and check the book's links",
        docs::run,
    ),
    (
        "bench",
        "measure beside a reference daprd, write docs/performance.md (see docs/performance.md for the flags)",
        bench::run,
    ),
    (
        "chaos",
        "kill, restart and reload under load; write docs/zero-loss.md [--rounds N] [--rate N] [--brokers L] [--faults L]",
        chaos::run,
    ),
    (
        "scale",
        "1 → 10 → 50 → 10 → 1 instances under load, state under faults; write docs/scale.md [--resolver R] [--seconds S] \
         [--rounds N] [--profile P] [--ours PATH]",
        scale::run,
    ),
    (
        "conformance",
        "run the peer's integration suite, write docs/conformance.md [--stage N] [--focus RE] [--runs N] [--daprd PATH]",
        conformance::run,
    ),
    (
        "contrib",
        "run upstream's component conformance cases on our components, write docs/contrib-conformance.md [--component NAME] [--control] [--no-services]",
        contrib::run,
    ),
    (
        "dist",
        "build the release archive and follow the README with it, timed [--profile P]",
        dist::run,
    ),
    (
        "images",
        "build static programs and an OCI image of each service, and check them [--profile P] [--base IMAGE]",
        images::run,
    ),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some((_, _, run)) = VERBS.iter().find(|(verb, _, _)| *verb == name) else {
        println!("usage: cargo xtask <verb> [flags]\n");
        for (verb, about, _) in VERBS {
            println!("  {verb:<12} {about}");
        }
        return if matches!(name.as_str(), "" | "help" | "--help" | "-h") {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        };
    };
    match run(Args::new(arguments.collect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
