//! From a type and version to a registration.

use std::fmt;

use outrigger_component::{Error, Registration};

use crate::Category;

/// There is no component of that type and version. The texts are those of upstream's registries
/// (`pkg/components/*/registry.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownType {
    /// The type asked for.
    pub type_name: String,
    /// The version asked for.
    pub version: String,
}

impl UnknownType {
    /// The text for a component of this name. Bindings alone say it with the name: their registry is asked twice,
    /// and whoever asks it speaks up.
    #[must_use]
    pub fn of_component(&self, name: &str) -> String {
        match Category::of(&self.type_name) {
            Some(Category::Bindings) => {
                format!(
                    "couldn't find binding {name} ({}/{})",
                    self.type_name, self.version
                )
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for UnknownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { type_name, version } = self;
        match Category::of(type_name) {
            None => write!(f, "incorrect type {type_name}"),
            Some(Category::Middleware) => {
                write!(f, "HTTP middleware {type_name}/{version} has not been registered")
            }
            Some(Category::NameResolution) => {
                // Its registry is asked by the short name.
                let short = type_name
                    .split_once('.')
                    .map_or(type_name.as_str(), |(_, short)| short);
                write!(f, "couldn't find name resolver {short}/{version}")
            }
            Some(category) => write!(f, "couldn't find {} {type_name}/{version}", category.noun()),
        }
    }
}

impl std::error::Error for UnknownType {}

impl From<UnknownType> for Error {
    fn from(unknown: UnknownType) -> Self {
        Self::configuration(unknown.to_string())
    }
}

/// Whether a version means the first one: absent, `v0` and `v1` are one (upstream `pkg/components/versioning.go`).
#[must_use]
pub fn is_initial_version(version: &str) -> bool {
    version.is_empty() || version.eq_ignore_ascii_case("v0") || version.eq_ignore_ascii_case("v1")
}

/// The registration that serves a type and version; neither's case counts.
///
/// # Errors
/// When none does.
pub fn find<I: ?Sized>(
    registrations: &[Registration<I>],
    type_name: &str,
    version: &str,
) -> Result<Registration<I>, UnknownType> {
    registrations
        .iter()
        .find(|registration| registration.serves(type_name, version))
        .copied()
        .ok_or_else(|| UnknownType {
            type_name: type_name.to_owned(),
            version: version.to_owned(),
        })
}
