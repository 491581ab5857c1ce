//! The brokers: their component, and what it means that one goes away.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;

use crate::{
    bench::{
        guard::{Guard, Program},
        rig,
    },
    process::until,
    repo,
    services::Services,
};

const READY: Duration = Duration::from_secs(60);

/// A broker under test.
pub(crate) enum Broker {
    Redis(Redis),
    Rabbit {
        url: String,
        restart: PathBuf,
        _services: Services,
    },
    /// Lives in the sidecars' processes.
    Sqlite {
        database: PathBuf,
    },
}

/// A server of our own, that keeps what it has acknowledged.
pub(crate) struct Redis {
    guard: Guard,
    folder: PathBuf,
    port: u16,
    program: Option<Program>,
}

impl Redis {
    fn launch(&mut self) -> anyhow::Result<()> {
        let program =
            repo::which("redis-server").context("redis-server is not here (apt-get install redis-server)")?;
        let mut command = Command::new(program);
        command
            .current_dir(&self.folder)
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--save",
                "",
            ])
            // What is acknowledged is on the disk: killing it must lose nothing.
            .args(["--appendonly", "yes", "--appendfsync", "always"]);
        let log = self.folder.join("redis.log");
        self.program = Some(Program::start(&self.guard, "redis", &mut command, &log)?);
        until("redis answers", READY, || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok())
        })
    }
}

impl Broker {
    /// Starts a broker by its name; its files are in `folder`.
    pub(crate) fn start(name: &str, guard: &Guard, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(match name {
            "redis" => {
                let [port] = outrigger_test_ports::free::<1>()?;
                let mut redis = Redis {
                    guard: guard.clone(),
                    folder: folder.to_owned(),
                    port,
                    program: None,
                };
                redis.launch()?;
                Self::Redis(redis)
            }
            "rabbitmq" => {
                let services = Services::start_named("rabbitmq")?;
                let variable = |wanted: &str| {
                    services
                        .variables()
                        .find(|(name, _)| *name == wanted)
                        .map(|(_, value)| value.to_owned())
                        .context("there is no rabbitmq here")
                };
                Self::Rabbit {
                    url: variable("OUTRIGGER_TEST_RABBITMQ")?,
                    restart: variable("OUTRIGGER_TEST_RABBITMQ_RESTART")?.into(),
                    _services: services,
                }
            }
            "sqlite" => Self::Sqlite {
                database: folder.join("queue.db"),
            },
            other => anyhow::bail!("no broker {other}: redis, rabbitmq, sqlite"),
        })
    }

    /// Writes the component's file. Its `version` only makes it differ from what it was.
    pub(crate) fn component(&self, folder: &Path, version: u32) -> anyhow::Result<()> {
        match self {
            Self::Redis(redis) => rig::component(
                folder,
                "bus",
                "pubsub.redis",
                &[
                    ("redisHost", &format!("127.0.0.1:{}", redis.port)),
                    // What a dead consumer had under way is taken over after this.
                    ("processingTimeout", "600ms"),
                    ("redeliverInterval", "200ms"),
                    ("concurrency", "16"),
                    ("queueDepth", &(64 + version % 2).to_string()),
                ],
            ),
            Self::Rabbit { url, .. } => rig::component(
                folder,
                "bus",
                "pubsub.rabbitmq",
                &[
                    ("connectionString", url),
                    ("durable", "true"),
                    ("deletedWhenUnused", "false"),
                    ("deliveryMode", "2"),
                    ("requeueInFailure", "true"),
                    ("publisherConfirm", "true"),
                    ("reconnectWaitSeconds", "1"),
                    ("prefetchCount", &(64 + version % 2).to_string()),
                ],
            ),
            Self::Sqlite { database } => rig::component(
                folder,
                "bus",
                "pubsub.sqlite",
                &[
                    ("connectionString", &database.to_string_lossy()),
                    ("concurrency", "16"),
                    (
                        "messageRetention",
                        if version.is_multiple_of(2) { "168h" } else { "167h" },
                    ),
                ],
            ),
        }
    }

    /// Writes a state store's file, of the same server or beside the same file.
    pub(crate) fn state_component(&self, folder: &Path) -> anyhow::Result<()> {
        match self {
            Self::Redis(redis) => rig::component(
                folder,
                "statestore",
                "state.redis",
                &[("redisHost", &format!("127.0.0.1:{}", redis.port))],
            ),
            Self::Sqlite { database } => rig::component(
                folder,
                "statestore",
                "state.sqlite",
                &[(
                    "connectionString",
                    &database.with_file_name("state.db").to_string_lossy(),
                )],
            ),
            Self::Rabbit { .. } => anyhow::bail!("rabbitmq keeps no state"),
        }
    }

    /// How many events may be with the app, or on their way to it, at one moment.
    pub(crate) fn window(&self) -> u64 {
        match self {
            Self::Redis(_) => 64 + 16 + 1,
            Self::Rabbit { .. } => 65,
            // Those with the app, and as many claimed ahead.
            Self::Sqlite { .. } => 32,
        }
    }

    /// Takes the broker away and brings it back. `false` when it lives in the sidecars: they are to be killed.
    pub(crate) fn restart(&mut self) -> anyhow::Result<bool> {
        match self {
            Self::Redis(redis) => {
                if let Some(mut program) = redis.program.take() {
                    program.kill();
                }
                redis.launch()?;
                Ok(true)
            }
            Self::Rabbit { restart, .. } => {
                let status = Command::new(&*restart).status().context("restart rabbitmq")?;
                anyhow::ensure!(status.success(), "restart rabbitmq: {status}");
                Ok(true)
            }
            Self::Sqlite { .. } => Ok(false),
        }
    }
}
