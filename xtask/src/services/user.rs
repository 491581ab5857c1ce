//! Whom a server runs as: several refuse to be root.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

use anyhow::Context;

use crate::repo;

/// A user other than ours; empty when servers run as we do.
#[derive(Debug)]
pub(super) struct User(Option<(u32, u32)>);

impl User {
    /// When we are root the named user, `nobody` where it is not known; else ourselves.
    pub(super) fn unprivileged(name: &str) -> anyhow::Result<Self> {
        if !is_root() {
            return Ok(Self(None));
        }
        let table = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let ids = lookup(&table, name)
            .or_else(|| lookup(&table, "nobody"))
            .with_context(|| format!("no user {name} and no nobody"))?;
        Ok(Self(Some(ids)))
    }

    /// Ourselves.
    pub(super) fn current() -> Self {
        Self(None)
    }

    /// A command that will run as this user.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file or folder to this user.
    pub(super) fn own(&self, path: &Path) -> anyhow::Result<()> {
        match self.0 {
            Some((uid, gid)) => {
                chown(path, Some(uid), Some(gid)).with_context(|| format!("chown {}", path.display()))
            }
            None => Ok(()),
        }
    }
}

/// Whether this program may install packages and change users.
pub(super) fn is_root() -> bool {
    repo::output("id", &["-u"]).is_some_and(|id| id == "0")
}

/// User and group of a line of the password file.
fn lookup(table: &str, name: &str) -> Option<(u32, u32)> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        Some((uid, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::lookup;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let table =
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(lookup(table, "nobody"), Some((65534, 65533)));
        assert_eq!(lookup(table, "nob"), None);
    }
}
