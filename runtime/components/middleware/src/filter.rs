//! `pathFilter`: which paths a handler is for.

use http::Uri;
use outrigger_component::{Error, Properties};
use regex::Regex;

use crate::path;

/// A regular expression over paths; without one, all paths.
#[derive(Debug, Clone, Default)]
pub struct PathFilter(Option<Regex>);

impl PathFilter {
    /// Reads the property `pathFilter`.
    ///
    /// # Errors
    /// When it is no regular expression.
    pub(crate) fn parse(properties: &Properties) -> Result<Self, regex::Error> {
        properties
            .non_empty("pathFilter")
            .map(Regex::new)
            .transpose()
            .map(Self)
    }

    /// Whether the handler is for this request. Like Go's, an expression matches anywhere in the path unless it is
    /// anchored.
    pub(crate) fn takes(&self, uri: &Uri) -> bool {
        self.0
            .as_ref()
            .is_none_or(|filter| filter.is_match(&path::decoded(uri)))
    }
}

/// A regular expression of the metadata that cannot be used.
pub(crate) fn invalid(property: &str, error: &regex::Error) -> Error {
    Error::configuration(format!(
        "metadata field {property:?} is not a regular expression: {error}"
    ))
}
