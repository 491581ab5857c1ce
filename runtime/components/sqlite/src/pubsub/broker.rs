//! The broker: publishing, and the tasks that subscriptions of one component share.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use outrigger_component::{Error, ErrorKind, Host, Metadata};
use outrigger_pubsub::{
    BulkFailure, Capabilities, EntryId, Handler, Outgoing, OutgoingEntry, PubSub, SubscribeRequest,
    Subscription,
};
use outrigger_types::Topic;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{
    claims,
    config::{Config, Options},
    doorbell::{self, Doorbell, Heard},
    publish::{self, Message},
    retention, schema, subscription,
};
use crate::{connection::failed, database::Database, turns::Turns};

/// How often the file is looked at for news nobody rang for (design §2).
const POLL: Duration = Duration::from_millis(250);
/// The same once nothing has been written for a while, where doorbells hang: each look costs some 60 µs.
const POLL_AT_REST: Duration = Duration::from_secs(1);
/// Nothing written for this long is rest.
const REST: Duration = Duration::from_secs(5);
/// File times stand still for up to this long while a file is written: younger ones prove nothing.
const CLOCK_STEP: Duration = Duration::from_millis(100);
/// How often old messages are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// How often running groups are marked as seen.
const TIDY: Duration = Duration::from_secs(3600);
/// Messages of a bulk publish stored in one go.
const BULK_CHUNK: usize = 500;
/// Topic ids remembered; a component with more topics looks some of them up again.
const MAX_TOPICS: usize = 4096;
/// Waits between attempts to get the write lock: another process holds it for a commit, some 300 µs.
const BUSY_WAIT: Duration = Duration::from_micros(200);

/// The broker.
#[derive(Clone)]
pub(crate) struct SqlitePubSub {
    shared: Arc<Shared>,
    /// Ends the tasks when the last clone goes.
    stop: Arc<watch::Sender<bool>>,
}

impl fmt::Debug for SqlitePubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlitePubSub")
            .field("database", &self.shared.database)
            .finish_non_exhaustive()
    }
}

/// What the tasks and subscriptions of a broker share.
pub(super) struct Shared {
    pub(super) database: Database,
    pub(super) options: Options,
    pub(super) doorbell: Option<Doorbell>,
    topics: Mutex<HashMap<Topic, i64>>,
    bells: Mutex<Vec<Arc<Bell>>>,
    /// A subscription has come: polling begins.
    subscribed: Notify,
    closed: AtomicBool,
}

/// How a subscription of this process is woken.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) topic: i64,
    pub(super) group: i64,
    news: AtomicBool,
    perhaps: AtomicBool,
    notify: Notify,
}

