//! The folders of one user: Dapr's, our data, our runtime folder.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use outrigger_types::Environment;

/// Where things of this user are. Nothing is made before it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    home: Option<PathBuf>,
    dapr_parent: Option<PathBuf>,
    data: PathBuf,
    runtime: PathBuf,
    user: u32,
}

impl Folders {
    /// Reads the XDG variables, `HOME` and `DAPR_RUNTIME_PATH`.
    ///
    /// # Errors
    /// When neither `HOME` nor `XDG_DATA_HOME` says where data may go.
    pub(crate) fn of(environment: &Environment, user: u32) -> Result<Self> {
        let absolute = |name: &str| {
            environment
                .non_empty(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = environment.non_empty("HOME").map(PathBuf::from);
        let data = match (absolute("XDG_DATA_HOME"), &home) {
            (Some(data), _) => data.join("outrigger"),
            (None, Some(home)) => home.join(".local/share/outrigger"),
            (None, None) => bail!("neither HOME nor XDG_DATA_HOME is set, so there is no folder for data"),
        };
        let runtime = absolute("XDG_RUNTIME_DIR")
            .filter(|path| path.is_dir())
            .map_or_else(
                || {
                    absolute("TMPDIR")
                        .unwrap_or_else(|| PathBuf::from("/tmp"))
                        .join(format!("outrigger-{user}"))
                },
                |path| path.join("outrigger"),
            );
        let dapr_parent = environment
            .non_empty("DAPR_RUNTIME_PATH")
            .map(|path| PathBuf::from(path.trim()));
        Ok(Self {
            home,
            dapr_parent,
            data,
            runtime,
            user,
        })
    }

    /// The home folder, for `~` in run files.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Dapr's folder: `--runtime-path`, `DAPR_RUNTIME_PATH` or the home folder, each plus `.dapr` (upstream
    /// `pkg/standalone/common.go`). `None` when there is no home either.
    pub(crate) fn dapr(&self, runtime_path: Option<&Path>) -> Option<PathBuf> {
        runtime_path
            .or(self.dapr_parent.as_deref())
            .or(self.home.as_deref())
            .map(|parent| parent.join(".dapr"))
    }

    /// Where durable data is or would be; nothing is made.
    pub(crate) fn data_path(&self) -> &Path {
        &self.data
    }

    /// Where the registry and the control sockets are or would be; nothing is made.
    pub(crate) fn runtime_path(&self) -> &Path {
        &self.runtime
    }

    /// The user all of it belongs to.
    pub(crate) fn user(&self) -> u32 {
        self.user
    }

    /// Durable data, made private to the user.
    pub(crate) fn data(&self) -> Result<PathBuf> {
        private_folder(&self.data, self.user)?;
        Ok(self.data.clone())
    }

    /// The folder that sidecars of this user find each other by (design §2).
    pub(crate) fn registry(&self) -> Result<PathBuf> {
        self.runtime_part("registry")
    }

    /// The control sockets of running command lines.
    pub(crate) fn runs(&self) -> Result<PathBuf> {
        self.runtime_part("runs")
    }

    fn runtime_part(&self, name: &str) -> Result<PathBuf> {
        private_folder(&self.runtime, self.user)?;
        let part = self.runtime.join(name);
        private_folder(&part, self.user)?;
        Ok(part)
    }
}

/// Makes a folder that only its user can enter. One that somebody else made first (in a shared `/tmp`) is refused:
/// its owner could feed us control sockets and registry entries.
fn private_folder(path: &Path, user: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))?;
    let metadata =
        fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if metadata.uid() != user {
        bail!("the folder {} belongs to another user", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(pairs: &[(&str, &str)]) -> Result<Folders> {
        Folders::of(
            &Environment::from_pairs(pairs.iter().copied()),
            rustix::process::getuid().as_raw(),
        )
    }

    #[test]
    fn dapr_folder_is_flag_then_variable_then_home() {
        let all = folders(&[("HOME", "/home/a"), ("DAPR_RUNTIME_PATH", "/opt/d")]).unwrap();
        assert_eq!(all.dapr(Some(Path::new("/x"))), Some(PathBuf::from("/x/.dapr")));
        assert_eq!(all.dapr(None), Some(PathBuf::from("/opt/d/.dapr")));
        let home = folders(&[("HOME", "/home/a")]).unwrap();
        assert_eq!(home.dapr(None), Some(PathBuf::from("/home/a/.dapr")));
    }

    #[test]
    fn no_place_for_data_is_an_error() {
        assert!(folders(&[]).is_err());
    }

    #[test]
    fn folders_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        let folders = folders(&[
            ("HOME", "/nonexistent"),
            ("XDG_DATA_HOME", path.to_str().unwrap()),
        ])
        .unwrap();
        let data = folders.data().unwrap();
        assert_eq!(fs::metadata(data).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
