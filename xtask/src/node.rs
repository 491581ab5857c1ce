//! Node.js and its packages, for what is written in JavaScript and TypeScript.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::repo;

/// The oldest Node.js that will do.
const NODE: u32 = 20;

/// Installs the packages of a folder's `package-lock.json` once; a reason when they cannot be had.
pub(crate) fn prepare(folder: &Path) -> Result<(), String> {
    for (program, packages) in [("node", "nodejs"), ("npm", "npm")] {
        if repo::which(program).is_none() {
            return Err(format!("{program} is not here (apt-get install {packages})"));
        }
    }
    let version = repo::output("node", &["--version"]).unwrap_or_default();
    if major(&version).is_none_or(|major| major < NODE) {
        return Err(format!(
            "node is {version}, and the packages need {NODE} or newer"
        ));
    }
    let lock = folder.join("package-lock.json");
    let wanted = fs::read_to_string(&lock).map_err(|error| format!("package-lock.json: {error}"))?;
    let stamp = folder.join("node_modules/.installed.json");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // Nothing of a package runs while it is installed.
    let installed = Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        return Err("npm cannot install the packages of package-lock.json here".to_owned());
    }
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// The `20` of `v20.1.0`.
fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_node_is_read() {
        assert_eq!((major("v20.19.1"), major("")), (Some(20), None));
    }
}
