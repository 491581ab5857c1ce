//! Nothing that was started outlives this tool, even when it is interrupted or killed.
//!
//! Measured programs stand in process groups of their own, so a Ctrl-C at the terminal does not reach them, and a tool
//! that dies runs no destructor. A shell waits at a pipe instead: when the pipe ends without a word, it ends the groups.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;

use crate::process::Service;

/// Keeps the groups that were announced with `+` and not taken back with `-`; ends them when nobody can announce more.
const SCRIPT: &str = r#"
groups=" "
while read -r sign group; do
    case $sign in
        +) groups="$groups$group " ;;
        -) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

/// The shell's end of the pipe.
#[derive(Debug, Clone)]
pub(crate) struct Guard(Arc<Mutex<ChildStdin>>);

impl Guard {
    /// Starts the shell; it leaves by itself.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the guard")?;
        let pipe = shell.stdin.take().context("the guard has no pipe")?;
        Ok(Self(Arc::new(Mutex::new(pipe))))
    }

    fn say(&self, sign: char, group: u32) {
        // Without a guard a run is still a run.
        if let Ok(mut pipe) = self.0.lock() {
            let _ = pipe.write_all(format!("{sign} {group}\n").as_bytes());
        }
    }
}

/// A program that ends with this tool.
#[derive(Debug)]
pub(crate) struct Program {
    // Stopped before it is taken back.
    service: Service,
    _lease: Lease,
}

#[derive(Debug)]
struct Lease {
    guard: Guard,
    group: u32,
}

impl Program {
    /// Starts a program; its output goes to the log file.
    pub(crate) fn start(
        guard: &Guard,
        name: &str,
        command: &mut Command,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let service = Service::start(name, command, log)?;
        let group = service.pid();
        guard.say('+', group);
        Ok(Self {
            service,
            _lease: Lease {
                guard: guard.clone(),
                group,
            },
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Waits until it ends by itself; at the deadline its group is killed and `None` returned.
    pub(crate) fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        self.service.wait(limit)
    }

    /// Ends it at once, with all that it started.
    pub(crate) fn kill(&mut self) {
        self.service.kill();
    }

    /// Fails when it has ended already.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.service.ensure_running()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.guard.say('-', self.group);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::process::until;

    fn sleeper(name: &str) -> (Command, PathBuf) {
        let mut command = Command::new("/bin/sleep");
        command.arg("60");
        let log = std::env::temp_dir().join(format!("xtask-guard-{name}-{}.log", std::process::id()));
        (command, log)
    }

    #[test]
    fn what_is_left_behind_ends_with_the_pipe_and_nothing_else_does() {
        let guard = Guard::start().unwrap();
        let (mut command, kept_log) = sleeper("kept");
        let mut kept = Service::start("kept", &mut command, &kept_log).unwrap();
        let (mut command, left_log) = sleeper("left");
        let mut left = Service::start("left", &mut command, &left_log).unwrap();
        guard.say('+', kept.pid());
        guard.say('+', left.pid());
        guard.say('-', kept.pid());
        drop(guard);
        until("the group is ended", Duration::from_secs(10), || {
            Ok(left.ensure_running().is_err())
        })
        .unwrap();
        kept.ensure_running().unwrap();
        for log in [kept_log, left_log] {
            std::fs::remove_file(log).unwrap();
        }
    }
}
