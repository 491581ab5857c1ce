//! What a request may ask for. The texts are for the caller.

use std::collections::BTreeMap;

use outrigger_platform_topics::Topic;

use crate::error::ManagerError;
use crate::names::{CORRELATION_ID, DEAD_LETTER_TOPIC, FENCING_TOKEN, REPLY_TOPIC};

const MOST_TAGS: usize = 50;
const LONGEST_TAG_KEY: usize = 128;
const LONGEST_TAG_VALUE: usize = 1024;
const MOST_CONFIG: usize = 50;
const LONGEST_CONFIG_KEY: usize = 128;
const LONGEST_CONFIG_VALUE: usize = 4096;
const LONGEST_TOPIC: usize = 255;
const LONGEST_GROUP: usize = 128;
const LONGEST_ID: usize = 128;
/// Where the list lies among the workers' records.
const LIST: &str = "index";

/// Attributes that say what an event is; configuration cannot take their names.
const RESERVED: &[&str] = &[
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "data_base64",
    "topic",
    "pubsubname",
    CORRELATION_ID,
    FENCING_TOKEN,
];

/// A topic that a worker may read or write: a name without blanks, and none that a service owns.
pub fn topic(name: &str) -> Result<(), ManagerError> {
    readable_topic(name)?;
    // Infrastructure topics are published by their owner alone (R6, broker permissions).
    if matches!(
        name.parse(),
        Ok(Topic::Infrastructure { .. } | Topic::StateChanges)
    ) {
        return Err(invalid(format!("topic {name:?} belongs to a service")));
    }
    Ok(())
}

/// A topic that a worker may read; it may watch what services tell.
pub fn readable_topic(name: &str) -> Result<(), ManagerError> {
    let blank = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>' | '#');
    if name.is_empty() {
        return Err(invalid("topic is empty"));
    }
    if name.chars().count() > LONGEST_TOPIC || name.contains(blank) {
        return Err(invalid(format!(
            "a topic has at most {LONGEST_TOPIC} characters and no blanks or wildcards"
        )));
    }
    Ok(())
}

/// The id of a worker that is asked for: it becomes a part of a state key, and what cannot be one is the id of nobody.
pub fn id(id: &str) -> Result<(), ManagerError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(fits) || id == LIST {
        let shown: String = id.chars().take(LONGEST_ID).collect();
        return Err(ManagerError::NotFound(shown));
    }
    Ok(())
}

/// The name of a group, a part of a state key; empty is none.
pub fn group(name: &str) -> Result<Option<String>, ManagerError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() {
        return Ok(None);
    }
    if name.len() > LONGEST_GROUP || !name.chars().all(fits) {
        return Err(invalid(format!(
            "group is made of letters, digits, '.', '-' and '_', {LONGEST_GROUP} at most"
        )));
    }
    Ok(Some(name.to_owned()))
}

/// All tags of a worker (H1.6).
pub fn tags(tags: &BTreeMap<String, String>) -> Result<(), ManagerError> {
    if tags.len() > MOST_TAGS {
        return Err(invalid(format!(
            "a worker has at most {MOST_TAGS} tags, not {}",
            tags.len()
        )));
    }
    for (key, value) in tags {
        tag_key(key)?;
        if value.chars().count() > LONGEST_TAG_VALUE {
            return Err(invalid(format!(
                "the value of tag {key:?} has more than {LONGEST_TAG_VALUE} characters"
            )));
        }
    }
    Ok(())
}

/// The name of a tag.
pub fn tag_key(key: &str) -> Result<(), ManagerError> {
    if key.is_empty() {
        return Err(invalid("the key of a tag is empty"));
    }
    if key.chars().count() > LONGEST_TAG_KEY {
        return Err(invalid(format!(
            "the key of a tag has more than {LONGEST_TAG_KEY} characters"
        )));
    }
    Ok(())
}

/// The configuration of a worker: names that can stand beside an event's attributes (H1.6).
pub fn config(config: &BTreeMap<String, String>) -> Result<(), ManagerError> {
    if config.len() > MOST_CONFIG {
        return Err(invalid(format!(
            "config has at most {MOST_CONFIG} entries, not {}",
            config.len()
        )));
    }
    for (key, value) in config {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if key.is_empty() || key.len() > LONGEST_CONFIG_KEY || !key.chars().all(fits) {
            return Err(invalid(format!(
                "config key {key:?}: it is made of letters, digits, '.', '-' and '_', {LONGEST_CONFIG_KEY} at most"
            )));
        }
        if RESERVED.contains(&key.as_str()) {
            return Err(invalid(format!(
                "config key {key:?} is the name of an event's attribute"
            )));
        }
        if matches!(key.as_str(), DEAD_LETTER_TOPIC | REPLY_TOPIC) {
            topic(value)?;
        }
        if value.len() > LONGEST_CONFIG_VALUE {
            return Err(invalid(format!(
                "the value of config {key:?} has more than {LONGEST_CONFIG_VALUE} bytes"
            )));
        }
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> ManagerError {
    ManagerError::Invalid(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
        pairs.into_iter().collect()
    }

    #[test]
    fn tags_have_bounds() {
        let many = |count: usize| map((0..count).map(|n| (n.to_string(), String::new())));
        let one = |key: usize, value: usize| map([("ü".repeat(key), "ü".repeat(value))]);
        assert!(tags(&many(50)).is_ok());
        assert!(tags(&many(51)).is_err());
        assert!(tags(&one(128, 1024)).is_ok());
        assert!(tags(&one(129, 0)).is_err());
        assert!(tags(&one(1, 1025)).is_err());
        assert!(tags(&one(0, 1)).is_err());
    }

    #[test]
    fn config_cannot_disguise_an_event() {
        for name in ["id", "type", "correlationid", "fencingtoken", "", "a b", "é"] {
            assert!(
                config(&map([(name.to_owned(), String::new())])).is_err(),
                "{name:?}"
            );
        }
        for name in ["api_host", "replytopic", "Depth"] {
            assert!(
                config(&map([(name.to_owned(), "x".to_owned())])).is_ok(),
                "{name:?}"
            );
        }
        assert!(config(&map([("a".to_owned(), "x".repeat(4097))])).is_err());
        for (value, fits) in [("graves", true), ("workmanager.lifecycle", false), ("", false)] {
            let outcome = config(&map([("deadlettertopic".to_owned(), value.to_owned())]));
            assert_eq!(outcome.is_ok(), fits, "{value:?}");
        }
    }

    #[test]
    fn topics_of_services_can_be_read_and_not_written() {
        for name in [
            "workmanager.lifecycle",
            "state-changes",
            "websocketmanager.infra.connection.heartbeat",
        ] {
            assert!(topic(name).is_err(), "{name}");
            assert!(readable_topic(name).is_ok(), "{name}");
        }
        for name in [
            "orders",
            "com.virtufin.order.placed",
            "act.exchange.binance.ticker.update",
        ] {
            assert!(topic(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a\n", "orders.*", "orders.>"] {
            assert!(topic(name).is_err() && readable_topic(name).is_err(), "{name:?}");
        }
        assert!(readable_topic(&"a".repeat(256)).is_err());
    }

    #[test]
    fn a_group_is_a_part_of_a_key() {
        assert_eq!(group("").unwrap(), None);
        assert_eq!(group("pricing-1").unwrap().as_deref(), Some("pricing-1"));
        for name in ["a/b", "a b", "a||b", &"g".repeat(129)] {
            assert!(group(name).is_err(), "{name:?}");
        }
    }
}
