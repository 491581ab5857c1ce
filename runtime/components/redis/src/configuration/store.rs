//! The store.

use std::sync::Arc;

use outrigger_component::{Error, Metadata};
use outrigger_configuration::{ConfigurationStore, Item, Items, UpdateHandler, Watching};
use redis::Value;

use super::watch;
use crate::{
    failure::{failed, unexpected},
    link::{Link, Safety},
    settings::Settings,
};

/// What stands between value and version.
const SEPARATOR: &str = "||";
/// Keys read in one command.
const CHUNK: usize = 256;
/// Keys a `SCAN` looks at in one go.
const SCAN_COUNT: usize = 1000;

/// `configuration.redis`.
#[derive(Debug)]
pub struct RedisConfigurationStore {
    reader: Reader,
}

/// Reads items; subscriptions hold one each.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) link: Link,
}

impl RedisConfigurationStore {
    pub(super) async fn open(settings: Settings) -> Result<Self, Error> {
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
        Ok(Self {
            reader: Reader { link },
        })
    }
}

impl Reader {
    /// The items of these keys that are there; a key of another kind, or without a value, is not.
    pub(super) async fn read(&self, keys: &[String]) -> Result<Items, Error> {
        let mut items = Items::new();
        for chunk in keys.chunks(CHUNK) {
            let mut command = redis::cmd("MGET");
            command.arg(chunk);
            let Value::Array(values) = self.link.command(&command, Safety::Repeatable).await? else {
                return Err(unexpected("MGET"));
            };
            for (key, value) in chunk.iter().zip(values) {
                if let Value::BulkString(bytes) = value
                    && let Some(item) = item(&String::from_utf8_lossy(&bytes))
                {
                    items.insert(key.clone(), item);
                }
            }
        }
        Ok(items)
    }

    async fn all_keys(&self) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let mut connection = self.link.connection().await?;
        for place in connection.places().await.map_err(|error| failed(&error))? {
            let mut cursor = b"0".to_vec();
            loop {
                let mut command = redis::cmd("SCAN");
                command.arg(&cursor[..]).arg("COUNT").arg(SCAN_COUNT);
                let answer = connection.command_at(&place, &command).await;
                let Value::Array(parts) = answer.map_err(|error| failed(&error))? else {
                    return Err(unexpected("SCAN"));
                };
                let [Value::BulkString(next), Value::Array(found)] = &parts[..] else {
                    return Err(unexpected("SCAN"));
                };
                keys.extend(found.iter().filter_map(|key| match key {
                    Value::BulkString(key) => Some(String::from_utf8_lossy(key).into_owned()),
                    _ => None,
                }));
                if next == b"0" {
                    break;
                }
                cursor.clone_from(next);
            }
        }
        // A scan may name a key twice.
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}

/// A stored text as an item: what follows a second separator is dropped, as upstream does.
fn item(text: &str) -> Option<Item> {
    let mut parts = text.split(SEPARATOR);
    let value = parts.next().filter(|value| !value.is_empty())?;
    Some(Item {
        value: value.to_owned(),
        version: parts.next().unwrap_or_default().to_owned(),
        metadata: Metadata::new(),
    })
}

impl ConfigurationStore for RedisConfigurationStore {
    async fn get(&self, keys: &[String], _metadata: &Metadata) -> Result<Items, Error> {
        if keys.is_empty() {
            let all = self.reader.all_keys().await?;
            return self.reader.read(&all).await;
        }
        self.reader.read(keys).await
    }

    async fn subscribe(
        &self,
        keys: Vec<String>,
        _metadata: Metadata,
        handler: Arc<dyn UpdateHandler>,
    ) -> Result<Box<dyn Watching>, Error> {
        watch::start(self.reader.clone(), keys, handler).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.reader.link.ping().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.reader.link.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::item;

    #[test]
    fn a_text_splits_into_value_and_version() {
        for (text, expected) in [
            ("v||1", Some(("v", "1"))),
            ("v", Some(("v", ""))),
            ("v||", Some(("v", ""))),
            ("v||1||2", Some(("v", "1"))),
            ("", None),
            ("||1", None),
        ] {
            let item = item(text);
            let found = item
                .as_ref()
                .map(|item| (item.value.as_str(), item.version.as_str()));
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
