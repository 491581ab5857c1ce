//! Reads the table.

use std::sync::Arc;

use outrigger_component::{Error, Metadata};
use outrigger_configuration::{Item, Items};

use crate::{
    database::Database,
    statement::{Param, Row},
};

/// Reads items; cheap to clone into subscriptions.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    database: Arc<Database>,
    all: Arc<str>,
    some: Arc<str>,
}

impl Reader {
    pub(super) fn new(database: Arc<Database>, table: &str) -> Self {
        let all = format!("SELECT key::text, value::text, version::text, metadata::text FROM {table}");
        let some = format!("{all} WHERE key = ANY($1)");
        Self {
            database,
            all: all.into(),
            some: some.into(),
        }
    }

    /// The items of these keys; of all when there are none.
    pub(super) async fn read(&self, keys: &[String]) -> Result<Items, Error> {
        let what = "error in querying configuration store";
        let rows = if keys.is_empty() {
            self.database.read(what, &self.all, &[]).await?
        } else {
            let keys = keys.iter().map(String::as_str).collect();
            self.database
                .read(what, &self.some, &[Param::Texts(keys)])
                .await?
        };
        let mut items = Items::new();
        for row in &rows {
            let (key, item) = item(row)?;
            // A table without a primary key may have several rows of a key: the highest number wins.
            match items.get(&key) {
                Some(found) if number(&item.version) <= number(&found.version) => {}
                _ => {
                    items.insert(key, item);
                }
            }
        }
        Ok(items)
    }
}

/// A version that is no number is below all that are.
fn number(version: &str) -> i64 {
    version.parse().unwrap_or(-1)
}

fn item(row: &Row) -> Result<(String, Item), Error> {
    let text = |column| Ok::<_, Error>(row.text(column)?.unwrap_or_default().to_owned());
    // Written by whoever keeps the table; what is no JSON object of texts is no metadata.
    let metadata: Option<Metadata> = row.text(3)?.and_then(|text| serde_json::from_str(text).ok());
    Ok((
        row.required_text(0)?.to_owned(),
        Item {
            value: text(1)?,
            version: text(2)?,
            metadata: metadata.unwrap_or_default(),
        },
    ))
}
