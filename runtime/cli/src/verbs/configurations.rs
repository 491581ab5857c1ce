//! `outrigger configurations`: the Configurations of this place and of running sidecars.

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Result;
use clap::Args;
use outrigger_resources::{configuration::Configuration, kinds::Resource as _, survey};
use serde::Serialize;

use super::{
    Surroundings,
    cluster::ClusterFlags,
    components,
    list::{age, created},
    wait_for,
};
use crate::{
    console::Status,
    output::{self, Format},
    sidecars,
    workbench::Place,
};

/// List Configurations: those in files, and those that sidecars use
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger configurations\n  outrigger configurations --config ./config.yaml --output json\n  outrigger configurations --name daprConfig --output yaml"
)]
pub(super) struct ConfigurationsFlags {
    /// Only the one of this name
    #[arg(short = 'n', long)]
    name: Option<String>,
    /// Configuration file. What `run` would use, and what sidecars use, if not given
    #[arg(short = 'c', long)]
    config: Option<PathBuf>,
    /// How to print: table, json or yaml
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// One line: upstream's columns (`kubernetes.ConfigurationsOutput`), then ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    tracing_enabled: bool,
    metrics_enabled: bool,
    created: String,
    age: String,
    used_by: Vec<String>,
    source: String,
}

const HEADINGS: [&str; 8] = [
    "NAMESPACE",
    "NAME",
    "TRACING-ENABLED",
    "METRICS-ENABLED",
    "CREATED",
    "AGE",
    "USED BY",
    "SOURCE",
];

pub(super) fn main(flags: &ConfigurationsFlags, around: &Surroundings) -> Result<ExitCode> {
    flags.cluster.check("Configurations", around)?;
    let sidecars = wait_for(async { Ok(sidecars::list().await) })?;
    let runtime_path = around.runtime_path.as_deref();
    let place = Place::of(
        &[],
        flags.config.as_deref(),
        &around.working_dir,
        runtime_path,
        &around.folders,
    )?;
    let mut files = place.configs;
    let mut named = Vec::new();
    if flags.config.is_none() {
        for file in sidecars.iter().flat_map(|sidecar| &sidecar.config_paths) {
            if file.is_file() && !files.contains(file) {
                files.push(file.clone());
            }
        }
        named = survey(&components::folders(&[], around, &sidecars)?).configurations;
    }
    let mut rows = Vec::new();
    let mut failed = false;
    for file in files {
        match Configuration::load([&file], &around.environment) {
            Ok(loaded) => {
                let used_by = sidecars
                    .iter()
                    .filter(|sidecar| sidecar.config_paths.contains(&file))
                    .map(|sidecar| sidecar.app_id.clone())
                    .collect();
                rows.push(row(
                    &loaded.configuration,
                    &file,
                    file.display().to_string(),
                    used_by,
                ));
            }
            Err(error) => {
                failed = true;
                let text = format!("{}: {error} (outrigger doctor says more)", file.display());
                around.console.say(Status::Failure, &text);
            }
        }
    }
    for configuration in &named {
        if let Some(origin) = &configuration.meta.origin {
            rows.push(row(configuration, &origin.file, origin.to_string(), Vec::new()));
        }
    }
    if let Some(name) = &flags.name {
        rows.retain(|row| row.name == *name);
    }
    output::rows(
        flags.output,
        &rows,
        HEADINGS,
        |row| {
            [
                row.namespace.clone(),
                row.name.clone(),
                row.tracing_enabled.to_string(),
                row.metrics_enabled.to_string(),
                row.created.clone(),
                row.age.clone(),
                row.used_by.join(","),
                row.source.clone(),
            ]
        },
        "No configurations found.",
    )?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn row(configuration: &Configuration, file: &std::path::Path, source: String, used_by: Vec<String>) -> Row {
    let now = SystemTime::now();
    let modified = std::fs::metadata(file)
        .and_then(|metadata| metadata.modified())
        .unwrap_or(now);
    let spec = &configuration.spec;
    let rate = spec
        .tracing
        .as_ref()
        .map_or("", |tracing| tracing.sampling_rate.as_str());
    let metric = spec.metric.as_ref().and_then(|metric| metric.enabled);
    Row {
        namespace: configuration.meta.namespace.clone(),
        name: configuration.name().to_owned(),
        tracing_enabled: rate.parse::<f64>().is_ok_and(|rate| rate > 0.0),
        metrics_enabled: metric.unwrap_or(true),
        created: created(modified),
        age: age(now.duration_since(modified).unwrap_or_default()),
        used_by,
        source,
    }
}
