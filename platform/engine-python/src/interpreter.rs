//! Finds the interpreter and what its programs read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use outrigger_platform_engine::EngineError;
use outrigger_platform_sandbox::{Identity, Policy};
use rustix::thread::CapabilitySet;
use serde::Deserialize;
use tokio::process::Command;

use crate::settings::PythonSettings;

const PROBE: &str = include_str!("probe.py");
const BOOTSTRAP: &str = include_str!("bootstrap.py");
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// The first version whose audit hooks and isolated mode are what `bootstrap.py` counts on.
const LEAST_VERSION: [u32; 2] = [3, 9];

/// An interpreter, and where it keeps what workers read.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Interpreter {
    executable: PathBuf,
    version: Vec<u32>,
    stdlib: Vec<PathBuf>,
    site: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
}

impl Interpreter {
    /// Finds it and asks it where its files are. It runs our own few lines for that, unconfined.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] with where it was looked for, or what it said.
    pub(crate) async fn find(settings: &PythonSettings) -> Result<Self, EngineError> {
        let path = look_for(settings)?;
        let unusable =
            |why: String| EngineError::Unavailable(format!("{} is no usable Python: {why}", path.display()));
        let asked = Command::new(&path)
            .args(["-I", "-S", "-B", "-X", "utf8", "-c", PROBE])
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let said = tokio::time::timeout(PROBE_TIMEOUT, asked)
            .await
            .map_err(|_| unusable("it does not answer".to_owned()))?
            .map_err(|error| unusable(error.to_string()))?;
        if !said.status.success() {
            let words = String::from_utf8_lossy(&said.stderr);
            return Err(unusable(words.lines().last().unwrap_or("it failed").to_owned()));
        }
        let found: Self =
            serde_json::from_slice(&said.stdout).map_err(|error| unusable(error.to_string()))?;
        if found.version.as_slice() < LEAST_VERSION.as_slice() {
            return Err(unusable("3.9 or later is needed".to_owned()));
        }
        Ok(found)
    }

    /// Folders that workers may import from beside the standard library.
    pub(crate) fn packages<'a>(&'a self, settings: &'a PythonSettings) -> &'a [PathBuf] {
        if !settings.site_packages.is_empty() {
            &settings.site_packages
        } else if settings.imports.has_packages() {
            &self.site
        } else {
            &[]
        }
    }

    /// What the second wall lets through to be read: the standard library, packages, time zones.
    pub(crate) fn readable(&self, settings: &PythonSettings) -> Vec<PathBuf> {
        let zones = PathBuf::from("/usr/share/zoneinfo");
        let mut paths = self.stdlib.clone();
        paths.extend_from_slice(self.packages(settings));
        paths.push(zones);
        paths
    }

    /// The walls around a worker's process.
    pub(crate) fn policy(&self, settings: &PythonSettings) -> Policy {
        let mut read = self.readable(settings);
        read.extend_from_slice(&self.libraries);
        let mut policy = Policy::new(&self.executable);
        // Isolated, no user's packages, no environment (all three are in -I; said for those who look at a list of
        // processes), no site, no caches written, text is UTF-8.
        policy.args = ["-I", "-E", "-s", "-S", "-B", "-X", "utf8", "-c", BOOTSTRAP]
            .map(str::to_owned)
            .to_vec();
        // One arena for all threads: each further one would reserve 64 MiB of the address space. And no threads of
        // libraries by the number of processors: on a large machine those alone would be too many.
        policy.env = ["MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into();
        policy.read = read;
        policy.network = settings.network;
        policy.limits = settings.limits;
        policy.when_missing = settings.when_missing;
        policy.identity = settings.identity.unwrap_or_else(|| self.identity(&policy.read));
        policy
    }

    fn identity(&self, read: &[PathBuf]) -> Identity {
        let needed = std::iter::once(&self.executable).chain(read.iter().filter(|path| path.exists()));
        if may_become_nobody() && needed.into_iter().all(|path| open_to_others(path)) {
            Identity::NOBODY
        } else {
            Identity::Keep
        }
    }
}

/// Whether this process has the rights to become `nobody`, and `nobody` is somebody in its user namespace. Root in a
/// container may lack either.
fn may_become_nobody() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    let able = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    able && ["/proc/self/uid_map", "/proc/self/gid_map"]
        .iter()
        .all(|map| std::fs::read_to_string(map).is_ok_and(|map| maps(&map, 65534)))
}

/// Whether a map of users or groups, lines of `inside outside count`, has a number inside.
fn maps(map: &str, number: u64) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        match (fields.next(), fields.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => number >= first && number - first < count,
            _ => false,
        }
    })
}

/// Whether users without any relation to a file can reach it.
fn open_to_others(path: &Path) -> bool {
    path.ancestors().all(|part| {
        std::fs::metadata(part).is_ok_and(|meta| {
            let needed = if meta.is_dir() { 0o001 } else { 0o004 };
            meta.permissions().mode() & needed != 0
        })
    })
}

fn look_for(settings: &PythonSettings) -> Result<PathBuf, EngineError> {
    let python = &settings.python;
    if python.is_absolute() {
        return if python.is_file() {
            Ok(python.clone())
        } else {
            Err(EngineError::Unavailable(format!(
                "there is no Python at {}",
                python.display()
            )))
        };
    }
    let places = || settings.search.iter().map(|folder| folder.join(python));
    places().find(|path| path.is_file()).ok_or_else(|| {
        let looked: Vec<String> = places().map(|path| path.display().to_string()).collect();
        EngineError::Unavailable(format!("there is no Python: looked for {}", looked.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_users_is_read() {
        assert!(maps("         0          0 4294967295\n", 65534));
        // Rootless containers: root, then a range.
        assert!(maps("0 1000 1\n1 100000 65536\n", 65534));
        assert!(!maps("0 1000 1\n", 65534));
        assert!(!maps("0 100000 65534\n", 65534));
        assert!(!maps("", 65534));
        assert!(!maps("0 x\n", 0));
    }
}
