//! One connection that listens for all subscriptions of a component; made anew whenever it breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use outrigger_component::Error;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_postgres::{AsyncMessage, Client};

use super::{notification, subscription::Subscriber};
use crate::{
    connection::{Connector, Wire},
    error,
};

/// Notifications that wait for the listener, which only hands them on.
const MOST_WAITING: usize = 1024;
/// Between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct State {
    subscribers: BTreeMap<u64, Subscriber>,
    /// Who waits until its channel is listened to.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    next: u64,
    /// What went wrong last, for who gives up waiting.
    failure: Option<String>,
}

#[derive(Debug)]
struct Shared {
    connector: Connector,
    state: Mutex<State>,
    /// Rings when subscriptions come or go.
    changed: Notify,
}

/// Listens while there are subscriptions.
#[derive(Debug)]
pub(super) struct Listener {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A place among the subscriptions; given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.state.lock().subscribers.remove(&self.id);
        self.shared.changed.notify_one();
    }
}

impl Listener {
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            shared: Arc::new(Shared {
                connector,
                state: Mutex::default(),
                changed: Notify::new(),
            }),
            task: Mutex::new(None),
        }
    }

    /// Adds a subscription and waits until its channel is listened to.
    ///
    /// # Errors
    /// `Unavailable` when that does not happen in time.
    pub(super) async fn add(&self, subscriber: Subscriber, patience: Duration) -> Result<Place, Error> {
        let (sender, ready) = oneshot::channel();
        let place = {
            let mut state = self.shared.state.lock();
            let id = state.next;
            state.next += 1;
            state.subscribers.insert(id, subscriber);
            state.waiting.push((id, sender));
            Place {
                shared: self.shared.clone(),
                id,
            }
        };
        self.task
            .lock()
            .get_or_insert_with(|| tokio::spawn(listen(self.shared.clone())));
        self.shared.changed.notify_one();
        match tokio::time::timeout(patience, ready).await {
            Ok(Ok(())) => Ok(place),
            Ok(Err(_)) => Err(error::closed()),
            Err(_) => {
                let why = self.shared.state.lock().failure.clone();
                Err(Error::unavailable("error listening to channel")
                    .with_source(why.unwrap_or_else(|| "the database did not answer in time".to_owned())))
            }
        }
    }

    /// Ends all subscriptions.
    pub(super) fn close(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
        let mut state = self.shared.state.lock();
        state.subscribers.clear();
        state.waiting.clear();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

/// The task that drives a connection; ends with who listens.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    let mut missed = false;
    loop {
        while shared.state.lock().subscribers.is_empty() {
            missed = false;
            shared.changed.notified().await;
        }
        let failure = match shared.connector.wire().await {
            Ok((client, wire)) => {
                let (sender, notifications) = mpsc::channel(MOST_WAITING);
                let _driver = Driver(tokio::spawn(drive(wire, sender)));
                serve(&shared, &client, notifications, &mut missed, &mut pause).await
            }
            Err(failure) => Some(error::text(&failure)),
        };
        let Some(failure) = failure else {
            continue;
        };
        missed = true;
        tracing::warn!(
            error = failure,
            "not listening for configuration changes; trying again"
        );
        shared.state.lock().failure = Some(failure);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Serves one connection until it breaks, and says why, or until nobody listens any more.
async fn serve(
    shared: &Shared,
    client: &Client,
    mut notifications: mpsc::Receiver<(String, String)>,
    missed: &mut bool,
    pause: &mut Duration,
) -> Option<String> {
    let mut channels = BTreeSet::new();
    loop {
        let wanted: BTreeSet<String> = {
            let state = shared.state.lock();
            state
                .subscribers
                .values()
                .map(|subscriber| subscriber.channel.clone())
                .collect()
        };
        if wanted.is_empty() {
            return None;
        }
        // Who waits now has a channel among the wanted ones.
        let waiting = std::mem::take(&mut shared.state.lock().waiting);
        let (ready, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(id, _)| {
            let state = shared.state.lock();
            state
                .subscribers
                .get(id)
                .is_none_or(|subscriber| wanted.contains(&subscriber.channel))
        });
        let commands: Vec<String> = wanted
            .difference(&channels)
            .map(|channel| format!("LISTEN \"{channel}\""))
            .chain(
                channels
                    .difference(&wanted)
                    .map(|channel| format!("UNLISTEN \"{channel}\"")),
            )
            .collect();
        if !commands.is_empty()
            && let Err(failure) = client.batch_execute(&commands.join(";")).await
        {
            shared.state.lock().waiting.extend(ready.into_iter().chain(later));
            return Some(error::text(&failure));
        }
        channels = wanted;
        *pause = FIRST_PAUSE;
        if std::mem::take(missed) {
            for subscriber in shared.state.lock().subscribers.values() {
                subscriber.look();
            }
        }
        shared.state.lock().waiting.extend(later);
        for (_, ready) in ready {
            // Who gave up waiting has given up its place too.
            let _ = ready.send(());
        }
        loop {
            tokio::select! {
                () = shared.changed.notified() => break,
                notification = notifications.recv() => match notification {
                    None => return Some("the connection broke".to_owned()),
                    Some((channel, payload)) => hand_on(shared, &channel, &payload),
                },
            }
        }
    }
}

fn hand_on(shared: &Shared, channel: &str, payload: &str) {
    let Some(change) = notification::parse(payload) else {
        tracing::info!(channel, "unknown format of data received in notify event");
        return;
    };
    let state = shared.state.lock();
    for subscriber in state
        .subscribers
        .values()
        .filter(|subscriber| subscriber.channel == channel)
    {
        subscriber.changed(&change);
    }
}

async fn drive(mut wire: Wire, notifications: mpsc::Sender<(String, String)>) {
    loop {
        match std::future::poll_fn(|cx| wire.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                let message = (
                    notification.channel().to_owned(),
                    notification.payload().to_owned(),
                );
                if notifications.send(message).await.is_err() {
                    return;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(failure)) => {
                tracing::debug!(error = error::text(&failure), "the listening connection broke");
                return;
            }
            None => return,
        }
    }
}
