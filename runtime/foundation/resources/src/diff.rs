//! What changed between two loads of a kind (upstream `pkg/runtime/hotreload/differ`).

use std::collections::HashMap;

use crate::kinds::Resource;

/// The changes, to be applied in the order of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff<T> {
    /// Gone.
    pub deleted: Vec<T>,
    /// Same name, other content; the new ones.
    pub updated: Vec<T>,
    /// New.
    pub created: Vec<T>,
}

impl<T> Diff<T> {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deleted.is_empty() && self.updated.is_empty() && self.created.is_empty()
    }
}

/// Compares what is loaded with what there is now, in full but for Kubernetes' bookkeeping. What the sidecar brings
/// along itself is never reported as deleted.
#[must_use]
pub fn diff<T: Resource>(old: &[T], new: &[T]) -> Diff<T> {
    let missing = unmatched(new, old, |_| false);
    let gone = unmatched(old, new, Resource::is_builtin);
    let names =
        |list: &[&T]| -> HashMap<String, ()> { list.iter().map(|r| (r.name().to_owned(), ())).collect() };
    let (missing_names, gone_names) = (names(&missing), names(&gone));
    let deleted = gone
        .into_iter()
        .filter(|r| !missing_names.contains_key(r.name()))
        .cloned()
        .collect();
    let (updated, created) = missing
        .into_iter()
        .cloned()
        .partition(|r| gone_names.contains_key(r.name()));
    Diff {
        deleted,
        updated,
        created,
    }
}

/// Those of `items` that `others` has no equal of; of several with one name the last.
fn unmatched<'a, T: Resource>(items: &'a [T], others: &[T], skip: impl Fn(&T) -> bool) -> Vec<&'a T> {
    let mut by_name: HashMap<&str, Vec<&T>> = HashMap::new();
    for other in others {
        by_name.entry(other.name()).or_default().push(other);
    }
    let mut found: Vec<&T> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for item in items.iter().filter(|item| !skip(item)) {
        let same = by_name
            .get(item.name())
            .is_some_and(|others| others.iter().any(|other| item.same_spec(other)));
        if same {
            continue;
        }
        match places.get(item.name()) {
            Some(place) => found[*place] = item,
            None => {
                places.insert(item.name(), found.len());
                found.push(item);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{Component, NameValue};

    fn component(name: &str, value: &str) -> Component {
        let mut component = Component::default();
        name.clone_into(&mut component.meta.name);
        component.spec.metadata.push(NameValue::new("key", value));
        component
    }

    fn names(list: &[Component]) -> Vec<&str> {
        list.iter().map(Resource::name).collect()
    }

    #[test]
    fn tells_deleted_updated_and_created() {
        let old = [component("a", "1"), component("b", "1"), component("c", "1")];
        let new = [component("d", "1"), component("c", "1"), component("b", "2")];
        let changes = diff(&old, &new);
        assert_eq!(names(&changes.deleted), ["a"]);
        assert_eq!(names(&changes.updated), ["b"]);
        assert_eq!(names(&changes.created), ["d"]);
        assert_eq!(changes.updated[0].spec.metadata[0].value.text(), "2");
    }

    #[test]
    fn bookkeeping_and_builtins_do_not_count() {
        let mut old = component("a", "1");
        old.meta.resource_version = "1".to_owned();
        assert!(diff(&[old], &[component("a", "1")]).is_empty());
        let mut builtin = component("kubernetes", "1");
        builtin.spec.r#type = "secretstores.kubernetes".to_owned();
        assert!(diff(&[builtin], &[]).is_empty());
    }
}
