//! One subscription: a task that tells its handler, one change after the other.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outrigger_component::{Error, ErrorKind};
use outrigger_configuration::{Items, UpdateHandler};
use tokio::sync::mpsc;

use super::{notification::Change, reader::Reader};

/// Changes that wait for a slow handler; beyond them the table is read again instead.
const MOST_WAITING: usize = 256;
/// How long to wait before the table is read again after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// What the listener tells a subscription.
#[derive(Debug)]
enum Event {
    /// A row is another now, or gone.
    Changed(Change),
    /// Something may have changed.
    Look,
}

/// The listener's end of a subscription.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) channel: String,
    keys: Vec<String>,
    events: mpsc::Sender<Event>,
    behind: Arc<AtomicBool>,
}

/// The task's end of it.
#[derive(Debug)]
pub(super) struct Inbox {
    keys: Vec<String>,
    events: mpsc::Receiver<Event>,
    behind: Arc<AtomicBool>,
}

/// Both ends; no keys means all.
pub(super) fn subscription(channel: String, keys: Vec<String>) -> (Subscriber, Inbox) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    let behind = Arc::<AtomicBool>::default();
    let subscriber = Subscriber {
        channel,
        keys: keys.clone(),
        events: sender,
        behind: behind.clone(),
    };
    let inbox = Inbox {
        keys,
        events: receiver,
        behind,
    };
    (subscriber, inbox)
}

impl Subscriber {
    /// Tells of a change, if its key is wanted.
    pub(super) fn changed(&self, change: &Change) {
        if self.keys.is_empty() || self.keys.contains(&change.key) {
            self.tell(Event::Changed(change.clone()));
        }
    }

    /// Tells that notifications may have been missed.
    pub(super) fn look(&self) {
        self.tell(Event::Look);
    }

    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.behind.store(true, Ordering::Release);
        }
    }
}

/// Tells the handler until the listener lets go. `seen` is what the table held when listening had begun.
pub(super) async fn run(reader: Reader, mut inbox: Inbox, mut seen: Items, handler: Arc<dyn UpdateHandler>) {
    while let Some(event) = inbox.events.recv().await {
        match event {
            Event::Changed(Change {
                key,
                item,
                is_deleted,
            }) => {
                if is_deleted {
                    seen.remove(&key);
                } else {
                    seen.insert(key.clone(), item.clone());
                }
                handler.handle(Items::from([(key, item)])).await;
            }
            Event::Look => inbox.behind.store(true, Ordering::Release),
        }
        if inbox.behind.swap(false, Ordering::AcqRel) {
            let Ok(now) = read_again(&reader, &inbox.keys).await else {
                return;
            };
            let update = difference(&seen, &now);
            seen = now;
            if !update.is_empty() {
                handler.handle(update).await;
            }
        }
    }
}

/// Reads until it works or the component is closed.
async fn read_again(reader: &Reader, keys: &[String]) -> Result<Items, Error> {
    loop {
        match reader.read(keys).await {
            Ok(items) => return Ok(items),
            Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
            Err(error) => {
                tracing::warn!(error = error.chain(), "cannot read the configuration again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What changed; a removed key has the item that it had.
fn difference(before: &Items, after: &Items) -> Items {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .filter_map(|key| Some((key.clone(), after.get(key).or(before.get(key))?.clone())))
        .collect()
}
