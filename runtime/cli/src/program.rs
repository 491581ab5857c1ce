//! Which program a command line means.

use std::{ffi::OsString, path::Path, process::ExitCode};

use outrigger_types::Environment;

use crate::{daprd, exec, guard, run, verbs};

/// First argument of the second start of `run --detach`.
pub(crate) const DETACHED: &str = "__detached";

/// The programs this binary can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The sidecar: `outrigger daprd …`, or a link named `daprd`.
    Daprd,
    /// The command line: everything else, a link named `dapr` among it.
    Outrigger,
    /// `outrigger __exec …`, internal: ties a process to the command line that started it.
    Exec,
    /// `outrigger __detached …`, internal: the command line again, away from the terminal, for `run --detach`.
    Detached,
    /// `outrigger __guard`, internal: ends what a killed command line left.
    Guard,
}

impl Program {
    /// Reads the program from its name and first argument; gives it and its own arguments.
    #[must_use]
    pub fn of(args: &[String]) -> (Self, &[String]) {
        let rest = args.get(1..).unwrap_or_default();
        if base(args) == "daprd" {
            return (Self::Daprd, rest);
        }
        match rest.first().map(String::as_str) {
            Some("daprd") => (Self::Daprd, &rest[1..]),
            Some("__exec") => (Self::Exec, &rest[1..]),
            Some(DETACHED) => (Self::Detached, &rest[1..]),
            Some("__guard") => (Self::Guard, &rest[1..]),
            _ => (Self::Outrigger, rest),
        }
    }
}

fn environment() -> Environment {
    let variables = std::env::vars_os();
    let texts =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Environment::from_pairs(texts)
}

/// The name that the program was called by, without its folder.
fn base(args: &[String]) -> String {
    let name = Path::new(args.first().map_or("", String::as_str)).file_name();
    name.and_then(|name| name.to_str()).unwrap_or("").to_owned()
}

/// Runs the program that the arguments mean. Arguments and environment are taken here, once.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let all: Vec<String> = args
        .into_iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    match Program::of(&all) {
        (Program::Daprd, args) => {
            // `list`, ours and Dapr's, looks for processes of this name, however the program's file is called.
            let _ = std::fs::write("/proc/self/comm", "daprd");
            daprd::main(args)
        }
        (Program::Exec, args) => exec::main(args),
        (Program::Guard, _) => guard::main(),
        (Program::Detached, args) => {
            if let Err(error) = run::leave_the_terminal() {
                eprintln!("cannot leave the terminal: {error}");
                return ExitCode::FAILURE;
            }
            verbs::main(&base(&all), args, environment(), true)
        }
        (Program::Outrigger, args) => verbs::main(&base(&all), args, environment(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_or_the_first_argument_decides() {
        let args = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let daprd = args(&["/usr/local/bin/daprd", "--app-id", "a"]);
        assert_eq!(Program::of(&daprd), (Program::Daprd, &daprd[1..]));
        let verb = args(&["outrigger", "daprd", "--app-id", "a"]);
        assert_eq!(Program::of(&verb), (Program::Daprd, &verb[2..]));
        let dapr = args(&["/usr/bin/dapr", "list"]);
        assert_eq!(Program::of(&dapr), (Program::Outrigger, &dapr[1..]));
        let run = args(&["outrigger", "run"]);
        assert_eq!(Program::of(&run), (Program::Outrigger, &run[1..]));
    }
}
