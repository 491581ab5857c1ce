//! Connections: shared ones for commands, own ones for reads that block.

mod dial;
mod retry;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use outrigger_component::Error;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::Instant;

pub(crate) use dial::{Connection, Dialer};
pub(crate) use retry::{Retries, Safety};

use crate::{
    failure::{closed, failed, text},
    script::Lua,
    settings::Settings,
};

/// A handle on the servers of one component; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dialer: Dialer,
    settings: Settings,
    slots: Vec<Slot>,
    next: AtomicUsize,
    closed: AtomicBool,
}

/// A place for a connection.
#[derive(Debug, Default)]
struct Slot {
    live: Mutex<Option<Live>>,
    /// Held by whoever opens it.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Live {
    connection: Connection,
    born: Instant,
    used: Instant,
}

impl Link {
    /// Opens the connections that shall be there from the start.
    pub(crate) async fn open(settings: Settings) -> Result<Self, Error> {
        let dialer = settings.dialer()?;
        let slots = std::iter::repeat_with(Slot::default)
            .take(settings.connections)
            .collect();
        let link = Self(Arc::new(Shared {
            dialer,
            slots,
            next: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            settings,
        }));
        for slot in &link.0.slots[..link.0.settings.eager] {
            link.0.connection(slot).await.map_err(|error| failed(&error))?;
        }
        Ok(link)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.0.settings.is_cluster && self.0.settings.sentinel.is_none()
    }

    /// A second set of one connection, for commands that hold up those behind them (`WAIT`).
    pub(crate) fn aside(&self) -> Self {
        let mut settings = self.0.settings.clone();
        settings.connections = 1;
        Self(Arc::new(Shared {
            dialer: self.0.dialer.clone(),
            slots: vec![Slot::default()],
            next: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            settings,
        }))
    }

    /// Sends a command; answers the server's own error as [`RedisError`].
    pub(crate) async fn raw(&self, command: &Cmd, safety: Safety) -> Result<RedisResult<Value>, Error> {
        let shared = &*self.0;
        let mut attempt = 0;
        loop {
            let slot = shared.slot()?;
            let (error, sent) = match shared.connection(slot).await {
                Err(error) => (error, false),
                Ok(mut connection) => match connection.command(command).await {
                    Ok(value) => return Ok(Ok(value)),
                    Err(error) => {
                        shared.forget_if_lost(slot, &error, &connection);
                        (error, true)
                    }
                },
            };
            if !shared
                .settings
                .retries
                .again(&mut attempt, &error, sent, safety)
                .await
            {
                return Ok(Err(error));
            }
        }
    }

    /// Sends a command.
    pub(crate) async fn command(&self, command: &Cmd, safety: Safety) -> Result<Value, Error> {
        self.raw(command, safety).await?.map_err(|error| failed(&error))
    }

    /// Sends commands in one write; the server's errors stay at their places ([`Value::ServerError`]).
    pub(crate) async fn pipeline(&self, commands: &Pipeline, safety: Safety) -> Result<Vec<Value>, Error> {
        let shared = &*self.0;
        let mut attempt = 0;
        loop {
            let slot = shared.slot()?;
            let (error, sent) = match shared.connection(slot).await {
                Err(error) => (error, false),
                Ok(mut connection) => match connection.pipeline(commands).await {
                    Ok(values) => {
                        shared.forget_if_demoted(slot, &values, &connection);
                        return Ok(values);
                    }
                    Err(error) => {
                        shared.forget_if_lost(slot, &error, &connection);
                        (error, true)
                    }
                },
            };
            if !shared
                .settings
                .retries
                .again(&mut attempt, &error, sent, safety)
                .await
            {
                return Err(failed(&error));
            }
        }
    }

