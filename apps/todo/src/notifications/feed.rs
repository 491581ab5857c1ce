//! A feed: the last events of a user, numbered.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model::{FeedEntry, FeedPage, Happening, TaskChange};

/// Entries kept. Who was away for longer reads the list again.
const MAX_ENTRIES: usize = 200;
/// Entries told to a new window.
const FIRST_ENTRIES: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Feed {
    head: u64,
    entries: VecDeque<FeedEntry>,
}

impl Feed {
    /// Adds an event, unless it is there already (a repeated delivery).
    pub(super) fn add(&mut self, id: &str, kind: Happening, change: &TaskChange) -> bool {
        if self.entries.iter().any(|entry| entry.id == id) {
            return false;
        }
        self.head += 1;
        self.entries.push_back(FeedEntry {
            seq: self.head,
            id: id.to_owned(),
            kind,
            task: change.task.clone(),
            at: change.at,
        });
        let surplus = self.entries.len().saturating_sub(MAX_ENTRIES);
        self.entries.drain(..surplus);
        true
    }

    /// What comes after a number, or the last few entries.
    pub(super) fn page(&self, after: Option<u64>) -> FeedPage {
        let Some(after) = after else {
            let skipped = self.entries.len().saturating_sub(FIRST_ENTRIES);
            return FeedPage {
                head: self.head,
                entries: self.entries.iter().skip(skipped).cloned().collect(),
                reset: false,
            };
        };
        let oldest = self.entries.front().map_or(self.head + 1, |entry| entry.seq);
        // A number from beyond the head is from a feed that was lost.
        if after > self.head || after + 1 < oldest {
            return FeedPage {
                head: self.head,
                entries: Vec::new(),
                reset: true,
            };
        }
        FeedPage {
            head: self.head,
            entries: self
                .entries
                .iter()
                .filter(|entry| entry.seq > after)
                .cloned()
                .collect(),
            reset: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Task;

    fn change() -> TaskChange {
        let task = Task {
            id: "t".to_owned(),
            title: "Tea".to_owned(),
            done: false,
            created_at: 0,
            completed_at: None,
            remind_at: None,
            rev: 1,
        };
        TaskChange {
            user: "me".to_owned(),
            task,
            at: 0,
        }
    }

    fn with(count: usize) -> Feed {
        let mut feed = Feed::default();
        for n in 1..=count {
            assert!(feed.add(&format!("e{n}"), Happening::Created, &change()));
        }
        feed
    }

    fn numbers(page: &FeedPage) -> Vec<u64> {
        page.entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn a_stream_resumes_where_it_was() {
        let mut feed = with(3);
        assert!(
            !feed.add("e2", Happening::Created, &change()),
            "a repeat is no new entry"
        );
        assert_eq!(numbers(&feed.page(Some(1))), [2, 3]);
        assert!(feed.page(Some(3)).entries.is_empty());
        assert_eq!(numbers(&feed.page(None)), [1, 2, 3]);
    }

    #[test]
    fn who_was_away_too_long_starts_again() {
        let feed = with(MAX_ENTRIES + 10);
        assert!(feed.page(Some(9)).reset);
        assert!(!feed.page(Some(10)).reset);
        assert_eq!(feed.page(Some(10)).entries.len(), MAX_ENTRIES);
        assert!(with(2).page(Some(7)).reset, "the feed was lost");
        assert!(!Feed::default().page(Some(0)).reset);
    }
}
