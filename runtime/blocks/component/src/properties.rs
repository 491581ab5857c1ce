//! Metadata properties of a component: case-insensitive names, string values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outrigger_types::{duration::GoDuration, is_truthy};

use crate::Error;

/// The resolved `spec.metadata` of a component. Names compare without case, as upstream components read them;
/// the last of two equal names wins. Values may be secrets, so `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Properties {
    pairs: BTreeMap<String, (String, String)>,
    /// Shared by clones; only tools watch.
    reads: Option<Arc<Mutex<Reads>>>,
}

/// Which properties a component asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// The names, in the component's own spelling.
    pub names: BTreeSet<String>,
    /// Whether it looked at all there are, so that no name is unknown to it.
    pub all: bool,
}

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
        self.pairs.insert(name.to_ascii_lowercase(), (name, value.into()));
    }

    /// These properties, with a note kept of every name that is asked for: how tools tell a component's settings
    /// from spelling mistakes.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.reads = Some(Arc::default());
        self
    }

    /// What was asked for since [`Properties::watched`]; nothing without it.
    #[must_use]
    pub fn reads(&self) -> Reads {
        let reads = self.reads.as_ref();
        reads.map_or_else(Reads::default, |reads| {
            reads.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    fn note(&self, change: impl FnOnce(&mut Reads)) {
        if let Some(reads) = &self.reads {
            change(&mut reads.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The value of a property, if present.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.note(|reads| {
            reads.names.insert(name.to_owned());
        });
        self.pairs
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
        self.note(|reads| reads.all = true);
        self.pairs
            .values()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.pairs.values().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watched_properties_tell_what_was_asked_for() {
        let properties = Properties::from_pairs([("URL", "x"), ("tiemout", "1s")]).watched();
        let clone = properties.clone();
        assert_eq!(clone.get("url"), Some("x"));
        assert!(clone.duration("timeout").unwrap().is_none());
        let reads = properties.reads();
        assert_eq!(reads.names.into_iter().collect::<Vec<_>>(), ["timeout", "url"]);
        assert!(!reads.all);
        assert_eq!(properties.iter().count(), 2);
        assert!(properties.reads().all);
        assert_eq!(Properties::default().reads(), Reads::default());
    }
}
