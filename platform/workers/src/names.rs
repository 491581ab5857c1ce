//! The names others rely on: topics, event types, state keys (R6). This module is the one place to change them (F6).

/// The service's name: its `service` at the state API (F7), and what its topics and keys begin with.
pub const SERVICE: &str = "workmanager";
/// `ce-source` of the manager's own events (F8).
pub const SOURCE: &str = "urn:com.virtufin.workmanager";
/// Where lifecycle events go. Owner: the worker manager.
pub const LIFECYCLE_TOPIC: &str = "workmanager.lifecycle";
/// Where signs of life go. Owner: the worker manager.
pub const HEARTBEAT_TOPIC: &str = "workmanager.infra.worker.heartbeat";
/// Where robbed and refused turns of group locks are told. Owner: the worker manager.
pub const GROUP_LOCK_TOPIC: &str = "workmanager.infra.grouplock";
/// State key of the list of workers.
pub const INDEX_KEY: &str = "workmanager.worker.index";
/// State key of the lease of the instance that repairs and migrates.
pub const LEADER_KEY: &str = "workmanager.recovery.leader";

/// The extension of an input that names another topic for the output (H3.1).
pub const REPLY_TOPIC: &str = "replytopic";
/// The extension that joins a request and its reply (H10).
pub const CORRELATION_ID: &str = "correlationid";
/// The configuration of a worker that names another topic for its dead letters (Z38).
pub const DEAD_LETTER_TOPIC: &str = "deadlettertopic";
/// The extension with the token of a group's lock (H4.1).
pub const FENCING_TOKEN: &str = "fencingtoken";

/// What happened to a worker (R6). What older texts call `error` is [`Failed`](Self::Failed) (Z2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// It was made.
    Created,
    /// It is to run.
    Started,
    /// An instance runs it.
    Online,
    /// It is to stop; what is under way goes on.
    Stopping,
    /// It does not run.
    Stopped,
    /// An event was given up, or an instance cannot run it.
    Failed,
}

impl Transition {
    /// As the last part of the event's type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Online => "online",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// `ce-type`.
    pub fn event_type(self) -> String {
        format!("com.virtufin.{LIFECYCLE_TOPIC}.{}", self.name())
    }
}

/// State key of a worker.
pub fn worker_key(id: &str) -> String {
    format!("workmanager.worker.{id}")
}

/// State key of one version of a worker's code; what is under it never changes.
pub fn code_key(id: &str, version: &str) -> String {
    format!("workmanager.worker.{id}.code.{version}")
}

/// State key of a group's lock.
pub fn group_lock_key(group: &str) -> String {
    format!("workmanager.grouplock.{group}")
}

/// Where events go that a topic's workers gave up (Z38).
pub fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}-dead")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        assert_eq!(
            Transition::Failed.event_type(),
            "com.virtufin.workmanager.lifecycle.failed"
        );
        assert_eq!(worker_key("7"), "workmanager.worker.7");
        assert_eq!(group_lock_key("g"), "workmanager.grouplock.g");
        assert_eq!(dead_letter_topic("orders"), "orders-dead");
        for topic in [LIFECYCLE_TOPIC, HEARTBEAT_TOPIC, GROUP_LOCK_TOPIC] {
            assert!(
                topic.parse::<outrigger_platform_topics::Topic>().is_ok(),
                "{topic}"
            );
        }
    }
}
