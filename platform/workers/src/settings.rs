//! The manager's settings.

use std::time::Duration;

use outrigger_kit::RetryPolicy;
use outrigger_kit::settings::{Key, Kind, Settings};
use outrigger_platform_fetch::{AllowedHosts, Limits};

const fn number(
    name: &'static str,
    flag: &'static str,
    variables: &'static [&'static str],
    default: &'static str,
    (min, max): (u64, u64),
    help: &'static str,
) -> Key {
    Key {
        name,
        flag,
        variables,
        default: Some(default),
        kind: Kind::Number { min, max },
        help,
    }
}

/// The keys beside those that every service has.
pub const KEYS: &[Key] = &[
    number(
        "WorkerRetryAttempts",
        "--worker-retry-attempts",
        &["WORKER_RETRY_ATTEMPTS"],
        "3",
        (0, 20),
        "retries of an event that a worker failed on",
    ),
    number(
        "WorkerRetryBaseDelayMs",
        "--worker-retry-base-delay-ms",
        &["WORKER_RETRY_BASE_DELAY_MS"],
        "200",
        (10, 60_000),
        "wait before the first retry, doubling",
    ),
    number(
        "MessageHandlingTimeoutSeconds",
        "--message-handling-timeout-seconds",
        &[
            "MessageHandlingTimeoutSeconds",
            "MESSAGE_HANDLING_TIMEOUT_SECONDS",
        ],
        "30",
        (1, 3600),
        "longest call of a worker",
    ),
    number(
        "WorkerMaxConcurrency",
        "--worker-max-concurrency",
        &["WORKER_MAX_CONCURRENCY"],
        "16",
        (1, 10_000),
        "events that one worker has at once, outside of groups",
    ),
    number(
        "WorkerMaxCount",
        "--worker-max-count",
        &["WORKER_MAX_COUNT"],
        "1000",
        (1, 100_000),
        "most workers",
    ),
    number(
        "WorkerMaxCodeBytes",
        "--worker-max-code-bytes",
        &["WORKER_MAX_CODE_BYTES"],
        "1048576",
        (1, 16_777_216),
        "longest code",
    ),
    number(
        "WorkerMaxOutputBytes",
        "--worker-max-output-bytes",
        &["WORKER_MAX_OUTPUT_BYTES"],
        "1048576",
        (1, 16_777_216),
        "longest output event",
    ),
    number(
        "WorkerSyncIntervalMs",
        "--worker-sync-interval-ms",
        &["WORKER_SYNC_INTERVAL_MS"],
        "1000",
        (50, 60_000),
        "how often an instance looks for what others changed",
    ),
    number(
        "WorkerHeartbeatSeconds",
        "--worker-heartbeat-seconds",
        &["WORKER_HEARTBEAT_SECONDS"],
        "30",
        (1, 3600),
        "how often a running worker's last_heartbeat is set",
    ),
    number(
        "GroupLockLeaseMs",
        "--group-lock-lease-ms",
        &["GROUP_LOCK_LEASE_MS"],
        "30000",
        (100, 3_600_000),
        "after which a silent holder of a group loses its turn",
    ),
    number(
        "GroupLockMaxRetries",
        "--group-lock-max-retries",
        &["GROUP_LOCK_MAX_RETRIES"],
        "3",
        (0, 20),
        "waits for a group that others have",
    ),
    number(
        "GroupLockRetryBaseDelayMs",
        "--group-lock-retry-base-delay-ms",
        &["GROUP_LOCK_RETRY_BASE_DELAY_MS"],
        "500",
        (10, 60_000),
        "first such wait, doubling",
    ),
    number(
        "GroupLockMaxRedeliveries",
        "--group-lock-max-redeliveries",
        &["GROUP_LOCK_MAX_REDELIVERIES"],
        "10",
        (0, 1000),
        "redeliveries to one instance before an event that found no turn is given up",
    ),
    Key {
        name: "WorkerRecoveryOnStart",
        flag: "--worker-recovery-on-start",
        variables: &["WORKER_RECOVERY_ON_START"],
        default: Some("true"),
        kind: Kind::OneOf(&["true", "false"]),
        help: "whether workers are brought back at start",
    },
    number(
        "WorkerRecoveryLeaseTtlSeconds",
        "--worker-recovery-lease-ttl-seconds",
        &["WORKER_RECOVERY_LEASE_TTL_SECONDS"],
        "300",
        (10, 86_400),
        "after which a silent recovery leader is replaced",
    ),
    number(
        "WorkerRecoveryAcquireTimeoutSeconds",
        "--worker-recovery-acquire-timeout-seconds",
        &["WORKER_RECOVERY_ACQUIRE_TIMEOUT_SECONDS"],
        "30",
        (1, 600),
        "how long an instance tries to become recovery leader",
    ),
    Key {
        name: "AllowedCodeSourceHosts",
        flag: "--allowed-code-source-hosts",
        variables: &["ALLOWED_CODE_SOURCE_HOSTS"],
        default: Some(""),
        kind: Kind::Text,
        help: "hosts that code may be fetched from, with commas; empty: all public ones",
    },
];

