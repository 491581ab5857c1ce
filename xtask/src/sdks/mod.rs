//! The packages of the platform services' clients, below `sdks/` (requirements E2.1 to E2.10, J5).
//!
//! `--check`: every case has its test in every language (`cases.rs`), every package the version of the contract, and
//! generated code is what the contracts give. `--write` writes the latter. `--test` runs the tests of each language whose
//! tools can be had, and prints how many there were; with `--gateway` beside a real gateway and its sidecar. Without either:
//! `--check`, then `--test`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

use crate::{args::Args, bench::guard::Guard, house, node, python, repo};

mod cases;
mod gateway;
mod versions;

/// Where the packages live, below the root.
const SDKS: &str = "sdks";
/// The compiler of FlatBuffers that the checked-in code is of: that of the `flatbuffers` crate.
const FLATC: &str = "flatc version 25.12.19";
/// The compiler that the checked-in C# is of.
const PROTOC: &str = "libprotoc 3.21.12";

/// How a language's tests are run; what is printed is `Err` when they cannot be.
type Run = fn() -> Result<Command, String>;
/// Finds how many tests passed, failed and were skipped in what they print.
type Count = fn(&str) -> Option<Tally>;

const LANGUAGES: &[(&str, Run, Count)] = &[
    ("rust", run_rust, count_rust),
    ("python", run_python, count_python),
    ("typescript", run_typescript, count_typescript),
    ("csharp", run_csharp, count_csharp),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// `--check`, `--write`, `--test`, `--gateway`, `--only LIST`.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let check_flag = args.switch("--check");
    let write = args.switch("--write");
    let test_flag = args.switch("--test");
    let with_gateway = args.switch("--gateway");
    let only = args.value("--only")?;
    args.finish()?;
    let chosen: Vec<_> = match &only {
        None => LANGUAGES.iter().collect(),
        Some(only) => only
            .split(',')
            .map(|name| {
                LANGUAGES
                    .iter()
                    .find(|(language, _, _)| *language == name)
                    .with_context(|| format!("--only {name}: no such language"))
            })
            .collect::<anyhow::Result<_>>()?,
    };
    let all = !check_flag && !write && !test_flag;
    if write {
        generate(true)?;
    }
    if check_flag || all {
        check()?;
    }
    if test_flag || all {
        run_tests(&chosen, with_gateway)?;
    }
    Ok(())
}

/// What `cargo xtask test` runs: everything but the Rust tests, which are in the workspace.
pub(crate) fn test() -> anyhow::Result<()> {
    check()?;
    let chosen: Vec<_> = LANGUAGES.iter().filter(|(name, _, _)| *name != "rust").collect();
    run_tests(&chosen, false)
}

fn check() -> anyhow::Result<()> {
    house::report("every case has its test in every language", &cases::faults()?)?;
    house::report("every package has the contract's version", &versions::faults()?)?;
    generate(false)
}

/// Runs `generate.py`; languages whose compilers are not here are left out, with the reason.
fn generate(write: bool) -> anyhow::Result<()> {
    println!("==> {SDKS}: generated code");
    let folder = repo::root().join(SDKS);
    let python = match prepare_python() {
        Ok(python) => python,
        Err(reason) => {
            println!("    skipped: {reason}");
            return Ok(());
        }
    };
    let mut command = Command::new(python);
    command
        .arg("generate.py")
        .current_dir(&folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    if write {
        command.arg("--write");
    }
    match node::prepare(&folder.join("typescript")) {
        Ok(()) => {
            command
                .arg("--protoc-gen-es")
                .arg(folder.join("typescript/node_modules/.bin/protoc-gen-es"));
        }
        Err(reason) => println!("    typescript: skipped: {reason}"),
    }
    match csharp_compilers() {
        Ok([protoc, plugin]) => {
            command.arg("--csharp").arg(protoc).arg(plugin);
        }
        Err(reason) => println!("    csharp: skipped: {reason}"),
    }
    match tool("flatc", FLATC) {
        Ok(flatc) => {
            command.arg("--flatc").arg(flatc);
        }
        Err(reason) => println!("    flatbuffers: skipped: {reason}"),
    }
    let status = command.status().context("generate.py")?;
    ensure!(
        status.success(),
        "generated code differs from the contracts: `cargo xtask sdks --write` writes it"
    );
    Ok(())
}

/// A program on `PATH` of exactly this version: another one generates other text.
fn tool(name: &str, version: &str) -> Result<PathBuf, String> {
    let path = repo::which(name).ok_or_else(|| format!("{name} is not here; wanted: {version}"))?;
    let found = repo::output(&path.to_string_lossy(), &["--version"]).unwrap_or_default();
    if found != version {
        return Err(format!("{name} is {found:?}; wanted: {version}"));
    }
    Ok(path)
}

fn csharp_compilers() -> Result<[PathBuf; 2], String> {
    let protoc = tool("protoc", PROTOC)?;
    let plugin = repo::which("grpc_csharp_plugin").ok_or("grpc_csharp_plugin is not here")?;
    Ok([protoc, plugin])
}

/// The interpreter of an environment with what the packages need.
fn prepare_python() -> Result<PathBuf, String> {
    let venv = repo::target().join("venv-sdks");
    python::prepare(&repo::root().join(SDKS).join("python/requirements.txt"), &venv)?;
    Ok(venv.join("bin/python"))
}

fn run_tests(languages: &[&(&str, Run, Count)], with_gateway: bool) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    let guard = Guard::start()?;
    let gateway = with_gateway
        .then(|| gateway::Gateway::start(&guard))
        .transpose()?;
    for (name, prepare, count) in languages {
        println!("==> {SDKS}: {name}");
        let mut command = match prepare() {
            Ok(command) => command,
            Err(reason) => {
                println!("    skipped: {reason}");
                lines.push(format!("| {name} | - | - | all: {reason} |"));
                continue;
            }
        };
        let output = command
            .envs(
                gateway
                    .iter()
                    .flat_map(|gateway| gateway.variables.iter().cloned()),
            )
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let tally = count(&text);
        if !output.status.success() || tally.is_none_or(|tally| tally.failed > 0 || tally.passed == 0) {
            println!("{text}");
            failed.push(*name);
        }
        for line in text.lines().filter(|line| says_why(line)) {
            println!("    {}", line.trim());
        }
        let tally = tally.unwrap_or_default();
        lines.push(format!(
            "| {name} | {} | {} | {} |",
            tally.passed, tally.failed, tally.skipped
        ));
    }
    println!("| language | passed | failed | skipped |\n| --- | ---: | ---: | --- |");
    for line in lines {
        println!("{line}");
    }
    if !failed.is_empty() {
        bail!("tests failed: {}", failed.join(", "));
    }
    Ok(())
}

