//! Where servers live: a temporary folder, free ports, processes in the guardian's care.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{guardian::Guardian, user::User};

/// Between two looks at a server that is starting.
const POLL: Duration = Duration::from_millis(50);

/// A broker on a machine that compiles at the same time needs most of a minute.
const READY: Duration = Duration::from_secs(120);

/// The folder of one run and who cleans it up.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    pub(super) guardian: Guardian,
}

impl Place {
    pub(super) fn create() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("outrigger-services-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        // Servers that refuse to run as root must reach their own folder in it.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
        let guardian = Guardian::post(&folder)?;
        Ok(Self { folder, guardian })
    }

    /// A new folder of a server, its user's own.
    pub(super) fn folder(&self, name: &str, user: &User) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        user.own(&folder)?;
        Ok(folder)
    }

    /// Starts a program as that user, in the folder that is its home, with its output in a log beside the folder. It
    /// will be asked to leave by `signal`.
    pub(super) fn launch(
        &self,
        name: &'static str,
        command: &mut Command,
        signal: &str,
    ) -> anyhow::Result<Process> {
        let log = self.folder.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let mut process = Process { name, child, log };
        if let Err(error) = self.guardian.watch(process.child.id(), signal) {
            let _ = process.child.kill();
            process.reap();
            return Err(error);
        }
        Ok(process)
    }
}

/// Whether a server answers a question with a text that holds the expected one.
pub(super) fn answers(port: u16, question: &[u8], expected: &str) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(question)?;
        let mut answer = vec![0; 512];
        let read = stream.read(&mut answer)?;
        answer.truncate(read);
        Ok(answer)
    };
    ask().is_ok_and(|answer| String::from_utf8_lossy(&answer).contains(expected))
}

/// A program of a server; the guardian ends it.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Waits until the server answers; says what it logged when it does not.
    pub(super) fn until_ready(&mut self, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            self.ensure_running()?;
            if ready() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} does not answer within {READY:?}: {}",
                    self.name,
                    tail(&self.log)
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until a program that is no server has done its work.
    pub(super) fn until_done(&mut self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{}, {status}: {}", self.name, tail(&self.log)),
                None if Instant::now() > deadline => {
                    self.child.kill()?;
                    bail!("{} is not done within {limit:?}", self.name);
                }
                None => thread::sleep(POLL),
            }
        }
    }

    /// Fails when it has ended.
    pub(super) fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended, {status}: {}", self.name, tail(&self.log)),
            None => Ok(()),
        }
    }

    /// Takes its exit status when it has ended.
    pub(super) fn reap(&mut self) {
        let _ = self.child.try_wait();
    }
}

/// The last lines of a log, as one.
fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
