//! The state store on top of the database handle.

use std::{collections::HashMap, sync::Arc};

use outrigger_component::{Error, Host};
use outrigger_state::{
    Capabilities, Etag, Expect, Item, KeyPage, KeyPattern, Operation, Query, QueryResult, ReadOptions,
    StateStore, empty_pattern, empty_prefix, etag_mismatch,
};
use outrigger_types::StateKey;
use parking_lot::Mutex;

use super::{
    config::{Config, Version},
    format::{Format, Stored},
    jobs::{ATTEMPTS, READ, Reads, Table, WRITE, Write, Writes},
    query, schema,
};
use crate::{
    cleanup::{Cleanup, Expired},
    database::Database,
    error::{failed, lost_to_another},
    merge::Merger,
    statement::{Param, Row},
};

/// Merged statements on their way at a time, of reads and of writes each: few, so that they grow; more than one, so
/// that a row somebody else has locked does not stop all others.
const SLOTS: usize = 4;
/// Keys of one bulk statement.
const CHUNK: usize = 1000;

/// `state.postgresql`. Single-key operations of all callers share statements; each write is durable when it is
/// acknowledged, as far as the server's `synchronous_commit` promises.
#[derive(Debug)]
pub struct PostgresStateStore {
    table: Arc<Table>,
    reads: Merger<Reads>,
    writes: Merger<Writes>,
    cleanup: Mutex<Option<Cleanup>>,
}

/// One statement of an operation, and what must come of it.
struct Step<'a> {
    sql: &'a str,
    params: Vec<Param<'a>>,
    /// Whether it must write its row.
    guarded: bool,
}

impl PostgresStateStore {
    pub(super) async fn open(config: Config, host: &Host) -> Result<Self, Error> {
        let database = Arc::new(Database::open(&config.settings, host).await?);
        schema::migrate(&database, &config).await?;
        let cleanup = config.cleanup_interval.map(|interval| {
            let expired = Expired {
                interval,
                table: config.table.clone(),
                column: match config.version {
                    Version::V1 => "expiredate",
                    Version::V2 => "expires_at",
                },
                metadata_table: config.metadata_table.clone(),
                key: schema::cleanup_key(&config),
            };
            Cleanup::start(database.clone(), expired)
        });
        let slots = (database.max_size() / 2).clamp(1, SLOTS);
        let table = Arc::new(Table {
            database,
            format: Format::new(config.version, &config.table),
        });
        Ok(Self {
            reads: Merger::new(Reads(table.clone()), slots),
            writes: Merger::new(Writes(table.clone()), slots),
            table,
            cleanup: Mutex::new(cleanup),
        })
    }

    /// One operation on its own.
    async fn apply(&self, operation: Operation) -> Result<Option<Etag>, Error> {
        if let Operation::Set {
            key,
            value,
            expect: Expect::Any,
            ttl,
            ..
        } = operation
        {
            return self.writes.submit(Write { key, value, ttl }).await;
        }
        let prepared = Prepared::new(&self.table.format, &operation)?;
        let step = prepared.step(&self.table.format);
        let rows = self.table.database.write(WRITE, step.sql, &step.params).await?;
        outcome(&step, &rows, &operation)
    }
}

/// An operation with what its parameters borrow from.
struct Prepared<'a> {
    operation: &'a Operation,
    stored: Option<Stored<'a>>,
    expected: Option<String>,
}

impl<'a> Prepared<'a> {
    fn new(format: &Format, operation: &'a Operation) -> Result<Self, Error> {
        let (Operation::Set { expect, .. } | Operation::Delete { expect, .. }) = operation;
        let expected = match expect {
            Expect::Match(etag) => Some(format.expected(etag)?),
            Expect::Any | Expect::Absent => None,
        };
        let stored = match operation {
            Operation::Set { key, value, ttl, .. } => {
                Some(Stored::new(format.version, key.as_str(), value, *ttl)?)
            }
            Operation::Delete { .. } => None,
        };
        Ok(Self {
            operation,
            stored,
            expected,
        })
    }

    fn step<'b>(&'b self, format: &'b Format) -> Step<'b> {
        let (Operation::Set { expect, .. } | Operation::Delete { expect, .. }) = self.operation;
        let mut params = match &self.stored {
            Some(stored) => stored.params(),
            None => vec![Param::Text(self.operation.key().as_str())],
        };
        if let Some(expected) = &self.expected {
            params.push(Param::Text(expected));
        }
        let (sql, guarded) = match (&self.stored, expect) {
            (Some(_), Expect::Any) => (&format.upsert, true),
            (Some(_), Expect::Absent) => (&format.insert, true),
            (Some(_), Expect::Match(_)) => (&format.update, true),
            // First write without an etag says nothing about deletes (upstream ignores it too).
            (None, Expect::Any | Expect::Absent) => (&format.delete, false),
            (None, Expect::Match(_)) => (&format.delete_match, true),
        };
        Step { sql, params, guarded }
    }
}

