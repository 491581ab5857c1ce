//! The SQL of both versions and their row formats.
//!
//! Version 1 keeps JSON as `jsonb` (so it comes back as the server writes it), bytes as a JSON string of base64, and
//! its etag is `xmin`, the transaction that wrote the row. Version 2 keeps bytes and a UUID. A row whose time has
//! passed is treated as absent whether or not it was removed.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use outrigger_component::{Error, ErrorKind};
use outrigger_state::{Etag, Item, Ttl, Value, etag_mismatch};
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::config::Version;
use crate::statement::{Param, Row};

/// Bytes of a JSON document that `jsonb` surely takes: far fewer than a number it refuses has digits.
const PLAIN_JSON: usize = 16 * 1024;
/// Lists and objects of such a document, nested or not.
const PLAIN_DEPTH: usize = 512;

/// The statements, with the table's name in place. All that write answer one row per row written: key and etag.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) version: Version,
    /// Key.
    pub(super) get: String,
    /// Keys.
    pub(super) get_many: String,
    /// Key, stored value, seconds to live.
    pub(super) upsert: String,
    /// The same as arrays, no key twice.
    pub(super) upsert_many: String,
    /// As `upsert`, only where there is no living row.
    pub(super) insert: String,
    /// As `upsert`, and the expected etag.
    pub(super) update: String,
    /// Key.
    pub(super) delete: String,
    /// Keys.
    pub(super) delete_many: String,
    /// Key, expected etag.
    pub(super) delete_match: String,
    /// Prefix with its `||`; answers a count.
    pub(super) delete_prefix: String,
    /// Pattern, first row number (exclusive), number of rows; answers key and row number.
    pub(super) keys: String,
    /// Where queries begin (version 1): key, value, etag of living rows.
    pub(super) query: String,
}

