//! The indexes queries run on (components-contrib `state/redis/redis_query_schema.go`).

use std::collections::BTreeMap;

use outrigger_component::Error;
use redis::Cmd;
use serde::Deserialize;

/// The indexes by name.
#[derive(Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Schema>);

/// One index.
#[derive(Debug, Default)]
pub(super) struct Schema {
    /// Paths of documents and their types, in the order of their aliases `var0`, `var1`, …
    fields: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    name: String,
    #[serde(default)]
    indexes: Vec<Index>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    key: String,
    #[serde(default, rename = "type")]
    kind: String,
}

fn wrong(cause: impl std::fmt::Display) -> Error {
    Error::configuration(format!("redis store: error parsing query index schema: {cause}"))
}

impl Schemas {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut schemas = Self::default();
        if text.is_empty() {
            return Ok(schemas);
        }
        for Given { name, indexes } in serde_json::from_str::<Vec<Given>>(text).map_err(wrong)? {
            if name.is_empty() {
                return Err(wrong("empty query schema name"));
            }
            let mut schema = Schema::default();
            for Index { key, kind } in indexes {
                if key.is_empty() {
                    return Err(wrong(format!("empty key in query schema {name}")));
                }
                if kind.is_empty() {
                    return Err(wrong(format!("empty type in query schema {name}")));
                }
                schema.fields.push((key, kind));
            }
            if schemas.0.contains_key(&name) {
                return Err(wrong(format!("duplicate schema name {name}")));
            }
            schemas.0.insert(name, schema);
        }
        Ok(schemas)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Schema> {
        self.0.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Schema)> {
        self.0.iter().map(|(name, schema)| (name.as_str(), schema))
    }
}

impl Schema {
    /// What makes the index.
    pub(super) fn create(&self, name: &str) -> Cmd {
        let mut command = redis::cmd("FT.CREATE");
        command.arg(name).arg(&["ON", "JSON", "SCHEMA"][..]);
        for (at, (key, kind)) in self.fields.iter().enumerate() {
            command
                .arg(format!("$.data.{key}"))
                .arg("AS")
                .arg(format!("var{at}"))
                .arg(kind.as_str())
                .arg("SORTABLE");
        }
        command
    }

    /// The alias of a path. The later of two equal paths counts, as upstream's map has it.
    pub(super) fn alias(&self, key: &str) -> Option<String> {
        let at = self.fields.iter().rposition(|(path, _)| path == key)?;
        Some(format!("var{at}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_becomes_a_command() {
        let text = r#"[{"name":"people","indexes":[{"key":"person.org","type":"TEXT"},{"key":"id","type":"NUMERIC"}]}]"#;
        let schemas = Schemas::parse(text).unwrap();
        let schema = schemas.get("people").unwrap();
        assert_eq!(schema.alias("id").as_deref(), Some("var1"));
        let packed = String::from_utf8(schema.create("people").get_packed_command()).unwrap();
        let words: Vec<_> = packed.lines().skip(2).step_by(2).collect();
        assert_eq!(
            words.join(" "),
            "FT.CREATE people ON JSON SCHEMA $.data.person.org AS var0 TEXT SORTABLE $.data.id AS var1 NUMERIC SORTABLE"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, cause) in [
            (r#"[{"indexes":[]}]"#, "empty query schema name"),
            (r#"[{"name":"a"},{"name":"a"}]"#, "duplicate schema name a"),
            (
                r#"[{"name":"a","indexes":[{"type":"TEXT"}]}]"#,
                "empty key in query schema a",
            ),
            (
                r#"[{"name":"a","indexes":[{"key":"x"}]}]"#,
                "empty type in query schema a",
            ),
        ] {
            let error = Schemas::parse(text).unwrap_err();
            assert_eq!(
                error.message(),
                format!("redis store: error parsing query index schema: {cause}")
            );
        }
        assert!(Schemas::parse("no").is_err());
    }
}
