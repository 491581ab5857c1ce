//! A capped concurrent map from label values to a series, looked up without allocating.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
};

use parking_lot::RwLock;

/// The keys are already hashes; hashing them again would only cost time.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

struct Node<T> {
    labels: Box<[Box<str>]>,
    value: T,
    /// Another label set with the same hash; practically always `None`.
    next: Option<Box<Self>>,
}

impl<T> Node<T> {
    fn find(&self, labels: &[&str]) -> Option<&T> {
        let mut node = Some(self);
        while let Some(current) = node {
            if current
                .labels
                .iter()
                .map(AsRef::as_ref)
                .eq(labels.iter().copied())
            {
                return Some(&current.value);
            }
            node = current.next.as_deref();
        }
        None
    }
}

struct Inner<T> {
    nodes: HashMap<u64, Node<T>, BuildHasherDefault<Identity>>,
    len: usize,
}

/// Label values to `T`, never more than `cap` entries.
pub(super) struct SeriesMap<T> {
    /// Keyed per map, so that label values chosen by a client cannot be made to collide.
    hasher: RandomState,
    cap: usize,
    inner: RwLock<Inner<T>>,
}

impl<T: Clone> SeriesMap<T> {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            cap,
            inner: RwLock::new(Inner {
                nodes: HashMap::default(),
                len: 0,
            }),
        }
    }

    fn hash(&self, labels: &[&str]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for label in labels {
            hasher.write(label.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    /// The entry of these label values.
    pub(super) fn get(&self, labels: &[&str]) -> Option<T> {
        let hash = self.hash(labels);
        let inner = self.inner.read();
        inner.nodes.get(&hash)?.find(labels).cloned()
    }

    /// Runs `record` on the entry of these label values under the read lock; `None` when there is no entry.
    pub(super) fn with<R>(&self, labels: &[&str], record: impl FnOnce(&T) -> R) -> Option<R> {
        let hash = self.hash(labels);
        let inner = self.inner.read();
        inner.nodes.get(&hash)?.find(labels).map(record)
    }

    /// The entry of these label values, made now if there is room; `None` when the map is full.
    pub(super) fn get_or_insert(&self, labels: &[&str], make: impl FnOnce() -> T) -> Option<T> {
        let hash = self.hash(labels);
        let mut inner = self.inner.write();
        if let Some(found) = inner.nodes.get(&hash).and_then(|node| node.find(labels)) {
            return Some(found.clone());
        }
        if inner.len >= self.cap {
            return None;
        }
        let value = make();
        let previous = inner.nodes.remove(&hash).map(Box::new);
        inner.nodes.insert(
            hash,
            Node {
                labels: labels.iter().map(|label| Box::from(*label)).collect(),
                value: value.clone(),
                next: previous,
            },
        );
        inner.len += 1;
        Some(value)
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.inner.read().len
    }

    /// Visits every entry.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&[Box<str>], &T)) {
        let inner = self.inner.read();
        for node in inner.nodes.values() {
            let mut node = Some(node);
            while let Some(current) = node {
                visit(&current.labels, &current.value);
                node = current.next.as_deref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_entries_beyond_its_cap_but_still_finds_the_old_ones() {
        let map = SeriesMap::new(2);
        assert_eq!(map.get_or_insert(&["a", "b"], || 1), Some(1));
        assert_eq!(map.get_or_insert(&["ab", ""], || 2), Some(2));
        assert_eq!(map.get_or_insert(&["c", ""], || 3), None);
        assert_eq!(map.get(&["a", "b"]), Some(1));
        assert_eq!(map.get(&["ab", ""]), Some(2));
        assert_eq!(map.len(), 2);
    }
}
