//! Entries of a stream, as they are written and read.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use outrigger_component::{Error, Metadata};
use outrigger_engine_dispatch::go_json;
use redis::{Cmd, Value};

use super::config::Options;

/// The metadata whose equal values keep their order.
const PARTITION_KEY: &str = "partitionKey";

/// The id of an entry: milliseconds and a count within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EntryId {
    millis: u64,
    count: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.count)
    }
}

impl FromStr for EntryId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (millis, count) = text.split_once('-').unwrap_or((text, "0"));
        Ok(Self {
            millis: millis.parse()?,
            count: count.parse()?,
        })
    }
}

impl EntryId {
    /// The id after this one, where a further page begins: servers before 6.2 know no exclusive ranges.
    pub(super) fn next(self) -> Self {
        Self {
            millis: self.millis,
            count: self.count.saturating_add(1),
        }
    }

    pub(super) fn read(value: &Value) -> Option<Self> {
        match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Value::SimpleString(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// An entry that has been read.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) data: Bytes,
    pub(super) metadata: Arc<Metadata>,
    /// The partition key, shared by those that keep their order.
    pub(super) key: Option<Arc<str>>,
}

impl Entry {
    /// Reads `[id, [field, value, …]]`; `None` for an entry that is there no more.
    fn read(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else {
            return None;
        };
        let mut parts = parts.into_iter();
        let id = EntryId::read(&parts.next()?)?;
        let Some(Value::Array(fields)) = parts.next() else {
            return None;
        };
        let (mut data, mut metadata) = (Bytes::new(), Metadata::new());
        let mut fields = fields.into_iter();
        while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) =
            (fields.next(), fields.next())
        {
            match &name[..] {
                b"data" => data = value.into(),
                b"metadata" => {
                    metadata = serde_json::from_slice::<Option<Metadata>>(&value)
                        .inspect_err(|error| {
                            tracing::warn!(%id, %error, "the metadata of a Redis message cannot be read");
                        })
                        .ok()
                        .flatten()
                        .unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(Self {
            id,
            data,
            key: metadata
                .get(PARTITION_KEY)
                .filter(|key| !key.is_empty())
                .map(|key| key.as_str().into()),
            metadata: Arc::new(metadata),
        })
    }

    /// Reads the entries of an answer, and how many places of it hold none (deleted ones, before Redis 7).
    pub(super) fn read_all(value: Value) -> (Vec<Self>, usize) {
        let Value::Array(values) = value else {
            return (Vec::new(), 0);
        };
        let all = values.len();
        let entries: Vec<_> = values.into_iter().filter_map(Self::read).collect();
        let gone = all - entries.len();
        (entries, gone)
    }

    /// Reads the answer of a read of one stream: `[[stream, entries]]`, or nothing.
    pub(super) fn of_one_stream(value: Value) -> Vec<Self> {
        let stream = match value {
            Value::Array(streams) => streams.into_iter().next(),
            Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
            _ => None,
        };
        match stream {
            Some(Value::Array(mut parts)) if matches!(parts.first(), Some(Value::BulkString(_))) => parts
                .pop()
                .map(|entries| Self::read_all(entries).0)
                .unwrap_or_default(),
            Some(entries) => Self::read_all(entries).0,
            None => Vec::new(),
        }
    }
}

/// `XADD` of an event. `now` is in milliseconds since 1970.
pub(super) fn add(
    stream: &str,
    data: &[u8],
    metadata: &Metadata,
    options: &Options,
    now: u64,
) -> Result<Cmd, Error> {
    let mut command = redis::cmd("XADD");
    command.arg(stream);
    if options.max_len > 0 {
        command.arg("MAXLEN").arg("~").arg(options.max_len);
    } else if !options.stream_ttl.is_zero() {
        let since = now.saturating_sub(u64::try_from(options.stream_ttl.as_millis()).unwrap_or(u64::MAX));
        command.arg("MINID").arg("~").arg(format!("{since}-1"));
    }
    command.arg("*").arg("data").arg(data);
    command.arg("metadata").arg(
        go_json::to_vec(metadata)
            .map_err(|error| Error::invalid("the metadata cannot be written").with_source(error))?,
    );
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        let fields = fields.iter().map(|field| bulk(field)).collect();
        Value::Array(vec![bulk(id), Value::Array(fields)])
    }

    #[test]
    fn an_answer_gives_its_entries() {
        let full = entry(
            "5-1",
            &["metadata", r#"{"partitionKey":"p"}"#, "data", "x", "other", "y"],
        );
        let answer = Value::Array(vec![Value::Array(vec![
            bulk("stream"),
            Value::Array(vec![
                full,
                Value::Nil,
                entry("6-0", &["data", "z", "metadata", "no"]),
            ]),
        ])]);
        let entries = Entry::of_one_stream(answer);
        assert_eq!(entries[0].id.to_string(), "5-1");
        assert_eq!(
            (&entries[0].data[..], entries[0].key.as_deref()),
            (&b"x"[..], Some("p"))
        );
        assert_eq!((entries.len(), entries[1].metadata.len()), (2, 0));
        assert!(Entry::of_one_stream(Value::Nil).is_empty());
    }

    #[test]
    fn an_event_is_written_as_upstream_writes_it() {
        let metadata = Metadata::from([("a".to_owned(), "<b>".to_owned())]);
        let words = |options: &Options| {
            let command = add("s", b"d", &metadata, options, 100_000).unwrap();
            let packed = String::from_utf8(command.get_packed_command()).unwrap();
            let words: Vec<_> = packed.lines().skip(2).step_by(2).map(str::to_owned).collect();
            words.join(" ")
        };
        let mut options = Options {
            processing_timeout: Duration::ZERO,
            redeliver_interval: Duration::ZERO,
            queue_depth: 1,
            concurrency: 1,
            max_len: 0,
            stream_ttl: Duration::ZERO,
        };
        assert_eq!(
            words(&options),
            r#"XADD s * data d metadata {"a":"\u003cb\u003e"}"#
        );
        options.stream_ttl = Duration::from_secs(90);
        assert!(words(&options).starts_with("XADD s MINID ~ 10000-1 * data"));
        options.max_len = 7;
        assert!(words(&options).starts_with("XADD s MAXLEN ~ 7 * data"));
    }
}
