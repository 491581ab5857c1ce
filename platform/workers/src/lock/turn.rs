//! One turn of a group, as a pure machine: what happened goes in, what to do next comes out (H4).
//!
//! The check of the token and the publication are made one like this: the turn first *commits* its output, by a
//! conditional write of the whole output into the lock's record, and publishes it then. The write succeeds only while
//! the record is the turn's own, so a turn that was robbed cannot commit. And whoever robs a turn that has committed
//! publishes that output before its own work, so outputs appear in the order of their tokens whatever stops in
//! between. A holder that sleeps between its commit and its publication can only repeat, under the same event id,
//! what its successor has published already. None of this rests on clocks: leases only say when to stop waiting.
//!
//! An output that is never taken must not keep the group for ever. Where it is refused for good, or where the broker
//! took other events while it did not take this one in as many turns as there may be redeliveries, the dead letter
//! that lies beside it is published in its place; where in as many turns again that is not taken either, both are
//! abandoned, and that is told. A broker or sidecar that is away takes nothing, which counts for neither.

use std::time::Duration;

use super::record::{LockRecord, Output, written};
use crate::events::buried;
use crate::outlet::Reception;

/// Tries of one read or write before the turn is given up.
const MOST_TRIES: u32 = 5;
/// The wait before trying a failed read or write again, doubling.
const TRY_PAUSE: Duration = Duration::from_millis(50);

/// What a turn is for, and how patient it is.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// Who takes it.
    pub instance: String,
    /// A name for it that no other turn has.
    pub turn: String,
    /// [`Output::key`] of what it will publish.
    pub key: String,
    /// How long others wait for a sign of life.
    pub lease: Duration,
    /// Waits while others have their turns (`GROUP_LOCK_MAX_RETRIES`).
    pub max_retries: u32,
    /// The first wait, doubling (`GROUP_LOCK_RETRY_BASE_DELAY_MS`).
    pub base_delay: Duration,
    /// Turns, less one, that may try in vain to publish an output (`GROUP_LOCK_MAX_REDELIVERIES`).
    pub max_redeliveries: u32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The turn is wanted.
    Begin,
    /// The record, with its etag, as it was read.
    Read(Option<(LockRecord, String)>),
    /// It could not be read.
    ReadFailed,
    /// The conditional write took place.
    Saved,
    /// It did not: somebody else wrote, or a former try of it did.
    Conflict,
    /// Nobody knows whether it did.
    SaveFailed,
    /// It did not, and will not: the store does not take such a record.
    SaveRefused(String),
    /// A wait is over.
    Waited,
    /// A third of the lease has passed while the work goes on.
    RenewDue,
    /// The work is done.
    Finished(Option<Output>),
    /// The work ended without a word.
    Failed,
    /// What became of a publication.
    Published(Reception),
    /// That an output was abandoned is told.
    Abandoned,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// Read the record.
    Read,
    /// Write it if it still has this etag; `None`: if there is none.
    Save(LockRecord, Option<String>),
    /// Wait.
    Wait(Duration),
    /// Begin the work, and go on with [`Event::RenewDue`] or [`Event::Finished`].
    Work {
        /// The turn's token.
        token: u64,
        /// Whether a holder that gave no sign of life lost its turn.
        robbed: Option<String>,
    },
    /// Go on with the work.
    Continue,
    /// Publish.
    Publish(Output),
    /// Publish this dead letter in place of an output that was not taken; why.
    Bury(Output, String),
    /// Tell that neither the output nor its dead letter was taken, and why; nobody tries again.
    Abandon(Output, String),
    /// The turn is over.
    End(Ended),
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The work is done, and what came of it is published.
    Done,
    /// A former turn did the same work, and it is published.
    AlreadyDone,
    /// Others kept the group for too long.
    Contended,
    /// Somebody else took the turn away; the output was not published.
    Refused {
        /// The turn's token.
        token: u64,
        /// The token there is now.
        current: u64,
    },
    /// State or events did not answer.
    Unavailable,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Acquire,
    /// The output of a turn before is being published.
    Inherit,
    Work,
    Renew,
    Commit(Output),
    Publish,
    /// A dead letter is being published.
    Bury {
        /// Of a turn before.
        inherited: bool,
    },
    Release(Ended),
    Ended,
}

/// A turn.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    terms: Terms,
    step: Step,
    contentions: u32,
    tries: u32,
    token: u64,
    acquired_at: i64,
    robbed: Option<String>,
    /// What the record says of outputs, as of the last read or of what was published since.
    committed: Option<Output>,
    strikes: u32,
    /// Whether this turn has added one.
    struck: bool,
    last_key: Option<String>,
}

