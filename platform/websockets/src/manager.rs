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
use crate::link::{Link, Parts, SendError, View};
use crate::machine::Machine;
use crate::outlet::{Bounds, Outlet};
use crate::record::{ConnectionRecord, Status};
use crate::registry::Registry;
use crate::request::{binary_prefix, text_prefix};
use crate::settings::Limits;
use crate::target::Target;
use crate::tasks::spawn;

/// The wait for an answer where the caller names none (R4).
const DEFAULT_TIMEOUT_MS: i32 = 10_000;
/// The longest wait for an answer.
const LONGEST_TIMEOUT_MS: i32 = 3_600_000;
const MAX_TAGS: usize = 64;
const MAX_TAG: usize = 1024;
/// Bytes of all tags of a connection: a list of many connections shall fit into one answer.
const MAX_TAGS_BYTES: usize = 8 * 1024;
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
    /// New connections that are not held yet. Locked after `links` where both are.
    making: Mutex<HashSet<String>>,
    /// Whether the wipe at the start is done.
    pub(crate) cleared: AtomicBool,
    /// Whether another process of this name took over.
    pub(crate) replaced: AtomicBool,
}

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It was asked for just now.
    New,
    /// It was open in an earlier life, or another's.
    Restored,
    /// It was closed for good.
    Over,
}

/// The place of a connection that is being made; given back when this is dropped.
struct Place<'a> {
    inner: &'a Inner,
    id: &'a str,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.inner.making.lock().remove(self.id);
    }
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

    /// Makes a connection (I1.1). When this returns, the handshake is done and the connection is written down. It is
    /// written down before it is tried, as one that is being made; a failure takes it out again.
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
        let record = ConnectionRecord {
            id: uuid::Uuid::new_v4().to_string(),
            url: url.to_owned(),
            auto_reconnect,
            status: Status::Connecting,
            topic: None,
            content_type: String::new(),
            tags,
            instance_id: self.instance().to_owned(),
            created_at: Timestamp::now(),
            connected_at: None,
            last_heartbeat: None,
        };
        let place = self.place(&record.id)?;
        inner.registry.create(&record).await?;
        let link = self.hold(&record, target, Start::New);
        drop(place);
        let outcome = match link.tried().await {
            Some(Ok(())) => self.opened(&record.id).await,
            Some(Err(DialError::Refused(error))) => Err(CallError::Target(error)),
            Some(Err(DialError::Failed(failure))) => Err(CallError::Peer {
                kind: failure.kind,
                message: failure.message,
            }),
            // Somebody disconnected it meanwhile, or the service ends; then the next life forgets it.
            None => return Err(not_open(&record.id, &link)),
        };
        if outcome.is_err() {
            self.forget(&record.id, &link).await;
        }
        outcome.map(|()| (record.id, Status::Connected))
    }

    /// Writes down that a new connection is open: from here on it comes back after a restart.
    async fn opened(&self, id: &str) -> Result<(), CallError> {
        let now = Some(Timestamp::now());
        self.change(id, |record| {
            if record.was_never_open() {
                record.status = Status::Connected;
                (record.connected_at, record.last_heartbeat) = (now, now);
            }
        })
        .await
    }

    /// Removes a new connection that nobody was told of. Where that cannot be written down, the sweep tries again.
    pub(crate) async fn forget(&self, id: &str, link: &Link) {
        match self.0.registry.delete(id).await {
            Ok(()) => {
                self.0.links.lock().remove(id);
            }
            Err(error) => {
                tracing::warn!(connection = id, %error, "a connection that never was cannot be removed yet");
            }
        }
        link.leave("it could not be written down").await;
    }

    fn place<'a>(&'a self, id: &'a str) -> Result<Place<'a>, CallError> {
        let most = self.0.limits.max_connections;
        let links = self.0.links.lock();
        let mut making = self.0.making.lock();
        if links.len() + making.len() >= most {
            return Err(CallError::Full(format!("there are {most} connections already")));
        }
        making.insert(id.to_owned());
        Ok(Place { inner: &self.0, id })
    }

    /// Whether a connection is in this instance's hands, or will be in a moment.
    pub(crate) fn has(&self, id: &str) -> bool {
        let links = self.0.links.lock();
        links.contains_key(id) || self.0.making.lock().contains(id)
    }

    /// Begins to hold a connection.
    pub(crate) fn hold(&self, record: &ConnectionRecord, target: Target, start: Start) -> Arc<Link> {
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
            patience: inner.limits.publish_patience,
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
            Start::New => Machine::registered(reconnect),
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
            steady_after: inner.limits.reconnect.longest,
        };
        let (link, talking) = Link::new(parts);
        let link = Arc::new(link);
        {
            let mut links = inner.links.lock();
            links.insert(record.id.clone(), link.clone());
            // It takes one place, not two.
            inner.making.lock().remove(&record.id);
        }
        spawn("the clerk of a connection", telling);
        spawn("the outlet of a connection", emptying);
        spawn("a connection", talking);
        link
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
            link.leave("by the user").await;
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
    let bytes: usize = tags.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_TAGS_BYTES {
        return Err(CallError::Invalid(format!(
            "the tags of a connection have at most {MAX_TAGS_BYTES} bytes together"
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
    fn tags_are_bounded_one_by_one_and_together() {
        let tags = |count: usize, bytes: usize| {
            let value = "x".repeat(bytes);
            check_tags(
                &(0..count)
                    .map(|number| (number.to_string(), value.clone()))
                    .collect(),
            )
        };
        assert!(tags(64, 100).is_ok());
        assert!(tags(65, 1).is_err());
        assert!(tags(1, 1025).is_err());
        assert!(tags(9, 1000).unwrap_err().to_string().contains("together"));
    }

    #[test]
    fn names_fit_into_keys() {
        assert_eq!(plain("pod-1.example"), "pod-1.example");
        assert_eq!(plain("a||b/c"), "a--b-c");
    }
}
