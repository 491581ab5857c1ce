//! Components a configuration refuses: `spec.components.deny` (wire.md §14).

use crate::kinds::Component;

/// The refused types, ready to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComponentDenyList {
    /// `None` when nothing was configured; with a list, components must also name type and version.
    entries: Option<Vec<(String, Option<String>)>>,
}

impl ComponentDenyList {
    /// From entries `type` or `type/version`; empty ones and those with more slashes count for nothing.
    #[must_use]
    pub fn new(deny: &[String]) -> Self {
        if deny.is_empty() {
            return Self::default();
        }
        let entries = deny
            .iter()
            .filter_map(|entry| match entry.split('/').collect::<Vec<_>>()[..] {
                [""] => None,
                [r#type] => Some((r#type.to_owned(), None)),
                // Upstream takes the empty version for none.
                [r#type, ""] => Some((r#type.to_owned(), None)),
                [r#type, version] => Some((r#type.to_owned(), Some(version.to_owned()))),
                _ => None,
            })
            .collect();
        Self {
            entries: Some(entries),
        }
    }

    /// Whether a component may be loaded.
    #[must_use]
    pub fn allows(&self, component: &Component) -> bool {
        let Some(entries) = &self.entries else { return true };
        let (r#type, version) = (&component.spec.r#type, &component.spec.version);
        !r#type.is_empty()
            && !version.is_empty()
            && !entries.iter().any(|(denied, denied_version)| {
                denied == r#type && denied_version.as_ref().is_none_or(|denied| denied == version)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_type_and_version_exactly() {
        let allows = |deny: &[&str], r#type: &str, version: &str| {
            let deny: Vec<String> = deny.iter().map(|entry| (*entry).to_owned()).collect();
            let mut component = Component::default();
            r#type.clone_into(&mut component.spec.r#type);
            version.clone_into(&mut component.spec.version);
            ComponentDenyList::new(&deny).allows(&component)
        };
        assert!(allows(&[], "state.redis", ""));
        assert!(!allows(&["state.redis"], "state.redis", "v2"));
        assert!(allows(&["state.redis/v1"], "state.redis", "v2"));
        assert!(!allows(&["state.redis/v1"], "state.redis", "v1"));
        assert!(allows(&["State.Redis"], "state.redis", "v1"));
        assert!(allows(&["", "a/b/c"], "state.redis", "v1"));
        assert!(
            !allows(&["other"], "state.redis", ""),
            "with a list, a version is needed"
        );
        assert!(!allows(&["other"], "", "v1"));
    }
}