    /// Runs a script with what `fill` adds (keys, then arguments).
    pub(crate) async fn script(
        &self,
        script: &Lua,
        keys: usize,
        safety: Safety,
        fill: impl Fn(&mut Cmd) + Send,
    ) -> Result<RedisResult<Value>, Error> {
        let mut command = script.by_hash(keys);
        fill(&mut command);
        match self.raw(&command, safety).await? {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                let mut command = script.in_full(keys);
                fill(&mut command);
                self.raw(&command, safety).await
            }
            answer => Ok(answer),
        }
    }

    /// Whether the servers answer; an error reads like upstream's after the words `connecting to redis at <host>: `.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.command(&redis::cmd("PING"), Safety::Repeatable)
            .await
            .map(drop)
    }

    /// A connection for one user, whose reads may block for up to this long.
    pub(crate) async fn own_connection(&self, block: Duration) -> RedisResult<Connection> {
        self.0.dialer.dial(&self.0.settings, block).await
    }

    /// A clone of a shared connection, for what is asked node by node.
    pub(crate) async fn connection(&self) -> Result<Connection, Error> {
        let slot = self.0.slot()?;
        self.0.connection(slot).await.map_err(|error| failed(&error))
    }

    /// What listens on channels: one per node that emits events of its own keys.
    pub(crate) async fn listeners(&self) -> RedisResult<Vec<redis::aio::PubSub>> {
        let timeout = self.0.settings.dial_timeout;
        match tokio::time::timeout(timeout, self.0.dialer.listeners(&self.0.settings)).await {
            Ok(listeners) => listeners,
            Err(_) => Err(dial::timed_out()),
        }
    }

    /// The number of replicas the master knows of (`INFO replication`).
    pub(crate) async fn replicas(&self) -> Result<usize, Error> {
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        let answer = self.command(&info, Safety::Repeatable).await?;
        let text = match &answer {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::VerbatimString { text, .. } => text.clone(),
            _ => String::new(),
        };
        Ok(text
            .lines()
            .find_map(|line| line.trim().strip_prefix("connected_slaves:"))
            .and_then(|count| count.parse().ok())
            .unwrap_or(0))
    }

    /// Whether the server has the JSON module: it then complains of missing arguments, not of the command.
    pub(crate) async fn has_json(&self) -> Result<bool, Error> {
        Ok(
            match self.raw(&redis::cmd("JSON.GET"), Safety::Repeatable).await? {
                Ok(_) => true,
                Err(error) if error.code().is_none() => return Err(failed(&error)),
                Err(error) => !text(&error).starts_with("ERR unknown command"),
            },
        )
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Lets go of the connections; commands on their way still get their answers.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        for slot in &self.0.slots {
            slot.live.lock().take();
        }
    }
}

impl Shared {
    fn slot(&self) -> Result<&Slot, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let at = match self.slots.len() {
            1 => 0,
            count => self.next.fetch_add(1, Ordering::Relaxed) % count,
        };
        Ok(&self.slots[at])
    }

    async fn connection(&self, slot: &Slot) -> RedisResult<Connection> {
        if let Some(connection) = self.at_hand(slot) {
            return Ok(connection);
        }
        let waited = tokio::time::timeout(self.settings.pool_timeout, slot.dialling.lock()).await;
        let Ok(_turn) = waited else {
            return Err(dial::timed_out());
        };
        // Somebody else may have opened it while this one waited.
        if let Some(connection) = self.at_hand(slot) {
            return Ok(connection);
        }
        let connection = self.dialer.dial(&self.settings, Duration::ZERO).await?;
        let now = Instant::now();
        if !self.closed.load(Ordering::Acquire) {
            *slot.live.lock() = Some(Live {
                connection: connection.clone(),
                born: now,
                used: now,
            });
        }
        Ok(connection)
    }

    fn at_hand(&self, slot: &Slot) -> Option<Connection> {
        let mut place = slot.live.lock();
        let live = place.as_mut()?;
        if self.settings.max_age.is_some() || self.settings.idle_timeout.is_some() {
            let now = Instant::now();
            let is_over = |limit: Option<Duration>, since: Instant| {
                limit.is_some_and(|limit| now.duration_since(since) > limit)
            };
            if is_over(self.settings.max_age, live.born) || is_over(self.settings.idle_timeout, live.used) {
                *place = None;
                return None;
            }
            live.used = now;
        }
        Some(live.connection.clone())
    }

    /// As [`Shared::forget_if_lost`], for errors that stay among the answers.
    fn forget_if_demoted(&self, slot: &Slot, answers: &[Value], connection: &Connection) {
        let is_refused =
            |answer: &Value| matches!(answer, Value::ServerError(error) if error.code() == "READONLY");
        if self.settings.sentinel.is_some() && answers.iter().any(is_refused) {
            self.forget(slot, connection);
        }
    }

    fn forget(&self, slot: &Slot, connection: &Connection) {
        let mut place = slot.live.lock();
        if place.as_ref().is_some_and(|live| live.connection.is(connection)) {
            *place = None;
        }
    }

    /// A connection that is lost, or that points at a server which is master no more, is not used again.
    fn forget_if_lost(&self, slot: &Slot, error: &RedisError, connection: &Connection) {
        let moved = error.code() == Some("READONLY") && self.settings.sentinel.is_some();
        if moved || error.is_io_error() || error.is_unrecoverable_error() {
            self.forget(slot, connection);
        }
    }
}
