//! What the services say to one another. Times are milliseconds since 1970.

use serde::{Deserialize, Serialize};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Identifies it within its list.
    pub id: String,
    /// What to do: 1 to 200 characters.
    pub title: String,
    /// Whether it is done.
    pub done: bool,
    /// When it was added.
    pub created_at: i64,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<i64>,
    /// When its user wants to be reminded of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_at: Option<i64>,
    /// The revision of the list in which it last changed; tells newer from older wherever copies meet.
    pub rev: u64,
}

/// What happened to a task. The names are the event types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// It was added.
    #[serde(rename = "task.created")]
    Created,
    /// Its title changed, or it is to be done again.
    #[serde(rename = "task.updated")]
    Updated,
    /// It was done.
    #[serde(rename = "task.completed")]
    Completed,
    /// It was removed.
    #[serde(rename = "task.deleted")]
    Deleted,
    /// The time came that its user wanted to be reminded at.
    #[serde(rename = "task.reminded")]
    Reminded,
}

impl Happening {
    /// The event type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "task.created",
            Self::Updated => "task.updated",
            Self::Completed => "task.completed",
            Self::Deleted => "task.deleted",
            Self::Reminded => "task.reminded",
        }
    }

    /// The happening of an event type.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Created,
            Self::Updated,
            Self::Completed,
            Self::Deleted,
            Self::Reminded,
        ]
        .into_iter()
        .find(|happening| happening.name() == name)
    }
}

/// The data of a task event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskChange {
    /// Whose list.
    pub user: String,
    /// The task after the change, or as it was before it was deleted.
    pub task: Task,
    /// When.
    pub at: i64,
}

/// One line of a user's feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedEntry {
    /// Counts up by one within the feed; streams resume from it.
    pub seq: u64,
    /// The event's id, by which a repeat is told.
    pub id: String,
    /// What happened.
    pub kind: Happening,
    /// To which task.
    pub task: Task,
    /// When.
    pub at: i64,
}

/// A part of a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedPage {
    /// The number of the newest entry.
    pub head: u64,
    /// Entries in their order.
    pub entries: Vec<FeedEntry>,
    /// What was asked for is no longer kept: read the task list again, then go on from `head`.
    #[serde(default)]
    pub reset: bool,
}

/// A user's tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPage {
    /// Counts up by one with each event of this list.
    pub rev: u64,
    /// The tasks, oldest first.
    pub tasks: Vec<Task>,
}

/// Whether a user name can be one: it becomes part of keys and paths.
pub fn is_user(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}

/// Now, in milliseconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
