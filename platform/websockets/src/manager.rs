//! The manager: what its users ask for (I1, I2, I4). Who holds what is [`ownership`](crate::ownership)'s.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use outrigger_platform_service::Backend;
use outrigger_platform_topics::Topic;
use parking_lot::Mutex;
use tokio_tungstenite::tungstenite::Message;

use crate::clerk::Clerk;
use crate::dial::{DialError, Dialer};
use crate::error::CallError;
use crate::link::{Link, Parts, SendError, Start, View};
use crate::machine::Machine;
use crate::outlet::{Bounds, Outlet};
use crate::record::{ConnectionRecord, Status};
use crate::registry::Registry;
use crate::request::{binary_prefix, text_prefix};
use crate::settings::Limits;
use crate::tasks::spawn;

/// The wait for an answer where the caller names none (R4).
const DEFAULT_TIMEOUT_MS: i32 = 10_000;
/// The longest wait for an answer.
const LONGEST_TIMEOUT_MS: i32 = 3_600_000;
const MAX_TAGS: usize = 64;
const MAX_TAG: usize = 1024;
const MAX_TOPIC: usize = 255;

/// The WebSocket manager, one instance of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Manager(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) limits: Limits,
    pub(crate) dialer: Dialer,
    pub(crate) backend: Backend,
    pub(crate) registry: Arc<Registry>,
    pub(crate) links: Mutex<HashMap<String, Arc<Link>>>,
    /// New connections that are written down but not held yet.
    pub(crate) making: Mutex<HashSet<String>>,
    /// One for each connection that may be made at the moment.
    places: Arc<tokio::sync::Semaphore>,
    /// Whether the wipe at the start is done.
    pub(crate) cleared: AtomicBool,
    /// Whether another process of this name took over.
    pub(crate) replaced: AtomicBool,
}

/// A connection as its users see it (I1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// What is stored.
    pub record: ConnectionRecord,
    /// How it stands: at its owner now, elsewhere when it was last written down.
    pub status: Status,
    /// Of the last message that came.
    pub content_type: String,
}

impl Manager {
    /// An instance of the service. It does nothing until it is asked.
    #[must_use]
    pub fn new(backend: Backend, instance: &str, dialer: Dialer, limits: Limits) -> Self {
        let registry = Registry::new(backend.clone(), plain(instance), limits.heartbeat_every * 3);
        Self(Arc::new(Inner {
            places: Arc::new(tokio::sync::Semaphore::new(limits.max_connections)),
            limits,
            dialer,
            backend,
            registry: Arc::new(registry),
            links: Mutex::default(),
            making: Mutex::default(),
            cleared: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
        }))
    }

    /// Its name among the instances.
    #[must_use]
    pub fn instance(&self) -> &str {
        self.0.registry.instance()
    }

    /// Makes a connection (I1.1). When this returns, the handshake is done and the connection is written down.
    ///
    /// # Errors
    /// [`CallError`]. Dropping the future before it is done may leave a connection behind.
    pub async fn connect(
        &self,
        url: &str,
        auto_reconnect: bool,
        tags: BTreeMap<String, String>,
    ) -> Result<(String, Status), CallError> {
        let inner = &self.0;
        if inner.replaced.load(Ordering::Acquire) {
            return Err(CallError::Replaced(self.instance().to_owned()));
        }
        check_tags(&tags)?;
        let target = inner.limits.reach.parse(url)?;
        let full = || {
            CallError::Full(format!(
                "there are {} connections already",
                inner.limits.max_connections
            ))
        };
        let _place = inner.places.try_acquire().map_err(|_| full())?;
        let making = inner.limits.max_connections - inner.places.available_permits();
        if inner.links.lock().len() + making > inner.limits.max_connections {
            return Err(full());
        }
        let socket = inner.dialer.dial(&target).await.map_err(|error| match error {
            DialError::Refused(error) => CallError::Target(error),
            DialError::Failed(failure) => CallError::Peer {
                kind: failure.kind,
                message: failure.message,
            },
        })?;
        let now = Timestamp::now();
        let record = ConnectionRecord {
            id: uuid::Uuid::new_v4().to_string(),
            url: url.to_owned(),
            auto_reconnect,
            status: Status::Connected,
            topic: None,
            content_type: String::new(),
            tags,
            instance_id: self.instance().to_owned(),
            created_at: now,
            connected_at: Some(now),
            last_heartbeat: Some(now),
        };
        // A connection that is not written down would be nobody's: the socket goes with the error.
        inner.making.lock().insert(record.id.clone());
        let created = inner.registry.create(&record).await;
        if created.is_ok() {
            self.hold(&record, target, Start::Opened(Box::new(socket)));
        }
        inner.making.lock().remove(&record.id);
        created?;
        Ok((record.id, Status::Connected))
    }

