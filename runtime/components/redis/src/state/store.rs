//! The store.

use std::collections::BTreeSet;

use outrigger_component::Error;
use outrigger_state::{
    Capabilities, Consistency, Etag, Item, KeyPage, KeyPattern, Operation, Query, QueryResult, ReadOptions,
    StateStore, TtlDialect, empty_pattern,
};
use outrigger_types::StateKey;
use redis::{Cmd, Value, pipe};
use tokio::sync::OnceCell;

use super::{
    Config,
    changes::{self, Change, Rules, TRANSACT},
    glob, query, reading,
    schema::Schemas,
};
use crate::{
    failure::{failed, text, unexpected},
    link::{Link, Safety},
    script::Lua,
};

/// Keys or operations sent in one write.
const CHUNK: usize = 256;
/// Keys a `SCAN` looks at in one go.
const SCAN_COUNT: usize = 1000;
/// How long a strong write waits for the replicas, in milliseconds.
const WAIT_MILLIS: u64 = 1000;

/// `state.redis`. Safe to cancel as the trait says: a script runs wholly or not at all.
#[derive(Debug)]
pub struct RedisStateStore {
    link: Link,
    rules: Rules,
    script: Lua,
    schemas: Schemas,
    /// Replicas at the start, as upstream counts them.
    replicas: usize,
    /// Where strong writes wait without holding up others.
    strong: OnceCell<Link>,
}

impl RedisStateStore {
    pub(super) async fn open(config: Config) -> Result<Self, Error> {
        let Config {
            settings,
            ttl,
            schemas,
        } = config;
        let host = settings.host();
        let unreachable = |error: Error| {
            Error::new(
                error.kind(),
                format!("redis store: error connecting to redis at {host}"),
            )
            .with_source(error)
        };
        let link = Link::open(settings).await.map_err(unreachable)?;
        link.ping().await.map_err(unreachable)?;
        let replicas = link.replicas().await?;
        let store = Self {
            rules: Rules {
                has_json: link.has_json().await?,
                ttl,
            },
            script: Lua::new(TRANSACT),
            schemas,
            replicas,
            strong: OnceCell::new(),
            link,
        };
        store.make_indexes().await?;
        Ok(store)
    }

    async fn make_indexes(&self) -> Result<(), Error> {
        let wrong = |error: &redis::RedisError| {
            Error::configuration(format!(
                "redis store: error registering query schemas: {}",
                text(error)
            ))
        };
        for (name, schema) in self.schemas.iter() {
            let create = schema.create(name);
            match self.link.raw(&create, Safety::Repeatable).await? {
                Ok(_) => continue,
                Err(error) if text(&error).contains("Index already exists") => {}
                Err(error) => return Err(wrong(&error)),
            }
            // It may have been made for other paths.
            let mut drop = redis::cmd("FT.DROPINDEX");
            drop.arg(name);
            for command in [drop, create] {
                let made = self.link.raw(&command, Safety::Repeatable).await?;
                made.map_err(|error| wrong(&error))?;
            }
        }
        Ok(())
    }

    /// Runs the script for changes that a server can make in one go.
    async fn run(&self, changes: &[Change], strong: bool) -> Result<Vec<Option<Etag>>, Error> {
        let safety = changes::safety(changes);
        if strong && self.replicas > 0 && !self.link.is_cluster() {
            return self.run_and_wait(changes, safety).await;
        }
        let fill = |command: &mut Cmd| changes::fill(command, changes);
        let answer = self
            .link
            .script(&self.script, changes.len(), safety, fill)
            .await?;
        changes::outcome(changes, answer)
    }

    /// The same, answered when the replicas have it. `WAIT` is about what its own connection has written, and holds
    /// up everything behind it.
    async fn run_and_wait(&self, changes: &[Change], safety: Safety) -> Result<Vec<Option<Etag>>, Error> {
        let link = self
            .strong
            .get_or_init(|| std::future::ready(self.link.aside()))
            .await;
        if self.link.is_closed() {
            link.close();
        }
        let mut command = self.script.in_full(changes.len());
        changes::fill(&mut command, changes);
        let mut commands = pipe();
        commands
            .add_command(command)
            .cmd("WAIT")
            .arg(self.replicas)
            .arg(WAIT_MILLIS);
        let mut answers = link.pipeline(&commands, safety).await?.into_iter();
        let written = answers.next().unwrap_or(Value::Nil).extract_error();
        let etags = changes::outcome(changes, written)?;
        if let Err(error) = answers.next().unwrap_or(Value::Nil).extract_error() {
            return Err(Error::internal(format!(
                "redis waiting for {} replicas to acknowledge write, err: {}",
                self.replicas,
                text(&error)
            )));
        }
        Ok(etags)
    }

