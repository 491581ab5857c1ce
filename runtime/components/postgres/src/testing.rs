//! Servers for the tests of this crate.
//!
//! `OUTRIGGER_TEST_POSTGRES` names a server (a `postgres://` URL of a user that may create schemas); tests that need
//! one say so and are left out where there is none. Tests that stop and start a server run one of their own, where
//! its programs are found.

#![allow(clippy::print_stderr, reason = "a test says why it leaves something out")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// The server of the environment; without one the test is left out and says so.
pub(crate) fn url(test: &str) -> Option<String> {
    let url = std::env::var("OUTRIGGER_TEST_POSTGRES")
        .ok()
        .filter(|url| !url.is_empty());
    if url.is_none() {
        eprintln!("skipped {test}: OUTRIGGER_TEST_POSTGRES names no server");
    }
    url
}

/// A connection beside the component, as another program has it.
pub(crate) async fn peer(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// An empty schema of this name, and the URL of a session in it.
pub(crate) async fn schema(url: &str, name: &str) -> String {
    let name = format!("{name}_{}", std::process::id());
    peer(url)
        .await
        .batch_execute(&format!(
            "SET client_min_messages = warning; DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}"
        ))
        .await
        .unwrap();
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-csearch_path%3D{name}")
}

/// Removes what [`schema`] made.
pub(crate) async fn drop_schema(url: &str, name: &str) {
    let name = format!("{name}_{}", std::process::id());
    peer(url)
        .await
        .batch_execute(&format!(
            "SET client_min_messages = warning; DROP SCHEMA {name} CASCADE"
        ))
        .await
        .unwrap();
}

/// A server of a test's own; stopped when dropped.
pub(crate) struct Server {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Server {
    /// Makes and starts one; without its programs the test is left out and says so.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped {test}: the programs of a PostgreSQL server are not installed");
            return None;
        };
        let server = Self {
            programs,
            folder: TempDir::new().unwrap(),
            port: std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port(),
        };
        if is_root() {
            let owner =
                uid("postgres").expect("the server does not run as root, and there is no user postgres");
            std::os::unix::fs::chown(server.folder.path(), Some(owner), None).unwrap();
        }
        server.run(
            "initdb",
            &["-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync"],
        );
        server.up();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The folder of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Puts a file only the server may read beside its data, and answers its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&path, uid("postgres"), None).unwrap();
        }
        path
    }

    /// Adds to the server's configuration and starts it anew.
    pub(crate) fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + lines).unwrap();
        self.down();
        self.up();
    }

    /// Starts it and waits until it serves.
    pub(crate) fn up(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off",
            self.port,
            self.folder.path().display()
        );
        let log = self.folder.path().join("log");
        self.run(
            "pg_ctl",
            &["-w", "-o", &options, "-l", log.to_str().unwrap(), "start"],
        );
    }

    /// Stops it, its clients' connections with it, and waits until it has gone.
    pub(crate) fn down(&self) {
        self.run("pg_ctl", &["-w", "-m", "fast", "stop"]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.command(program, arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args([
                    "--reuid",
                    "postgres",
                    "--regid",
                    "postgres",
                    "--clear-groups",
                    "--",
                ])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .arg("-D")
            .arg(self.data())
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self
            .command("pg_ctl", &["-w", "-m", "immediate", "stop"])
            .status();
    }
}

/// Where Debian and others put the programs; several versions side by side.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|folder| is_program(&folder.join("initdb")))
        .collect();
    found.sort();
    found.pop()
}

fn is_program(path: &Path) -> bool {
    path.is_file()
}

fn uid(user: &str) -> Option<u32> {
    let output = Command::new("id").args(["-u", user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.starts_with(b"0"))
}
