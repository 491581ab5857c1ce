//! The gateway's own settings, beside those of every platform service.

use std::path::PathBuf;
use std::time::Duration;

use outrigger_kit::settings::{Key, Kind, Settings};
use outrigger_platform_service::Definition;
use outrigger_platform_service::server::KeepAlive;

use crate::backends::Times;
use crate::cors::Origins;
use crate::events;

/// The port of gRPC-Web (Z6).
pub const GRPC_WEB_PORT: u16 = 5003;

/// What the gateway is.
pub fn definition() -> Definition {
    let number = |name, flag, variables, default, (min, max), help| Key {
        name,
        flag,
        variables,
        default: Some(default),
        kind: Kind::Number { min, max },
        help,
    };
    Definition {
        name: "gateway",
        about: "The API gateway: services by JSON, REST, gRPC and gRPC-Web; state and events for all.",
        http_port: "5001",
        grpc_port: "5002",
        keys: vec![
            Key {
                name: "ServicesConfigPath",
                flag: "--services",
                variables: &["SERVICES_CONFIG_PATH"],
                default: None,
                kind: Kind::Text,
                help: "file of the services behind the gateway, .json or .yaml; read again when it changes",
            },
            Key {
                name: "Cors:AllowedOrigins",
                flag: "--cors-allowed-origins",
                variables: &[
                    "Cors__AllowedOrigins",
                    "CORS__ALLOWEDORIGINS",
                    "CORS_ALLOWED_ORIGINS",
                ],
                default: Some(""),
                kind: Kind::Text,
                help: "origins whose pages may ask, with commas between; none unless set",
            },
            number(
                "ReflectionCacheSeconds",
                "--reflection-cache-seconds",
                &["REFLECTION_CACHE_SECONDS"],
                "300",
                (1, 86_400),
                "age at which what a service told of itself is read anew",
            ),
            number(
                "ChannelPoolSize",
                "--channel-pool-size",
                &["CHANNEL_POOL_SIZE"],
                "100",
                (1, 10_000),
                "most channels to services at a time",
            ),
            number(
                "CallTimeoutSeconds",
                "--call-timeout-seconds",
                &["CALL_TIMEOUT_SECONDS"],
                "30",
                (1, 3_600),
                "limit of a unary call of a service",
            ),
            number(
                "SubscriberQueue",
                "--subscriber-queue",
                &["SUBSCRIBER_QUEUE"],
                "1024",
                (1, 1_000_000),
                "events that wait for one stream's reader before it is given up",
            ),
            number(
                "SubscriberQueueBytes",
                "--subscriber-queue-bytes",
                &["SUBSCRIBER_QUEUE_BYTES"],
                "16777216",
                (1 << 12, 1 << 30),
                "their bytes, unless a single event has more",
            ),
            number(
                "SubscribedTopics",
                "--subscribed-topics",
                &["SUBSCRIBED_TOPICS"],
                "5000",
                (1, 1_000_000),
                "topics that all streams read at a time",
            ),
            number(
                "SubscriberPatienceMilliseconds",
                "--subscriber-patience-milliseconds",
                &["SUBSCRIBER_PATIENCE_MILLISECONDS"],
                "45000",
                (100, 600_000),
                "how long a stream's reader may take none of its waiting events",
            ),
            number(
                "KeepAliveMilliseconds",
                "--keep-alive-milliseconds",
                &["KEEP_ALIVE_MILLISECONDS"],
                "20000",
                (100, 600_000),
                "on the gRPC-Web port: from one HTTP/2 ping to the next, and the wait for its answer",
            ),
        ],
    }
}

/// What the settings say.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// The services file.
    pub(crate) services: Option<PathBuf>,
    /// Who may ask from other origins.
    pub(crate) origins: Origins,
    /// Channels.
    pub(crate) channels: usize,
    /// Times of backends.
    pub(crate) times: Times,
    /// Bounds of streams.
    pub(crate) streams: events::Options,
    /// How dead connections are found.
    pub(crate) keep_alive: KeepAlive,
}

impl Chosen {
    /// Reads them.
    ///
    /// # Errors
    /// For an origin that is none.
    pub(crate) fn read(settings: &Settings) -> anyhow::Result<Self> {
        let number = |name: &str| settings.number(name).unwrap_or_default();
        let size = |name: &str| usize::try_from(number(name)).unwrap_or(usize::MAX);
        let milliseconds = |name: &str| Duration::from_millis(number(name));
        Ok(Self {
            services: settings.get("ServicesConfigPath").map(PathBuf::from),
            origins: Origins::parse(settings.text("Cors:AllowedOrigins"))
                .map_err(|mistake| anyhow::anyhow!("Cors:AllowedOrigins: {mistake}"))?,
            channels: size("ChannelPoolSize"),
            times: Times {
                max_age: Duration::from_secs(number("ReflectionCacheSeconds")),
                call_timeout: Duration::from_secs(number("CallTimeoutSeconds")),
            },
            streams: events::Options {
                queue: size("SubscriberQueue"),
                bytes: size("SubscriberQueueBytes"),
                topics: size("SubscribedTopics"),
                patience: milliseconds("SubscriberPatienceMilliseconds"),
                ..events::Options::default()
            },
            keep_alive: KeepAlive {
                interval: milliseconds("KeepAliveMilliseconds"),
                timeout: milliseconds("KeepAliveMilliseconds"),
            },
        })
    }
}
