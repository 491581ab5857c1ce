//! OpenBao 2.4, which speaks Vault's API; built from its Go module once and kept in the target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use super::{
    Server, Started,
    place::{Place, answers},
    user::User,
};
use crate::repo;

pub(super) const SERVER: Server = Server {
    name: "openbao",
    package: None,
    start,
};

/// Version 2.4.0 by its commit: the module proxy refuses the plain version.
const VERSION: &str = "v0.0.0-20250828202315-f9407a27fbee";

/// A first build on a machine that compiles our own code too.
const BUILD: Duration = Duration::from_secs(20 * 60);

const MAIN: &str = r#"package main

import (
	"os"

	"github.com/openbao/openbao/command"
)

func main() { os.Exit(command.Run(os.Args[1:])) }
"#;

fn start(place: &Place) -> anyhow::Result<Started> {
    let program = program(place)?;
    let user = User::unprivileged("nobody")?;
    let folder = place.folder("openbao", &user)?;
    // The target directory may be out of another user's reach.
    let copy = folder.join("bao");
    fs::copy(&program, &copy).context("copy bao")?;
    user.own(&copy)?;
    let [port] = outrigger_test_ports::free()?;
    let mut process = place.launch(
        "openbao",
        user.command(&copy)
            .current_dir(&folder)
            .env("HOME", &folder)
            .args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"])
            .arg(format!("-dev-listen-address=127.0.0.1:{port}")),
        "INT",
    )?;
    let question = b"GET /v1/sys/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    process.until_ready(|| answers(port, question, " 200 "))?;
    Ok(Started {
        processes: vec![process],
        variables: vec![("OUTRIGGER_TEST_VAULT", format!("http://127.0.0.1:{port}"))],
    })
}

/// The program, built when it is not there yet.
fn program(place: &Place) -> anyhow::Result<PathBuf> {
    let home = repo::target().join("services").join("openbao-2.4.0");
    let program = home.join("bao");
    if program.is_file() {
        return Ok(program);
    }
    let go = go().context("bao is not built, and Go is not here")?;
    let built = build(place, &go)?;
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    // Two runs may build at the same time; each brings a whole program.
    let copy = home.join(format!("bao-{}", std::process::id()));
    fs::copy(built, &copy).context("keep bao")?;
    fs::rename(copy, &program).context("keep bao")?;
    Ok(program)
}

fn build(place: &Place, go: &Path) -> anyhow::Result<PathBuf> {
    eprintln!("services: building openbao with go, once, three minutes on idle cores");
    let ourselves = User::current();
    let scratch = place.folder("openbao-build", &ourselves)?;
    fs::write(scratch.join("main.go"), MAIN)?;
    fs::write(
        scratch.join("go.mod"),
        format!("module scratch\n\ngo 1.24\n\nrequire github.com/openbao/openbao {VERSION}\n"),
    )?;
    // Behind the compilers of our own code, which somebody waits for.
    let mut process = place.launch(
        "go-build",
        ourselves
            .command("nice")
            .arg(go)
            .args([
                "build",
                "-mod=mod",
                "-trimpath",
                "-ldflags=-s -w",
                "-o",
                "bao",
                ".",
            ])
            .current_dir(&scratch)
            // The checksum database does not answer for this module everywhere.
            .env("GOSUMDB", "off")
            .env("CGO_ENABLED", "0"),
        "KILL",
    )?;
    process.until_done(BUILD)?;
    Ok(scratch.join("bao"))
}

fn go() -> Option<PathBuf> {
    repo::which("go").or_else(|| {
        let usual = PathBuf::from("/usr/local/go/bin/go");
        usual.is_file().then_some(usual)
    })
}