impl Bell {
    /// Whether somebody said that there are messages; asking clears it.
    pub(super) fn news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }

    /// Whether the file has changed in some way; asking clears it.
    pub(super) fn perhaps(&self) -> bool {
        self.perhaps.swap(false, Ordering::AcqRel)
    }

    /// Wakes the subscription to look.
    pub(super) fn ring(&self) {
        self.news.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    fn nudge(&self) {
        self.perhaps.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub(super) async fn rung(&self) {
        self.notify.notified().await;
    }
}

/// Milliseconds since the Unix epoch, as the tables have them: processes on one machine share this clock.
pub(super) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

impl SqlitePubSub {
    pub(super) async fn open(config: Config, host: Host) -> Result<Self, Error> {
        let memory = config.database.is_memory();
        let turns = config.database.path(&host.base_dir).and_then(|path| {
            Turns::open(&doorbell::folder(&path))
                .inspect_err(|error| {
                    tracing::warn!(%error, "no turns at the database: under load its writers may wait for one another for long");
                })
                .ok()
        });
        let database = Database::open_in_turns(config.database, &host.base_dir, turns, |connection| {
            // SQLite's own waits grow to 100 ms: far too long between processes that commit all the time.
            connection
                .busy_handler(Some(wait_for_lock))
                .map_err(|error| failed("cannot set up the SQLite database", error))?;
            schema::set_up(connection)
        })
        .await?;
        let doorbell = database.path().filter(|_| !memory).and_then(|path| {
            let name = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
            Doorbell::hang(&path, name)
                .inspect_err(|error| {
                    tracing::warn!(%error, "no doorbells: messages from other processes arrive up to 250 ms later");
                })
                .ok()
        });
        let shared = Arc::new(Shared {
            database,
            options: config.options,
            doorbell,
            topics: Mutex::default(),
            bells: Mutex::default(),
            subscribed: Notify::new(),
            closed: AtomicBool::new(false),
        });
        for bell in shared.doorbell.iter().flat_map(Doorbell::dead) {
            shared.bury(bell);
        }
        let stop = Arc::new(watch::Sender::new(false));
        for task in [
            listen(shared.clone()),
            poll(shared.clone()),
            sweep(shared.clone()),
        ] {
            let mut stopped = stop.subscribe();
            tokio::spawn(async move {
                tokio::select! {
                    () = task => {}
                    // An error means that the broker was dropped.
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        }
        Ok(Self { shared, stop })
    }

    async fn store(&self, topic: &Topic, messages: Vec<Message>) -> Result<(), Error> {
        let shared = &self.shared;
        let known = shared.topics.lock().get(topic).copied();
        let (name, max_bytes) = (topic.clone(), shared.options.max_bytes);
        let stored = shared
            .database
            .write(move |connection| publish::store(connection, &name, known, &messages, max_bytes, now()))
            .await?;
        if known.is_none() {
            let mut topics = shared.topics.lock();
            if topics.len() >= MAX_TOPICS {
                topics.clear();
            }
            topics.insert(topic.clone(), stored.topic);
        }
        shared.announce(stored.topic, &stored.doorbells);
        Ok(())
    }
}

impl PubSub for SqlitePubSub {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            bulk_publish: true,
            message_ttl: true,
            wildcards: false,
        }
    }

    async fn publish(&self, message: Outgoing) -> Result<(), Error> {
        self.shared.check_open()?;
        let stored = Message::new(message.data, message.metadata)?;
        self.store(&message.topic, vec![stored]).await
    }

    async fn publish_bulk(
        &self,
        topic: &Topic,
        entries: Vec<OutgoingEntry>,
        _metadata: &Metadata,
    ) -> Vec<BulkFailure> {
        let mut failures = Vec::new();
        let mut good: Vec<(EntryId, Message)> = Vec::with_capacity(entries.len());
        for OutgoingEntry {
            id, data, metadata, ..
        } in entries
        {
            match self
                .shared
                .check_open()
                .and_then(|()| Message::new(data, metadata))
            {
                Ok(message) => good.push((id, message)),
                Err(error) => failures.push(BulkFailure { id, error }),
            }
        }
        let mut good = good.into_iter();
        loop {
            let (ids, messages): (Vec<_>, Vec<_>) = good.by_ref().take(BULK_CHUNK).unzip();
            if ids.is_empty() {
                return failures;
            }
            if let Err(error) = self.store(topic, messages).await {
                failures.extend(ids.into_iter().map(|id| BulkFailure {
                    id,
                    error: copy(&error),
                }));
            }
        }
    }

    async fn subscribe(
        &self,
        request: SubscribeRequest,
        handler: Arc<dyn Handler>,
    ) -> Result<Subscription, Error> {
        self.shared.check_open()?;
        if request.topic.is_empty() {
            return Err(Error::invalid("the topic is empty"));
        }
        subscription::start(&self.shared, request, handler)
            .await
            .map(Subscription::new)
    }

    async fn ping(&self) -> Result<(), Error> {
        self.shared.check_open()?;
        self.shared.database.ping().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.shared.closed.store(true, Ordering::Release);
        self.stop.send_replace(true);
        self.shared.database.close().await;
        Ok(())
    }
}

impl Shared {
    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            Err(Error::new(ErrorKind::Closed, "component is closed"))
        } else {
            Ok(())
        }
    }

    /// Tells every subscription of a topic, here and in other processes.
    pub(super) fn announce(self: &Arc<Self>, topic: i64, doorbells: &[String]) {
        self.ring_local(topic);
        if let Some(own) = &self.doorbell {
            for bell in doorbells.iter().filter(|bell| *bell != own.name()) {
                if own.ring(bell, topic) == Heard::Dead {
                    self.bury(bell.clone());
                }
            }
        }
    }

    /// Takes over from those of the doorbells whose process has died.
    pub(super) fn probe(self: &Arc<Self>, doorbells: &[String]) {
        if let Some(own) = &self.doorbell {
            for bell in doorbells.iter().filter(|bell| *bell != own.name()) {
                if own.probe(bell) == Heard::Dead {
                    self.bury(bell.clone());
                }
            }
        }
    }

    fn ring_local(&self, topic: i64) {
        for bell in self.bells.lock().iter().filter(|bell| bell.topic == topic) {
            bell.ring();
        }
    }

    /// Frees what a dead process held. Whoever else finds it dead does the same; the second finds nothing.
    fn bury(self: &Arc<Self>, bell: String) {
        let shared = self.clone();
        tokio::spawn(async move {
            let name = bell.clone();
            let buried = shared
                .database
                .write(move |connection| {
                    claims::bury(connection, &name, now())
                        .map_err(|error| failed("cannot take over from a dead consumer", error))
                })
                .await;
            match buried {
                Ok(topics) => {
                    if let Some(own) = &shared.doorbell {
                        own.remove(&bell);
                    }
                    for topic in topics {
                        shared.ring_local(topic);
                    }
                }
                // Its lease ends by itself.
                Err(error) => tracing::debug!(error = error.chain(), "a dead consumer stays registered"),
            }
        });
    }

    pub(super) fn add_bell(&self, topic: i64, group: i64) -> Arc<Bell> {
        let bell = Arc::new(Bell {
            topic,
            group,
            // What was published before is news.
            news: AtomicBool::new(true),
            perhaps: AtomicBool::new(false),
            notify: Notify::new(),
        });
        self.bells.lock().push(bell.clone());
        self.subscribed.notify_one();
        bell
    }

    pub(super) fn remove_bell(&self, bell: &Arc<Bell>) {
        self.bells.lock().retain(|other| !Arc::ptr_eq(other, bell));
    }
}

