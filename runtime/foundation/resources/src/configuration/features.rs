//! Preview features and their defaults (upstream `configuration.go`).

use std::collections::BTreeSet;

use crate::decode::decode_fields;

/// Features that are on unless a configuration lists them otherwise.
const ON_BY_DEFAULT: &[&str] = &["HotReload", "WorkflowsRemoteActivityReminder"];

/// A feature switched on or off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeatureSpec {
    /// Its name.
    pub name: String,
    /// Whether it is on.
    pub enabled: bool,
}

decode_fields!(FeatureSpec { "name" => name, "enabled" => enabled });

/// The features that are on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features(BTreeSet<String>);

impl Features {
    /// From a configuration's list, where later entries win, the defaults for what it does not list, and those
    /// the build forces on.
    pub fn new<'a>(listed: &[FeatureSpec], forced: impl IntoIterator<Item = &'a str>) -> Self {
        let mut on = BTreeSet::new();
        for feature in listed.iter().filter(|feature| !feature.name.is_empty()) {
            if feature.enabled {
                on.insert(feature.name.clone());
            } else {
                on.remove(&feature.name);
            }
        }
        for name in ON_BY_DEFAULT {
            if listed.iter().all(|feature| feature.name != *name) {
                on.insert((*name).to_owned());
            }
        }
        on.extend(
            forced
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        );
        Self(on)
    }

    /// Whether a feature is on.
    #[must_use]
    pub fn enabled(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// The names of those that are on, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
