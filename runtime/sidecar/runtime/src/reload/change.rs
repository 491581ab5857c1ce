//! Changes in the order in which they come into force.

use std::fmt;

use outrigger_resources::{Diff, kinds::Resource};

/// What happened to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Deleted,
    Updated,
    Created,
}

impl fmt::Display for Event {
    /// As upstream's logs spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "DELETED",
            Self::Updated => "UPDATED",
            Self::Created => "CREATED",
        })
    }
}

/// Deleted, updated, created: what had a name is closed before something else is opened under it.
pub(super) fn each<T>(changes: &Diff<T>) -> impl Iterator<Item = (Event, &T)> {
    let of = |event, list| std::iter::repeat(event).zip::<&Vec<T>>(list);
    of(Event::Deleted, &changes.deleted)
        .chain(of(Event::Updated, &changes.updated))
        .chain(of(Event::Created, &changes.created))
}

/// Those that are neither gone nor another one now, in their order.
pub(super) fn unchanged<'a, T: Resource>(
    known: &'a [T],
    changes: &'a Diff<T>,
) -> impl Iterator<Item = &'a T> {
    known.iter().filter(|known| {
        !changes
            .deleted
            .iter()
            .chain(&changes.updated)
            .any(|changed| changed.name() == known.name())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_before_it_opens() {
        let changes = Diff {
            deleted: vec![1],
            updated: vec![2],
            created: vec![3],
        };
        let order: Vec<_> = each(&changes).map(|(event, n)| format!("{event} {n}")).collect();
        assert_eq!(order, ["DELETED 1", "UPDATED 2", "CREATED 3"]);
    }
}