impl Format {
    pub(super) fn new(version: Version, table: &str) -> Self {
        let (stored, etag, expires, updated) = match version {
            Version::V1 => (
                "value, isbinary",
                "xmin",
                "expiredate",
                "updatedate = CURRENT_TIMESTAMP",
            ),
            Version::V2 => (
                "value",
                "etag",
                "expires_at",
                "updated_at = CURRENT_TIMESTAMP, etag = gen_random_uuid()",
            ),
        };
        let live = format!("({expires} IS NULL OR {expires} >= CURRENT_TIMESTAMP)");
        let read = match version {
            Version::V1 => "value::text, isbinary",
            Version::V2 => "value",
        };
        let select = format!(
            "SELECT key, {etag}::text, (extract(epoch FROM {expires}) * 1000000)::int8, {read} FROM {table}"
        );
        let excluded = match version {
            Version::V1 => "value = excluded.value, isbinary = excluded.isbinary",
            Version::V2 => "value = excluded.value",
        };
        // A NULL number of seconds makes the whole expression NULL: for ever.
        let expiry = |seconds: &str| format!("CURRENT_TIMESTAMP + {seconds} * interval '1 second'");
        let (values, seconds, expected) = match version {
            Version::V1 => ("$2::jsonb, $3", "$4", "$5::xid"),
            Version::V2 => ("$2", "$3", "$4::uuid"),
        };
        let many = match version {
            Version::V1 => {
                "u.key, u.value::jsonb, u.isbinary, CURRENT_TIMESTAMP + u.seconds * interval '1 second'
                 FROM unnest($1, $2, $3, $4) AS u(key, value, isbinary, seconds)"
            }
            Version::V2 => {
                "u.key, u.value, CURRENT_TIMESTAMP + u.seconds * interval '1 second'
                 FROM unnest($1, $2, $3) AS u(key, value, seconds)"
            }
        };
        let assign = match version {
            Version::V1 => "value = $2::jsonb, isbinary = $3",
            Version::V2 => "value = $2",
        };
        let returning = format!("RETURNING key, {etag}::text");
        let insert = format!("INSERT INTO {table} AS t (key, {stored}, {expires})");
        let conflict =
            format!("ON CONFLICT (key) DO UPDATE SET {excluded}, {updated}, {expires} = excluded.{expires}");
        let one = format!("{insert} VALUES ($1, {values}, {}) {conflict}", expiry(seconds));
        // `RETURNING` sees the new row of an `INSERT … AS t` under both names; the alias is the one that is sure.
        let returning_new = format!("RETURNING t.key, t.{etag}::text");
        Self {
            version,
            get: format!("{select} WHERE key = $1 AND {live}"),
            get_many: format!("{select} WHERE key = ANY($1) AND {live}"),
            upsert: format!("{one} {returning_new}"),
            upsert_many: format!("{insert} SELECT {many} {conflict} {returning_new}"),
            // First write: an expired row that nobody has removed yet does not count.
            insert: format!(
                "{one} WHERE t.{expires} IS NOT NULL AND t.{expires} < CURRENT_TIMESTAMP {returning_new}"
            ),
            update: format!(
                "UPDATE {table} SET {assign}, {updated}, {expires} = {}
                 WHERE key = $1 AND {etag} = {expected} AND {live} {returning}",
                expiry(seconds)
            ),
            delete: format!("DELETE FROM {table} WHERE key = $1 {returning}"),
            delete_many: format!("DELETE FROM {table} WHERE key = ANY($1) {returning}"),
            delete_match: format!(
                "DELETE FROM {table} WHERE key = $1 AND {etag} = {} {returning}",
                match version {
                    Version::V1 => "$2::xid",
                    Version::V2 => "$2::uuid",
                }
            ),
            delete_prefix: format!(
                "WITH removed AS (
                     DELETE FROM {table}
                     WHERE starts_with(key, $1) AND strpos(substr(key, length($1) + 1), '||') = 0
                     RETURNING 1
                 )
                 SELECT count(*) FROM removed"
            ),
            keys: format!(
                "SELECT key, row_id FROM {table}
                 WHERE key LIKE $1 ESCAPE '\\' AND ({expires} IS NULL OR {expires} > CURRENT_TIMESTAMP) AND row_id > $2
                 ORDER BY row_id LIMIT $3"
            ),
            query: format!("SELECT key, {etag}::text, value::text FROM {table} WHERE {live}"),
        }
    }

    /// An etag as a parameter.
    ///
    /// # Errors
    /// Version 1 knows that no etag of it looks like this (`EtagInvalid`), version 2 says that it is not this row's.
    pub(super) fn expected(&self, etag: &Etag) -> Result<String, Error> {
        match self.version {
            Version::V1 => etag
                .as_str()
                .parse::<u32>()
                .map(|xid| xid.to_string())
                .map_err(|error| Error::new(ErrorKind::EtagInvalid, "invalid etag value").with_source(error)),
            Version::V2 => Uuid::parse_str(etag.as_str())
                .map(|uuid| uuid.to_string())
                .map_err(|error| etag_mismatch().with_source(error)),
        }
    }

    /// Whether no server refuses this value, whatever its settings: version 2 keeps bytes as they are; `jsonb` has
    /// no `\\u0000` and no lone surrogates, bounds for numbers with exponents, and a bound of depth.
    pub(super) fn surely_takes(&self, value: &Value) -> bool {
        match (self.version, value) {
            (Version::V2, _) | (Version::V1, Value::Binary(_)) => true,
            (Version::V1, Value::Json(json)) => {
                json.len() <= PLAIN_JSON
                    && std::str::from_utf8(json)
                        .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
                    && json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= PLAIN_DEPTH
                    && !json.windows(2).any(|pair| {
                        pair == br"\u" || (pair[0].is_ascii_digit() && matches!(pair[1], b'e' | b'E'))
                    })
            }
        }
    }

    /// A row as an item, with its key.
    pub(super) fn item<'a>(&self, row: &'a Row) -> Result<(&'a str, Item), Error> {
        let value = match self.version {
            Version::V1 if row.bool(4)? => {
                let decoded = serde_json::from_str::<Cow<'_, str>>(row.required_text(3)?)
                    .map_err(|error| {
                        Error::internal("failed to unmarshal JSON data").with_source(error.to_string())
                    })
                    .and_then(|text| {
                        BASE64.decode(text.as_bytes()).map_err(|error| {
                            Error::internal("failed to decode base64 data").with_source(error)
                        })
                    })?;
                Value::Binary(decoded.into())
            }
            Version::V1 => Value::Json(Bytes::copy_from_slice(row.required_text(3)?.as_bytes())),
            Version::V2 => Value::Binary(row.bytes(3)?.into()),
        };
        let expires = row.int(2)?.and_then(|micros| u64::try_from(micros).ok());
        let item = Item {
            value,
            etag: row.text(1)?.map(Etag::new),
            expires: expires.map(|micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros)),
        };
        Ok((row.required_text(0)?, item))
    }
}

