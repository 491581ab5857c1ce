//! The suite as a program: its environment, its user, its time limits.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};

use super::verdict::{Verdict, verdicts};
use crate::{process::Service, repo};

/// The programs that the suite starts.
pub(crate) const ROLES: &[&str] = &[
    "daprd",
    "placement",
    "scheduler",
    "sentry",
    "operator",
    "injector",
];

/// Helpers that the suite would otherwise compile by itself.
const HELPERS: &[&str] = &["helmtemplate", "mcpstdioserver", "controllergen"];

/// What each case may take by the suite's own clock, with room for start and stop.
const PER_CASE: Duration = Duration::from_secs(75);

/// User and group that own nothing: the suite wants to run without privileges.
const NOBODY: u32 = 65534;

/// The suite, ready to run.
#[derive(Debug)]
pub(crate) struct Suite {
    program: PathBuf,
    folder: PathBuf,
    work: PathBuf,
    roles: Vec<(&'static str, PathBuf)>,
    as_nobody: bool,
    parallel: u32,
    logs: PathBuf,
}

/// Where the programs come from.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The compiled suite.
    pub(crate) suite: PathBuf,
    /// The folder it runs in: `tests/integration` of the peer's source.
    pub(crate) folder: PathBuf,
    /// The program that plays our roles.
    pub(crate) ours: PathBuf,
    /// The roles it plays.
    pub(crate) our_roles: Vec<String>,
    /// The folder of the programs that play the other roles.
    pub(crate) foreign: Option<PathBuf>,
    /// Cases at a time.
    pub(crate) parallel: u32,
}

impl Suite {
    /// Lays out a folder that a user without privileges can read, with one program per role.
    pub(crate) fn prepare(sources: &Sources) -> anyhow::Result<Self> {
        let as_nobody = fs::metadata("/proc/self").context("read /proc/self")?.uid() == 0;
        if as_nobody && repo::which("setpriv").is_none() {
            bail!("the suite must not run as root, and setpriv is not here (apt-get install util-linux)");
        }
        let work = std::env::temp_dir().join(format!("outrigger-conformance-{}", std::process::id()));
        let programs = work.join("bin");
        fs::create_dir_all(&programs).with_context(|| format!("create {}", programs.display()))?;
        for folder in [&work, &programs] {
            fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        }
        let mut roles = Vec::new();
        for role in ROLES {
            if sources.our_roles.iter().any(|ours| ours == role) {
                let program = programs.join(role);
                copy(&sources.ours, &program)?;
                roles.push((*role, program));
            } else if let Some(program) = sources
                .foreign
                .as_ref()
                .map(|folder| folder.join(role))
                .filter(|path| path.is_file())
            {
                roles.push((*role, foreign(role, &program, &work)?));
            }
        }
        for helper in HELPERS {
            // Set even where it is absent: the suite must not start to compile.
            let program = sources
                .foreign
                .as_ref()
                .map_or_else(|| work.join(helper), |folder| folder.join(helper));
            roles.push((helper, program));
        }
        let program = if readable(&sources.suite) {
            sources.suite.clone()
        } else {
            work.join("suite")
        };
        if program != sources.suite {
            copy(&sources.suite, &program)?;
        }
        let logs = repo::target().join("conformance");
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        Ok(Self {
            program,
            folder: sources.folder.clone(),
            work,
            roles,
            as_nobody,
            parallel: sources.parallel,
            logs,
        })
    }

    /// Runs cases; those the suite says nothing of, because another one took it down, are run again without it.
    pub(crate) fn run(&self, label: &str, cases: &[String]) -> anyhow::Result<HashMap<String, Verdict>> {
        let mut result = HashMap::new();
        let mut open = cases.to_vec();
        let mut round = 0;
        while !open.is_empty() {
            let said = self.run_once(&format!("{label}-{round}"), &open)?;
            let silent: Vec<String> = open
                .iter()
                .filter(|case| !said.contains_key(*case))
                .cloned()
                .collect();
            if said.is_empty() && silent.len() > 1 {
                // Nobody can tell which one it was: each gets a process of its own.
                for (index, case) in silent.iter().enumerate() {
                    let alone =
                        self.run_once(&format!("{label}-{round}-{index}"), std::slice::from_ref(case))?;
                    result.insert(case.clone(), alone.get(case).copied().unwrap_or(Verdict::Silent));
                }
                break;
            }
            if said.is_empty() {
                result.extend(silent.into_iter().map(|case| (case, Verdict::Silent)));
                break;
            }
            result.extend(said);
            open = silent;
            round += 1;
        }
        Ok(result)
    }

