//! The thread that writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::Receiver,
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    chain::Chain,
    file::Destination,
    record::{AuditActor, AuditDecision, AuditRecord, Entry},
};
use crate::trace::SpanContext;

const LOG: &str = "dapr.runtime.audit";

/// How long lines may be only in the operating system's hands while others follow.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    pub(super) destination: Destination,
    pub(super) chain: Chain,
    pub(super) app_id: String,
    pub(super) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    pub(super) lost: Arc<AtomicU64>,
}

impl Writer {
    /// Writes until all senders are gone. `torn` is what a crash had left of a line.
    pub(super) fn run(mut self, entries: &Receiver<Entry>, torn: u64) {
        if torn > 0 {
            self.note(
                "audit.recovered",
                &format!("{torn} bytes of an unfinished line were removed"),
            );
        }
        let mut synced = Instant::now();
        let mut is_dirty = false;
        loop {
            // Waits for a record; with lines not yet durable only for a moment.
            let entry = if is_dirty {
                match entries.recv_timeout(SYNC_EVERY.saturating_sub(synced.elapsed())) {
                    Ok(entry) => Some(entry),
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => None,
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match entries.recv() {
                    Ok(entry) => Some(entry),
                    Err(_) => break,
                }
            };
            if let Some(entry) = entry {
                let lost = self.lost.swap(0, Relaxed);
                if lost > 0 {
                    self.note("audit.lost", &format!("{lost} records did not fit the queue"));
                }
                self.write(&entry);
                is_dirty = true;
            }
            if is_dirty && synced.elapsed() >= SYNC_EVERY {
                self.sync();
                (is_dirty, synced) = (false, Instant::now());
            }
        }
        self.sync();
    }

    /// A record about the log itself.
    fn note(&mut self, action: &str, target: &str) {
        let record = AuditRecord {
            actor: AuditActor::Unproven,
            action,
            target,
            decision: AuditDecision::Failed,
            policy: "",
            trace: &SpanContext::default(),
        };
        self.write(&Entry::new(&record, "", (self.clock)()));
    }

    fn write(&mut self, entry: &Entry) {
        let sequence = self.chain.sequence + 1;
        let mut line = String::with_capacity(512);
        entry.push_fields(&mut line, sequence, &self.app_id);
        let mut chain = self.chain.clone();
        chain.seal(&mut line, sequence);
        match self.destination.write(line.as_bytes()) {
            Ok(()) => self.chain = chain,
            Err(error) => {
                // Said in the other log, and counted in this one when it can be written again.
                self.lost.fetch_add(1, Relaxed);
                tracing::error!(target: LOG, "cannot write to the audit log: {error}");
            }
        }
    }

    fn sync(&self) {
        if let Err(error) = self.destination.sync() {
            tracing::error!(target: LOG, "the audit log may not be durable: {error}");
        }
    }
}