/// The settings, read.
#[derive(Debug, Clone)]
pub struct Options {
    /// Retries of one event.
    pub retries: RetryPolicy,
    /// Longest call of a worker.
    pub call_timeout: Duration,
    /// Events that one worker has at once.
    pub concurrency: usize,
    /// Most workers.
    pub max_workers: usize,
    /// Longest code, in bytes.
    pub max_code: usize,
    /// Longest output event, in bytes.
    pub max_output: usize,
    /// How often to look for what other instances changed.
    pub sync_interval: Duration,
    /// How often a running worker's heartbeat is written.
    pub heartbeat: Duration,
    /// Of a group's lock.
    pub lock: LockOptions,
    /// Of the start.
    pub recovery: RecoveryOptions,
    /// Where code may come from (Z16): with an empty list every public host.
    pub allowed_hosts: String,
}

/// How group locks behave.
#[derive(Debug, Clone)]
pub struct LockOptions {
    /// After which a silent holder can be robbed.
    pub lease: Duration,
    /// Waits for others.
    pub max_retries: u32,
    /// The first wait.
    pub base_delay: Duration,
    /// Redeliveries that one instance asks for.
    pub max_redeliveries: u32,
}

/// How workers come back.
#[derive(Debug, Clone)]
pub struct RecoveryOptions {
    /// Whether they do at all.
    pub on_start: bool,
    /// Of the leader.
    pub lease: Duration,
    /// Longest try to become the leader.
    pub acquire_timeout: Duration,
}

impl Options {
    /// Reads settings that were loaded with [`KEYS`].
    ///
    /// # Errors
    /// The text of what is wrong, which the keys' ranges leave room for only if they are changed.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let number = |name: &str| settings.number(name).ok_or_else(|| format!("{name} is not set"));
        let count = |name: &str| -> Result<usize, String> {
            usize::try_from(number(name)?).map_err(|_| format!("{name} is too large"))
        };
        let small = |name: &str| -> Result<u32, String> {
            u32::try_from(number(name)?).map_err(|_| format!("{name} is too large"))
        };
        let millis = |name: &str| number(name).map(Duration::from_millis);
        let seconds = |name: &str| number(name).map(Duration::from_secs);
        Ok(Self {
            retries: RetryPolicy::new(small("WorkerRetryAttempts")?, millis("WorkerRetryBaseDelayMs")?)
                .map_err(|error| error.to_string())?,
            call_timeout: seconds("MessageHandlingTimeoutSeconds")?,
            concurrency: count("WorkerMaxConcurrency")?,
            max_workers: count("WorkerMaxCount")?,
            max_code: count("WorkerMaxCodeBytes")?,
            max_output: count("WorkerMaxOutputBytes")?,
            sync_interval: millis("WorkerSyncIntervalMs")?,
            heartbeat: seconds("WorkerHeartbeatSeconds")?,
            lock: LockOptions {
                lease: millis("GroupLockLeaseMs")?,
                max_retries: small("GroupLockMaxRetries")?,
                base_delay: millis("GroupLockRetryBaseDelayMs")?,
                max_redeliveries: small("GroupLockMaxRedeliveries")?,
            },
            recovery: RecoveryOptions {
                on_start: settings.text("WorkerRecoveryOnStart") == "true",
                lease: seconds("WorkerRecoveryLeaseTtlSeconds")?,
                acquire_timeout: seconds("WorkerRecoveryAcquireTimeoutSeconds")?,
            },
            allowed_hosts: settings.text("AllowedCodeSourceHosts").to_owned(),
        })
    }

    /// What one fetch of code may take.
    pub fn fetch_limits(&self) -> Limits {
        Limits {
            allowed_hosts: AllowedHosts::parse(&self.allowed_hosts).exclusive(),
            max_bytes: self.max_code,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Settings, outrigger_kit::settings::SettingsError> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Settings::load(KEYS, [], &variables, None)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let options = Options::new(&load(&[]).unwrap()).unwrap();
        let delays: Vec<_> = (0..4)
            .map(|n| options.retries.delay(n).map(|d| d.as_millis()))
            .collect();
        assert_eq!(delays, [Some(200), Some(400), Some(800), None]);
        assert_eq!(options.call_timeout, Duration::from_secs(30));
        assert_eq!(options.lock.max_retries, 3);
        assert_eq!(options.lock.base_delay, Duration::from_millis(500));
        assert!(options.recovery.on_start);
        assert_eq!(options.recovery.lease, Duration::from_secs(300));
        assert_eq!(options.recovery.acquire_timeout, Duration::from_secs(30));
    }

    #[test]
    fn ranges_are_kept() {
        for (name, value, fits) in [
            ("WORKER_RECOVERY_LEASE_TTL_SECONDS", "9", false),
            ("WORKER_RECOVERY_LEASE_TTL_SECONDS", "10", true),
            ("WORKER_RECOVERY_LEASE_TTL_SECONDS", "86401", false),
            ("WORKER_RECOVERY_ACQUIRE_TIMEOUT_SECONDS", "0", false),
            ("WORKER_RECOVERY_ACQUIRE_TIMEOUT_SECONDS", "601", false),
            ("WORKER_RECOVERY_ON_START", "perhaps", false),
            ("WORKER_RECOVERY_ON_START", "false", true),
        ] {
            let loaded = load(&[(name, value)]);
            assert_eq!(loaded.is_ok(), fits, "{name}={value}");
            if let Ok(settings) = loaded {
                assert!(Options::new(&settings).is_ok());
            }
        }
    }
}