    /// The roles of other people's programs that were started, with what each says of its version.
    pub(crate) fn foreign_roles(&self) -> Vec<String> {
        self.roles
            .iter()
            .filter(|(role, _)| self.work.join("used").join(role).exists())
            .map(|(role, program)| {
                let version = repo::output(&program.to_string_lossy(), &["--version"]);
                match version.filter(|text| !text.is_empty() && text.len() < 40) {
                    Some(version) => format!("{role} {version}"),
                    None => (*role).to_owned(),
                }
            })
            .collect()
    }

    fn run_once(&self, label: &str, cases: &[String]) -> anyhow::Result<HashMap<String, Verdict>> {
        let home = self.work.join("home");
        recreate(&home, self.as_nobody)?;
        let log = self.logs.join(format!("{}.log", label.replace('/', "_")));
        let waves = u32::try_from(cases.len())
            .unwrap_or(u32::MAX)
            .div_ceil(self.parallel);
        let limit = PER_CASE.saturating_mul(waves.saturating_add(1));
        let mut command = if self.as_nobody {
            let mut command = Command::new("setpriv");
            let id = NOBODY.to_string();
            command
                .arg(format!("--reuid={id}"))
                .arg(format!("--regid={id}"))
                .args(["--clear-groups", "--"]);
            command.arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command
            .arg("-test.run=^Test_Integration$")
            // Marks the suite's own lines, which can stand behind unfinished output of the programs.
            .arg("-test.v=test2json")
            .arg("-test.count=1")
            .arg(format!("-test.parallel={}", self.parallel))
            .arg(format!("-test.timeout={}s", limit.as_secs()))
            .arg("-focus")
            .arg(focus(cases))
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("TMPDIR", &home);
        for (role, program) in &self.roles {
            command.env(format!("DAPR_INTEGRATION_{}_PATH", role.to_uppercase()), program);
        }
        let mut service = Service::start("the suite", &mut command, &log)?;
        let grace = Duration::from_secs(30);
        if service.wait(limit + grace)?.is_none() {
            println!("    {label}: killed after {:?}", limit + grace);
        }
        // Ends what a panic left running before the next round looks for ports.
        drop(service);
        let output =
            String::from_utf8_lossy(&fs::read(&log).with_context(|| log.display().to_string())?).into_owned();
        Ok(verdicts(&output, cases)
            .into_iter()
            .map(|(case, verdict)| (case.to_owned(), verdict))
            .collect())
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// Exactly these cases.
fn focus(cases: &[String]) -> String {
    format!("^({})$", cases.join("|"))
}

/// A script that leaves a mark and becomes the program, so that the ledger can say who took part.
fn foreign(role: &str, program: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    let marks = work.join("used");
    fs::create_dir_all(&marks)?;
    fs::set_permissions(&marks, Permissions::from_mode(0o777))?;
    let program = if readable(program) {
        program.to_owned()
    } else {
        let copied = work.join("bin").join(format!("{role}.bin"));
        copy(program, &copied)?;
        copied
    };
    let script = work.join("bin").join(role);
    let text = format!(
        "#!/bin/sh\n: >> '{}'\nexec '{}' \"$@\"\n",
        marks.join(role).display(),
        program.display()
    );
    fs::write(&script, text).with_context(|| script.display().to_string())?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    Ok(script)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    Ok(())
}

/// Whether anybody may read and run it where it stands.
fn readable(program: &Path) -> bool {
    let Ok(path) = program.canonicalize() else {
        return false;
    };
    path.ancestors().all(|part| {
        let wanted = if part == path { 0o005 } else { 0o001 };
        fs::metadata(part).is_ok_and(|metadata| metadata.mode() & wanted == wanted)
    })
}

fn recreate(folder: &Path, as_nobody: bool) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("clear {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    if as_nobody {
        chown(folder, Some(NOBODY), Some(NOBODY))
            .with_context(|| format!("hand over {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_focus_names_exactly_the_cases() {
        assert_eq!(focus(&["a/b".to_owned(), "a/c".to_owned()]), "^(a/b|a/c)$");
    }

    #[test]
    fn a_shell_is_readable_by_everybody() {
        assert!(readable(Path::new("/bin/sh")));
        assert!(!readable(Path::new("/nowhere")));
    }
}
