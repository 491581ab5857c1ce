//! Reads that wait for new entries, on a connection of their own.

use std::{pin::pin, time::Duration};

use redis::{Cmd, RedisResult, Value};
use tokio::{sync::watch, time::Instant};

use super::{
    consumer::{Consumer, is_no_group},
    entry::Entry,
};
use crate::{
    failure::text,
    link::{Connection, Retries, Safety},
};

/// How long a read waits on the server.
const BLOCK: Duration = Duration::from_secs(5);
/// The same in a cluster, where a waiting read cannot be called back.
const CLUSTER_BLOCK: Duration = Duration::from_secs(1);
/// How often a waiting read is called back until it has come.
const CALL_BACK: Duration = Duration::from_millis(20);
/// Waits between attempts to read again.
const AGAIN: Retries = Retries {
    times: u32::MAX,
    least: Duration::from_millis(20),
    longest: Duration::from_secs(2),
};
/// A read that came back this soon, with so few entries, is followed by a short rest: under load one read then
/// brings what several would have.
const SOON: Duration = Duration::from_millis(2);
const FEW: usize = 16;
const REST: Duration = Duration::from_millis(1);

/// Reads one stream for one group.
#[derive(Debug)]
pub(super) struct Reader {
    consumer: Consumer,
    connection: Option<Own>,
    failures: u32,
    rest: bool,
    /// Set when no more entries are wanted.
    stop: watch::Receiver<bool>,
}

#[derive(Debug, Clone)]
struct Own {
    connection: Connection,
    /// What the server calls it.
    id: Option<i64>,
}

impl Reader {
    pub(super) fn new(consumer: Consumer, stop: watch::Receiver<bool>) -> Self {
        Self {
            consumer,
            connection: None,
            failures: 0,
            rest: false,
            stop,
        }
    }

    fn block(&self) -> Duration {
        if self.consumer.link.is_cluster() {
            CLUSTER_BLOCK
        } else {
            BLOCK
        }
    }

    /// Waits for new entries, answers up to `count`. Answers none after a while, after a failure (which it logs and
    /// waits out) and when it is told to stop. Not cancel-safe: entries already sent would stay pending.
    pub(super) async fn read(mut self, count: usize) -> (Self, Vec<Entry>) {
        if std::mem::take(&mut self.rest) {
            tokio::time::sleep(REST).await;
        }
        if *self.stop.borrow() {
            return (self, Vec::new());
        }
        let begun = Instant::now();
        let entries = match self.try_read(count).await {
            Ok(value) => {
                self.failures = 0;
                Entry::of_one_stream(value)
            }
            Err(error) => {
                self.failed(&error).await;
                Vec::new()
            }
        };
        self.rest = !entries.is_empty() && entries.len() < FEW.min(count) && begun.elapsed() < SOON;
        (self, entries)
    }

    async fn failed(&mut self, error: &redis::RedisError) {
        let (stream, group) = (&self.consumer.stream, &self.consumer.group);
        if is_no_group(error) {
            match self.consumer.recreate_group().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%stream, %group, error = error.chain(), "redis streams: cannot recreate the group");
                }
            }
        }
        // Lost, or to a server that is master no more.
        self.connection = None;
        if !*self.stop.borrow() {
            tracing::warn!(
                "redis streams: error reading from stream {stream}: {}",
                text(error)
            );
            self.wait(AGAIN.wait(self.failures)).await;
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// Waits, but not when told to stop.
    async fn wait(&mut self, time: Duration) {
        let stopped = self.stop.wait_for(|stop| *stop);
        let _ = tokio::time::timeout(time, stopped).await;
    }

    async fn try_read(&mut self, count: usize) -> RedisResult<Value> {
        let Own { mut connection, id } = match &self.connection {
            Some(own) => own.clone(),
            None => {
                let own = {
                    let opened = Self::open(&self.consumer, self.block());
                    tokio::select! {
                        opened = opened => opened?,
                        _ = self.stop.wait_for(|stop| *stop) => return Ok(Value::Nil),
                    }
                };
                self.connection.insert(own).clone()
            }
        };
        let command = self.command(count);
        let mut answer = pin!(connection.command(&command));
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
        // The server may be about to answer with entries: they are waited for, so that they can be given back.
        let Some(id) = id else {
            return answer.await;
        };
        loop {
            let mut unblock = redis::cmd("CLIENT");
            unblock.arg("UNBLOCK").arg(id);
            let called = self.consumer.link.raw(&unblock, Safety::Repeatable);
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                _ = async { (called.await, tokio::time::sleep(CALL_BACK).await) } => {}
            }
        }
    }

    async fn open(consumer: &Consumer, block: Duration) -> RedisResult<Own> {
        let mut connection = consumer.link.own_connection(block).await?;
        let id = if consumer.link.is_cluster() {
            None
        } else {
            let mut id = redis::cmd("CLIENT");
            id.arg("ID");
            match connection.command(&id).await {
                Ok(Value::Int(id)) => Some(id),
                // Not allowed, perhaps: the end of a read is then waited for.
                _ => None,
            }
        };
        Ok(Own { connection, id })
    }

    fn command(&self, count: usize) -> Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(&*self.consumer.group)
            .arg(&*self.consumer.group)
            .arg("COUNT")
            .arg(count)
            .arg("BLOCK")
            .arg(u64::try_from(self.block().as_millis()).unwrap_or(1000))
            .arg("STREAMS")
            .arg(&*self.consumer.stream)
            .arg(">");
        command
    }
}
