//! A group's lock as it lies in the state store.

use jiff::Timestamp;
use outrigger_kit::Event;
use outrigger_platform_service::backend::BackendError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outlet::Subject;

/// What a turn of a group gives to the world: an output, or a dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Names the input and the worker; a second turn for the same ones has the same key.
    pub key: String,
    /// Where it goes.
    pub topic: String,
    /// The event, as it is published.
    pub event: Value,
    /// Whose it is.
    #[serde(default)]
    pub subject: Subject,
    /// What becomes of it where nobody takes it; a dead letter has none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<Letter>,
}

/// The dead letter that an output becomes if it cannot be published. It lies beside the output, as whoever publishes it
/// may not have its input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Where it goes.
    pub topic: String,
    /// The input; where it is too large to be kept, the output itself is the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
}

impl Output {
    /// The event.
    ///
    /// # Errors
    /// [`BackendError::Malformed`] if it is none, which only a record that others wrote can hold.
    pub fn read(&self) -> Result<Event<Value>, BackendError> {
        let malformed = |why: String| BackendError::Malformed(format!("an output is no event: {why}"));
        let bytes = serde_json::to_vec(&self.event).map_err(|error| malformed(error.to_string()))?;
        Event::from_json(&bytes).map_err(|error| malformed(error.to_string()))
    }
}

/// The record of a group. It is never deleted, because its token must only grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Who has the turn; empty between turns.
    pub owner_instance_id: String,
    /// RFC 3339.
    pub acquired_at: String,
    /// Until when nobody else may take it, RFC 3339.
    pub lease_until: String,
    /// One more with each turn.
    pub fencing_token: u64,
    /// Names the turn, so that its owner knows its own writes after an answer got lost.
    pub turn: String,
    /// What the turn has decided to publish. Whoever comes next publishes it first: its owner may be gone.
    #[serde(default)]
    pub committed: Option<Output>,
    /// How many turns could not publish that while the broker took other events.
    #[serde(default)]
    pub strikes: u32,
    /// The key of what was published last.
    #[serde(default)]
    pub last_key: Option<String>,
}

impl LockRecord {
    /// Whether somebody has the turn and may keep it at `now`, in milliseconds since 1970.
    pub fn is_held(&self, now: i64) -> bool {
        // A time that nobody can read protects nobody.
        let until = self
            .lease_until
            .parse::<Timestamp>()
            .map_or(0, |at| at.as_millisecond());
        !self.owner_instance_id.is_empty() && now < until
    }
}

/// A time in the record's form.
pub(super) fn written(millisecond: i64) -> String {
    Timestamp::from_millisecond(millisecond)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

impl LockRecord {
    /// What stands for a record that cannot be read: free, so that the group does not stand still for ever.
    pub(super) fn unreadable() -> Self {
        Self {
            owner_instance_id: String::new(),
            acquired_at: written(0),
            lease_until: written(0),
            // Tokens must only grow, and what they had grown to is lost: the present second is above any count of
            // turns.
            fencing_token: u64::try_from(Timestamp::now().as_second()).unwrap_or_default(),
            turn: String::new(),
            committed: None,
            strikes: 0,
            last_key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_first_version_stays_readable() {
        let text = r#"{"owner_instance_id":"a","acquired_at":"2026-01-01T00:00:00Z","lease_until":"2026-01-01T00:00:30Z",
            "fencing_token":7,"turn":"t","committed":{"key":"k","topic":"priced","event":{"id":"1"}},"last_key":null}"#;
        let record: LockRecord = serde_json::from_str(text).unwrap();
        assert_eq!(record.strikes, 0);
        let output = record.committed.unwrap();
        assert_eq!((output.subject, output.letter), (Subject::default(), None));
    }
}
