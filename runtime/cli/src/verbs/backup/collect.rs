//! What belongs into a backup: databases of components, resource files, Configurations.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use outrigger_components_sqlite::snapshot;
use outrigger_resources::{
    kinds::{Component, Resource as _},
    survey,
};

use super::{
    super::Surroundings,
    archive::{Kind, Source},
    roots::Roots,
};
use crate::{
    run::{resources, run_file},
    workbench::{Place, Workbench},
};

/// How long a secret store may take to open: a connection string may refer to it.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) resources: &'a [PathBuf],
    pub(super) config: Option<&'a Path>,
    pub(super) run_file: Option<&'a Path>,
    pub(super) secrets: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) files: Vec<Source>,
    /// What is left out, and why.
    pub(super) notes: Vec<String>,
}

/// Finds all files.
///
/// # Errors
/// When a folder that was named cannot be read.
pub(super) async fn sources(wish: &Wish<'_>, around: &Surroundings) -> Result<Sources> {
    let roots = Roots::of(around);
    let mut found = Sources::default();
    let (folders, configs) = places(wish, around, &roots, &mut found)?;
    for folder in &folders {
        let context = || format!("cannot read {}", folder.display());
        for entry in std::fs::read_dir(folder).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
            if yaml && path.is_file() {
                found.add(&roots, path, Kind::Resource);
            }
        }
    }
    for config in configs {
        found.add(&roots, config, Kind::Configuration);
    }
    let mut bench = Workbench::new(None, &around.working_dir, &around.environment);
    let components = survey(&folders).components;
    bench.open_secret_stores(&components, LIMIT).await;
    for component in &components {
        found.component(component, &bench, wish.secrets, &roots).await;
    }
    found.files.sort_by(|a, b| a.from.cmp(&b.from));
    found.files.dedup_by(|a, b| a.from == b.from);
    found.notes.sort();
    found.notes.dedup();
    Ok(found)
}

/// Resource folders and Configuration files.
fn places(
    wish: &Wish<'_>,
    around: &Surroundings,
    roots: &Roots,
    found: &mut Sources,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let runtime_path = around.runtime_path.as_deref();
    let (mut folders, mut configs) = (Vec::new(), Vec::new());
    match wish.run_file {
        Some(path) => {
            let path = run_file::locate(path)?;
            let run = run_file::read(&path, &around.working_dir, &around.folders)?;
            for app in &run.apps {
                let dir = app.dir.as_deref().unwrap_or(&around.working_dir);
                let (there, config) = resources::look(dir, runtime_path, &around.folders);
                let own = &app.shared.resources_paths;
                folders.extend(if own.is_empty() { there } else { own.clone() });
                configs.extend(app.shared.config.clone().or(config));
            }
            found.add(roots, run.path, Kind::RunFile);
        }
        None if wish.resources.is_empty() => {
            let (there, config) = resources::look(&around.working_dir, runtime_path, &around.folders);
            folders.extend(there);
            configs.extend(wish.config.map(|path| around.working_dir.join(path)).or(config));
        }
        None => {
            let place = Place::of(
                wish.resources,
                wish.config,
                &around.working_dir,
                runtime_path,
                &around.folders,
            )?;
            folders.extend(place.resources);
            configs.extend(place.configs);
        }
    }
    // What `run` wrote in other folders lives there too.
    let defaults = around.folders.data_path().join("defaults");
    if wish.resources.is_empty() && defaults.is_dir() {
        folders.push(defaults);
    }
    folders.sort();
    folders.dedup();
    configs.sort();
    configs.dedup();
    Ok((folders, configs))
}

impl Sources {
    fn add(&mut self, roots: &Roots, from: PathBuf, kind: Kind) {
        let (root, path) = roots.split(&from);
        self.files.push(Source {
            from,
            kind,
            root,
            path,
        });
    }

    async fn component(&mut self, component: &Component, bench: &Workbench, secrets: bool, roots: &Roots) {
        let (name, type_name) = (component.name(), component.spec.r#type.to_ascii_lowercase());
        let Ok(prepared) = bench.prepare(component).await else {
            return;
        };
        let properties = &prepared.spec.properties;
        if type_name.contains("sqlite") {
            match snapshot::database_file(properties, bench.base_dir()) {
                Ok(Some(file)) if file.is_file() => self.add(roots, file, Kind::Database),
                Ok(Some(_)) => {}
                Ok(None) => self
                    .notes
                    .push(format!("{name} is in memory and not in the backup")),
                Err(error) => self
                    .notes
                    .push(format!("{name} is not in the backup: {}", error.chain())),
            }
            return;
        }
        match type_name.as_str() {
            "secretstores.local.file" => {
                let Some(file) = properties.non_empty("secretsFile") else {
                    return;
                };
                let file = bench.base_dir().join(file);
                if secrets && file.is_file() {
                    self.add(roots, file, Kind::Secrets);
                } else if file.is_file() {
                    let text = format!(
                        "the secrets of {name} are not in the backup; --with-secrets takes them along"
                    );
                    self.notes.push(text);
                }
            }
            // They keep nothing.
            "secretstores.local.env" | "bindings.cron" | "bindings.http" => {}
            other if other.starts_with("middleware.") || other.ends_with(".in-memory") => {}
            other => self.notes.push(format!(
                "the data of {name} ({other}) is not embedded and not in the backup"
            )),
        }
    }
}
