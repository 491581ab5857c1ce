//! Reads: hashes, plain values of older times, JSON documents.

use bytes::Bytes;
use outrigger_component::Error;
use outrigger_state::{Etag, Item, ReadOptions, Value as Stored};
use redis::{Cmd, RedisResult, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::changes::is_json;
use crate::{
    failure::{failed, unexpected},
    link::{Link, Safety},
};

/// Reads one item.
pub(super) async fn get(
    link: &Link,
    key: &str,
    options: &ReadOptions,
    has_json: bool,
) -> Result<Option<Item>, Error> {
    if has_json && is_json(&options.metadata) {
        let mut command = redis::cmd("JSON.GET");
        command.arg(key);
        return document(link.command(&command, Safety::Repeatable).await?);
    }
    let answer = link.raw(&hash_command(key), Safety::Repeatable).await?;
    hash_or_plain(link, key, answer).await
}

/// `HGETALL`, as upstream reads: an answer without our fields is told from an absent key.
pub(super) fn hash_command(key: &str) -> Cmd {
    let mut command = redis::cmd("HGETALL");
    command.arg(key);
    command
}

/// Reads the answer; what is no hash is read as a plain value.
pub(super) async fn hash_or_plain(
    link: &Link,
    key: &str,
    answer: RedisResult<Value>,
) -> Result<Option<Item>, Error> {
    match answer {
        Ok(value) => hash(value),
        Err(error) if error.code().is_none() => Err(failed(&error)),
        Err(_) => {
            let mut command = redis::cmd("GET");
            command.arg(key);
            match link.command(&command, Safety::Repeatable).await? {
                Value::Nil => Ok(None),
                Value::BulkString(data) => Ok(Some(item(data.into(), None))),
                _ => Err(unexpected("GET")),
            }
        }
    }
}

fn item(data: Bytes, etag: Option<Etag>) -> Item {
    Item {
        value: Stored::Binary(data),
        etag,
        expires: None,
    }
}

fn hash(value: Value) -> Result<Option<Item>, Error> {
    let (mut data, mut version) = (None, None);
    let mut field = |name: Value, value: Value| {
        let (Value::BulkString(name), Value::BulkString(value)) = (name, value) else {
            return;
        };
        match &name[..] {
            b"data" => data = Some(value),
            b"version" => version = Some(value),
            _ => {}
        }
    };
    match value {
        Value::Nil => return Ok(None),
        Value::Array(fields) => {
            if fields.is_empty() {
                return Ok(None);
            }
            let mut fields = fields.into_iter();
            while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
                field(name, value);
            }
        }
        Value::Map(fields) => {
            if fields.is_empty() {
                return Ok(None);
            }
            for (name, value) in fields {
                field(name, value);
            }
        }
        _ => return Err(unexpected("HGETALL")),
    }
    match (data, version) {
        (Some(data), Some(version)) => {
            let etag = Etag::new(String::from_utf8_lossy(&version));
            Ok(Some(item(data.into(), Some(etag))))
        }
        _ => Err(Error::internal(
            "required hash field 'data' or 'version' was not found",
        )),
    }
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    version: Option<i64>,
}

fn document(value: Value) -> Result<Option<Item>, Error> {
    let text = match value {
        Value::Nil => return Ok(None),
        Value::BulkString(text) => text,
        _ => return Err(Error::internal("invalid result")),
    };
    let document: Document<'_> = serde_json::from_slice(&text)
        .map_err(|error| Error::internal("the JSON document cannot be read").with_source(error))?;
    let data = document.data.map_or("null", RawValue::get);
    Ok(Some(Item {
        value: Stored::Json(Bytes::copy_from_slice(data.as_bytes())),
        etag: document.version.map(|version| Etag::new(version.to_string())),
        expires: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_hash_needs_both_fields() {
        assert!(hash(Value::Array(vec![])).unwrap().is_none());
        let full = ["first-write", "0", "data", "x", "version", "7"].map(bulk);
        let item = hash(Value::Array(full.into())).unwrap().unwrap();
        assert_eq!(
            (&item.value.bytes()[..], item.etag.unwrap().as_str()),
            (&b"x"[..], "7")
        );
        let error = hash(Value::Array(["data", "x"].map(bulk).into())).unwrap_err();
        assert_eq!(
            error.message(),
            "required hash field 'data' or 'version' was not found"
        );
    }

    #[test]
    fn a_document_gives_its_data_as_it_is() {
        let item = document(bulk(r#"{"data":{"a":1.50},"version":3,"first-write":0}"#))
            .unwrap()
            .unwrap();
        assert_eq!(&item.value.bytes()[..], br#"{"a":1.50}"#);
        assert_eq!(item.etag.unwrap().as_str(), "3");
        assert!(document(Value::Nil).unwrap().is_none());
    }
}
