//! `outrigger components`: what the resource files say and what running sidecars have open.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::Result;
use clap::Args;
use outrigger_resources::{
    kinds::{Component, Resource as _},
    survey,
};
use serde::Serialize;

use super::{
    Surroundings,
    cluster::ClusterFlags,
    list::{age, created},
    wait_for,
};
use crate::{
    output::{self, Format},
    sidecars::{self, Sidecar},
    workbench::Place,
};

/// List components: those in files, and those that sidecars have open
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger components\n  outrigger components --name statestore --output yaml\n  outrigger components --resources-path ./resources --output json"
)]
pub(super) struct ComponentsFlags {
    /// Only the one of this name
    #[arg(short = 'n', long)]
    name: Option<String>,
    /// Folder of resource files; may be repeated. What `run` would use, and what sidecars use, if not given
    #[arg(long, value_delimiter = ',')]
    resources_path: Vec<PathBuf>,
    /// How to print: table, json or yaml
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// One line: upstream's columns (`kubernetes.ComponentsOutput`), then ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    r#type: String,
    version: String,
    scopes: Vec<String>,
    created: String,
    age: String,
    /// Apps whose sidecar has it open.
    loaded_by: Vec<String>,
    /// File and line; empty for what is only known from a sidecar.
    source: String,
}

const HEADINGS: [&str; 9] = [
    "NAMESPACE",
    "NAME",
    "TYPE",
    "VERSION",
    "SCOPES",
    "CREATED",
    "AGE",
    "LOADED BY",
    "SOURCE",
];

pub(super) fn main(flags: &ComponentsFlags, around: &Surroundings) -> Result<ExitCode> {
    flags.cluster.check("components", around)?;
    let sidecars = wait_for(async { Ok(sidecars::list().await) })?;
    let folders = folders(&flags.resources_path, around, &sidecars)?;
    let found = survey(&folders);
    let mut rows = rows(&found.components, &sidecars);
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
                row.r#type.clone(),
                row.version.clone(),
                row.scopes.join(","),
                row.created.clone(),
                row.age.clone(),
                row.loaded_by.join(","),
                row.source.clone(),
            ]
        },
        "No components found.",
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The folders named, else those of this place and of all running sidecars.
pub(super) fn folders(
    named: &[PathBuf],
    around: &Surroundings,
    sidecars: &[Sidecar],
) -> Result<Vec<PathBuf>> {
    let runtime_path = around.runtime_path.as_deref();
    let mut folders = Place::of(named, None, &around.working_dir, runtime_path, &around.folders)?.resources;
    if named.is_empty() {
        for folder in sidecars.iter().flat_map(|sidecar| &sidecar.resources_paths) {
            if folder.is_dir() && !folders.iter().any(|known| same(known, folder)) {
                folders.push(folder.clone());
            }
        }
    }
    Ok(folders)
}

fn same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn rows(components: &[Component], sidecars: &[Sidecar]) -> Vec<Row> {
    let now = SystemTime::now();
    let opens = |sidecar: &Sidecar, name: &str, folder: Option<&Path>| {
        let open = sidecar
            .components
            .iter()
            .flatten()
            .any(|component| component.name == name);
        let here = folder.is_none_or(|folder| {
            sidecar.resources_paths.is_empty()
                || sidecar.resources_paths.iter().any(|path| same(path, folder))
        });
        open && here
    };
    let mut rows: Vec<Row> = components
        .iter()
        .map(|component| {
            let origin = component.meta.origin.as_ref();
            let folder = origin.and_then(|origin| origin.file.parent());
            let modified = origin
                .and_then(|origin| std::fs::metadata(&origin.file).ok()?.modified().ok())
                .unwrap_or(now);
            Row {
                namespace: component.meta.namespace.clone(),
                name: component.name().to_owned(),
                r#type: component.spec.r#type.clone(),
                version: component.spec.version.clone(),
                scopes: component.scopes.clone(),
                created: created(modified),
                age: age(now.duration_since(modified).unwrap_or_default()),
                loaded_by: sidecars
                    .iter()
                    .filter(|sidecar| opens(sidecar, component.name(), folder))
                    .map(|sidecar| sidecar.app_id.clone())
                    .collect(),
                source: origin.map(ToString::to_string).unwrap_or_default(),
            }
        })
        .collect();
    for sidecar in sidecars {
        for open in sidecar.components.iter().flatten() {
            let known = rows
                .iter()
                .any(|row| row.name == open.name && row.loaded_by.contains(&sidecar.app_id));
            if known {
                continue;
            }
            // Files that are gone, or of another user.
            let same = rows
                .iter_mut()
                .find(|row| row.source.is_empty() && row.name == open.name && row.r#type == open.r#type);
            match same {
                Some(row) => row.loaded_by.push(sidecar.app_id.clone()),
                None => rows.push(Row {
                    namespace: String::new(),
                    name: open.name.clone(),
                    r#type: open.r#type.clone(),
                    version: open.version.clone(),
                    scopes: Vec::new(),
                    created: created(sidecar.created),
                    age: age(now.duration_since(sidecar.created).unwrap_or_default()),
                    loaded_by: vec![sidecar.app_id.clone()],
                    source: String::new(),
                }),
            }
        }
    }
    rows.sort_by(|a, b| (&a.name, &a.source).cmp(&(&b.name, &b.source)));
    for row in &mut rows {
        row.loaded_by.dedup();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar_api::{Address, LoadedComponent, SidecarApi};

    fn sidecar(app_id: &str, names: &[&str]) -> Sidecar {
        Sidecar {
            pid: 1,
            app_id: app_id.to_owned(),
            http_port: 0,
            grpc_port: 0,
            app_port: 0,
            metrics_enabled: false,
            max_body_size: 0,
            read_buffer_size: 0,
            created: SystemTime::UNIX_EPOCH,
            attributes: std::collections::BTreeMap::new(),
            components: Some(
                names
                    .iter()
                    .map(|name| LoadedComponent {
                        name: (*name).to_owned(),
                        r#type: "state.sqlite".to_owned(),
                        version: "v1".to_owned(),
                    })
                    .collect(),
            ),
            resources_paths: Vec::new(),
            config_paths: Vec::new(),
            api: SidecarApi::new(Address::Port(0), None),
        }
    }

    #[test]
    fn files_and_sidecars_meet_in_one_row() {
        let temporary = tempfile::tempdir().unwrap();
        let text = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: store\nspec:\n  type: state.sqlite\n  version: v1\nscopes: [a, b]\n";
        std::fs::write(temporary.path().join("store.yaml"), text).unwrap();
        let found = survey(&[temporary.path().to_owned()]);
        let all = rows(
            &found.components,
            &[sidecar("a", &["store", "gone"]), sidecar("b", &["gone"])],
        );
        let seen: Vec<(&str, Vec<String>, bool)> = all
            .iter()
            .map(|row| (row.name.as_str(), row.loaded_by.clone(), row.source.is_empty()))
            .collect();
        assert_eq!(
            seen,
            [
                ("gone", vec!["a".to_owned(), "b".to_owned()], true),
                ("store", vec!["a".to_owned()], false)
            ]
        );
        assert!(all[1].source.ends_with("store.yaml:6"), "{}", all[1].source);
        assert_eq!(all[1].scopes, ["a", "b"]);
    }
}
