//! Documents with versions in Redis, committed together with the events they mean.

use std::future::Future;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, Script, cmd};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::resilience::{Failure, Guard};

const NAME: &str = "Redis";
const CONNECT: Duration = Duration::from_secs(2);
/// Events that may wait to be sent.
const MAX_WAITING: usize = 4000;

/// Writes a document if it still has the version that was read, and puts events into the outbox.
const COMMIT: &str = r"
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
if redis.call('LLEN', KEYS[2]) + #ARGV - 3 > tonumber(ARGV[3]) then return -1 end
redis.call('HSET', KEYS[1], 'data', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'version', 1)
for at = 4, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[at]) end
return 1";

/// What came of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// All of it is there.
    Done,
    /// Another writer was first: read again.
    Conflict,
}

/// A Redis server and the part of its keys that is ours.
pub struct Store {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    guard: Guard,
    prefix: String,
    commit: Script,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("prefix", &self.prefix).finish()
    }
}

impl Store {
    /// A server by its `redis://` URL. It is reached on first use.
    ///
    /// # Errors
    /// If that is no URL.
    pub fn new(url: &str, prefix: &str) -> Result<Self, RedisError> {
        Ok(Self {
            client: Client::open(url)?,
            connection: Mutex::new(None),
            guard: Guard::new(NAME, Duration::from_secs(2), 3),
            prefix: prefix.to_owned(),
            commit: Script::new(COMMIT),
        })
    }

    /// A key as it is in Redis.
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    /// Reads a document and its version, which is 0 while there is none.
    pub async fn get<T: DeserializeOwned + Default>(&self, name: &str) -> Result<(T, u64), Failure> {
        let key = self.key(name);
        let (data, version): (Option<Vec<u8>>, Option<u64>) = self
            .run(async |mut redis| {
                let mut command = cmd("HMGET");
                command.arg(&key).arg("data").arg("version");
                command.query_async(&mut redis).await
            })
            .await?;
        let data = data
            .map_or(Ok(T::default()), |data| serde_json::from_slice(&data))
            .map_err(|error| Failure::Broken(NAME, format!("{key}: {error}")))?;
        Ok((data, version.unwrap_or_default()))
    }

    /// Writes a document that was read at `version`, and its events, all or nothing.
    pub async fn commit(
        &self,
        name: &str,
        document: &impl Serialize,
        version: u64,
        events: &[String],
    ) -> Result<Commit, Failure> {
        let data =
            serde_json::to_string(document).map_err(|error| Failure::Broken(NAME, error.to_string()))?;
        let mut script = self.commit.prepare_invoke();
        script.key(self.key(name)).key(self.outbox());
        script.arg(version).arg(data).arg(MAX_WAITING).arg(events);
        let outcome: i64 = self
            .run(async |mut redis| script.invoke_async(&mut redis).await)
            .await?;
        match outcome {
            1 => Ok(Commit::Done),
            0 => Ok(Commit::Conflict),
            _ => Err(Failure::Unavailable(
                NAME,
                "too many events wait to be sent".to_owned(),
            )),
        }
    }

    /// The list of events that wait to be sent.
    pub fn outbox(&self) -> String {
        self.key("outbox")
    }

    /// Whether the server answers.
    pub async fn ping(&self) -> Result<(), Failure> {
        self.run(async |mut redis| cmd("PING").query_async(&mut redis).await)
            .await
    }

    /// Runs a command, on a new connection when the old one broke.
    pub async fn run<T, F, Fut>(&self, command: F) -> Result<T, Failure>
    where
        F: Fn(MultiplexedConnection) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        self.guard
            .run(|| async {
                let connection = self.connection().await.map_err(|error| failure(&error))?;
                let outcome = command(connection).await;
                if outcome.as_ref().is_err_and(is_lost) {
                    *self.connection.lock().await = None;
                }
                outcome.map_err(|error| failure(&error))
            })
            .await
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut current = self.connection.lock().await;
        if let Some(connection) = &*current {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT));
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(current.insert(connection).clone())
    }
}

fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_io_error() || error.is_timeout()
}

fn failure(error: &RedisError) -> Failure {
    if is_lost(error) || error.is_connection_refusal() {
        Failure::Unavailable(NAME, error.to_string())
    } else {
        Failure::Broken(NAME, error.to_string())
    }
}