    /// Begins to hold a connection.
    pub(crate) fn hold(&self, record: &ConnectionRecord, target: crate::target::Target, start: Start) {
        let inner = &self.0;
        let reconnect = record.auto_reconnect.then_some(inner.limits.reconnect);
        let view = Arc::new(View::default());
        let (clerk, telling) = Clerk::new(
            inner.registry.clone(),
            inner.backend.clone(),
            record.id.clone(),
            record.url.clone(),
            view.clone(),
        );
        let bounds = Bounds {
            bytes: inner.limits.queue_bytes,
            batch: inner.limits.batch,
        };
        let (outlet, emptying) = Outlet::new(
            inner.backend.clone(),
            record.id.clone(),
            record.url.clone(),
            bounds,
            view.counters.clone(),
        );
        if let Some(topic) = &record.topic {
            outlet.start(topic.clone());
        }
        let machine = match &start {
            Start::Opened(_) => Machine::opened(reconnect),
            Start::Restored => Machine::restored(reconnect),
            Start::Over => Machine::over(),
        };
        let parts = Parts {
            target,
            dialer: inner.dialer.clone(),
            machine,
            clerk,
            outlet,
            view,
            ping_every: inner.limits.ping_every,
        };
        let (link, talking) = Link::new(parts, start);
        inner.links.lock().insert(record.id.clone(), Arc::new(link));
        spawn("the clerk of a connection", telling);
        spawn("the outlet of a connection", emptying);
        spawn("a connection", talking);
    }

    /// All connections of all instances that carry all of some tags (I1.2).
    ///
    /// # Errors
    /// [`CallError::Backend`].
    pub async fn list(&self, filters: &[(String, String)]) -> Result<Vec<Connection>, CallError> {
        let registry = &self.0.registry;
        let instances = registry.instances().await?;
        let ids: std::collections::BTreeSet<String> = instances
            .into_iter()
            .filter_map(|(_, record)| record)
            .flat_map(|record| record.connections)
            .collect();
        let records = registry.get_all(ids).await?;
        let filters = || filters.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut connections: Vec<_> = records
            .into_iter()
            .filter(|record| record.has(filters()))
            .map(|record| self.seen(record))
            .collect();
        connections.sort_by(|one, other| {
            (one.record.created_at, &one.record.id).cmp(&(other.record.created_at, &other.record.id))
        });
        Ok(connections)
    }

    fn seen(&self, record: ConnectionRecord) -> Connection {
        let link = self.0.links.lock().get(&record.id).cloned();
        let (status, content_type) = match link {
            Some(link) => {
                let content_type = link.view.content_type();
                let stored = || record.content_type.clone();
                (
                    link.view.status(),
                    if content_type.is_empty() {
                        stored()
                    } else {
                        content_type.to_owned()
                    },
                )
            }
            None => (record.status, record.content_type.clone()),
        };
        Connection {
            status,
            content_type,
            record,
        }
    }