/// What came of an operation's step.
fn outcome(step: &Step<'_>, rows: &[Row], operation: &Operation) -> Result<Option<Etag>, Error> {
    match (rows.first(), operation) {
        (None, _) if step.guarded => Err(etag_mismatch()),
        (Some(row), Operation::Set { .. }) => Ok(Some(Etag::new(row.required_text(1)?))),
        _ => Ok(None),
    }
}

/// Operations whose key nobody else of the transaction touches need no order: the plain ones share a statement.
fn is_plain(operation: &Operation, count: usize) -> bool {
    count == 1
        && match operation {
            Operation::Set { expect, .. } => *expect == Expect::Any,
            Operation::Delete { expect, .. } => !matches!(expect, Expect::Match(_)),
        }
}

impl PostgresStateStore {
    /// One try of a transaction; the inner error is the server's.
    async fn try_transaction(
        &self,
        operations: &[Operation],
    ) -> Result<Result<Vec<Option<Etag>>, tokio_postgres::Error>, Error> {
        let format = &self.table.format;
        let prepared: Vec<Prepared<'_>> = operations
            .iter()
            .map(|operation| Prepared::new(format, operation))
            .collect::<Result<_, _>>()?;
        let mut counts: HashMap<&StateKey, usize> = HashMap::new();
        for operation in operations {
            *counts.entry(operation.key()).or_default() += 1;
        }
        // Rows are locked in the order of their keys, whatever order the app wrote them in: operations of different
        // keys do not see one another, and those of one key keep their order.
        let mut order: Vec<usize> = (0..operations.len()).collect();
        order.sort_by(|left, right| {
            operations[*left]
                .key()
                .as_str()
                .cmp(operations[*right].key().as_str())
        });
        let (mut sets, mut deletes, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for at in order {
            let operation = &operations[at];
            let plain = is_plain(operation, counts.get(operation.key()).copied().unwrap_or(0));
            match operation {
                Operation::Set { key, value, ttl, .. } if plain => {
                    sets.push((at, Stored::new(format.version, key.as_str(), value, *ttl)?));
                }
                Operation::Delete { key, .. } if plain => deletes.push(key.as_str()),
                _ => rest.push(at),
            }
        }
        let (set_positions, stored): (Vec<usize>, Vec<Stored<'_>>) = sets.into_iter().unzip();
        let mut statements: Vec<(&str, Vec<Param<'_>>)> = Vec::new();
        if !stored.is_empty() {
            statements.push((&format.upsert_many, Stored::arrays(&stored)));
        }
        if !deletes.is_empty() {
            statements.push((&format.delete_many, vec![Param::Texts(deletes)]));
        }
        let first_of_rest = statements.len();
        let steps: Vec<(usize, Step<'_>)> = rest
            .into_iter()
            .map(|at| (at, prepared[at].step(format)))
            .collect();
        let mut guards = Vec::with_capacity(steps.len());
        for (at, step) in steps {
            guards.push((at, step.guarded));
            statements.push((step.sql, step.params));
        }
        let verdict = |rows: Vec<Vec<Row>>| {
            let mut etags: Vec<Option<Etag>> = vec![None; operations.len()];
            if !set_positions.is_empty() {
                let mut found = HashMap::with_capacity(set_positions.len());
                for row in rows.first().into_iter().flatten() {
                    found.insert(row.required_text(0)?, row.required_text(1)?);
                }
                for at in &set_positions {
                    let etag = found.get(operations[*at].key().as_str());
                    etags[*at] = Some(Etag::new(
                        *etag.ok_or_else(|| Error::internal("no item was updated"))?,
                    ));
                }
            }
            for ((at, guarded), rows) in guards.iter().zip(rows.iter().skip(first_of_rest)) {
                let step = Step {
                    sql: "",
                    params: Vec::new(),
                    guarded: *guarded,
                };
                etags[*at] = outcome(&step, rows, &operations[*at])?;
            }
            Ok(etags)
        };
        let session = self.table.database.session(WRITE).await?;
        session.transaction(&statements, verdict).await
    }
}

impl StateStore for PostgresStateStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            etag: true,
            transactional: true,
            ttl: true,
            keys_like: true,
            delete_with_prefix: true,
            query: self.table.format.version == Version::V1,
            // Upstream's component does not offer it; the metadata API lists what upstream lists.
            unlisted: &["DELETE_WITH_PREFIX"],
            ..Capabilities::default()
        }
    }

    async fn get(&self, key: &StateKey, _options: &ReadOptions) -> Result<Option<Item>, Error> {
        self.reads.submit(key.clone()).await
    }

    async fn get_many(&self, keys: &[StateKey], _options: &ReadOptions) -> Vec<Result<Option<Item>, Error>> {
        let mut answers = Vec::with_capacity(keys.len());
        for keys in keys.chunks(CHUNK) {
            answers.append(&mut self.table.get_many(keys).await);
        }
        answers
    }

    async fn transact(&self, mut operations: Vec<Operation>) -> Result<Vec<Option<Etag>>, Error> {
        if operations.len() <= 1 {
            return match operations.pop() {
                None => Ok(Vec::new()),
                Some(operation) => Ok(vec![self.apply(operation).await?]),
            };
        }
        let mut attempt = 1;
        loop {
            match self.try_transaction(&operations).await? {
                Ok(etags) => return Ok(etags),
                Err(error) if lost_to_another(&error) && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(failed(WRITE, &error)),
            }
        }
    }

    /// Plain writes of different keys share statements; all else goes out one after the other without waiting, and
    /// the server keeps the order.
    async fn apply_each(&self, operations: Vec<Operation>) -> Vec<Result<Option<Etag>, Error>> {
        let mut keys = std::collections::HashSet::with_capacity(operations.len());
        let plain = operations.iter().all(|operation| {
            matches!(
                operation,
                Operation::Set {
                    expect: Expect::Any,
                    ..
                }
            ) && keys.insert(operation.key())
        });
        if plain {
            let mut answers = Vec::with_capacity(operations.len());
            let mut writes = operations.into_iter().filter_map(|operation| match operation {
                Operation::Set { key, value, ttl, .. } => Some(Write { key, value, ttl }),
                Operation::Delete { .. } => None,
            });
            loop {
                let chunk: Vec<Write> = writes.by_ref().take(CHUNK).collect();
                if chunk.is_empty() {
                    return answers;
                }
                let written = crate::merge::Job::several(self.writes.job(), chunk).await;
                answers.extend(written);
            }
        }
        let format = &self.table.format;
        let prepared: Vec<_> = operations
            .iter()
            .map(|operation| Prepared::new(format, operation))
            .collect();
        let session = match self.table.database.session(WRITE).await {
            Ok(session) => session,
            Err(error) => return crate::error::copies(&error, operations.len()),
        };
        let steps: Vec<Option<Step<'_>>> = prepared
            .iter()
            .map(|prepared| prepared.as_ref().ok().map(|prepared| prepared.step(format)))
            .collect();
        let statements: Vec<(&str, &[Param<'_>])> = steps
            .iter()
            .flatten()
            .map(|step| (step.sql, &*step.params))
            .collect();
        let mut rows = session.pipeline(&statements).await.into_iter();
        let answers = operations.iter().zip(&steps).zip(&prepared);
        answers
            .map(|((operation, step), prepared)| match (step, prepared) {
                (Some(step), _) => {
                    let rows = rows.next().unwrap_or_else(|| Err(crate::error::closed()))?;
                    outcome(step, &rows, operation)
                }
                (None, Err(error)) => Err(crate::error::copy(error)),
                (None, Ok(_)) => Ok(None),
            })
            .collect()
    }

    async fn keys(&self, pattern: KeyPattern) -> Result<KeyPage, Error> {
        if pattern.like.is_empty() {
            return Err(empty_pattern());
        }
        let after: i64 = match &pattern.token {
            None => 0,
            Some(token) if token.is_empty() => 0,
            Some(token) => token
                .parse()
                .map_err(|error| Error::invalid("invalid continue token").with_source(error))?,
        };
        let size = pattern.page_size.filter(|size| *size > 0);
        // One more than asked for tells whether there is a next page; NULL is no limit.
        let limit = size.map(|size| i64::from(size) + 1);
        let rows = self
            .table
            .database
            .read(
                "failed to list keys",
                &self.table.format.keys,
                &[
                    Param::Text(&pattern.like),
                    Param::Int(Some(after)),
                    Param::Int(limit),
                ],
            )
            .await?;
        let size = size.map_or(usize::MAX, |size| size as usize);
        let mut page = KeyPage::default();
        let mut last = 0;
        for row in rows.iter().take(size) {
            page.keys.push(StateKey::from(row.required_text(0)?));
            last = row.int(1)?.unwrap_or(last);
        }
        page.token = (rows.len() > size).then(|| last.to_string());
        Ok(page)
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, Error> {
        if matches!(prefix, "" | "||") {
            return Err(empty_prefix());
        }
        let prefix = if prefix.ends_with("||") {
            prefix.to_owned()
        } else {
            format!("{prefix}||")
        };
        let rows = self
            .table
            .database
            .write(WRITE, &self.table.format.delete_prefix, &[Param::Text(&prefix)])
            .await?;
        let count = rows.first().map_or(Ok(None), |row| row.int(0))?;
        Ok(count
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or_default())
    }

    async fn query(&self, query: Query, _options: ReadOptions) -> Result<QueryResult, Error> {
        if self.table.format.version != Version::V1 {
            return Err(Error::unsupported("the state store does not support queries"));
        }
        let search = query::Search::new(&self.table.format.query, &query)?;
        let rows = self
            .table
            .database
            .read(READ, &search.sql, &search.params())
            .await?;
        search.result(&rows)
    }

    async fn ping(&self) -> Result<(), Error> {
        self.table.database.ping().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.cleanup.lock().take();
        self.table.database.close();
        Ok(())
    }
}
