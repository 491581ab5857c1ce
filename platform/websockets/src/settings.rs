//! The service's settings (I3, I6, Z6, Z8).

use std::time::Duration;

use outrigger_kit::settings::{Key, Kind, Settings};
use outrigger_platform_service::Definition;

use crate::machine::Reconnect;
use crate::names::SERVICE;
use crate::target::Reach;

/// What the manager goes by.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How drops are made good.
    pub reconnect: Reconnect,
    /// From the name to the end of the handshake.
    pub connect_timeout: Duration,
    /// How often servers are pinged; two pings without any sign of life break a connection.
    pub ping_every: Duration,
    /// Bytes of one message.
    pub max_message: usize,
    /// Connections of one instance.
    pub max_connections: usize,
    /// Bytes of one connection that wait to be published.
    pub queue_bytes: usize,
    /// Messages that are published in one call.
    pub batch: usize,
    /// Messages that wait for longer than this to be published degrade their connection.
    pub publish_patience: Duration,
    /// How often this instance says that it is alive; it counts as dead after three times as long.
    pub heartbeat_every: Duration,
    /// Whether connections publish heartbeats too.
    pub heartbeat_events: bool,
    /// How often connections of dead instances are looked for.
    pub sweep_every: Duration,
    /// How long an instance has to be unknown before others take its connections.
    pub grace: Duration,
    /// Whether everything stored is removed at the start.
    pub clear_all: bool,
    /// Whether only topics of the platform's grammar are published to.
    pub strict_topics: bool,
    /// Which hosts may be connected to.
    pub reach: Reach,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reconnect: Reconnect::default(),
            connect_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(30),
            max_message: 2 << 20,
            max_connections: 1000,
            queue_bytes: 16 << 20,
            batch: 256,
            publish_patience: Duration::from_secs(5),
            heartbeat_every: Duration::from_secs(10),
            heartbeat_events: true,
            sweep_every: Duration::from_secs(30),
            grace: Duration::from_secs(60),
            clear_all: false,
            strict_topics: false,
            reach: Reach::default(),
        }
    }
}

const SWITCH: Kind = Kind::OneOf(&["true", "false"]);

/// The service, with its own settings.
#[must_use]
pub fn definition() -> Definition {
    let key = |name, flag, variables, default, kind, help| Key {
        name,
        flag,
        variables,
        default: Some(default),
        kind,
        help,
    };
    let number = |max| Kind::Number { min: 0, max };
    let positive = |max| Kind::Number { min: 1, max };
    Definition {
        name: SERVICE,
        about: "The WebSocket manager: connections to the outside, their messages as events.",
        http_port: "5201",
        grpc_port: "5202",
        keys: vec![
            key(
                "ReconnectAttempts",
                "--reconnect-attempts",
                &["RECONNECT_ATTEMPTS"],
                "5",
                number(1000),
                "attempts to make a dropped connection again",
            ),
            key(
                "ReconnectDelayMs",
                "--reconnect-delay-ms",
                &["RECONNECT_DELAY_MS"],
                "1000",
                positive(3_600_000),
                "wait before the first attempt; doubles with each",
            ),
            key(
                "ReconnectMaxDelayMs",
                "--reconnect-max-delay-ms",
                &["RECONNECT_MAX_DELAY_MS"],
                "30000",
                positive(3_600_000),
                "longest wait before an attempt",
            ),
            key(
                "ReconnectJitterPercent",
                "--reconnect-jitter-percent",
                &["RECONNECT_JITTER_PERCENT"],
                "0",
                number(100),
                "part of each wait that is left to chance",
            ),
            key(
                "ConnectTimeoutMs",
                "--connect-timeout-ms",
                &["CONNECT_TIMEOUT_MS"],
                "10000",
                positive(600_000),
                "time for a connection with its handshake",
            ),
            key(
                "PingIntervalMs",
                "--ping-interval-ms",
                &["PING_INTERVAL_MS"],
                "30000",
                positive(3_600_000),
                "how often servers are pinged; two without an answer are the end",
            ),
            key(
                "MaxMessageBytes",
                "--max-message-bytes",
                &["MAX_MESSAGE_BYTES"],
                "2097152",
                positive(64 << 20),
                "largest message of a connection",
            ),
            key(
                "MaxConnections",
                "--max-connections",
                &["MAX_CONNECTIONS"],
                "1000",
                positive(100_000),
                "connections of this instance",
            ),
            key(
                "PublishQueueBytes",
                "--publish-queue-bytes",
                &["PUBLISH_QUEUE_BYTES"],
                "16777216",
                Kind::Number {
                    min: 1 << 12,
                    max: 1 << 30,
                },
                "bytes of a connection that may wait to be published; then its socket is not read",
            ),
            key(
                "PublishBatch",
                "--publish-batch",
                &["PUBLISH_BATCH"],
                "256",
                positive(10_000),
                "messages published in one call; 1 where a sidecar does not keep their order",
            ),
            key(
                "PublishPatienceMs",
                "--publish-patience-ms",
                &["PUBLISH_PATIENCE_MS"],
                "5000",
                positive(3_600_000),
                "a connection whose messages wait longer to be published is degraded",
            ),
            key(
                "HeartbeatMs",
                "--heartbeat-ms",
                &["HEARTBEAT_MS"],
                "10000",
                positive(3_600_000),
                "how often this instance says that it lives; it is dead after three times as long",
            ),
            key(
                "HeartbeatEvents",
                "--heartbeat-events",
                &["HEARTBEAT_EVENTS"],
                "true",
                SWITCH,
                "whether each connection publishes a heartbeat as often",
            ),
            key(
                "SweepIntervalMs",
                "--sweep-interval-ms",
                &["SWEEP_INTERVAL_MS"],
                "30000",
                positive(3_600_000),
                "how often connections of dead instances are looked for",
            ),
            key(
                "OwnerGraceMs",
                "--owner-grace-ms",
                &["OWNER_GRACE_MS"],
                "60000",
                number(86_400_000),
                "how long an owner has to be dead before its connections are taken over",
            ),
            key(
                "ClearAllOnStart",
                "--clear-all-on-start",
                &["CLEAR_ALL_ON_START", "CLEAR_STALE_ON_START"],
                "false",
                SWITCH,
                "remove all stored connections, of all instances, at the start",
            ),
            key(
                "StrictTopics",
                "--strict-topics",
                &["STRICT_TOPICS"],
                "false",
                SWITCH,
                "publish only to topics of the platform's grammar",
            ),
            key(
                "PrivateAddresses",
                "--private-addresses",
                &["PRIVATE_ADDRESSES"],
                "allow",
                Kind::OneOf(&["allow", "deny"]),
                "whether hosts that are not on the public internet may be connected to",
            ),
            key(
                "AllowedHosts",
                "--allowed-hosts",
                &["ALLOWED_WEBSOCKET_HOSTS"],
                "",
                Kind::Text,
                "if set, the only hosts that may be connected to, wherever they are; with commas",
            ),
        ],
    }
}

