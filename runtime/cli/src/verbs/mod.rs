//! The verbs of `outrigger` and what they share.

mod absent;
mod audit;
mod backup;
mod checksum;
mod cluster;
mod completion;
mod component;
mod components;
mod configurations;
mod doctor;
mod init;
mod invoke;
mod list;
pub(crate) mod logs;
mod mcpservers;
mod payload;
mod publish;
mod state;
mod stop;
mod version;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use outrigger_types::Environment;

use crate::{
    console::{Console, Status},
    folders::Folders,
    run,
    usage::Usage,
};

const EXAMPLES: &str = "\
Examples:
  outrigger run --app-id orders --app-port 3000 -- node app.js
  outrigger run -f dapr.yaml
  outrigger list
  outrigger invoke --app-id orders --method list --verb GET
  outrigger publish --publish-app-id orders --pubsub pubsub --topic placed --data '{\"id\": 7}'
  outrigger logs --app-id orders --follow
  outrigger stop --app-id orders
  outrigger component serve state.sqlite

  # The sidecar alone, with daprd's flags
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

/// The verb table: one file of this folder for each, one line in [`answer`] for each.
#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<run::RunFlags>),
    Stop(stop::StopFlags),
    #[command(visible_alias = "ls")]
    List(list::ListFlags),
    Logs(logs::LogsFlags),
    Component(component::ComponentFlags),
    Invoke(invoke::InvokeFlags),
    Publish(publish::PublishFlags),
    State(state::StateFlags),
    Components(components::ComponentsFlags),
    Configurations(configurations::ConfigurationsFlags),
    #[command(name = "mcpservers")]
    McpServers(mcpservers::McpServersFlags),
    Doctor(doctor::DoctorFlags),
    Audit(audit::AuditFlags),
    Backup(backup::BackupFlags),
    Restore(backup::RestoreFlags),
    Init(init::InitFlags),
    Uninstall(init::UninstallFlags),
    Completion(completion::CompletionFlags),
    Version(version::VersionFlags),
    BuildInfo(version::BuildInfoFlags),
}

/// What a command line asks for.
enum Parsed {
    Served(Box<Cli>),
    /// The answer to a verb that is not there, and whether it is to be JSON.
    Absent(String, bool),
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
    /// What this program was called by: `outrigger` or `dapr`.
    pub(crate) name: &'static str,
    /// The arguments behind that.
    pub(crate) arguments: Vec<String>,
    /// Whether this is the second start of `run --detach`, which does the work.
    pub(crate) detached: bool,
}

