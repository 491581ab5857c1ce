//! The verbs of `outrigger` and what they share.

mod audit;
mod component;
mod list;
mod logs;
mod stop;
mod version;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};
use outrigger_types::Environment;

use crate::{
    console::{Console, Status},
    folders::Folders,
    run,
};

const EXAMPLES: &str = "\
Examples:
  outrigger run --app-id orders --app-port 3000 -- node app.js
  outrigger run -f dapr.yaml
  outrigger list
  outrigger logs --app-id orders --follow
  outrigger stop --app-id orders
  outrigger component serve state.sqlite
  outrigger daprd --app-id orders --app-port 3000";

/// A distributed application runtime: sidecar, control plane and command line in one program
#[derive(Debug, Parser)]
#[command(name = "outrigger", disable_version_flag = true, after_help = EXAMPLES)]
struct Cli {
    /// Print the versions
    #[arg(short = 'v', long)]
    version: bool,
    /// Print status lines and the sidecars' logs as JSON
    #[arg(long, global = true)]
    log_as_json: bool,
    /// Folder that holds the `.dapr` folder, instead of the home folder
    #[arg(long, global = true)]
    runtime_path: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<run::RunFlags>),
    Stop(stop::StopFlags),
    List(list::ListFlags),
    Logs(logs::LogsFlags),
    Component(component::ComponentFlags),
    Version(version::VersionFlags),
    Audit(audit::AuditFlags),
}

/// What a verb knows of the world; read once.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) environment: Environment,
    pub(crate) folders: Folders,
    pub(crate) working_dir: PathBuf,
    pub(crate) console: Console,
    /// `--runtime-path`.
    pub(crate) runtime_path: Option<PathBuf>,
}

/// Runs the verb that the arguments name. Usage errors leave with 2, failures with 1.
pub(crate) fn main(args: &[String], environment: Environment) -> ExitCode {
    let cli = match Cli::try_parse_from(std::iter::once("outrigger").chain(args.iter().map(String::as_str))) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let console = Console::new(cli.log_as_json, &environment);
    match answer(cli, environment, console) {
        Ok(code) => code,
        Err(error) => {
            console.say(Status::Failure, &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn answer(cli: Cli, environment: Environment, console: Console) -> Result<ExitCode> {
    let verb = match cli.verb {
        _ if cli.version => Verb::Version(version::VersionFlags::default()),
        Some(verb) => verb,
        None => {
            Cli::command().print_help().context("cannot print the help")?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if let Verb::Version(flags) = &verb {
        return version::main(flags, environment.non_empty("OUTRIGGER_DAPRD").map(Path::new));
    }
    let around = Surroundings {
        folders: Folders::of(&environment, rustix::process::getuid().as_raw())?,
        working_dir: std::env::current_dir().context("cannot tell the working folder")?,
        environment,
        console,
        runtime_path: cli.runtime_path,
    };
    match verb {
        Verb::Run(flags) => run::main(*flags, &around),
        Verb::Stop(flags) => stop::main(&flags, &around),
        Verb::List(flags) => list::main(&flags, &around),
        Verb::Logs(flags) => logs::main(&flags, &around),
        Verb::Component(flags) => component::main(flags, &around),
        Verb::Version(flags) => version::main(&flags, None),
        Verb::Audit(flags) => audit::main(&flags, &around),
    }
}

/// Runs a short asynchronous verb.
fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

/// The only output format some verbs know beside text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum JsonOutput {
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_follows_the_flags_with_or_without_dashes() {
        for line in [
            "outrigger run -a x -p -1 --enable-api-logging=true -- node app.js --port 3",
            "outrigger run -a x --enable-api-logging node app.js --port 3",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(matches!(cli.verb, Some(Verb::Run(_))), "{line}");
        }
        assert!(Cli::try_parse_from(["outrigger", "run", "--restart", "sometimes"]).is_err());
    }
}