    /// The answers to independent operations that were sent in one write.
    async fn run_chunk(&self, changes: &[Change]) -> Result<Vec<Result<Option<Etag>, Error>>, Error> {
        let mut commands = pipe();
        for change in changes {
            let mut command = self.script.by_hash(1);
            changes::fill(&mut command, std::slice::from_ref(change));
            commands.add_command(command);
        }
        let answers = self.link.pipeline(&commands, changes::safety(changes)).await?;
        let mut results = Vec::with_capacity(changes.len());
        for (change, answer) in changes.iter().zip(answers) {
            let one = std::slice::from_ref(change);
            let result = match answer.extract_error() {
                // The server does not know the script yet.
                Err(error) if error.code() == Some("NOSCRIPT") => self.run(one, false).await,
                answer => changes::outcome(one, answer),
            };
            results.push(result.map(|mut etags| etags.pop().flatten()));
        }
        Ok(results)
    }

    /// All keys that match and come after `after`, the first `limit` of them in order.
    async fn scan(
        &self,
        pattern: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<BTreeSet<String>, Error> {
        let mut found = BTreeSet::new();
        let mut connection = self.link.connection().await?;
        let places = connection.places().await.map_err(|error| failed(&error))?;
        for place in places {
            let mut cursor = b"0".to_vec();
            loop {
                let mut command = redis::cmd("SCAN");
                command
                    .arg(&cursor[..])
                    .arg("MATCH")
                    .arg(pattern)
                    .arg("COUNT")
                    .arg(SCAN_COUNT);
                let answer = connection.command_at(&place, &command).await;
                let Value::Array(parts) = answer
                    .map_err(|error| Error::internal(format!("redis SCAN failed: {}", text(&error))))?
                else {
                    return Err(unexpected("SCAN"));
                };
                let mut parts = parts.into_iter();
                let (Some(Value::BulkString(next)), Some(Value::Array(keys))) = (parts.next(), parts.next())
                else {
                    return Err(unexpected("SCAN"));
                };
                for key in keys {
                    let Value::BulkString(key) = key else { continue };
                    let key = String::from_utf8_lossy(&key).into_owned();
                    if after.is_none_or(|after| key.as_str() > after) {
                        found.insert(key);
                        if found.len() > limit {
                            found.pop_last();
                        }
                    }
                }
                if next == b"0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(found)
    }
}

fn is_strong(operations: &[Operation]) -> bool {
    operations.iter().any(|operation| {
        matches!(operation, Operation::Set { options, .. } if options.consistency == Consistency::Strong)
    })
}

fn copies<T>(error: &Error, count: usize) -> impl Iterator<Item = Result<T, Error>> {
    (0..count).map(|_| Err(Error::new(error.kind(), error.message().to_owned()).with_retry(error.retry())))
}

impl StateStore for RedisStateStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            etag: true,
            transactional: true,
            ttl: true,
            query: self.rules.has_json,
            keys_like: true,
            ttl_dialect: TtlDialect::Redis,
            ..Capabilities::default()
        }
    }

    async fn get(&self, key: &StateKey, options: &ReadOptions) -> Result<Option<Item>, Error> {
        reading::get(&self.link, key.as_str(), options, self.rules.has_json).await
    }

    async fn get_many(&self, keys: &[StateKey], options: &ReadOptions) -> Vec<Result<Option<Item>, Error>> {
        let mut items = Vec::with_capacity(keys.len());
        let json = self.rules.has_json && changes::is_json(&options.metadata);
        if json || keys.len() == 1 || self.link.is_cluster() {
            let each = keys.iter().map(|key| self.get(key, options));
            return futures::future::join_all(each).await;
        }
        for chunk in keys.chunks(CHUNK) {
            let mut commands = pipe();
            for key in chunk {
                commands.add_command(reading::hash_command(key.as_str()));
            }
            match self.link.pipeline(&commands, Safety::Repeatable).await {
                Err(error) => items.extend(copies(&error, chunk.len())),
                Ok(answers) => {
                    for (key, answer) in chunk.iter().zip(answers) {
                        let answer = answer.extract_error();
                        items.push(reading::hash_or_plain(&self.link, key.as_str(), answer).await);
                    }
                }
            }
        }
        items
    }