impl Limits {
    /// From checked settings.
    #[must_use]
    pub fn from_settings(settings: &Settings) -> Self {
        let number = |name: &str| settings.number(name).unwrap_or_default();
        let size = |name: &str| usize::try_from(number(name)).unwrap_or(usize::MAX);
        let time = |name: &str| Duration::from_millis(number(name));
        let is_on = |name: &str| settings.text(name) == "true";
        Self {
            reconnect: Reconnect {
                attempts: u32::try_from(number("ReconnectAttempts")).unwrap_or(u32::MAX),
                first: time("ReconnectDelayMs"),
                longest: time("ReconnectMaxDelayMs"),
                jitter: number("ReconnectJitterPercent") as f64 / 100.0,
            },
            connect_timeout: time("ConnectTimeoutMs"),
            ping_every: time("PingIntervalMs"),
            max_message: size("MaxMessageBytes"),
            max_connections: size("MaxConnections"),
            queue_bytes: size("PublishQueueBytes"),
            batch: size("PublishBatch"),
            publish_patience: time("PublishPatienceMs"),
            heartbeat_every: time("HeartbeatMs"),
            heartbeat_events: is_on("HeartbeatEvents"),
            sweep_every: time("SweepIntervalMs"),
            grace: time("OwnerGraceMs"),
            clear_all: is_on("ClearAllOnStart"),
            strict_topics: is_on("StrictTopics"),
            reach: Reach {
                public_only: settings.text("PrivateAddresses") == "deny",
                hosts: Reach::hosts(settings.text("AllowedHosts")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use outrigger_kit::Environment;

    use super::*;

    fn limits(variables: &[(&str, &str)]) -> Limits {
        let pairs = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let environment: Environment = pairs.collect();
        Limits::from_settings(&definition().load(Vec::new(), &environment).unwrap())
    }

    #[test]
    fn unset_they_are_the_documented_ones() {
        let (read, default) = (limits(&[]), Limits::default());
        assert_eq!(format!("{read:?}"), format!("{default:?}"));
        let settings = definition().load(Vec::new(), &Environment::new()).unwrap();
        assert_eq!(
            (settings.port("HttpPort"), settings.port("GrpcPort")),
            (Some(5201), Some(5202))
        );
    }

    #[test]
    fn the_old_name_of_the_wipe_is_an_alias() {
        assert!(limits(&[("CLEAR_STALE_ON_START", "true")]).clear_all);
        assert!(limits(&[("CLEAR_ALL_ON_START", "true")]).clear_all);
        assert!(!limits(&[("CLEAR_ALL_ON_START", "false"), ("CLEAR_STALE_ON_START", "true")]).clear_all);
    }

    #[test]
    fn hosts_and_reconnecting_are_read() {
        let limits = limits(&[
            ("ALLOWED_WEBSOCKET_HOSTS", "a.example, b.example:443"),
            ("PRIVATE_ADDRESSES", "deny"),
            ("RECONNECT_ATTEMPTS", "2"),
            ("RECONNECT_JITTER_PERCENT", "25"),
        ]);
        assert!(limits.reach.public_only);
        assert_eq!(limits.reach.hosts.len(), 2);
        assert_eq!((limits.reconnect.attempts, limits.reconnect.jitter), (2, 0.25));
    }
}