/// A value as its column takes it.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    key: &'a str,
    value: Column<'a>,
    seconds: Option<i64>,
}

#[derive(Debug)]
enum Column<'a> {
    Json { text: Cow<'a, str>, binary: bool },
    Bytes(&'a [u8]),
}

impl<'a> Stored<'a> {
    /// # Errors
    /// `InvalidRequest` when version 1 is given JSON that is not text.
    pub(super) fn new(version: Version, key: &'a str, value: &'a Value, ttl: Ttl) -> Result<Self, Error> {
        let value =
            match (version, value) {
                (Version::V1, Value::Json(json)) => Column::Json {
                    text: Cow::Borrowed(std::str::from_utf8(json).map_err(|error| {
                        Error::invalid("the JSON document is not UTF-8").with_source(error)
                    })?),
                    binary: false,
                },
                (Version::V1, Value::Binary(bytes)) => {
                    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4 + 2);
                    text.push('"');
                    BASE64.encode_string(bytes, &mut text);
                    text.push('"');
                    Column::Json {
                        text: Cow::Owned(text),
                        binary: true,
                    }
                }
                (Version::V2, value) => Column::Bytes(value.bytes()),
            };
        let seconds = match ttl {
            Ttl::Seconds(seconds) if seconds > 0 => Some(i64::from(seconds)),
            Ttl::Seconds(_) | Ttl::Default | Ttl::Never => None,
        };
        Ok(Self { key, value, seconds })
    }

    /// The key.
    pub(super) fn key(&self) -> &str {
        self.key
    }

    /// The parameters of `upsert` and `insert`.
    pub(super) fn params(&self) -> Vec<Param<'_>> {
        let mut params = Vec::with_capacity(5);
        params.push(Param::Text(self.key));
        match &self.value {
            Column::Json { text, binary } => params.extend([Param::Text(text), Param::Bool(*binary)]),
            Column::Bytes(bytes) => params.push(Param::Bytes(bytes)),
        }
        params.push(Param::Int(self.seconds));
        params
    }

    /// The parameters of `upsert_many`. All values are of one version.
    pub(super) fn arrays<'b>(all: &'b [Stored<'b>]) -> Vec<Param<'b>> {
        let (mut texts, mut binaries, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for stored in all {
            match &stored.value {
                Column::Json { text, binary } => {
                    texts.push(&**text);
                    binaries.push(*binary);
                }
                Column::Bytes(value) => bytes.push(*value),
            }
        }
        let mut params = vec![Param::Texts(all.iter().map(|stored| stored.key).collect())];
        if bytes.is_empty() {
            params.extend([Param::Texts(texts), Param::Bools(binaries)]);
        } else {
            params.push(Param::ByteStrings(bytes));
        }
        params.push(Param::Ints(all.iter().map(|stored| stored.seconds).collect()));
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_any_server_takes_are_passed_over() {
        let first = Format::new(Version::V1, "state");
        let json = |text: &str| Value::Json(Bytes::copy_from_slice(text.as_bytes()));
        for text in ["5", r#"{"name":"thé","tags":[1.5,null,true]}"#] {
            assert!(first.surely_takes(&json(text)), "{text}");
        }
        let deep = "[".repeat(600) + &"]".repeat(600);
        let long = format!("0.{}", "1".repeat(20_000));
        for text in ["", "{", "1e999999", r#""\u0000""#, r#""\ud800""#, &deep, &long] {
            assert!(!first.surely_takes(&json(text)), "{text}");
        }
        assert!(first.surely_takes(&Value::Binary(Bytes::from_static(&[0, 255]))));
        assert!(Format::new(Version::V2, "state").surely_takes(&json("{")));
    }
}
