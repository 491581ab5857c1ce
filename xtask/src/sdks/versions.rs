//! A package's version is the contract's (E2.7).

use std::fs;

use anyhow::Context;

use crate::repo;

/// Where the contract's version stands.
const CONTRACT: &str = "wire/platform/src/lib.rs";

/// Packages of another version, and constants that say another one.
pub(crate) fn faults() -> anyhow::Result<Vec<String>> {
    let read = |path: &str| fs::read_to_string(repo::root().join(path)).with_context(|| path.to_owned());
    let version = quoted(&read(CONTRACT)?, "pub const API_VERSION: &str = ")
        .with_context(|| format!("{CONTRACT} has no API_VERSION"))?;
    let mut faults = Vec::new();
    for file in repo::files()? {
        let path = file.to_string_lossy().into_owned();
        let Some(key) = key(&path) else { continue };
        let found = quoted(&read(&path)?, key);
        if found.as_deref() != Some(version.as_str()) {
            let found = found.as_deref().unwrap_or("no version");
            faults.push(format!("{path}: {found}, the contract is {version}"));
        }
    }
    Ok(faults)
}

/// What stands in front of the version in a file that says one.
fn key(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("sdks/")?;
    let name = path.rsplit('/').next()?;
    Some(match name {
        "Cargo.toml" | "pyproject.toml" => "version = ",
        // The workspace of all packages has no version.
        "package.json" if path != "typescript/package.json" => "  \"version\": ",
        "Directory.Build.props" => "<Version>",
        "version.ts" => "export const API_VERSION = ",
        "client.py" if path.contains("virtufin-common") => "API_VERSION = ",
        "ServiceOptions.cs" => "public const string ApiVersion = ",
        _ => return None,
    })
}

/// The text behind a key, in quotes or up to the next tag, on a line that begins with the key.
fn quoted(text: &str, key: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| {
        line.strip_prefix(key)
            .or_else(|| line.trim_start().strip_prefix(key))
    })?;
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    Some(rest.split(['"', '<']).next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        assert_eq!(
            quoted("a\nversion = \"1.2.3\"\n", "version = ").as_deref(),
            Some("1.2.3")
        );
        assert_eq!(
            quoted("  <Version>1.2.3</Version>", "<Version>").as_deref(),
            Some("1.2.3")
        );
        assert_eq!(quoted("", "version = "), None);
        assert_eq!(key("sdks/typescript/package.json"), None);
        assert!(key("sdks/typescript/virtufin-core/package.json").is_some());
    }

    #[test]
    fn this_repository_has_one_version_of_the_contract() {
        assert_eq!(faults().unwrap(), Vec::<String>::new());
    }
}
