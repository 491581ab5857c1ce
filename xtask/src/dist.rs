//! The release archive: one program, its licence, its README, the todo app to try it on; debug symbols apart.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use anyhow::Context;

use crate::{args::Args, newcomer, repo};

/// The names under which the program acts as one of Dapr's: links in the archive.
const LINKS: &[&str] = &["daprd"];

/// Builds `target/dist/outrigger-<version>-<host>.tar.gz` and its symbols beside it.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let profile = args.value("--profile")?.unwrap_or_else(|| "release".to_owned());
    args.finish()?;
    // What is shipped is what was measured.
    let programs = repo::build(&profile, repo::MEASURED)?;
    let version = version()?;
    let host = repo::host()?;
    let name = format!("outrigger-{version}-{host}");
    let dist = repo::target().join("dist");
    let staged = dist.join(&name);
    if staged.exists() {
        fs::remove_dir_all(&staged).with_context(|| format!("clear {}", staged.display()))?;
    }
    fs::create_dir_all(&staged).with_context(|| format!("create {}", staged.display()))?;
    let program = staged.join("outrigger");
    fs::copy(programs.join("outrigger"), &program).context("copy the program")?;
    split_symbols(&program, &dist.join(format!("{name}.debug")))?;
    for link in LINKS {
        symlink("outrigger", staged.join(link)).with_context(|| format!("link {link}"))?;
    }
    for file in ["LICENSE", "README.md", "CHANGELOG.md"] {
        fs::copy(repo::root().join(file), staged.join(file)).with_context(|| format!("copy {file}"))?;
    }
    pack_todo(
        &profile,
        &staged.join("todo"),
        &dist.join(format!("{name}-todo.debug")),
    )?;
    let archive = dist.join(format!("{name}.tar.gz"));
    repo::step(
        "tar",
        Command::new("tar")
            // The same tree gives the same archive: order, owner and times do not depend on the machine.
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mtime=@0",
                "-czf",
            ])
            .arg(&archive)
            .arg("-C")
            .arg(&dist)
            .arg(&name),
    )?;
    println!("  program {:>7.1} MB", megabytes(&program)?);
    println!(
        "  archive {:>7.1} MB  {}",
        megabytes(&archive)?,
        archive.display()
    );
    newcomer::follow(&archive)
}

/// The reference app, so that `outrigger run -f todo` in the unpacked folder shows something: no compiler, no network.
fn pack_todo(profile: &str, folder: &Path, symbols: &Path) -> anyhow::Result<()> {
    // A build of its own: in the same one it could change the features of what was measured.
    let programs = repo::build(profile, &["outrigger-todo"])?;
    let source = repo::root().join("apps/todo");
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to)
            .map(drop)
            .with_context(|| format!("copy {}", from.display()))
    };
    fs::create_dir_all(folder.join("resources")).with_context(|| format!("create {}", folder.display()))?;
    for file in ["dapr.yaml", "todo.sh"] {
        copy(&source.join(file), &folder.join(file))?;
    }
    for entry in fs::read_dir(source.join("resources")).context("read the todo app's resources")? {
        let from = entry.context("read the todo app's resources")?.path();
        if let Some(file) = from.file_name() {
            copy(&from, &folder.join("resources").join(file))?;
        }
    }
    // Where the components keep their databases; a checkout has it too.
    fs::create_dir_all(folder.join("data")).context("make the todo app's data folder")?;
    let program = folder.join("todo");
    copy(&programs.join("todo"), &program)?;
    split_symbols(&program, symbols)
}

/// Moves the debug symbols into a file of their own, which debuggers find by the link left behind.
fn split_symbols(program: &Path, symbols: &Path) -> anyhow::Result<()> {
    if repo::which("objcopy").is_none() {
        println!("  symbols stay in the program: objcopy is not here (apt-get install binutils)");
        return Ok(());
    }
    let mut keep = Command::new("objcopy");
    keep.arg("--only-keep-debug").arg(program).arg(symbols);
    repo::step("split symbols", &mut keep)?;
    let mut strip = Command::new("objcopy");
    strip
        .arg("--strip-all")
        .arg(format!("--add-gnu-debuglink={}", symbols.display()))
        .arg(program);
    repo::step("strip", &mut strip)
}

/// The workspace's version, from the root manifest.
fn version() -> anyhow::Result<String> {
    let manifest = fs::read_to_string(repo::root().join("Cargo.toml")).context("read Cargo.toml")?;
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[workspace.package]")
        .find_map(|line| line.strip_prefix("version = "))
        .map(|text| text.trim().trim_matches('"').to_owned())
        .context("Cargo.toml names no version in [workspace.package]")
}

fn megabytes(path: &Path) -> anyhow::Result<f64> {
    Ok(fs::metadata(path)
        .with_context(|| path.display().to_string())?
        .len() as f64
        / 1e6)
}