    /// Closes a connection and forgets it (I1.3).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn disconnect(&self, id: &str) -> Result<(), CallError> {
        let link = match self.own(id).await {
            Ok(link) => Some(link),
            // Written down as this instance's, and in nobody's hands: it can be forgotten.
            Err(CallError::NotOpen { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(link) = link {
            link.leave().await;
        }
        self.0.registry.delete(id).await?;
        self.0.links.lock().remove(id);
        Ok(())
    }

    /// Sends a message as it is (I2.1).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn send_raw(&self, id: &str, message: Vec<u8>, content_type: &str) -> Result<(), CallError> {
        let link = self.own(id).await?;
        let message = frame(Vec::new(), message, content_type)?;
        link.send(message).await.map_err(|error| unsent(id, &link, error))
    }

    /// Sends a message behind a UUID and waits for the one that begins with it (I2.2). Other messages go on to flow,
    /// and any number of requests, up to a thousand, may wait side by side.
    ///
    /// # Errors
    /// [`CallError::Timeout`] if there is no answer in time; [`CallError`]. Dropping the future ends the wait.
    pub async fn send(
        &self,
        id: &str,
        message: Vec<u8>,
        content_type: &str,
        timeout_ms: i32,
    ) -> Result<Bytes, CallError> {
        let timeout_ms = match timeout_ms {
            0 => DEFAULT_TIMEOUT_MS,
            1..=LONGEST_TIMEOUT_MS => timeout_ms,
            _ => {
                return Err(CallError::Invalid(format!(
                    "timeout_ms must be from 1 to {LONGEST_TIMEOUT_MS}, or 0 for {DEFAULT_TIMEOUT_MS}"
                )));
            }
        }
        .unsigned_abs();
        let link = self.own(id).await?;
        let prefix = if is_text(content_type) {
            text_prefix()
        } else {
            binary_prefix()
        };
        let message = frame(prefix.to_vec(), message, content_type)?;
        let mut waiter = link
            .waiting
            .wait(prefix)
            .ok_or_else(|| CallError::Full("too many requests wait for their answers".to_owned()))?;
        let exchange = async {
            link.send(message)
                .await
                .map_err(|error| unsent(id, &link, error))?;
            (&mut waiter.answer).await.map_err(|_| CallError::Peer {
                kind: "reset",
                message: "the connection was lost before the answer came".to_owned(),
            })
        };
        let limit = Duration::from_millis(u64::from(timeout_ms));
        match tokio::time::timeout(limit, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Timeout(u64::from(timeout_ms))),
        }
    }

    /// Publishes every later message to a topic (I4.1).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn start_publish(&self, id: &str, topic: &str) -> Result<(), CallError> {
        self.check_topic(topic)?;
        let link = self.own(id).await?;
        if link.view.status() == Status::Disconnected {
            return Err(not_open(id, &link));
        }
        self.change(id, |record| record.topic = Some(topic.to_owned()))
            .await?;
        link.outlet.start(topic.to_owned());
        Ok(())
    }

    /// Publishes no message any more (I4.3). What was received but not published by now is not published; it is
    /// counted.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stop_publish(&self, id: &str) -> Result<(), CallError> {
        let link = self.own(id).await?;
        link.outlet.stop().await;
        self.change(id, |record| record.topic = None).await
    }

    /// The tags of a connection, whoever holds it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn tags(&self, id: &str) -> Result<BTreeMap<String, String>, CallError> {
        let found = self.0.registry.get(id).await?;
        let (record, _) = found.ok_or_else(|| CallError::NotFound(id.to_owned()))?;
        Ok(record.tags)
    }

    /// Sets the tags of a connection, whoever holds it: `change` may be called more than once.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn set_tags(
        &self,
        id: &str,
        change: impl Fn(&mut BTreeMap<String, String>),
    ) -> Result<(), CallError> {
        let wrong = Mutex::new(None);
        self.change(id, |record| {
            let mut tags = record.tags.clone();
            change(&mut tags);
            match check_tags(&tags) {
                Ok(()) => record.tags = tags,
                Err(error) => *wrong.lock() = Some(error),
            }
        })
        .await?;
        wrong.into_inner().map_or(Ok(()), Err)
    }

    async fn change(&self, id: &str, change: impl Fn(&mut ConnectionRecord)) -> Result<(), CallError> {
        if self.0.registry.update(id, change).await? {
            return Ok(());
        }
        Err(CallError::NotFound(id.to_owned()))
    }

    fn check_topic(&self, topic: &str) -> Result<(), CallError> {
        if topic.is_empty()
            || topic.len() > MAX_TOPIC
            || topic.chars().any(|c| c.is_whitespace() || c.is_control())
        {
            return Err(CallError::Invalid(format!(
                "a topic has 1 to {MAX_TOPIC} characters and no blanks"
            )));
        }
        match topic.parse::<Topic>() {
            Ok(Topic::Infrastructure { .. } | Topic::StateChanges) => Err(CallError::Invalid(format!(
                "topic {topic:?} is for the services themselves"
            ))),
            Err(source) if self.0.limits.strict_topics => Err(CallError::Topic {
                topic: topic.to_owned(),
                source,
            }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A connection of this instance.
    async fn own(&self, id: &str) -> Result<Arc<Link>, CallError> {
        if let Some(link) = self.0.links.lock().get(id) {
            return Ok(link.clone());
        }
        if self.0.replaced.load(Ordering::Acquire) {
            return Err(CallError::Replaced(self.instance().to_owned()));
        }
        match self.0.registry.get(id).await? {
            None => Err(CallError::NotFound(id.to_owned())),
            Some((record, _)) if record.instance_id == self.instance() => Err(CallError::NotOpen {
                id: id.to_owned(),
                status: record.status.name(),
            }),
            Some((record, _)) => Err(CallError::NotOwner {
                id: id.to_owned(),
                owner: record.instance_id,
                instance: self.instance().to_owned(),
            }),
        }
    }
}

/// A name that fits into a key of state.
fn plain(instance: &str) -> String {
    instance
        .chars()
        .take(200)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
                c
            } else {
                '-'
            }
        })
        .collect()
}

