//! What is kept in state: one record per connection, one per instance.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a connection stands, as its users see it (R4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status {
    /// Nobody knows.
    #[default]
    Unknown,
    /// It is being made for the first time.
    Connecting,
    /// It is open.
    Connected,
    /// It dropped and is being made again.
    Reconnecting,
    /// It is closed and stays so.
    Disconnected,
    /// It broke; what follows is on its way.
    Error,
}

impl Status {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Connecting => "Connecting",
            Self::Connected => "Connected",
            Self::Reconnecting => "Reconnecting",
            Self::Disconnected => "Disconnected",
            Self::Error => "Error",
        }
    }
}

/// A connection, under `websocketmanager.connection.<id>`. Its owner and whoever sets tags change it, by its ETag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// A UUID.
    pub id: String,
    /// Where it leads.
    pub url: String,
    /// Whether a drop is made good.
    pub auto_reconnect: bool,
    /// How it stood when the record was last written.
    #[serde(default)]
    pub status: Status,
    /// Where its messages go; `None`: nowhere.
    #[serde(default)]
    pub topic: Option<String>,
    /// Of the last message that came, as far as it was written down.
    #[serde(default)]
    pub content_type: String,
    /// Its users' own marks.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The instance that holds it.
    pub instance_id: String,
    /// When it was asked for.
    #[serde(with = "instant")]
    pub created_at: Timestamp,
    /// When it was last opened.
    #[serde(default, with = "instant::optional")]
    pub connected_at: Option<Timestamp>,
    /// When its owner last wrote the record. The owner's own heartbeat is in its instance's record.
    #[serde(default, with = "instant::optional")]
    pub last_heartbeat: Option<Timestamp>,
}

impl ConnectionRecord {
    /// Whether it was written down and never open so far: whoever asked for it has no answer yet, or never got one.
    #[must_use]
    pub fn was_never_open(&self) -> bool {
        self.status == Status::Connecting && self.connected_at.is_none()
    }

    /// Whether it carries all of some tags; an empty value stands for any (R4).
    pub fn has<'a>(&self, filters: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
        filters.into_iter().all(|(key, wanted)| {
            self.tags
                .get(key)
                .is_some_and(|value| wanted.is_empty() || value == wanted)
        })
    }
}

/// An instance of the service, under `websocketmanager.connection.instance.<instance>`: its heartbeat (Z21) and the
/// index of its connections in one, so that a sweep reads one record per living instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its name.
    pub instance_id: String,
    /// Tells this life of the instance from an earlier one of the same name.
    pub session: String,
    /// When this life began.
    #[serde(with = "instant")]
    pub started_at: Timestamp,
    /// Until when it counts as alive. In the record, because not every state store forgets records by itself.
    #[serde(with = "instant")]
    pub expires_at: Timestamp,
    /// The connections that it holds. One that is here but has another owner is on its way there.
    #[serde(default)]
    pub connections: BTreeSet<String>,
}

impl InstanceRecord {
    /// Whether the instance has been unknown for longer than the grace period (I6.1).
    #[must_use]
    pub fn is_lost(&self, now: Timestamp, grace: jiff::SignedDuration) -> bool {
        self.expires_at
            .checked_add(grace)
            .is_ok_and(|end_of_grace| end_of_grace < now)
    }
}

/// Times as RFC 3339.
mod instant {
    use jiff::Timestamp;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }

    /// The same, or null.
    pub(super) mod optional {
        use jiff::Timestamp;
        use serde::de::Error as _;
        use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            time: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            time.map(|time| time.to_string()).serialize(serializer)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| text.parse().map_err(D::Error::custom))
                .transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_older_kind_is_read() {
        let record: ConnectionRecord = serde_json::from_str(
            r#"{"id":"1","url":"ws://x","auto_reconnect":true,"instance_id":"a","created_at":"2026-01-01T00:00:00Z"}"#,
        )
        .unwrap();
        assert_eq!(record.status, Status::Unknown);
        assert_eq!(record.topic, None);
    }

    #[test]
    fn tags_filter() {
        let record = ConnectionRecord {
            id: "1".to_owned(),
            url: "ws://x".to_owned(),
            auto_reconnect: false,
            status: Status::Connected,
            topic: None,
            content_type: String::new(),
            tags: BTreeMap::from([("venue".to_owned(), "binance".to_owned())]),
            instance_id: "a".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            connected_at: None,
            last_heartbeat: None,
        };
        assert!(record.has([]));
        assert!(record.has([("venue", "binance")]));
        assert!(record.has([("venue", "")]));
        assert!(!record.has([("venue", "alpaca")]));
        assert!(!record.has([("venue", "binance"), ("lane", "")]));
    }

    #[test]
    fn an_instance_is_lost_when_grace_is_over() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let record = InstanceRecord {
            instance_id: "a".to_owned(),
            session: String::new(),
            started_at: at(0),
            expires_at: at(100),
            connections: BTreeSet::new(),
        };
        let grace = jiff::SignedDuration::from_secs(60);
        assert!(!record.is_lost(at(50), grace));
        assert!(!record.is_lost(at(160), grace));
        assert!(record.is_lost(at(161), grace));
    }
}
