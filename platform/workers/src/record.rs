//! What is kept of a worker, as it lies in the state store.
//!
//! A field that a later version adds has a default, so that records of this version stay readable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Entries of a worker's history; the oldest ones go first.
pub const MOST_HISTORY: usize = 100;

/// Whether a worker is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It keeps its place, and gets no events.
    Stopped,
    /// Every instance runs it.
    Running,
}

/// Where code came from. Never a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It was in the request.
    Content,
    /// It was fetched from there.
    Url(String),
}

/// One version of a worker's code; the bytes lie under [`code_key`](crate::names::code_key).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeEntry {
    /// Where it came from.
    pub source: Source,
    /// RFC 3339.
    pub created_at: String,
    /// In small hexadecimal digits.
    pub sha256: String,
    /// Names this version, in the key of the bytes.
    pub version: String,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// A UUID.
    pub id: String,
    /// Content type of the code.
    pub mime_type: String,
    /// What people call its language.
    pub language: String,
    /// What it reads.
    pub topic: String,
    /// Whom it takes turns with.
    #[serde(default)]
    pub group: Option<String>,
    /// Stamped on each event; never changes (H1.6).
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// For people and filters.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Whether it is to run.
    pub status: Status,
    /// RFC 3339.
    pub created_at: String,
    /// Since when it is to run, RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When an instance last said that it runs it, RFC 3339.
    #[serde(default)]
    pub last_heartbeat: Option<String>,
    /// All versions of its code, oldest first; the last one is what runs (H1.4).
    pub history: Vec<CodeEntry>,
    /// Grows with each change that instances act on: status and code.
    pub revision: u64,
}

impl WorkerRecord {
    /// The version of the code that runs.
    pub fn code(&self) -> Option<&CodeEntry> {
        self.history.last()
    }

    /// Adds a version of the code, which is what runs from now on.
    pub fn push_code(&mut self, entry: CodeEntry) {
        self.history.push(entry);
        let surplus = self.history.len().saturating_sub(MOST_HISTORY);
        self.history.drain(..surplus);
        self.revision += 1;
    }

    /// Starts or stops it; false if that is what it already is.
    pub fn set_status(&mut self, status: Status, now: &str) -> bool {
        if self.status == status {
            return false;
        }
        self.status = status;
        self.started_at = (status == Status::Running).then(|| now.to_owned());
        self.revision += 1;
        true
    }

    /// Whether it has every tag asked for; an empty value asks for the key alone.
    pub fn matches(&self, filters: &[(String, String)]) -> bool {
        filters.iter().all(|(key, wanted)| {
            self.tags
                .get(key)
                .is_some_and(|value| wanted.is_empty() || value == wanted)
        })
    }
}

/// Code as it lies in the state store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCode {
    /// The bytes, in Base64.
    pub content: String,
}

/// The list of workers: their revisions by id, so that one look tells an instance what changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// [`WorkerRecord::revision`] by id.
    #[serde(default)]
    pub workers: BTreeMap<String, u64>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn worker() -> WorkerRecord {
        WorkerRecord {
            id: "1".to_owned(),
            mime_type: "text/x-python".to_owned(),
            language: "python".to_owned(),
            topic: "ticks".to_owned(),
            group: None,
            config: BTreeMap::new(),
            tags: BTreeMap::from([("team".to_owned(), "risk".to_owned())]),
            status: Status::Running,
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            started_at: None,
            last_heartbeat: None,
            history: vec![entry(0)],
            revision: 1,
        }
    }

    fn entry(number: usize) -> CodeEntry {
        CodeEntry {
            source: Source::Content,
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            sha256: number.to_string(),
            version: number.to_string(),
        }
    }

    #[test]
    fn history_is_oldest_first_and_bounded() {
        let mut worker = worker();
        for number in 1..=MOST_HISTORY {
            worker.push_code(entry(number));
        }
        assert_eq!(worker.history.len(), MOST_HISTORY);
        assert_eq!(worker.history[0].sha256, "1");
        assert_eq!(worker.code().unwrap().sha256, MOST_HISTORY.to_string());
        assert_eq!(worker.revision, 1 + MOST_HISTORY as u64);
    }

    #[test]
    fn a_repeated_start_changes_nothing() {
        let mut worker = worker();
        assert!(!worker.set_status(Status::Running, "now"));
        assert!(worker.set_status(Status::Stopped, "now"));
        assert_eq!((worker.revision, worker.started_at.as_deref()), (2, None));
        assert!(worker.set_status(Status::Running, "now"));
        assert_eq!((worker.revision, worker.started_at.as_deref()), (3, Some("now")));
    }

    #[test]
    fn filters_ask_for_every_tag() {
        let filter = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        };
        let worker = worker();
        for (filters, matches) in [
            (filter(&[]), true),
            (filter(&[("team", "risk")]), true),
            (filter(&[("team", "")]), true),
            (filter(&[("team", "sales")]), false),
            (filter(&[("team", "risk"), ("lane", "")]), false),
        ] {
            assert_eq!(worker.matches(&filters), matches, "{filters:?}");
        }
    }

    #[test]
    fn a_record_of_the_first_version_stays_readable() {
        let text = r#"{"id":"1","mime_type":"text/x-python","language":"python","topic":"ticks","status":"running",
            "created_at":"2026-01-01T00:00:00Z","history":[{"source":"content","created_at":"2026-01-01T00:00:00Z",
            "sha256":"0","version":"a"},{"source":{"url":"https://example.org/a.py"},"created_at":"2026-01-01T00:00:00Z","sha256":"1","version":"b"}],
            "revision":1}"#;
        let worker: WorkerRecord = serde_json::from_str(text).unwrap();
        assert_eq!(
            worker.code().unwrap().source,
            Source::Url("https://example.org/a.py".to_owned())
        );
    }
}
