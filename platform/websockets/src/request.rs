//! Requests that wait for their answer on a connection (I2.2): a UUID goes in front, the answer brings it back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

/// The bytes in front of a request and of its answer.
pub(crate) const PREFIX: usize = 16;
/// Requests of one connection that wait at a time.
pub(crate) const MAX_WAITING: usize = 1024;

/// A fresh prefix for a binary message: any UUID of version 4.
pub(crate) fn binary_prefix() -> [u8; PREFIX] {
    Uuid::new_v4().into_bytes()
}

/// A fresh prefix for a text message: a UUID of version 4 whose bytes are valid UTF-8 (Z14), because a text frame
/// carries nothing else. Bytes 7 and 8 are one character of two bytes; the variant's bits are those of its second.
pub(crate) fn text_prefix() -> [u8; PREFIX] {
    to_text(binary_prefix())
}

fn to_text(mut bytes: [u8; PREFIX]) -> [u8; PREFIX] {
    for byte in &mut bytes {
        *byte &= 0x7f;
    }
    // 0xC0 and 0xC1 begin no character.
    bytes[7] = 0xc2 + bytes[7] % 30;
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    bytes
}

/// The requests of one connection that have no answer yet.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    senders: Mutex<HashMap<[u8; PREFIX], oneshot::Sender<Bytes>>>,
    /// How many; most messages come while nobody waits.
    count: AtomicUsize,
}

/// A request that waits; dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    waiting: &'a Waiting,
    prefix: [u8; PREFIX],
    pub(crate) answer: oneshot::Receiver<Bytes>,
}

impl Waiting {
    /// Begins to wait; `None` when too many do.
    pub(crate) fn wait(&self, prefix: [u8; PREFIX]) -> Option<Waiter<'_>> {
        let (sender, answer) = oneshot::channel();
        let mut senders = self.senders.lock();
        if senders.len() >= MAX_WAITING {
            return None;
        }
        senders.insert(prefix, sender);
        self.count.store(senders.len(), Ordering::Release);
        Some(Waiter {
            waiting: self,
            prefix,
            answer,
        })
    }

    /// Whether a message is an answer; then whoever waits has it.
    pub(crate) fn takes(&self, message: &Bytes) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let Some(prefix) = message.first_chunk::<PREFIX>() else {
            return false;
        };
        let mut senders = self.senders.lock();
        let Some(sender) = senders.remove(prefix) else {
            return false;
        };
        self.count.store(senders.len(), Ordering::Release);
        drop(senders);
        sender.send(message.slice(PREFIX..)).is_ok()
    }

    /// Nobody gets an answer any more: the connection it would have come by is gone.
    pub(crate) fn give_up(&self) {
        let mut senders = self.senders.lock();
        senders.clear();
        self.count.store(0, Ordering::Release);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.senders.lock().len()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut senders = self.waiting.senders.lock();
        senders.remove(&self.prefix);
        self.waiting.count.store(senders.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_prefix_is_text_and_a_uuid_of_version_4(random in any::<u128>()) {
            let bytes = to_text(uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().into_bytes());
            prop_assert!(std::str::from_utf8(&bytes).is_ok());
            let uuid = Uuid::from_bytes(bytes);
            prop_assert_eq!(uuid.get_version_num(), 4);
            prop_assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        }
    }

    #[test]
    fn answers_reach_those_who_wait_and_nobody_else() {
        let waiting = Waiting::default();
        let (mine, other) = (text_prefix(), binary_prefix());
        let mut waiter = waiting.wait(mine).unwrap();
        let message = |prefix: [u8; 16]| Bytes::from([prefix.as_slice(), b"pong"].concat());
        assert!(!waiting.takes(&message(other)));
        assert!(!waiting.takes(&Bytes::from_static(b"short")));
        assert!(waiting.takes(&message(mine)));
        assert_eq!(waiter.answer.try_recv().unwrap(), "pong");
        // The first one is the answer; the next is a message like any other.
        assert!(!waiting.takes(&message(mine)));
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let waiting = Waiting::default();
        let waiters: Vec<_> = (0..MAX_WAITING)
            .map_while(|_| waiting.wait(binary_prefix()))
            .collect();
        assert_eq!(waiters.len(), MAX_WAITING);
        assert!(waiting.wait(binary_prefix()).is_none());
        drop(waiters);
        assert_eq!(waiting.len(), 0);
        let waiter = waiting.wait(binary_prefix()).unwrap();
        waiting.give_up();
        drop(waiter);
        assert_eq!(waiting.len(), 0);
    }
}
