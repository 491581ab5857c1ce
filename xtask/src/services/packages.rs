//! Debian packages of servers that are not here, when we may install them.

use std::process::{Command, Stdio};

use super::user;
use crate::repo;

/// A Debian package.
#[derive(Clone, Copy)]
pub(super) struct Package {
    pub(super) name: &'static str,
    /// Whether what it brings is here already, from wherever.
    pub(super) present: fn() -> bool,
}

/// Installs what is missing, in one go: package managers do not run side by side. What cannot be installed is left to the
/// server's own start, which says so.
pub(super) fn install(packages: impl Iterator<Item = Package>) {
    let missing: Vec<_> = packages
        .filter_map(|package| (!(package.present)()).then_some(package.name))
        .collect();
    if missing.is_empty() || repo::which("apt-get").is_none() {
        return;
    }
    if !user::is_root() {
        eprintln!(
            "services: not here, and installing needs root: apt-get install {}",
            missing.join(" ")
        );
        return;
    }
    eprintln!("services: apt-get install {}", missing.join(" "));
    // The lists that are here may do when they cannot be renewed.
    apt(&["update"]);
    let install = ["install", "-y", "--no-install-recommends"];
    if !apt(&[&install[..], &missing[..]].concat()) {
        // One package that cannot be had must not cost the others.
        for package in &missing {
            if !apt(&[&install[..], &[package]].concat()) {
                eprintln!("services: {package} cannot be installed here");
            }
        }
    }
}

fn apt(arguments: &[&str]) -> bool {
    Command::new("apt-get")
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Packages start no service of their own in this runlevel; ours are private.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
