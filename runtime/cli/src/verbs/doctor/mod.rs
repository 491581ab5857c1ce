//! `outrigger doctor`: what is wrong here and what to do about it.
//!
//! Files are read as a sidecar reads them (design D14); what a sidecar takes although it looks wrong is a warning,
//! which `--strict` makes an error. Nothing is changed, and nothing is made: stores whose opening would create files
//! are looked at without it.

mod components;
mod files;
mod finding;
mod machine;
mod references;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use outrigger_resources::survey;
use serde_json::json;

use self::finding::{Finding, Severity};
use super::{Surroundings, wait_for};
use crate::{
    output::{self, TextFormat},
    run::{
        resources,
        run_file::{self, RunFile},
        settings::App,
    },
    sidecars,
    usage::refuse,
    workbench::{Place, Workbench},
};

/// Explain what is wrong here, and what to do about it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger doctor\n  outrigger doctor --resources-path ./resources --config ./config.yaml\n  outrigger doctor -f dapr.yaml --strict\n\n  # Without a look at servers, for a pipeline\n  outrigger doctor --resources-path ./resources --offline --strict --output json\n\nExit code: 0 when nothing is wrong, 1 when something is (with --strict: or looks wrong), 2 for a wrong flag."
)]
pub(super) struct DoctorFlags {
    /// Folder of resource files; may be repeated. What `run` would use if not given
    #[arg(long, value_delimiter = ',')]
    resources_path: Vec<PathBuf>,
    /// Configuration file
    #[arg(short = 'c', long)]
    config: Option<PathBuf>,
    /// Run file, or a folder with a dapr.yaml; the one of this folder if not given
    #[arg(short = 'f', long)]
    run_file: Option<PathBuf>,
    /// The id of the app to look for; may be repeated. Others are known from the run file and from running sidecars
    #[arg(short = 'a', long, value_delimiter = ',')]
    app_id: Vec<String>,
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
    /// Do not open components: no server need be there
    #[arg(long)]
    offline: bool,
    /// How long a server may take to answer, in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
}

