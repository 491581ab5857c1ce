//! Writes: one script applies a whole transaction.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use outrigger_component::{Error, ErrorKind, Metadata};
use outrigger_state::{Concurrency, Etag, Expect, Operation, Ttl, Value as Stored, etag_mismatch};
use redis::{Cmd, RedisResult, Value, cluster_routing::Slot};

use super::text;
use crate::{
    failure::{failed, unexpected},
    link::Safety,
};

/// The text of the script; what it takes and answers is written in it.
pub(super) const TRANSACT: &str = include_str!("transact.lua");

/// Whether requests with this metadata are about JSON documents.
pub(super) fn is_json(metadata: &Metadata) -> bool {
    metadata.get("contentType").map(String::as_str) == Some("application/json")
}

/// An operation as the script takes it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: Box<str>,
    what: &'static str,
    when: String,
    value: bytes::Bytes,
    mark: bool,
    ttl: String,
    /// The app named an etag, so a refusal is a mismatch.
    has_etag: bool,
}

/// How operations become changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) has_json: bool,
    pub(super) ttl: Option<i64>,
}

impl Rules {
    /// # Errors
    /// `EtagInvalid` for an etag that is no number.
    pub(super) fn change(self, operation: Operation) -> Result<Change, Error> {
        match operation {
            Operation::Set {
                key,
                value,
                expect,
                ttl,
                options,
            } => {
                let json = self.has_json && is_json(&options.metadata);
                // A refusal is a mismatch whenever an etag was named, looked at or not.
                let has_etag = matches!(&expect, Expect::Match(etag) if !etag.as_str().is_empty());
                let expect = match (options.concurrency, expect) {
                    // Upstream does not look at the etag of a last-write.
                    (Concurrency::LastWrite, _) => Expect::Any,
                    (_, Expect::Match(etag)) => written(&etag)?,
                    (_, expect) => expect,
                };
                let mut change = Change::new(key.as_str(), if json { "JS" } else { "S" }, &expect);
                change.has_etag = has_etag;
                change.mark = options.concurrency == Concurrency::FirstWrite || expect == Expect::Absent;
                change.ttl = match ttl {
                    Ttl::Default => self.ttl.map(|ttl| ttl.max(0).to_string()).unwrap_or_default(),
                    Ttl::Never => "0".to_owned(),
                    Ttl::Seconds(seconds) => seconds.to_string(),
                };
                let value = match value {
                    Stored::Json(json) => Stored::Json(text::stored(json)),
                    binary => binary,
                };
                change.value = if json {
                    document(&value).into()
                } else {
                    value.into_bytes()
                };
                Ok(change)
            }
            Operation::Delete { key, expect, options } => {
                let json = self.has_json && is_json(&options.metadata);
                // "0" and nothing are upstream's words for any version.
                let expect = match expect {
                    Expect::Match(etag) if matches!(etag.as_str(), "" | "0") => Expect::Any,
                    expect => expect,
                };
                Ok(Change::new(key.as_str(), if json { "JD" } else { "D" }, &expect))
            }
        }
    }
}

/// The etag of a write, as Go's `strconv.Atoi` reads it; zero is upstream's word for any version.
fn written(etag: &Etag) -> Result<Expect, Error> {
    if etag.as_str().is_empty() {
        return Ok(Expect::Any);
    }
    let number: i64 = etag.as_str().parse().map_err(|_| {
        Error::new(
            ErrorKind::EtagInvalid,
            format!(
                "invalid etag value: strconv.Atoi: parsing {:?}: invalid syntax",
                etag.as_str()
            ),
        )
    })?;
    Ok(match number {
        0 => Expect::Any,
        number => Expect::Match(Etag::new(number.to_string())),
    })
}

/// The document of an item: bytes that are no JSON go in as base64, as Go encodes them.
fn document(value: &Stored) -> Vec<u8> {
    let mut out = br#"{"data":"#.to_vec();
    match value {
        Stored::Json(json) => out.extend_from_slice(json),
        Stored::Binary(bytes) => {
            out.push(b'"');
            out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
    out.push(b'}');
    out
}

impl Change {
    fn new(key: &str, what: &'static str, expect: &Expect) -> Self {
        Self {
            key: key.into(),
            what,
            when: match expect {
                Expect::Any => "*".to_owned(),
                Expect::Absent => "-".to_owned(),
                Expect::Match(etag) => format!("={}", etag.as_str()),
            },
            value: bytes::Bytes::new(),
            mark: false,
            ttl: String::new(),
            has_etag: matches!(expect, Expect::Match(_)),
        }
    }

    pub(super) fn slot(&self) -> Slot {
        Slot::for_key(self.key.as_bytes())
    }

    /// What the script refused about this one.
    fn refusal(&self) -> Error {
        let verb = if self.what.ends_with('D') {
            "delete"
        } else {
            "set key"
        };
        let cause = format!("failed to {verb} {}", self.key);
        if self.has_etag || self.when == "-" {
            etag_mismatch().with_source(cause)
        } else {
            Error::internal(cause)
        }
    }
}

/// Adds keys and arguments to a command that runs the script.
pub(super) fn fill(command: &mut Cmd, changes: &[Change]) {
    for change in changes {
        command.arg(change.key.as_bytes());
    }
    for change in changes {
        command
            .arg(change.what)
            .arg(change.when.as_str())
            .arg(&change.value[..])
            .arg(if change.mark { "1" } else { "" })
            .arg(change.ttl.as_str());
    }
}

/// A transaction that names versions must not run twice: the second time they do not hold.
pub(super) fn safety(changes: &[Change]) -> Safety {
    if changes.iter().all(|change| change.when == "*") {
        Safety::Repeatable
    } else {
        Safety::Once
    }
}

/// Reads the script's answer.
pub(super) fn outcome(changes: &[Change], answer: RedisResult<Value>) -> Result<Vec<Option<Etag>>, Error> {
    let values = match answer.map_err(|error| failed(&error))? {
        Value::Array(values) => values,
        _ => return Err(unexpected("EVALSHA")),
    };
    match values.split_first() {
        Some((Value::Int(1), versions)) if versions.len() == changes.len() => Ok(versions
            .iter()
            .map(|version| match version {
                Value::Int(version) => Some(Etag::new(version.to_string())),
                _ => None,
            })
            .collect()),
        Some((Value::Int(0), [Value::Int(at), ..])) => {
            let refused = usize::try_from(*at - 1).ok().and_then(|at| changes.get(at));
            Err(refused.map_or_else(|| unexpected("EVALSHA"), Change::refusal))
        }
        _ => Err(unexpected("EVALSHA")),
    }
}
