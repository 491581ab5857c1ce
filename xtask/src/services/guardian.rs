//! Who ends the servers when this program cannot: a shell that reads from a pipe.
//!
//! The pipe's other end is this process's alone. However it ends (Ctrl-C, SIGTERM, a panic, SIGKILL), the pipe closes,
//! and the shell ends every group of processes it was told of and removes the folder. It sits in a group of its own and
//! ignores the signals a terminal sends to everybody.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

/// Reads lines `<signal> <group>`; at the end sends the signals, waits up to five seconds, kills and cleans up.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
folder=$1
groups=
while read -r signal group; do
    groups="$groups $group"
    eval "signal_$group=\$signal"
done
for group in $groups; do
    eval "signal=\$signal_$group"
    kill -s "$signal" -- "-$group" 2>/dev/null
done
round=0
while [ $round -lt 50 ]; do
    alive=
    for group in $groups; do kill -s 0 -- "-$group" 2>/dev/null && alive=yes; done
    [ -z "$alive" ] && break
    sleep 0.1
    round=$((round + 1))
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
rm -rf -- "$folder"
"#;

/// Longer than the script ever takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The shell and the pipe's end that keeps it waiting; `None` once dismissed.
#[derive(Debug)]
pub(super) struct Guardian(Mutex<Option<(Child, ChildStdin)>>);

impl Guardian {
    /// Starts it, to remove this folder at the end.
    pub(super) fn post(folder: &Path) -> anyhow::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "guardian"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start /bin/sh")?;
        let pipe = shell.stdin.take().context("the guardian has no pipe")?;
        Ok(Self(Mutex::new(Some((shell, pipe)))))
    }

    /// Puts a process group in its care; it will be sent this signal first.
    pub(super) fn watch(&self, group: u32, signal: &str) -> anyhow::Result<()> {
        let mut post = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, pipe) = post.as_mut().context("the servers are being stopped")?;
        // One write: a line is told whole or not at all.
        pipe.write_all(format!("{signal} {group}\n").as_bytes())
            .context("tell the guardian of a server")
    }

    /// Has it end everything now, and waits; `bury` is called again and again meanwhile.
    pub(super) fn dismiss(&self, mut bury: impl FnMut()) {
        let Some((mut shell, pipe)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        drop(pipe);
        let deadline = Instant::now() + LIMIT;
        while matches!(shell.try_wait(), Ok(None)) && Instant::now() < deadline {
            bury();
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.dismiss(|| {});
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_watches_ends_with_it_and_the_folder_goes() {
        let folder = std::env::temp_dir().join(format!("xtask-guardian-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let guardian = Guardian::post(&folder).unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "trap '' INT; while :; do sleep 1; done"])
            .process_group(0)
            .spawn()
            .unwrap();
        guardian.watch(child.id(), "KILL").unwrap();
        let mut ended = None;
        guardian.dismiss(|| ended = ended.or(child.try_wait().unwrap()));
        let ended = ended.or(child.try_wait().unwrap());
        assert!(ended.is_some_and(|status| !status.success()));
        assert!(!folder.exists());
        assert!(guardian.watch(1, "INT").is_err());
    }
}