    /// In a cluster, operations on one slot are all-or-nothing together, those on different slots are not: no
    /// command can span them.
    async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Option<Etag>>, Error> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let strong = is_strong(&operations);
        let changes: Vec<_> = operations
            .into_iter()
            .map(|operation| self.rules.change(operation))
            .collect::<Result<_, _>>()?;
        let slot = changes[0].slot();
        if !self.link.is_cluster() || changes.iter().all(|change| change.slot() == slot) {
            return self.run(&changes, strong).await;
        }
        let mut groups: Vec<(redis::cluster_routing::Slot, Vec<usize>, Vec<Change>)> = Vec::new();
        let count = changes.len();
        for (at, change) in changes.into_iter().enumerate() {
            let slot = change.slot();
            match groups.iter_mut().find(|(other, ..)| *other == slot) {
                Some((_, places, changes)) => {
                    places.push(at);
                    changes.push(change);
                }
                None => groups.push((slot, vec![at], vec![change])),
            }
        }
        let mut etags = vec![None; count];
        for (_, places, changes) in groups {
            for (at, etag) in places.into_iter().zip(self.run(&changes, strong).await?) {
                etags[at] = etag;
            }
        }
        Ok(etags)
    }

    async fn apply_each(&self, operations: Vec<Operation>) -> Vec<Result<Option<Etag>, Error>> {
        let strong = is_strong(&operations) && self.replicas > 0;
        if strong || operations.len() == 1 || self.link.is_cluster() {
            let each = operations.into_iter().map(|operation| async {
                let etags = self.transact(vec![operation]).await;
                etags.map(|mut etags| etags.pop().flatten())
            });
            return futures::future::join_all(each).await;
        }
        let mut results: Vec<Option<Result<Option<Etag>, Error>>> = Vec::with_capacity(operations.len());
        let mut changes = Vec::with_capacity(operations.len());
        for operation in operations {
            match self.rules.change(operation) {
                Ok(change) => {
                    changes.push(change);
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let mut written = Vec::with_capacity(changes.len());
        for chunk in changes.chunks(CHUNK) {
            match self.run_chunk(chunk).await {
                Ok(some) => written.extend(some),
                Err(error) => written.extend(copies(&error, chunk.len())),
            }
        }
        let mut written = written.into_iter();
        results
            .into_iter()
            .map(|result| {
                result
                    .or_else(|| written.next())
                    .unwrap_or_else(|| Err(unexpected("EVALSHA")))
            })
            .collect()
    }

    async fn keys(&self, pattern: KeyPattern) -> Result<KeyPage, Error> {
        if pattern.like.is_empty() {
            return Err(empty_pattern());
        }
        let size = pattern.page_size.filter(|size| *size > 0);
        // One more than the page tells whether another follows.
        let limit = size.map_or(usize::MAX, |size| size as usize + 1);
        let after = pattern.token.as_deref().filter(|token| !token.is_empty());
        let mut found = self.scan(&glob::from_like(&pattern.like), after, limit).await?;
        let mut token = None;
        if size.is_some_and(|size| found.len() > size as usize) {
            found.pop_last();
            token = found.last().cloned();
        }
        Ok(KeyPage {
            keys: found.into_iter().map(StateKey::from).collect(),
            token,
        })
    }

    async fn query(&self, query: Query, options: ReadOptions) -> Result<QueryResult, Error> {
        if !self.rules.has_json {
            return Err(Error::unsupported(
                "redis-json server support is required for query capability",
            ));
        }
        let (command, offset) = query::command(&self.schemas, &query, &options.metadata)?;
        let answer = self.link.command(&command, Safety::Repeatable).await?;
        query::result(answer, offset, query.page.limit > 0)
    }

    async fn ping(&self) -> Result<(), Error> {
        self.link.ping().await.map_err(|error| {
            let host = self.link.settings().host();
            Error::new(
                error.kind(),
                format!("redis store: error connecting to redis at {host}"),
            )
            .with_source(error)
        })
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        if let Some(strong) = self.strong.get() {
            strong.close();
        }
        Ok(())
    }
}
