//! What one consumer asks of its group, but for the reads that wait.

use std::{collections::HashSet, sync::Arc, time::Duration};

use outrigger_component::Error;
use redis::{Cmd, RedisError, Value, pipe};

use super::{
    entry::{Entry, EntryId},
    ledger::Held,
};
use crate::{
    failure::{failed, text},
    link::{Link, Safety},
};

/// Pending entries looked at in one go.
const PAGE: usize = 200;

/// A stream and its group. The one consumer of a group has its name, as upstream's has.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) link: Link,
    pub(super) stream: Arc<str>,
    pub(super) group: Arc<str>,
    /// How long an entry may be pending.
    pub(super) timeout: Duration,
}

/// What became of entries.
#[derive(Debug, Default)]
pub(super) struct Settlement {
    /// Acknowledged.
    pub(super) done: Vec<EntryId>,
    /// Not begun: whoever looks next may claim them at once.
    pub(super) back: Vec<EntryId>,
    /// Still in work: not overdue.
    pub(super) kept: Vec<EntryId>,
}

impl Settlement {
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.back.is_empty() && self.kept.is_empty()
    }
}

/// Whether the group is not there: the server lost it with its data, or somebody deleted it.
pub(super) fn is_no_group(error: &RedisError) -> bool {
    error.code() == Some("NOGROUP")
}

impl Consumer {
    fn command(&self, name: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(&*self.stream).arg(&*self.group);
        command
    }

    /// Makes the group, and the stream if need be, from the stream's beginning.
    pub(super) async fn create_group(&self) -> Result<(), Error> {
        let mut command = redis::cmd("XGROUP");
        command
            .arg("CREATE")
            .arg(&*self.stream)
            .arg(&*self.group)
            .arg("0")
            .arg("MKSTREAM");
        match self.link.raw(&command, Safety::Repeatable).await? {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(failed(&error)),
            _ => Ok(()),
        }
    }

    /// The group is gone: makes it anew and says so.
    pub(super) async fn recreate_group(&self) -> Result<(), Error> {
        tracing::warn!(
            "redis streams: consumer group {} does not exist for stream {}. This could mean the server \
             experienced data loss, or the group/stream was deleted.",
            self.group,
            self.stream
        );
        self.create_group().await
    }

    fn claim(&self, least_idle: Duration, ids: &[EntryId]) -> Cmd {
        let mut command = self.command("XCLAIM");
        command.arg(&*self.group).arg(millis(least_idle));
        for id in ids {
            command.arg(id.to_string());
        }
        command
    }

    /// Tells the server in one write.
    pub(super) async fn settle(&self, settlement: &Settlement) -> Result<(), Error> {
        let mut commands = pipe();
        if !settlement.done.is_empty() {
            let mut acknowledge = self.command("XACK");
            for id in &settlement.done {
                acknowledge.arg(id.to_string());
            }
            commands.add_command(acknowledge);
        }
        if !settlement.back.is_empty() {
            let mut back = self.claim(Duration::ZERO, &settlement.back);
            back.arg("IDLE").arg(millis(self.timeout)).arg("JUSTID");
            commands.add_command(back);
        }
        if !settlement.kept.is_empty() {
            let mut kept = self.claim(Duration::ZERO, &settlement.kept);
            kept.arg("JUSTID");
            commands.add_command(kept);
        }
        let answers = self.link.pipeline(&commands, Safety::Repeatable).await?;
        for (at, answer) in answers.into_iter().enumerate() {
            match answer.extract_error() {
                Err(error) if is_no_group(&error) => {}
                Err(error) if at == 0 && !settlement.done.is_empty() => return Err(failed(&error)),
                // The entries come again later than they might have; nothing is lost.
                Err(error) => tracing::warn!(
                    error = text(&error),
                    "redis streams: cannot mark pending messages"
                ),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Claims up to `room` entries that have been pending for too long and that nobody here holds. Those answered
    /// are held from now on.
    pub(super) async fn overdue(&self, held: &Held, room: usize) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut from = "-".to_owned();
        while entries.len() < room {
            let mut command = self.command("XPENDING");
            command.arg(&from).arg("+").arg(PAGE);
            let Value::Array(pending) = (match self.link.raw(&command, Safety::Repeatable).await? {
                Ok(pending) => pending,
                Err(error) if is_no_group(&error) => {
                    self.recreate_group().await?;
                    break;
                }
                Err(error) => return Err(failed(&error)),
            }) else {
                break;
            };
            let Some(last) = pending.last().and_then(pending_entry) else {
                break;
            };
            let mut due: Vec<_> = pending
                .iter()
                .filter_map(pending_entry)
                .filter(|(id, idle)| *idle >= self.timeout && !held.has(*id))
                .map(|(id, _)| id)
                .collect();
            due.truncate(room - entries.len());
            due.retain(|id| held.take(*id));
            if !due.is_empty() {
                match self.claim_overdue(&due).await {
                    Ok(claimed) => {
                        let got: HashSet<_> = claimed.iter().map(|entry| entry.id).collect();
                        due.retain(|id| !got.contains(id));
                        held.release(&due);
                        entries.extend(claimed);
                    }
                    Err(error) => {
                        held.release(&due);
                        // What an earlier page gave must not be lost with this error.
                        if entries.is_empty() {
                            return Err(error);
                        }
                        break;
                    }
                }
            }
            if pending.len() < PAGE {
                break;
            }
            from = last.0.next().to_string();
        }
        Ok(entries)
    }

    async fn claim_overdue(&self, ids: &[EntryId]) -> Result<Vec<Entry>, Error> {
        let command = self.claim(self.timeout, ids);
        // Sent twice, the second answer would say that nothing is overdue any more.
        let answer = self.link.command(&command, Safety::Once).await?;
        let (entries, gone) = Entry::read_all(answer);
        if gone > 0 {
            let got: HashSet<_> = entries.iter().map(|entry| entry.id).collect();
            for id in ids.iter().filter(|id| !got.contains(id)) {
                self.forget_deleted(*id).await?;
            }
        }
        Ok(entries)
    }

    /// An entry that is no longer in the stream is taken off the list; servers from 7.0 do that themselves.
    async fn forget_deleted(&self, id: EntryId) -> Result<(), Error> {
        let id = id.to_string();
        let mut look = redis::cmd("XRANGE");
        look.arg(&*self.stream).arg(&id).arg(&id);
        match self.link.command(&look, Safety::Repeatable).await? {
            Value::Array(found) if found.is_empty() => {
                let mut acknowledge = self.command("XACK");
                acknowledge.arg(&id);
                self.link
                    .command(&acknowledge, Safety::Repeatable)
                    .await
                    .map(drop)
            }
            _ => Ok(()),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads `[id, consumer, idle milliseconds, deliveries]`.
fn pending_entry(value: &Value) -> Option<(EntryId, Duration)> {
    let Value::Array(parts) = value else {
        return None;
    };
    let idle = match parts.get(2)? {
        Value::Int(idle) => u64::try_from(*idle).unwrap_or(0),
        _ => return None,
    };
    Some((EntryId::read(parts.first()?)?, Duration::from_millis(idle)))
}
