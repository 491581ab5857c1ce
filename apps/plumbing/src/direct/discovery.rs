//! Who is where: each instance writes a sign of life to Redis, callers read them and take turns.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use outrigger_todo::model::now;
use parking_lot::Mutex;
use redis::cmd;
use tokio_util::sync::CancellationToken;

use super::resilience::Failure;
use super::store::Store;

/// How often a sign of life is written.
const EVERY: Duration = Duration::from_secs(1);
/// Without one for so long an instance counts as gone (ms).
const STALE: i64 = 5_000;
/// How long what was read is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// The instances of all services that share a store.
#[derive(Debug)]
pub struct Discovery {
    store: Arc<Store>,
    known: Mutex<HashMap<&'static str, (Instant, Vec<SocketAddr>)>>,
    turn: AtomicUsize,
}

impl Discovery {
    /// Signs of life are kept here.
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            known: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    fn key(&self, service: &str) -> String {
        self.store.key(&format!("instances/{service}"))
    }

    /// Writes signs of life until `stop`, then takes leave.
    pub async fn announce(&self, service: &str, address: SocketAddr, stop: &CancellationToken) {
        let key = self.key(service);
        while !stop.is_cancelled() {
            let written: Result<i64, Failure> = self
                .store
                .run(async |mut redis| {
                    let mut command = cmd("ZADD");
                    command.arg(&key).arg(now()).arg(address.to_string());
                    command.query_async(&mut redis).await
                })
                .await;
            if let Err(error) = written {
                tracing::debug!(%error, "no sign of life written");
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        let gone: Result<i64, Failure> = self
            .store
            .run(async |mut redis| {
                let mut command = cmd("ZREM");
                command.arg(&key).arg(address.to_string());
                command.query_async(&mut redis).await
            })
            .await;
        if let Err(error) = gone {
            tracing::debug!(%error, "no leave taken");
        }
    }

    /// The next instance of a service.
    pub async fn resolve(&self, service: &'static str) -> Result<SocketAddr, Failure> {
        let known = self.known.lock().get(service).cloned();
        let addresses = match known {
            Some((read, addresses)) if read.elapsed() < BELIEVED => addresses,
            _ => self.read(service).await?,
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match addresses.get(turn % addresses.len().max(1)) {
            Some(address) => Ok(*address),
            None => Err(Failure::Unavailable(service, "there is no instance".to_owned())),
        }
    }

    /// Reads again before it answers the next time: an instance was not there.
    pub fn doubt(&self, service: &str) {
        self.known.lock().remove(service);
    }

    async fn read(&self, service: &'static str) -> Result<Vec<SocketAddr>, Failure> {
        let key = self.key(service);
        let found: Vec<String> = self
            .store
            .run(async |mut redis| {
                let mut command = cmd("ZRANGEBYSCORE");
                command.arg(&key).arg(now() - STALE).arg("+inf");
                command.query_async(&mut redis).await
            })
            .await?;
        let addresses: Vec<SocketAddr> = found.iter().filter_map(|text| text.parse().ok()).collect();
        self.known
            .lock()
            .insert(service, (Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}
