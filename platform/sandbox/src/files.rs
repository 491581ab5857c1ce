//! The wall around files: Landlock.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope, path_beneath_rules,
};

use crate::policy::{Network, Policy};

/// The loaders that start a dynamically linked program; the kernel asks for the right to execute them too.
const LOADERS: &[&str] = &[
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// What every dynamically linked program reads at its start.
const OF_THE_LOADER: &[&str] = &["/etc/ld.so.cache"];

/// What looking up a name takes.
const OF_NAMES: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl/certs",
];

/// Confines the calling thread, and what it becomes. Answers the version the kernel applied, 0 if it has none.
///
/// # Errors
/// What the kernel says.
pub(crate) fn confine(policy: &Policy) -> Result<u8, landlock::RulesetError> {
    let known = ABI::V9;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(known))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(known))?;
    if policy.network == Network::Denied {
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = rules.create()?;
    rules = beneath(
        rules,
        [policy.program.as_path()],
        AccessFs::Execute | AccessFs::ReadFile,
    )?;
    rules = beneath(
        rules,
        LOADERS.iter().map(Path::new),
        AccessFs::Execute | AccessFs::ReadFile,
    )?;
    rules = beneath(rules, OF_THE_LOADER.iter().map(Path::new), read)?;
    rules = beneath(rules, policy.read.iter().map(PathBuf::as_path), read)?;
    if policy.network == Network::Outgoing {
        rules = beneath(rules, OF_NAMES.iter().map(Path::new), read)?;
    }
    if let Some(scratch) = &policy.scratch {
        let write = AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir;
        rules = beneath(rules, [scratch.as_path()], read | write)?;
    }
    Ok(match rules.restrict_self()?.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u8,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    })
}

/// Adds one rule per path that exists.
fn beneath<'a>(
    rules: RulesetCreated,
    paths: impl IntoIterator<Item = &'a Path>,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    rules.add_rules(path_beneath_rules(paths, rights))
}
