//! The Python example's own test, in a virtual environment of its own.

use std::{path::Path, process::Command};

use crate::{args::Args, repo};

const EXAMPLE: &str = "examples/python-fastapi";

/// Only this test.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    args.finish()?;
    test()
}

/// Runs the example's test against the built program; skips, saying why, where Python or its packages cannot be had.
pub(crate) fn test() -> anyhow::Result<()> {
    let example = repo::root().join(EXAMPLE);
    let venv = repo::target().join("venv-python-fastapi");
    if let Err(reason) = prepare(&example.join("requirements.txt"), &venv) {
        println!("==> {EXAMPLE}: skipped: {reason}");
        return Ok(());
    }
    let programs = repo::build("dev", &["outrigger"])?;
    repo::step(
        EXAMPLE,
        Command::new(venv.join("bin/python"))
            .arg("test_example.py")
            .current_dir(&example)
            .env("OUTRIGGER", programs.join("outrigger"))
            .env("PATH", prepend(&venv.join("bin"))),
    )
}

/// Makes the environment once from a list of packages; a reason when it cannot be had.
pub(crate) fn prepare(requirements: &Path, venv: &Path) -> Result<(), String> {
    if repo::which("python3").is_none() {
        return Err("python3 is not here (apt-get install python3 python3-venv)".to_owned());
    }
    let name = requirements.file_name().unwrap_or_default().display();
    let wanted = std::fs::read_to_string(requirements).map_err(|error| format!("{name}: {error}"))?;
    let stamp = venv.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let made = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(venv)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return Err("python3 -m venv fails (apt-get install python3-venv)".to_owned());
    }
    let installed = Command::new(venv.join("bin/python"))
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(requirements)
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        return Err(format!("pip cannot install the packages of {name} here"));
    }
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

fn prepend(folder: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path)))
        .unwrap_or(path)
}