/// A runner's line about a skipped test.
fn says_why(line: &str) -> bool {
    line.starts_with("skipped: ") || line.starts_with("SKIPPED ") || line.contains(" # SKIP ")
}

fn run_rust() -> Result<Command, String> {
    let mut command = repo::cargo();
    command.args(["test", "--locked", "--no-fail-fast"]);
    for package in [
        "outrigger-platform-client",
        "outrigger-platform-core",
        "outrigger-platform-flatbuffers",
    ] {
        command.args(["--package", package]);
    }
    command.args(["--", "--show-output"]);
    Ok(command)
}

fn run_python() -> Result<Command, String> {
    let mut command = Command::new(prepare_python()?);
    command
        .args(["-m", "pytest", "-rs"])
        .current_dir(repo::root().join(SDKS).join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

fn run_typescript() -> Result<Command, String> {
    let folder = repo::root().join(SDKS).join("typescript");
    node::prepare(&folder)?;
    let built = Command::new("node")
        .args(["node_modules/typescript/bin/tsc", "--build"])
        .current_dir(&folder)
        .status();
    if !built.is_ok_and(|status| status.success()) {
        // No reason to skip: the tools are here, the packages do not compile.
        println!("    the packages do not compile");
        return Ok(Command::new("false"));
    }
    let mut command = Command::new("node");
    command
        .args(["--test", "--test-reporter=tap"])
        .args(tests(&folder.join("build/tests")))
        .current_dir(&folder);
    Ok(command)
}

/// The compiled test files of a folder.
fn tests(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".test.js"))
        .collect();
    files.sort();
    files
}

fn run_csharp() -> Result<Command, String> {
    if repo::which("dotnet").is_none() {
        return Err("dotnet is not here (.NET SDK 8)".to_owned());
    }
    let mut command = Command::new("dotnet");
    command
        .args(["build", "Virtufin.sln", "--nologo", "-warnaserror"])
        .current_dir(repo::root().join(SDKS).join("csharp"));
    Ok(command)
}

/// Sums `test result: ok. 3 passed; 0 failed; 1 ignored; …`; a test that has passed without its server says `skipped: …`.
fn count_rust(text: &str) -> Option<Tally> {
    let mut tally = Tally::default();
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        tally.passed += before(line, " passed")?;
        tally.failed += before(line, " failed")?;
        tally.skipped += before(line, " ignored")?;
    }
    let skipped = text.lines().filter(|line| line.starts_with("skipped: ")).count();
    let skipped = u32::try_from(skipped).ok()?;
    tally.passed = tally.passed.checked_sub(skipped)?;
    tally.skipped += skipped;
    Some(tally)
}

/// Reads `78 passed, 4 skipped in 1.03s`.
fn count_python(text: &str) -> Option<Tally> {
    let line = text.lines().rev().find(|line| line.contains(" in "))?;
    Some(Tally {
        passed: before(line, " passed").unwrap_or(0),
        failed: before(line, " failed").unwrap_or(0) + before(line, " error").unwrap_or(0),
        skipped: before(line, " skipped").unwrap_or(0),
    })
}

/// Reads `# pass 3`, `# fail 0`, `# skipped 0`.
fn count_typescript(text: &str) -> Option<Tally> {
    let number = |name: &str| {
        let line = text.lines().rev().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some(Tally {
        passed: number("# pass ")?,
        failed: number("# fail ")?,
        skipped: number("# skipped ")?,
    })
}

/// A build counts as one.
fn count_csharp(text: &str) -> Option<Tally> {
    text.contains("Build succeeded").then_some(Tally {
        passed: 1,
        ..Tally::default()
    })
}

/// The number in front of a word.
fn before(line: &str, word: &str) -> Option<u32> {
    let end = line.find(word)?;
    line[..end].rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_test_runners_print_is_counted() {
        let tally = |passed, failed, skipped| {
            Some(Tally {
                passed,
                failed,
                skipped,
            })
        };
        let rust = "skipped: no server\ntest result: ok. 4 passed; 0 failed; 0 ignored; 0 measured\ntest result: FAILED. 2 passed; 1 failed; 0 ignored\n";
        assert_eq!(count_rust(rust), tally(5, 1, 1));
        assert_eq!(
            count_python("...\n1 failed, 78 passed, 4 skipped in 1.03s\n"),
            tally(78, 1, 4)
        );
        assert_eq!(count_python("2 passed in 0.1s"), tally(2, 0, 0));
        assert_eq!(
            count_typescript("# tests 80\n# pass 79\n# fail 0\n# skipped 1\n"),
            tally(79, 0, 1)
        );
        assert_eq!(count_typescript("ok 1\n"), None);
    }
}
