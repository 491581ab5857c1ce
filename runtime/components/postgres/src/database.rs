//! The pool of a component: bounded, lazy, renewed now and then.

use std::{future::Future, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use outrigger_component::{Error, ErrorKind, Host};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::{
    connection::{Connector, ExecMode, PoolSettings, Settings},
    error::{copies, failed, is_connection, not_connected, pool_failed, spoils_connection},
    statement::{self, Param, Row},
};

/// How often a read is tried on another connection when its own turns out to be gone.
const READ_ATTEMPTS: usize = 2;

/// A database. Connections are made when they are needed and the one used last is used next, so that a quiet
/// component holds one.
#[derive(Debug)]
pub(crate) struct Database {
    pool: Pool,
    connector: Connector,
    mode: ExecMode,
    timeout: Duration,
    housekeeping: Mutex<Option<Housekeeping>>,
}

/// A task that ends with what it serves.
#[derive(Debug)]
struct Housekeeping(JoinHandle<()>);

impl Drop for Housekeeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Database {
    /// Connects once, to see that it works, and keeps that connection.
    ///
    /// # Errors
    /// `Unavailable` when the server cannot be reached, `Configuration` when it refuses the credentials or the name.
    pub(crate) async fn open(settings: &Settings, host: &Host) -> Result<Self, Error> {
        let connector = Connector::new(settings, host).await?;
        let manager = Manager::from_connect(
            tokio_postgres::Config::new(),
            connector.clone(),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(settings.pool.max)
            .queue_mode(deadpool_postgres::QueueMode::Lifo)
            .timeouts(Timeouts {
                wait: Some(settings.timeout),
                create: Some(settings.timeout),
                recycle: Some(settings.timeout),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::internal("cannot make a pool of connections").with_source(error))?;
        let database = Self {
            pool,
            connector,
            mode: settings.mode,
            timeout: settings.timeout,
            housekeeping: Mutex::new(None),
        };
        match database.pool.get().await {
            Ok(client) => drop(client),
            Err(deadpool_postgres::PoolError::Backend(error)) => return Err(not_connected(&error)),
            Err(error) => return Err(pool_failed("failed to connect to the database", error)),
        }
        database.ping().await?;
        *database.housekeeping.lock() = Some(keep_house(database.pool.clone(), settings.pool));
        Ok(database)
    }

    /// How connections are made.
    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// How long one operation may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// At most this many connections.
    pub(crate) fn max_size(&self) -> usize {
        self.pool.status().max_size
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// `Unavailable`, `Exhausted`, `Closed`.
    pub(crate) async fn session(&self, what: &'static str) -> Result<Session, Error> {
        let client = self.pool.get().await.map_err(|error| pool_failed(what, error))?;
        Ok(Session {
            client: Some(client),
            mode: self.mode,
            timeout: self.timeout,
            what,
        })
    }

    /// Runs a statement that changes nothing; a connection that has gone is replaced once.
    pub(crate) async fn read(
        &self,
        what: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Error> {
        let mut attempt = 1;
        loop {
            let mut session = self.session(what).await?;
            match session.try_run(sql, params).await? {
                Ok(rows) => return Ok(rows),
                Err(error)
                    if attempt < READ_ATTEMPTS && (is_connection(&error) || spoils_connection(&error)) =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(failed(what, &error)),
            }
        }
    }

    /// Runs a statement that may change something, once.
    pub(crate) async fn write(
        &self,
        what: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Error> {
        self.session(what).await?.run(sql, params).await
    }

    /// Whether the server answers.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.read("failed to ping the database", "SELECT 1::int8", &[])
            .await
            .map(drop)
    }

    /// Lets go of the connections; those in use go when their statement is done.
    pub(crate) fn close(&self) {
        self.housekeeping.lock().take();
        self.pool.close();
    }

    /// Whether [`Database::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }
}

/// A connection of one's own. One that failed, took too long or was left in a transaction is closed, not reused.
#[derive(Debug)]
pub(crate) struct Session {
    client: Option<Object>,
    mode: ExecMode,
    timeout: Duration,
    what: &'static str,
}

impl Session {
    /// Runs one statement.
    pub(crate) async fn run(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        let what = self.what;
        self.try_run(sql, params)
            .await?
            .map_err(|error| failed(what, &error))
    }

    /// Runs one statement; the inner error is the server's.
    ///
    /// # Errors
    /// `Timeout`, or `Closed` after an earlier failure has cost the connection.
    pub(crate) async fn try_run(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Result<Vec<Row>, tokio_postgres::Error>, Error> {
        let client = self.client.as_ref().ok_or_else(crate::error::closed)?;
        let running = statement::run(client, self.mode, sql, params);
        let outcome = within(self.timeout, self.what, running).await;
        match &outcome {
            Err(_) => self.discard(),
            Ok(Err(error)) if spoils_connection(error) => self.discard(),
            Ok(_) => {}
        }
        outcome
    }

    /// Runs several statements in one transaction, sent without waiting for one another's answers. `verdict` sees
    /// all rows and decides whether it is kept.
    ///
    /// Not cancel-safe on its own, but safe: a dropped future closes the connection, which undoes the transaction
    /// unless the commit has been sent.
    pub(crate) async fn transaction<T>(
        mut self,
        statements: &[(&str, Vec<Param<'_>>)],
        verdict: impl FnOnce(Vec<Vec<Row>>) -> Result<T, Error>,
    ) -> Result<Result<T, tokio_postgres::Error>, Error> {
        let (mode, what) = (self.mode, self.what);
        let Some(client) = self.client.take() else {
            return Err(crate::error::closed());
        };
        let mut guard = InTransaction(Some(client));
        let Some(client) = guard.0.as_ref() else {
            return Err(crate::error::closed());
        };
        let all = async {
            // Preparing asks the server, so it comes before the transaction holds locks.
            if mode == ExecMode::Prepared {
                for (sql, params) in statements {
                    statement::prepare(client, sql, params).await?;
                }
            }
            let begin = statement::command(client, "BEGIN");
            let running = statements
                .iter()
                .map(|(sql, params)| statement::run(client, mode, sql, params));
            // Polled in order, so they are sent in order.
            let (begun, rows) = futures::join!(begin, futures::future::join_all(running));
            begun?;
            rows.into_iter().collect::<Result<Vec<_>, _>>()
        };
        let rows = match within(self.timeout, what, all).await? {
            Ok(rows) => rows,
            Err(error) => {
                if !spoils_connection(&error) {
                    guard.end(self.timeout, what, "ROLLBACK").await?.ok();
                }
                return Ok(Err(error));
            }
        };
        match verdict(rows) {
            Ok(answer) => Ok(guard.end(self.timeout, what, "COMMIT").await?.map(|()| answer)),
            Err(refused) => {
                guard.end(self.timeout, what, "ROLLBACK").await?.ok();
                Err(refused)
            }
        }
    }

    /// Runs statements independently of one another, sent without waiting for answers; the server keeps the order.
    pub(crate) async fn pipeline(
        mut self,
        statements: &[(&str, &[Param<'_>])],
    ) -> Vec<Result<Vec<Row>, Error>> {
        let what = self.what;
        let Some(client) = self.client.as_ref() else {
            return copies(&crate::error::closed(), statements.len());
        };
        let all = async {
            if self.mode == ExecMode::Prepared {
                for (sql, params) in statements {
                    // A failure comes again where it counts.
                    let _ = statement::prepare(client, sql, params).await;
                }
            }
            let running = statements
                .iter()
                .map(|(sql, params)| statement::run(client, self.mode, sql, params));
            futures::future::join_all(running).await
        };
        match within(self.timeout, what, all).await {
            Err(error) => {
                self.discard();
                copies(&error, statements.len())
            }
            Ok(outcomes) => {
                if outcomes
                    .iter()
                    .any(|outcome| outcome.as_ref().is_err_and(spoils_connection))
                {
                    self.discard();
                }
                let outcomes = outcomes.into_iter();
                outcomes
                    .map(|outcome| outcome.map_err(|error| failed(what, &error)))
                    .collect()
            }
        }
    }

    /// Runs several statements without parameters and rows.
    pub(crate) async fn script(&mut self, sql: &str) -> Result<(), Error> {
        let client = self.client.as_ref().ok_or_else(crate::error::closed)?;
        let running = statement::command(client, sql);
        let outcome = within(self.timeout, self.what, running).await;
        if !matches!(outcome, Ok(Ok(()))) {
            self.discard();
        }
        outcome?.map_err(|error| failed(self.what, &error))
    }

    /// Closes the connection instead of giving it back.
    pub(crate) fn discard(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

/// A connection inside a transaction: closed when dropped.
struct InTransaction(Option<Object>);

impl InTransaction {
    /// Ends the transaction and gives the connection back.
    async fn end(
        &mut self,
        timeout: Duration,
        what: &'static str,
        command: &str,
    ) -> Result<Result<(), tokio_postgres::Error>, Error> {
        let Some(client) = self.0.as_ref() else {
            return Err(crate::error::closed());
        };
        let outcome = within(timeout, what, statement::command(client, command)).await?;
        if outcome.is_ok() {
            // Given back to the pool.
            drop(self.0.take());
        }
        Ok(outcome)
    }
}

impl Drop for InTransaction {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

async fn within<T>(timeout: Duration, what: &'static str, work: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(timeout, work)
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, what).with_source("the database did not answer in time"))
}

/// Closes connections that were idle too long or are old, now and then until it is dropped.
fn keep_house(pool: Pool, settings: PoolSettings) -> Housekeeping {
    // One share of the jitter per sidecar is enough: what is to be spread are the sidecars.
    let share = f64::from(u16::from_le_bytes([
        uuid::Uuid::new_v4().as_bytes()[0],
        uuid::Uuid::new_v4().as_bytes()[1],
    ])) / f64::from(u16::MAX);
    let lifetime = settings.lifetime + settings.lifetime_jitter.mul_f64(share);
    Housekeeping(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(settings.health_check);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut left = pool.status().size;
            pool.retain(|client, metrics| {
                let unused = metrics.last_used() > settings.idle && left > settings.min;
                let keep = !client.is_closed() && metrics.age() <= lifetime && !unused;
                if !keep {
                    left -= 1;
                }
                keep
            });
        }
    }))
}