impl Turn {
    /// A turn that has not begun.
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            step: Step::Acquire,
            contentions: 0,
            tries: 0,
            token: 0,
            acquired_at: 0,
            robbed: None,
            committed: None,
            strikes: 0,
            struck: false,
            last_key: None,
        }
    }

    /// Takes what happened, at `now` in milliseconds since 1970, and says what to do.
    pub(super) fn handle(&mut self, now: i64, event: Event) -> Effect {
        match event {
            Event::Begin | Event::Waited => Effect::Read,
            Event::RenewDue => {
                self.step = Step::Renew;
                Effect::Read
            }
            Event::Read(read) => {
                let effect = self.read(now, read);
                if !matches!(effect, Effect::Save(..)) {
                    self.tries = 0;
                }
                effect
            }
            // Nobody else writes the record of a turn: the next look tells who was first.
            Event::Conflict => self.again(Duration::ZERO),
            Event::ReadFailed | Event::SaveFailed => self.again(TRY_PAUSE * (1 << self.tries.min(10))),
            Event::SaveRefused(why) => self.refused(&why),
            Event::Saved => {
                self.tries = 0;
                self.saved()
            }
            Event::Finished(Some(output)) => {
                self.step = Step::Commit(output);
                Effect::Read
            }
            Event::Finished(None) => self.release(Ended::Done),
            Event::Failed => self.release(Ended::Unavailable),
            Event::Published(reception) => self.published(reception),
            Event::Abandoned => self.past(),
        }
    }

    fn read(&mut self, now: i64, read: Option<(LockRecord, String)>) -> Effect {
        let own = read
            .as_ref()
            .is_some_and(|(record, _)| record.turn == self.terms.turn);
        match (&self.step, read) {
            (Step::Acquire, None) => {
                self.token = 1;
                self.acquired_at = now;
                Effect::Save(self.record(now), None)
            }
            (Step::Acquire, Some((record, _))) if own => {
                self.remember(&record);
                self.acquired()
            }
            (Step::Acquire, Some((record, etag))) => self.acquire(now, &record, etag),
            (Step::Renew, Some((_, etag))) if own => Effect::Save(self.record(now), Some(etag)),
            (Step::Commit(output), Some((record, etag))) if own => {
                // The answer to a former try may have got lost.
                if record.committed.as_ref() == Some(output) {
                    return self.saved();
                }
                let mut record = self.record(now);
                record.committed = Some(output.clone());
                Effect::Save(record, Some(etag))
            }
            (Step::Release(ended), Some((_, etag))) if own => {
                let keeps = *ended == Ended::Unavailable;
                let mut record = self.record(now);
                record.owner_instance_id.clear();
                record.lease_until = written(now);
                if !keeps {
                    record.committed = None;
                }
                // The next look at the record must not take it for a turn under way.
                record.turn.clear();
                Effect::Save(record, Some(etag))
            }
            (Step::Release(ended), _) => self.end(ended.clone()),
            (_, read) => {
                let current = read.map_or(0, |(record, _)| record.fencing_token);
                self.end(Ended::Refused {
                    token: self.token,
                    current,
                })
            }
        }
    }

    fn acquire(&mut self, now: i64, record: &LockRecord, etag: String) -> Effect {
        if record.last_key.as_ref() == Some(&self.terms.key) && record.committed.is_none() {
            return self.end(Ended::AlreadyDone);
        }
        if record.is_held(now) {
            let wait = self
                .terms
                .base_delay
                .saturating_mul(1 << self.contentions.min(16));
            self.contentions += 1;
            if self.contentions > self.terms.max_retries {
                return self.end(Ended::Contended);
            }
            return Effect::Wait(wait);
        }
        self.remember(record);
        self.robbed = Some(record.owner_instance_id.clone()).filter(|owner| !owner.is_empty());
        self.token = record.fencing_token + 1;
        self.acquired_at = now;
        Effect::Save(self.record(now), Some(etag))
    }

    fn remember(&mut self, record: &LockRecord) {
        self.token = record.fencing_token;
        self.committed = record.committed.clone();
        self.strikes = record.strikes;
        self.last_key = record.last_key.clone();
    }

    /// A write took place.
    fn saved(&mut self) -> Effect {
        match std::mem::replace(&mut self.step, Step::Ended) {
            Step::Acquire => self.acquired(),
            Step::Commit(output) => {
                self.committed = Some(output.clone());
                self.step = Step::Publish;
                Effect::Publish(output)
            }
            Step::Release(ended) => self.end(ended),
            _ => {
                self.step = Step::Work;
                Effect::Continue
            }
        }
    }

    fn acquired(&mut self) -> Effect {
        match &self.committed {
            Some(output) => {
                self.step = Step::Inherit;
                Effect::Publish(output.clone())
            }
            None => self.work(),
        }
    }

    fn work(&mut self) -> Effect {
        self.step = Step::Work;
        Effect::Work {
            token: self.token,
            robbed: self.robbed.take(),
        }
    }

    /// The store does not take an output with what lies beside it; its dead letter may be smaller.
    fn refused(&mut self, why: &str) -> Effect {
        let letter = match &self.step {
            Step::Commit(output) => buried(output, why, 1),
            _ => None,
        };
        match letter {
            Some(letter) => {
                self.tries = 0;
                self.step = Step::Commit(letter);
                Effect::Read
            }
            None => self.again(TRY_PAUSE),
        }
    }

    fn published(&mut self, reception: Reception) -> Effect {
        let buries = matches!(self.step, Step::Bury { .. });
        let (why, is_final) = match reception {
            Reception::Taken => return self.past(),
            // It stays committed: the next turn publishes it, and the broker brings the event again.
            Reception::Away => return self.release(Ended::Unavailable),
            Reception::Refused(why) => (why, !buries),
            Reception::Stuck(why) => (why, false),
        };
        if !is_final && !self.struck {
            self.struck = true;
            self.strikes = self.strikes.saturating_add(1);
        }
        let enough = self.terms.max_redeliveries.saturating_add(1);
        let inherited = self.inherits();
        match &self.committed {
            Some(output) if !buries && (is_final || self.strikes >= enough) => {
                let letter = buried(output, &why, self.strikes.max(1)).unwrap_or_else(|| output.clone());
                self.step = Step::Bury { inherited };
                Effect::Bury(letter, why)
            }
            Some(output) if buries && self.strikes >= enough.saturating_mul(2) => {
                Effect::Abandon(output.clone(), why)
            }
            _ => self.release(Ended::Unavailable),
        }
    }

    /// Whether what is being published is of a turn before.
    fn inherits(&self) -> bool {
        matches!(self.step, Step::Inherit | Step::Bury { inherited: true })
    }

    /// What was committed is published, or given up.
    fn past(&mut self) -> Effect {
        let inherited = self.inherits();
        (self.strikes, self.struck) = (0, false);
        if let Some(output) = self.committed.take() {
            self.last_key = Some(output.key);
        }
        let own = self.last_key.as_ref() == Some(&self.terms.key);
        match (inherited, own) {
            (true, true) => self.release(Ended::AlreadyDone),
            (true, false) => self.work(),
            (false, _) => self.release(Ended::Done),
        }
    }

    fn release(&mut self, ended: Ended) -> Effect {
        self.tries = 0;
        self.step = Step::Release(ended);
        Effect::Read
    }

    /// Reads again, if it has not been tried too often.
    fn again(&mut self, pause: Duration) -> Effect {
        self.tries += 1;
        if self.tries < MOST_TRIES {
            return if pause.is_zero() {
                Effect::Read
            } else {
                Effect::Wait(pause)
            };
        }
        match &self.step {
            // The lease may last until the store answers again.
            Step::Renew | Step::Work => {
                self.tries = 0;
                self.step = Step::Work;
                Effect::Continue
            }
            // It ends with the lease.
            Step::Release(ended) => self.end(ended.clone()),
            // Nothing was written that others would have to wait for.
            Step::Acquire if self.acquired_at == 0 => self.end(Ended::Unavailable),
            _ => self.release(Ended::Unavailable),
        }
    }

    fn end(&mut self, ended: Ended) -> Effect {
        self.step = Step::Ended;
        Effect::End(ended)
    }

    /// The record while the turn is this one's.
    fn record(&self, now: i64) -> LockRecord {
        let lease = i64::try_from(self.terms.lease.as_millis()).unwrap_or(i64::MAX);
        LockRecord {
            owner_instance_id: self.terms.instance.clone(),
            acquired_at: written(self.acquired_at),
            lease_until: written(now.saturating_add(lease)),
            fencing_token: self.token,
            turn: self.terms.turn.clone(),
            committed: self.committed.clone(),
            strikes: self.strikes,
            last_key: self.last_key.clone(),
        }
    }
}