type Task = futures::future::BoxFuture<'static, ()>;

/// Passes rings of other processes on.
fn listen(shared: Arc<Shared>) -> Task {
    Box::pin(async move {
        let Some(doorbell) = &shared.doorbell else { return };
        loop {
            match doorbell.rung().await {
                Ok(topic) => shared.ring_local(topic),
                Err(error) => {
                    tracing::warn!(%error, "the doorbell is broken: polling goes on");
                    return;
                }
            }
        }
    })
}

/// Looks whether somebody has committed without ringing: a foreign tool, a lost ring, an abandoned publish.
fn poll(shared: Arc<Shared>) -> Task {
    Box::pin(async move {
        let commits = shared.database.commits();
        let path = shared.database.path();
        let mut last = None;
        let mut written: Option<SystemTime> = None;
        loop {
            if shared.bells.lock().is_empty() {
                shared.subscribed.notified().await;
            }
            let rests = written.is_some_and(|at| at.elapsed().is_ok_and(|age| age > REST));
            tokio::time::sleep(if rests && shared.doorbell.is_some() {
                POLL_AT_REST
            } else {
                POLL
            })
            .await;
            // Asking SQLite wakes its thread twice; two looks at file times keep an idle sidecar idle.
            let before = std::mem::replace(&mut written, path.as_deref().and_then(last_written));
            if let (Some(before), Some(after)) = (before, written)
                && before == after
                && after.elapsed().is_ok_and(|age| age > CLOCK_STEP + POLL_AT_REST)
            {
                continue;
            }
            let Ok(version) = shared.database.data_version().await else {
                continue;
            };
            let seen = Some((version, *commits.borrow()));
            if seen != last {
                last = seen;
                for bell in shared.bells.lock().iter() {
                    bell.nudge();
                }
            }
        }
    })
}

/// When the database or its log was last written; `None` when nobody can say.
fn last_written(database: &Path) -> Option<SystemTime> {
    let modified = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    modified(database).map(|time| modified(Path::new(&log)).map_or(time, |log| log.max(time)))
}

/// Removes what is no longer kept.
fn sweep(shared: Arc<Shared>) -> Task {
    let tidy_every = match shared.options.group.life {
        Some(life) => TIDY.min(life / 3),
        None => TIDY,
    };
    Box::pin(async move {
        let mut tidied = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(SWEEP).await;
            if let Err(error) = sweep_once(&shared).await {
                tracing::warn!(error = error.chain(), "old messages stay for now");
            }
            if tidied.elapsed() >= tidy_every {
                tidied = tokio::time::Instant::now();
                let live: Vec<i64> = shared.bells.lock().iter().map(|bell| bell.group).collect();
                let options = shared.options.clone();
                let tidy = shared
                    .database
                    .write(move |connection| retention::groups(connection, &live, &options, now()));
                if let Err(error) = tidy.await {
                    tracing::warn!(error = error.chain(), "old groups stay for now");
                }
            }
        }
    })
}

pub(super) async fn sweep_once(shared: &Shared) -> Result<(), Error> {
    let options = shared.options.clone();
    if !shared
        .database
        .read(move |connection| retention::needed(connection, &options, now()))
        .await?
    {
        return Ok(());
    }
    loop {
        let options = shared.options.clone();
        let more = shared
            .database
            .write_relaxed(move |connection| retention::sweep(connection, &options, now()))
            .await?;
        if !more {
            return Ok(());
        }
    }
}

/// SQLite's busy handler: short even waits, up to about ten seconds. Runs on the database's own thread.
fn wait_for_lock(attempt: i32) -> bool {
    std::thread::park_timeout(if attempt < 1000 { BUSY_WAIT } else { BUSY_WAIT * 10 });
    attempt < 5000
}

/// Errors are not cloneable; each entry of a failed chunk gets its own.
fn copy(error: &Error) -> Error {
    Error::new(error.kind(), error.message().to_owned())
        .with_retry(error.retry())
        .with_side(error.side())
        .with_source(error.chain())
}

#[cfg(test)]
impl SqlitePubSub {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}
