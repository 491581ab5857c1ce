//! `outrigger run` and `run -f`: apps with their sidecars, side by side, kept running.
//!
//! Flags, a run file or a Compose file ([`flags`], [`run_file`], [`compose`]) say what; [`plan`] turns it into
//! processes with ports, arguments and variables; [`supervisor`] keeps them. No process outlives the command line: each is tied to it by the kernel
//! ([`crate::exec`]), and its group is watched by a guard process ([`crate::guard`]).

mod arguments;
mod backoff;
mod compose;
pub(crate) mod control;
mod detach;
mod fields;
mod flags;
mod instance;
mod plan;
mod process;
mod readiness;
pub(crate) mod resources;
pub(crate) mod run_file;
pub(crate) mod settings;
mod supervisor;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

pub(crate) use detach::leave_the_terminal;
pub(crate) use flags::RunFlags;

use self::{plan::Setting, run_file::RunFile, supervisor::Run};
use crate::{console::Status, usage::refuse, verbs::Surroundings};

/// Runs what the flags say until it ends.
pub(crate) fn main(flags: RunFlags, around: &Surroundings) -> Result<ExitCode> {
    if flags.kubernetes {
        bail!("--kubernetes is not served by this version; without it the apps run on this machine");
    }
    let this_program = this_program()?;
    if flags.detach && !around.detached {
        return detach::main(&flags, around, &this_program);
    }
    let mut notes = Vec::new();
    let (apps, file) = match &flags.run_file {
        Some(path) => {
            let ignored = flags.beside_run_file();
            if !ignored.is_empty() {
                let text = format!(
                    "The following flags are ignored when using --run-file and should be configured in the run file instead: {}",
                    ignored.join(", ")
                );
                notes.push((Status::Warning, text));
            }
            let path = run_file::locate(path).context("Failed to get run file path")?;
            let file = read(&path, &flags.external, &this_program, around)?;
            if file.apps.is_empty() {
                bail!("No apps to run");
            }
            notes.extend(file.warnings.iter().map(|text| (Status::Warning, text.clone())));
            (file.apps, Some((file.path, file.name)))
        }
        None if !flags.external.is_empty() => refuse!("--external goes with --run-file and a Compose file"),
        None => (
            vec![flags.into_app(around.runtime_path.as_deref(), &around.working_dir)?],
            None,
        ),
    };
    let ids = apps.iter().map(|app| app.app_id.clone()).collect::<Vec<_>>();
    if let Some(twice) = ids
        .iter()
        .enumerate()
        .find(|(index, id)| ids[..*index].contains(id))
        .map(|(_, id)| id)
    {
        notes.push((
            Status::Warning,
            format!("the app id {twice:?} is used by several apps; use instances to run one app many times"),
        ));
    }
    let daprd = around.environment.non_empty("OUTRIGGER_DAPRD").map(PathBuf::from);
    let setting = Setting {
        folders: &around.folders,
        environment: &around.environment,
        working_dir: &around.working_dir,
        daprd: daprd.as_deref(),
        this_program: &this_program,
        json_logs: around.console.json(),
        detached: around.detached,
        run_file: file.as_ref().map(|(path, name)| (path.as_path(), name.as_str())),
    };
    let (plans, more) = plan::plan(apps, setting)?;
    notes.extend(more);
    let mut ids: Vec<String> = plans.iter().map(|plan| plan.app_id.clone()).collect();
    ids.dedup();
    let info = control::Info {
        cli_pid: std::process::id(),
        run_template_path: file.map(|(path, _)| path),
        apps: ids,
    };
    supervisor::run(Run {
        plans,
        notes,
        info,
        console: around.console,
        this_program,
        runs_folder: around.folders.runs()?,
    })
}

/// Reads a run file, or a Compose file in its place.
fn read(path: &Path, externals: &[String], this_program: &Path, around: &Surroundings) -> Result<RunFile> {
    let (text, path) = run_file::load(path, &around.working_dir)?;
    let root = run_file::tree(&text).with_context(|| format!("run file {}", path.display()))?;
    match root {
        Some(root) if compose::is_compose(&root) => {
            let around = compose::Around {
                environment: &around.environment,
                folders: &around.folders,
                externals,
                this_program,
            };
            compose::read(root, &path, around).with_context(|| format!("Compose file {}", path.display()))
        }
        _ if !externals.is_empty() => bail!(
            "--external goes with a Compose file, which {} is not",
            path.display()
        ),
        root => run_file::understand(root.as_ref(), &path, &around.folders)
            .with_context(|| format!("run file {}", path.display())),
    }
}

/// This binary. The link in `/proc` stays right when the file is replaced while we run.
fn this_program() -> Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return Ok(link.to_owned());
    }
    std::env::current_exe().context("cannot tell where this program is")
}
