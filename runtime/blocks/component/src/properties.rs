//! Metadata properties of a component: case-insensitive names, string values.

use std::{collections::BTreeMap, fmt, time::Duration};

use outrigger_types::{duration::GoDuration, is_truthy};

use crate::Error;

/// The resolved `spec.metadata` of a component. Names compare without case, as upstream components read them;
/// the last of two equal names wins. Values may be secrets, so `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Properties(BTreeMap<String, (String, String)>);

impl Properties {
    /// Properties from pairs.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut properties = Self::default();
        for (name, value) in pairs {
            properties.insert(name, value);
        }
        properties
    }

    /// Adds or replaces a property.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.0.insert(name.to_ascii_lowercase(), (name, value.into()));
    }

    /// The value of a property, if present.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(&name.to_ascii_lowercase())
            .map(|(_, value)| value.as_str())
    }

    /// The value of a property, if present and not empty.
    #[must_use]
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The value of a property that must be there and not empty.
    ///
    /// # Errors
    /// A configuration error that names the property.
    pub fn required(&self, name: &str) -> Result<&str, Error> {
        self.non_empty(name)
            .ok_or_else(|| Error::configuration(format!("missing required metadata field {name:?}")))
    }

    /// A switch; absent is `false`.
    #[must_use]
    pub fn truthy(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_truthy)
    }

    /// A Go duration; absent or empty is `None`.
    ///
    /// # Errors
    /// A configuration error that names the property and the value.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Error> {
        self.non_empty(name)
            .map(|value| {
                GoDuration::parse(value)
                    .ok()
                    .and_then(GoDuration::to_std)
                    .ok_or_else(|| {
                        Error::configuration(format!(
                            "metadata field {name:?}: {value:?} is not a duration such as 30s or 1h30m"
                        ))
                    })
            })
            .transpose()
    }

    /// A number; absent or empty is `None`.
    ///
    /// # Errors
    /// A configuration error that names the property and the value.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Error> {
        self.non_empty(name)
            .map(|value| {
                value.trim().parse().map_err(|_| {
                    Error::configuration(format!(
                        "metadata field {name:?}: {value:?} is not a number in range"
                    ))
                })
            })
            .transpose()
    }

    /// All pairs with their names as written, ordered by lower-case name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .values()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.values().map(|(name, _)| name))
            .finish()
    }
}
