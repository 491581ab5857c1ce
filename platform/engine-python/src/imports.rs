//! The second wall: which modules a worker may import (H6.1, H6.2).

use serde::Serialize;

/// Modules by name. `xml` stands for all its submodules too, `urllib.parse` for that one only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imports {
    /// Whether there is a second wall at all. Without it only the operating system confines the code.
    pub enforced: bool,
    /// What may be imported: [`SAFE`](Self::SAFE) and the allowed packages.
    pub allowed: Vec<String>,
    /// What may not, even if it is allowed above, nor by a module that is.
    pub blocked: Vec<String>,
}

impl Imports {
    /// Modules of the standard library that compute and do not reach out.
    pub const SAFE: &[&str] = &[
        "__future__",
        "abc",
        "array",
        "base64",
        "binascii",
        "bisect",
        "calendar",
        "cmath",
        "collections",
        "colorsys",
        "contextlib",
        "copy",
        "csv",
        "dataclasses",
        "datetime",
        "decimal",
        "difflib",
        "enum",
        "fractions",
        "functools",
        "graphlib",
        "hashlib",
        "heapq",
        "hmac",
        "html",
        "itertools",
        "json",
        "logging",
        "math",
        "numbers",
        "operator",
        "pprint",
        "queue",
        "random",
        "re",
        "secrets",
        "statistics",
        "string",
        "struct",
        "textwrap",
        "threading",
        "time",
        "types",
        "typing",
        "unicodedata",
        "urllib.parse",
        "uuid",
        "warnings",
        "zlib",
        "zoneinfo",
    ];

    /// What is blocked unless `PYTHON_BLOCKED_MODULES` says otherwise.
    pub const BLOCKED: &[&str] = &[
        "asyncio",
        "builtins",
        "code",
        "codeop",
        "ctypes",
        "faulthandler",
        "fcntl",
        "ftplib",
        "gc",
        "http",
        "importlib",
        "mmap",
        "multiprocessing",
        "os",
        "pickle",
        "posix",
        "pty",
        "requests",
        "resource",
        "runpy",
        "shutil",
        "signal",
        "smtplib",
        "socket",
        "socketserver",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "urllib.request",
        "webbrowser",
    ];

    /// The lists of `PYTHON_ALLOWED_PACKAGES` (added to [`SAFE`](Self::SAFE)) and `PYTHON_BLOCKED_MODULES` (in place
    /// of [`BLOCKED`](Self::BLOCKED) if given): names with commas between them.
    pub fn from_lists(allowed_packages: &str, blocked_modules: Option<&str>) -> Self {
        let mut allowed: Vec<String> = Self::SAFE.iter().map(|name| (*name).to_owned()).collect();
        allowed.extend(names(allowed_packages));
        Self {
            enforced: true,
            allowed,
            blocked: match blocked_modules {
                Some(list) => names(list).collect(),
                None => Self::BLOCKED.iter().map(|name| (*name).to_owned()).collect(),
            },
        }
    }

    /// No second wall.
    pub fn unlimited() -> Self {
        Self {
            enforced: false,
            allowed: Vec::new(),
            blocked: Vec::new(),
        }
    }

    /// Whether packages outside the standard library are allowed, so that their folders must be readable.
    pub(crate) fn has_packages(&self) -> bool {
        self.allowed
            .iter()
            .any(|name| !Self::SAFE.contains(&name.as_str()))
    }
}

impl Default for Imports {
    fn default() -> Self {
        Self::from_lists("", None)
    }
}

fn names(list: &str) -> impl Iterator<Item = String> {
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_environment_are_read() {
        let imports = Imports::from_lists("numpy, pandas,", None);
        assert!(imports.has_packages());
        assert!(imports.allowed.iter().any(|name| name == "pandas"));
        assert!(imports.blocked.iter().any(|name| name == "os"));
        let imports = Imports::from_lists("", Some("socket"));
        assert!(!imports.has_packages());
        assert_eq!(imports.blocked, ["socket"]);
    }
}
