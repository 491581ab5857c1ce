//! Programs started by this tool: stopped when done, watched through `/proc`.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// How often conditions are looked at.
const POLL: Duration = Duration::from_millis(20);

/// Between asking a program to leave and killing it.
const GRACE: Duration = Duration::from_secs(10);

/// Linux counts CPU time for user space in hundredths of a second on every architecture.
const TICKS_PER_SECOND: u64 = 100;

/// A program in a process group of its own. Dropping it ends the whole group.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    name: String,
}

impl Service {
    /// Starts a program; its output goes to the log file.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let errors = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself; at the deadline its group is killed and `None` returned.
    pub(crate) fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                self.kill();
                return Ok(None);
            }
            sleep(POLL);
        }
    }

    /// Asks it to leave and waits.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.leave(&self.pid().to_string())
    }

    /// Asks its whole group to leave, as a terminal does at Ctrl-C, and waits.
    pub(crate) fn interrupt(&mut self) -> anyhow::Result<()> {
        self.leave(&format!("-{}", self.pid()))
    }

    fn leave(&mut self, target: &str) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        signal("INT", target);
        match self.wait(GRACE)? {
            Some(_) => Ok(()),
            None => bail!("{} did not leave within {GRACE:?} of SIGINT", self.name),
        }
    }

    /// Fails when it has ended already.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Ends its group at once.
    pub(crate) fn kill(&mut self) {
        signal("KILL", &format!("-{}", self.pid()));
        // The group's leader is ours to reap; when it is gone already this is harmless.
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let running = matches!(self.child.try_wait(), Ok(None));
        if running && self.stop().is_ok() {
            return;
        }
        // What the program left behind in its group goes with it.
        self.kill();
    }
}

/// Sends a signal by the shell's own `kill`, which every system has; a target that is gone is fine.
fn signal(name: &str, target: &str) {
    let _ = Command::new("/bin/sh")
        .args(["-c", "kill -s \"$1\" -- \"$2\" 2>/dev/null", "kill", name, target])
        .stdin(Stdio::null())
        .status();
}

/// Waits for a condition; fails at the deadline.
pub(crate) fn until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() > deadline {
            bail!("{what}: not within {limit:?}");
        }
        sleep(POLL);
    }
    Ok(())
}

/// CPU time of a process so far, user and system, over all of its threads.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// CPU time of the threads a process has now, to the nanosecond: [`cpu`] counts in hundredths of a second, more than a
/// program at rest uses in ten. A thread that ends takes its time with it.
pub(crate) fn fine_cpu(pid: u32) -> anyhow::Result<Duration> {
    let threads =
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    let nanos = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    Ok(Duration::from_nanos(nanos.sum()))
}

/// `utime` + `stime`: fields 14 and 15, counted behind the name, which may hold blanks and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A `Vm…` line of `/proc/<pid>/status`, in bytes: `VmRSS` now, `VmHWM` at its highest.
pub(crate) fn memory(pid: u32, line: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    bytes(&status, line).with_context(|| format!("/proc/{pid}/status has no {line}"))
}

/// The proportional set size of a process in bytes: shared pages count by its part of them.
pub(crate) fn share(pid: u32) -> anyhow::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("process {pid} is gone"))?;
    bytes(&rollup, "Pss").with_context(|| format!("/proc/{pid}/smaps_rollup has no Pss"))
}

/// The value of a line such as `VmRSS:  1234 kB`.
fn bytes(text: &str, line: &str) -> Option<u64> {
    text.lines()
        .find_map(|text| {
            text.strip_prefix(line)?
                .strip_prefix(':')?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_process_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(12));
    }

    #[test]
    fn this_process_has_memory_and_cpu_time() {
        assert!(memory(std::process::id(), "VmRSS").unwrap() > 0);
        assert!(share(std::process::id()).unwrap() > 0);
        cpu(std::process::id()).unwrap();
    }

    #[test]
    fn a_program_that_ends_by_itself_is_reaped() {
        let log = std::env::temp_dir().join(format!("xtask-process-{}.log", std::process::id()));
        let mut service =
            Service::start("true", Command::new("/bin/sh").args(["-c", "exit 3"]), &log).unwrap();
        assert_eq!(
            service.wait(Duration::from_secs(10)).unwrap().unwrap().code(),
            Some(3)
        );
        fs::remove_file(log).unwrap();
    }
}