/// Whether a content type goes into a text frame (I2.1).
fn is_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
        || kind.eq_ignore_ascii_case("application/json")
}

fn frame(mut prefix: Vec<u8>, mut message: Vec<u8>, content_type: &str) -> Result<Message, CallError> {
    prefix.append(&mut message);
    if !is_text(content_type) {
        return Ok(Message::Binary(prefix.into()));
    }
    let text = String::from_utf8(prefix)
        .map_err(|_| CallError::Invalid(format!("a message of type {content_type:?} must be UTF-8")))?;
    Ok(Message::text(text))
}

fn not_open(id: &str, link: &Link) -> CallError {
    CallError::NotOpen {
        id: id.to_owned(),
        status: link.view.status().name(),
    }
}

fn unsent(id: &str, link: &Link, error: SendError) -> CallError {
    match error {
        SendError::NotOpen => not_open(id, link),
        SendError::Broken(message) => CallError::Peer {
            kind: "reset",
            message,
        },
    }
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), CallError> {
    if tags.len() > MAX_TAGS {
        return Err(CallError::Invalid(format!(
            "a connection has at most {MAX_TAGS} tags"
        )));
    }
    for (key, value) in tags {
        if key.is_empty() || key.len() > MAX_TAG || value.len() > MAX_TAG {
            return Err(CallError::Invalid(format!(
                "a tag has a name, and at most {MAX_TAG} bytes in name and value each"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_choose_the_frame() {
        for (content_type, text) in [
            ("text/plain", true),
            ("TEXT/HTML; charset=utf-8", true),
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/octet-stream", false),
            ("application/jsonx", false),
            ("", false),
        ] {
            assert_eq!(is_text(content_type), text, "{content_type}");
        }
        assert!(frame(Vec::new(), vec![0xff], "text/plain").is_err());
        assert!(frame(text_prefix().to_vec(), b"ok".to_vec(), "text/plain").is_ok());
        assert_eq!(
            frame(vec![1], vec![0xff], "").unwrap(),
            Message::Binary(Bytes::from_static(&[1, 0xff]))
        );
    }

    #[test]
    fn names_fit_into_keys() {
        assert_eq!(plain("pod-1.example"), "pod-1.example");
        assert_eq!(plain("a||b/c"), "a--b-c");
    }
}
