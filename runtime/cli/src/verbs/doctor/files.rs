//! Resource and Configuration files: what cannot be read, what is given twice.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use outrigger_resources::{
    LoadError, Survey,
    configuration::{Configuration, ConfigurationError},
    kinds::{Origin, Resource},
};
use outrigger_types::Environment;

use super::finding::Finding;

const CHECK: &str = "files";

/// What reading the folders found, and names given twice.
pub(super) fn check(survey: &Survey) -> Vec<Finding> {
    let mut findings: Vec<Finding> = survey.warnings.iter().cloned().map(Finding::of_warning).collect();
    for error in &survey.unreadable {
        let finding = Finding::error(CHECK, error.to_string());
        findings.push(match error {
            LoadError::Directory { path, .. } => finding
                .cure(format!(
                    "make the folder (mkdir -p {}), or name another one",
                    path.display()
                ))
                .in_file(path, 0),
            _ => finding,
        });
    }
    twice(&survey.components, &mut findings);
    twice(&survey.http_endpoints, &mut findings);
    twice(&survey.resiliencies, &mut findings);
    twice(&survey.configurations, &mut findings);
    twice(&survey.mcp_servers, &mut findings);
    twice(&survey.workflow_access_policies, &mut findings);
    findings
}

fn twice<T: Resource>(resources: &[T], findings: &mut Vec<Finding>) {
    let mut first: HashMap<(&str, &str), &T> = HashMap::new();
    for resource in resources {
        let key = (resource.meta().namespace.as_str(), resource.name());
        let Some(existing) = first.get(&key) else {
            first.insert(key, resource);
            continue;
        };
        let place = existing
            .meta()
            .origin
            .as_ref()
            .map(Origin::to_string)
            .unwrap_or_default();
        findings.push(
            Finding::error(
                CHECK,
                format!(
                    "the {} {:?} is there already, at {place}",
                    T::KIND,
                    resource.name()
                ),
            )
            .cure("rename or remove one of them; a sidecar that gets both does not start")
            .at(resource.meta().origin.as_ref()),
        );
    }
}

/// Reads Configuration files as a sidecar does.
pub(super) fn configurations(
    files: &[PathBuf],
    environment: &Environment,
) -> (Vec<Configuration>, Vec<Finding>) {
    let (mut read, mut findings) = (Vec::new(), Vec::new());
    for file in files {
        match Configuration::load([file], environment) {
            Ok(loaded) => {
                findings.extend(loaded.warnings.into_iter().map(Finding::of_warning));
                let mut configuration = loaded.configuration;
                configuration.meta.origin = Some(Origin {
                    file: file.clone(),
                    line: 0,
                });
                read.push(configuration);
            }
            Err(error) => findings.push(of_error(file, &error)),
        }
    }
    (read, findings)
}

fn of_error(file: &Path, error: &ConfigurationError) -> Finding {
    let (line, cure) = match error {
        ConfigurationError::Read { .. } => (0, "correct the path, or its permissions"),
        ConfigurationError::Syntax(error) => (
            error.at.line,
            "correct the YAML; a sidecar does not start with it",
        ),
        ConfigurationError::Types(places) => (
            places.first().map_or(0, |(at, _)| at.line),
            "correct the value; a sidecar does not start with it",
        ),
        ConfigurationError::RepeatedStore(_) => (0, "keep one entry for each store in spec.secrets.scopes"),
        ConfigurationError::DefaultAccess(_) => (0, "write allow or deny"),
        ConfigurationError::Json(_) => (0, "correct the value"),
    };
    let message = error.to_string().replace('\n', " ");
    Finding::error("configuration", message)
        .cure(cure)
        .in_file(file, line)
}
