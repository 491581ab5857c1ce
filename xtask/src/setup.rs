//! What this machine has of the tools that the repository uses.

use anyhow::bail;

use crate::{args::Args, repo};

/// A tool: its program, an argument that makes it answer, what it is for and how to get it.
struct Tool {
    programs: &'static [&'static str],
    probe: &'static str,
    purpose: &'static str,
    obtain: &'static str,
    required: bool,
}

const TOOLS: &[Tool] = &[
    Tool {
        programs: &["cargo"],
        probe: "--version",
        purpose: "builds everything; the version is pinned in rust-toolchain.toml",
        obtain: "install rustup; it then fetches the pinned toolchain by itself",
        required: true,
    },
    Tool {
        programs: &["cc"],
        probe: "--version",
        purpose: "compiles SQLite and aws-lc, which are linked in",
        obtain: "apt-get install build-essential",
        required: true,
    },
    Tool {
        programs: &["cmake"],
        probe: "--version",
        purpose: "only where aws-lc has no prebuilt set-up for the platform",
        obtain: "apt-get install cmake",
        required: false,
    },
    Tool {
        programs: &["git"],
        probe: "--version",
        purpose: "names the commit in ledgers and lists files for the house rules",
        obtain: "apt-get install git",
        required: true,
    },
    Tool {
        programs: &["python3"],
        probe: "--version",
        purpose: "the Python example and the Python SDK beside our sidecar",
        obtain: "apt-get install python3 python3-venv",
        required: false,
    },
    Tool {
        programs: &["node"],
        probe: "--version",
        purpose: "the JavaScript SDK beside our sidecar (xtask clients)",
        obtain: "install Node.js 20 or newer with npm",
        required: false,
    },
    Tool {
        programs: &["chromium", "chromium-browser", "google-chrome"],
        probe: "--version",
        purpose: "the page test of the todo app",
        obtain: "apt-get install chromium",
        required: false,
    },
    Tool {
        programs: &["chromedriver"],
        probe: "--version",
        purpose: "the page test of the todo app",
        obtain: "apt-get install chromium-driver",
        required: false,
    },
    Tool {
        programs: &["cargo-deny"],
        probe: "--version",
        purpose: "licences and bans of dependencies (deny.toml)",
        obtain: "cargo install --locked cargo-deny",
        required: false,
    },
    Tool {
        programs: &["nginx"],
        probe: "-v",
        purpose: "the two-hop guide row of xtask bench",
        obtain: "apt-get install nginx-light",
        required: false,
    },
];

/// Prints a line per tool; fails when a required one is missing.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    args.finish()?;
    let mut missing = Vec::new();
    for tool in TOOLS {
        let found = tool
            .programs
            .iter()
            .find(|program| repo::which(program).is_some());
        match found {
            Some(program) => {
                let version = repo::output(program, &[tool.probe]).unwrap_or_default();
                println!(
                    "  have     {program:<12} {}",
                    version.lines().next().unwrap_or("").trim()
                );
            }
            None => {
                let label = if tool.required { "MISSING" } else { "optional" };
                println!(
                    "  {label:<8} {:<12} {}; get it: {}",
                    tool.programs[0], tool.purpose, tool.obtain
                );
                if tool.required {
                    missing.push(tool.programs[0]);
                }
            }
        }
    }
    for (variable, purpose) in [
        (
            "CONFORMANCE_SUITE",
            "the peer's integration suite, compiled (cargo xtask conformance)",
        ),
        (
            "CONFORMANCE_FOREIGN_DIR",
            "the peer's placement, scheduler, sentry, operator and injector",
        ),
        (
            "REFERENCE_DAPRD_DIR",
            "the directory of a real daprd (cargo xtask bench)",
        ),
    ] {
        let state = if std::env::var_os(variable).is_some() {
            "set"
        } else {
            "not set"
        };
        println!("  {state:<8} {variable}: {purpose}");
    }
    if !missing.is_empty() {
        bail!("missing: {}", missing.join(", "));
    }
    Ok(())
}
