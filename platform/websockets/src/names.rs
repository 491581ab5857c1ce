//! The service's public names (F6): topics, event types, state keys. Consumers copy the text and note the owner;
//! a change breaks them.

/// The service's name: of its state, in its topics and its URN.
pub const SERVICE: &str = "websocketmanager";
/// `ce-source` of every event: of the service, not of one of its instances.
pub const SOURCE: &str = "urn:com.virtufin.websocketmanager";
/// The topic of lifecycle events (I7).
pub const LIFECYCLE_TOPIC: &str = "websocketmanager.lifecycle";
/// `ce-type` of lifecycle events, before `.` and the state.
pub const LIFECYCLE_TYPE: &str = "com.virtufin.websocketmanager.lifecycle";
/// The topic of heartbeats, one per connection.
pub const HEARTBEAT_TOPIC: &str = "websocketmanager.infra.connection.heartbeat";
/// `ce-type` of heartbeats.
pub const HEARTBEAT_TYPE: &str = "com.virtufin.websocketmanager.infra.connection.heartbeat";
/// `ce-type` of messages that a connection received (I4.2).
pub const MESSAGE_TYPE: &str = "com.virtufin.websocketmanager.message";
/// State: the names of all instances that have connections or may get some, sorted.
pub const INDEX_KEY: &str = "websocketmanager.connection.index";

/// State: one connection.
pub(crate) fn connection_key(id: &str) -> String {
    format!("websocketmanager.connection.{id}")
}

/// State: one instance, its heartbeat and its connections.
pub(crate) fn instance_key(instance: &str) -> String {
    format!("websocketmanager.connection.instance.{instance}")
}
