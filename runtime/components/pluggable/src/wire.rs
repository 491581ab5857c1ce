//! State requests and answers as messages, in both directions.

use std::{collections::HashMap, time::SystemTime};

use outrigger_component::{Error, Metadata};
use outrigger_state::{
    Concurrency, Consistency, Etag, Expect, Item, Operation, ReadOptions, Ttl, TtlDialect, Value,
    WriteOptions,
};
use outrigger_types::StateKey;
use outrigger_wire::dapr::proto::components::v1::{self as pb, state_options as options};

/// Metadata of an answer that tells when an item vanishes.
const EXPIRES: &str = "ttlExpireTime";
/// Metadata of a request that sets an item's time to live.
const TTL: &str = "ttlInSeconds";
/// Metadata of a request that tells what its value is.
const CONTENT_TYPE: &str = "contentType";
const JSON: &str = "application/json";

pub(crate) fn get(key: &StateKey, read: &ReadOptions) -> pb::GetRequest {
    pb::GetRequest {
        key: key.to_string(),
        metadata: to_map(&read.metadata),
        consistency: consistency(read.consistency).into(),
    }
}

/// The operation as one of a transaction.
pub(crate) fn operation(operation: Operation) -> pb::TransactionalStateOperation {
    use pb::transactional_state_operation::Request;
    let request = match operation {
        Operation::Set {
            key,
            value,
            expect,
            ttl,
            mut options,
        } => {
            // The sidecar took it from there, so it is there; other callers say it only by the field.
            let seconds = match ttl {
                Ttl::Default => None,
                Ttl::Never => Some("-1".to_owned()),
                Ttl::Seconds(seconds) => Some(seconds.to_string()),
            };
            if let Some(seconds) = seconds {
                options.metadata.entry(TTL.to_owned()).or_insert(seconds);
            }
            let content_type = match value {
                Value::Json(_) => JSON.to_owned(),
                Value::Binary(_) => String::new(),
            };
            let (etag, concurrency) = condition(expect, options.concurrency);
            Request::Set(pb::SetRequest {
                key: key.to_string(),
                value: value.into_bytes(),
                etag,
                metadata: to_map(&options.metadata),
                options: Some(state_options(concurrency, options.consistency)),
                content_type,
            })
        }
        Operation::Delete { key, expect, options } => {
            let (etag, concurrency) = condition(expect, options.concurrency);
            Request::Delete(pb::DeleteRequest {
                key: key.to_string(),
                etag,
                metadata: to_map(&options.metadata),
                options: Some(state_options(concurrency, options.consistency)),
            })
        }
    };
    pb::TransactionalStateOperation {
        request: Some(request),
    }
}

fn condition(expect: Expect, wanted: Concurrency) -> (Option<pb::Etag>, options::StateConcurrency) {
    let wanted = match wanted {
        Concurrency::Unspecified => options::StateConcurrency::ConcurrencyUnspecified,
        Concurrency::FirstWrite => options::StateConcurrency::ConcurrencyFirstWrite,
        Concurrency::LastWrite => options::StateConcurrency::ConcurrencyLastWrite,
    };
    match expect {
        Expect::Any => (None, wanted),
        Expect::Absent => (None, options::StateConcurrency::ConcurrencyFirstWrite),
        Expect::Match(etag) => (
            Some(pb::Etag {
                value: etag.as_str().to_owned(),
            }),
            wanted,
        ),
    }
}

fn state_options(concurrency: options::StateConcurrency, wanted: Consistency) -> pb::StateOptions {
    pb::StateOptions {
        concurrency: concurrency.into(),
        consistency: consistency(wanted).into(),
    }
}

fn consistency(wanted: Consistency) -> options::StateConsistency {
    match wanted {
        Consistency::Unspecified => options::StateConsistency::ConsistencyUnspecified,
        Consistency::Eventual => options::StateConsistency::ConsistencyEventual,
        Consistency::Strong => options::StateConsistency::ConsistencyStrong,
    }
}

fn from_concurrency(wanted: Option<&pb::StateOptions>) -> Concurrency {
    match wanted.map(|wanted| options::StateConcurrency::try_from(wanted.concurrency)) {
        Some(Ok(options::StateConcurrency::ConcurrencyFirstWrite)) => Concurrency::FirstWrite,
        Some(Ok(options::StateConcurrency::ConcurrencyLastWrite)) => Concurrency::LastWrite,
        _ => Concurrency::Unspecified,
    }
}

