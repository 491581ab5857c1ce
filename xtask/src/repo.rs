//! The repository: its root, its cargo, its build products.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, bail};

/// The root of the repository this program was built from.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The directory of build products.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The cargo that started this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// What is built for every measurement, in one go: alone, each would have the shared crates compiled again with its own
/// choice of features.
pub(crate) const MEASURED: &[&str] = &["outrigger", "outrigger-load"];

/// Builds packages with a profile and gives the directory of their programs.
pub(crate) fn build(profile: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--profile", profile]);
    for package in packages {
        command.args(["--package", package]);
    }
    step(
        &format!("build {} ({profile})", packages.join(", ")),
        &mut command,
    )?;
    Ok(target().join(if profile == "dev" { "debug" } else { profile }))
}

/// Runs a command in the open, under a heading, and fails when it fails.
pub(crate) fn step(heading: &str, command: &mut Command) -> anyhow::Result<()> {
    println!("==> {heading}");
    let started = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("{heading}: {status}");
    }
    println!("    {heading}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// What a command prints on stdout, without the last line end; `None` when it cannot be run or fails.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The target that programs are built for unless another is named, such as `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> anyhow::Result<String> {
    output("rustc", &["-vV"])
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        })
        .context("rustc -vV names no host")
}

/// The program's path on `PATH`.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// The commit that is checked out, short; with `+` when tracked files differ from it.
pub(crate) fn commit() -> String {
    let Some(commit) = output("git", &["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match output("git", &["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}+"),
    }
}

/// Today, in UTC, as `YYYY-MM-DD`.
pub(crate) fn today() -> String {
    output("date", &["-u", "+%Y-%m-%d"]).unwrap_or_else(|| "unknown".to_owned())
}

/// The tracked files, and the new ones that are not ignored, as paths from the root.
pub(crate) fn files() -> anyhow::Result<Vec<PathBuf>> {
    let listed =
        output("git", &["ls-files", "--cached", "--others", "--exclude-standard"]).context("git ls-files")?;
    Ok(listed
        .lines()
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect())
}