pub(super) fn main(flags: &DoctorFlags, around: &Surroundings) -> Result<ExitCode> {
    let (mut findings, looked) = wait_for(examine(flags, around))?;
    findings.sort_by(|a, b| {
        (b.severity, &a.file, a.line, &a.message).cmp(&(a.severity, &b.file, b.line, &b.message))
    });
    findings.dedup();
    if flags.strict {
        for finding in &mut findings {
            if finding.severity == Severity::Warning {
                finding.severity = Severity::Error;
            }
        }
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match flags.output {
        TextFormat::Json => output::print(
            output::json(&json!({
                "version": 1,
                "ok": errors == 0,
                "errors": errors,
                "warnings": warnings,
                "looked": looked,
                "findings": findings,
            }))?
            .as_bytes(),
        )?,
        TextFormat::Text => output::print(text(&findings, &looked, around).as_bytes())?,
    }
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(findings: &[Finding], looked: &[String], around: &Surroundings) -> String {
    use crate::console::Status;
    let mut text = String::new();
    for place in looked {
        text.push_str(&around.console.line(Status::Info, place));
    }
    for finding in findings {
        let status = match finding.severity {
            Severity::Error => Status::Failure,
            Severity::Warning => Status::Warning,
            Severity::Info => Status::Info,
        };
        text.push_str(&around.console.line(status, &finding.text()));
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (status, verdict) = match (errors, warnings) {
        (0, 0) => (Status::Success, "nothing is wrong".to_owned()),
        (0, _) => (
            Status::Success,
            format!("nothing is wrong; {} to look at", plural(warnings, "warning")),
        ),
        _ => (
            Status::Failure,
            format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
        ),
    };
    text.push_str(&around.console.line(status, &verdict));
    text
}

/// Finds everything; also says where it looked.
async fn examine(flags: &DoctorFlags, around: &Surroundings) -> Result<(Vec<Finding>, Vec<String>)> {
    let (mut findings, mut looked) = (Vec::new(), Vec::new());
    let run = run_file_of(flags, around, &mut findings)?;
    let (folders, configs) = places(flags, around, run.as_ref(), &mut looked)?;
    let running = sidecars::list().await;
    let mut apps: BTreeSet<String> = flags.app_id.iter().cloned().collect();
    apps.extend(
        run.iter()
            .flat_map(|run| run.apps.iter().map(|app| app.app_id.clone())),
    );
    apps.extend(running.iter().map(|sidecar| sidecar.app_id.clone()));

    let found = survey(&folders);
    findings.extend(files::check(&found));
    let (configurations, mut said) = files::configurations(&configs, &around.environment);
    findings.append(&mut said);
    findings.extend(references::check(&found, &configurations, &apps));

    let limit = Duration::from_secs(flags.timeout);
    let mut bench = Workbench::new(
        flags.app_id.first().map(String::as_str),
        &around.working_dir,
        &around.environment,
    );
    if !found.components.is_empty() {
        bench.open_secret_stores(&found.components, limit).await;
    }
    let depth = components::Depth {
        open: !flags.offline,
        limit,
    };
    findings.extend(components::check(&found.components, &bench, &around.environment, depth).await);

    let search_path = around.environment.get("PATH").unwrap_or_default();
    findings.extend(machine::folders(&around.folders));
    findings.extend(machine::leftovers(&around.folders));
    findings.extend(machine::ports(run.as_ref(), &running));
    if let Some(run) = &run {
        findings.extend(machine::commands(run, search_path));
    }
    let dapr = around.folders.dapr(around.runtime_path.as_deref());
    findings.extend(machine::installed(dapr.as_deref(), search_path));
    Ok((findings, looked))
}

/// The run file that is named or stands here. One that cannot be read is a finding.
fn run_file_of(
    flags: &DoctorFlags,
    around: &Surroundings,
    findings: &mut Vec<Finding>,
) -> Result<Option<RunFile>> {
    let here = around.working_dir.join("dapr.yaml");
    let path = match &flags.run_file {
        Some(path) if path == Path::new("-") => refuse!("doctor reads run files from disk only"),
        Some(path) => run_file::locate(path)?,
        // Whoever names resources means those.
        None if here.is_file() && flags.resources_path.is_empty() => here,
        None => return Ok(None),
    };
    match run_file::read(&path, &around.working_dir, &around.folders) {
        Ok(run) => Ok(Some(run)),
        Err(error) => {
            let path = run_file::absolute(&path, &around.working_dir);
            let text = format!("{:#}", error.root_cause());
            let line = text
                .split("line ")
                .nth(1)
                .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
                .unwrap_or(0);
            findings.push(
                Finding::error("run-file", text)
                    .cure("correct the run file; outrigger run -f would not start")
                    .in_file(&path, line),
            );
            Ok(None)
        }
    }
}

/// The resource folders and Configuration files to look at.
fn places(
    flags: &DoctorFlags,
    around: &Surroundings,
    run: Option<&RunFile>,
    looked: &mut Vec<String>,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut folders, mut configs): (Vec<PathBuf>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    let mut add = |list: Vec<PathBuf>, config: Option<PathBuf>| {
        for folder in list {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        configs.extend(config.filter(|config| !configs.contains(config)));
    };
    let config = flags.config.as_ref().map(|path| around.working_dir.join(path));
    if flags.resources_path.is_empty() {
        let dirs: Vec<(&Path, Option<&App>)> = match run {
            Some(run) => run
                .apps
                .iter()
                .map(|app| (app.dir.as_deref().unwrap_or(&around.working_dir), Some(app)))
                .collect(),
            None => vec![(around.working_dir.as_path(), None)],
        };
        for (dir, app) in dirs {
            let own = app
                .map(|app| app.shared.resources_paths.clone())
                .unwrap_or_default();
            let own_config = app.and_then(|app| app.shared.config.clone());
            let (there, found) = resources::look(dir, around.runtime_path.as_deref(), &around.folders);
            let list = if own.is_empty() { there } else { own };
            add(list, own_config.or(config.clone()).or(found));
        }
    } else {
        let place = Place::of(
            &flags.resources_path,
            flags.config.as_deref(),
            &around.working_dir,
            around.runtime_path.as_deref(),
            &around.folders,
        )?;
        add(place.resources, place.configs.into_iter().next());
    }
    if let Some(run) = run {
        looked.push(format!("run file {}", run.path.display()));
    }
    looked.extend(
        folders
            .iter()
            .map(|folder| format!("resources in {}", folder.display())),
    );
    if folders.is_empty() {
        looked.push("no resources of yours: outrigger run uses its built-in components".to_owned());
    }
    looked.extend(
        configs
            .iter()
            .map(|config| format!("Configuration {}", config.display())),
    );
    Ok((folders, configs))
}