pub(crate) fn from_consistency(value: i32) -> Consistency {
    match options::StateConsistency::try_from(value) {
        Ok(options::StateConsistency::ConsistencyEventual) => Consistency::Eventual,
        Ok(options::StateConsistency::ConsistencyStrong) => Consistency::Strong,
        _ => Consistency::Unspecified,
    }
}

/// What a write of a store with this dialect asks for.
///
/// # Errors
/// `InvalidRequest` for a time to live that is none.
pub(crate) fn from_set(request: pb::SetRequest, dialect: TtlDialect) -> Result<Operation, Error> {
    let metadata = from_map(request.metadata);
    let is_json = request.content_type == JSON || metadata.get(CONTENT_TYPE).is_some_and(|kind| kind == JSON);
    let concurrency = from_concurrency(request.options.as_ref());
    let (expect, consistency) = from_condition(request.etag, request.options, true);
    Ok(Operation::Set {
        key: request.key.into(),
        value: if is_json {
            Value::Json(request.value)
        } else {
            Value::Binary(request.value)
        },
        expect,
        ttl: dialect.read(&metadata)?,
        options: WriteOptions {
            consistency,
            concurrency,
            metadata,
        },
    })
}

pub(crate) fn from_delete(request: pb::DeleteRequest) -> Operation {
    let concurrency = from_concurrency(request.options.as_ref());
    let (expect, consistency) = from_condition(request.etag, request.options, false);
    Operation::Delete {
        key: request.key.into(),
        expect,
        options: WriteOptions {
            consistency,
            concurrency,
            metadata: from_map(request.metadata),
        },
    }
}

/// An empty etag is none, as components-contrib reads it (`state/requests.go`).
fn from_condition(
    etag: Option<pb::Etag>,
    wanted: Option<pb::StateOptions>,
    is_set: bool,
) -> (Expect, Consistency) {
    let wanted = wanted.unwrap_or_default();
    let first_write = wanted.concurrency == options::StateConcurrency::ConcurrencyFirstWrite as i32;
    let expect = match etag.filter(|etag| !etag.value.is_empty()) {
        Some(etag) => Expect::Match(Etag::new(etag.value)),
        None if is_set && first_write => Expect::Absent,
        None => Expect::Any,
    };
    (expect, from_consistency(wanted.consistency))
}

/// An item as a component tells of it; `None` where it has nothing under the key. Without bytes and etag there is
/// nothing: the protocol has no other sign.
pub(crate) fn from_answer(
    data: bytes::Bytes,
    etag: Option<pb::Etag>,
    metadata: &HashMap<String, String>,
    content_type: &str,
) -> Option<Item> {
    if data.is_empty() && etag.is_none() {
        return None;
    }
    Some(Item {
        value: if content_type == JSON {
            Value::Json(data)
        } else {
            Value::Binary(data)
        },
        etag: etag.map(|etag| Etag::new(etag.value)),
        expires: metadata.get(EXPIRES).and_then(|at| {
            let at: jiff::Timestamp = at.parse().ok()?;
            Some(SystemTime::from(at))
        }),
    })
}

/// Metadata of an item in an answer.
pub(crate) fn item_metadata(item: &Item) -> HashMap<String, String> {
    item.expires
        .and_then(|at| jiff::Timestamp::try_from(at).ok())
        .map(|at| (EXPIRES.to_owned(), at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
        .into_iter()
        .collect()
}

pub(crate) fn to_etag(etag: Option<&Etag>) -> Option<pb::Etag> {
    etag.map(|etag| pb::Etag {
        value: etag.as_str().to_owned(),
    })
}

pub(crate) fn content_type(value: &Value) -> String {
    match value {
        Value::Json(_) => JSON.to_owned(),
        Value::Binary(_) => String::new(),
    }
}

pub(crate) fn to_map(metadata: &Metadata) -> HashMap<String, String> {
    metadata
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

pub(crate) fn from_map(metadata: HashMap<String, String>) -> Metadata {
    metadata.into_iter().collect()
}

/// An empty text stands for an absent one.
pub(crate) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