/// Runs the verb that the arguments name. Usage errors leave with 2, failures with 1. `name` is what this program was
/// called by; `detached` tells the second start of `run --detach`.
pub(crate) fn main(name: &str, args: &[String], environment: Environment, detached: bool) -> ExitCode {
    let name = if name == DAPR { DAPR } else { OUTRIGGER };
    let words = std::iter::once(name).chain(args.iter().map(String::as_str));
    let parsed = absent::add_to(command(name), name)
        .try_get_matches_from(words)
        .and_then(|matches| match absent::answer(&matches, name) {
            Some(text) => Ok(Parsed::Absent(text, matches.get_flag("log_as_json"))),
            None => Cli::from_arg_matches(&matches).map(|cli| Parsed::Served(Box::new(cli))),
        });
    let cli = match parsed {
        Ok(Parsed::Served(cli)) => *cli,
        Ok(Parsed::Absent(text, json)) => {
            Console::new(json, &environment).say(Status::Failure, &text);
            return ExitCode::FAILURE;
        }
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let console = Console::new(cli.log_as_json, &environment);
    match answer(cli, name, environment, console, (args.to_vec(), detached)) {
        Ok(code) => code,
        Err(error) => {
            console.say(Status::Failure, &format!("{error:#}"));
            if Usage::is_behind(&error) {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The names of the command line: ours, and the one whose place it can take.
const OUTRIGGER: &str = "outrigger";
const DAPR: &str = "dapr";

/// The command as it was called: examples are to be typed, so they bear that name.
fn command(name: &'static str) -> clap::Command {
    fn renamed(command: clap::Command, name: &str) -> clap::Command {
        let examples = command.get_after_help().map(ToString::to_string);
        let command = match examples {
            Some(text) => command.after_help(text.replace("outrigger ", &format!("{name} "))),
            None => command,
        };
        let verbs: Vec<String> = command
            .get_subcommands()
            .map(|verb| verb.get_name().to_owned())
            .collect();
        verbs.into_iter().fold(command, |command, verb| {
            command.mut_subcommand(verb, |verb| renamed(verb, name))
        })
    }
    let command = Cli::command();
    if name == OUTRIGGER {
        return command;
    }
    renamed(command.name(name).bin_name(name), name)
}

fn answer(
    cli: Cli,
    name: &'static str,
    environment: Environment,
    console: Console,
    (arguments, detached): (Vec<String>, bool),
) -> Result<ExitCode> {
    let verb = match cli.verb {
        _ if cli.version => Verb::Version(version::VersionFlags::default()),
        Some(verb) => verb,
        None => {
            command(name).print_help().context("cannot print the help")?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    // Those that need nothing of the world: they work without a home.
    match &verb {
        Verb::Version(flags) => {
            return version::main(flags, environment.non_empty("OUTRIGGER_DAPRD").map(Path::new));
        }
        Verb::BuildInfo(flags) => return version::build_info(flags),
        Verb::Completion(flags) => return completion::main(flags, command(name), name),
        _ => {}
    }
    let around = Surroundings {
        folders: Folders::of(&environment, rustix::process::getuid().as_raw())?,
        working_dir: std::env::current_dir().context("cannot tell the working folder")?,
        environment,
        console,
        runtime_path: cli.runtime_path,
        name,
        arguments,
        detached,
    };
    match verb {
        Verb::Run(flags) => run::main(*flags, &around),
        Verb::Stop(flags) => stop::main(&flags, &around),
        Verb::List(flags) => list::main(&flags, &around),
        Verb::Logs(flags) => logs::main(&flags, &around),
        Verb::Component(flags) => component::main(flags, &around),
        Verb::Audit(flags) => audit::main(&flags, &around),
        Verb::Invoke(flags) => invoke::main(&flags, &around),
        Verb::Publish(flags) => publish::main(&flags, &around),
        Verb::State(flags) => state::main(&flags, &around),
        Verb::Components(flags) => components::main(&flags, &around),
        Verb::Configurations(flags) => configurations::main(&flags, &around),
        Verb::McpServers(flags) => mcpservers::main(&flags, &around),
        Verb::Doctor(flags) => doctor::main(&flags, &around),
        Verb::Backup(flags) => backup::backup(&flags, &around),
        Verb::Restore(flags) => backup::restore(&flags, &around),
        Verb::Init(flags) => init::init(&flags, &around),
        Verb::Uninstall(flags) => init::uninstall(&flags, &around),
        Verb::Version(_) | Verb::BuildInfo(_) | Verb::Completion(_) => Ok(ExitCode::SUCCESS),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        for name in [OUTRIGGER, DAPR] {
            absent::add_to(command(name), name).debug_assert();
        }
    }

    #[test]
    fn every_verb_has_examples_under_the_name_it_was_called_by() {
        fn check(command: &clap::Command, name: &str, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("Examples:") && help.contains(&format!("{name} ")),
                "{path}"
            );
            assert!(
                name == OUTRIGGER || !help.contains("outrigger "),
                "{path}: {help}"
            );
            command
                .get_subcommands()
                .for_each(|verb| check(verb, name, &path));
        }
        for name in [OUTRIGGER, DAPR] {
            check(&absent::add_to(command(name), name), name, "");
        }
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
