//! PostgreSQL 15 (or what is installed), with a password, never as root: it refuses that.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context, bail};

use super::{Server, Started, packages::Package, place::Place, user::User};
use crate::repo;

pub(super) const SERVER: Server = Server {
    name: "postgres",
    package: Some(Package {
        name: "postgresql-15",
        present: || programs().is_some(),
    }),
    start,
};

/// The folder of the newest version's programs; Debian keeps them off the path.
fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("initdb").is_file())
        .max();
    match debian {
        Some((_, folder)) => Some(folder),
        None => Some(repo::which("initdb")?.parent()?.to_owned()),
    }
}

fn start(place: &Place) -> anyhow::Result<Started> {
    let programs = programs().context("PostgreSQL is not here")?;
    let user = User::unprivileged("postgres")?;
    let folder = place.folder("postgres", &user)?;
    let data = folder.join("data");
    let password = folder.join("password");
    fs::write(&password, "outrigger\n")?;
    user.own(&password)?;
    let made = user
        .command(programs.join("initdb"))
        .current_dir(&folder)
        .arg("--pgdata")
        .arg(&data)
        .arg("--pwfile")
        .arg(&password)
        .args(["--username=outrigger", "--auth=scram-sha-256", "--encoding=UTF8"])
        .args(["--locale=C", "--no-sync"])
        .stdin(Stdio::null())
        .output()?;
    if !made.status.success() {
        bail!(
            "initdb, {}: {}",
            made.status,
            String::from_utf8_lossy(&made.stderr).trim()
        );
    }
    let [port] = outrigger_test_ports::free()?;
    let mut process = place.launch(
        "postgres",
        user.command(programs.join("postgres"))
            .current_dir(&folder)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            // Test data need not outlive a crash of the machine.
            .args(["-c", "fsync=off", "-c", "max_connections=200"])
            .args(["-c", "shared_buffers=32MB"]),
        // A fast shutdown: it does not wait for clients.
        "INT",
    )?;
    let ready = programs.join("pg_isready");
    process.until_ready(|| {
        user.command(&ready)
            .current_dir(&folder)
            .args(["-q", "-h", "127.0.0.1", "-d", "postgres", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })?;
    Ok(Started {
        processes: vec![process],
        variables: vec![(
            "OUTRIGGER_TEST_POSTGRES",
            format!("postgres://outrigger:outrigger@127.0.0.1:{port}/postgres"),
        )],
    })
}
