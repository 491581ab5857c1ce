//! The query API on `jsonb` (components-contrib `common/component/postgresql/v1/postgresql_query.go`).
//!
//! Upstream compares and sorts all values as texts, so that 9 is greater than 10; here numbers are compared as
//! numbers. A text still equals a number that is written the same, as upstream has it.

use bytes::Bytes;
use outrigger_component::Error;
use outrigger_state::{Etag, Filter, Query, QueryItem, QueryResult, SortOrder};
use outrigger_types::StateKey;
use serde_json::Value as Json;

use crate::statement::{Param, Row};

/// A query as SQL.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) sql: String,
    values: Vec<Owned>,
    skip: i64,
    limited: bool,
}

#[derive(Debug)]
enum Owned {
    Text(String),
    Path(Vec<String>),
    Int(i64),
}

impl Search {
    /// `select` ends inside its `WHERE`.
    ///
    /// # Errors
    /// `InvalidRequest`, with upstream's texts.
    pub(super) fn new(select: &str, query: &Query) -> Result<Self, Error> {
        let mut search = Self {
            sql: select.to_owned(),
            values: Vec::new(),
            skip: 0,
            limited: query.page.limit > 0,
        };
        if let Some(filter) = &query.filter {
            let condition = search.condition(filter)?;
            search.sql.push_str(" AND ");
            search.sql.push_str(&condition);
        }
        search.sql.push_str(" ORDER BY ");
        for key in &query.sort {
            let path = search.path(&key.key);
            let direction = match key.order {
                SortOrder::Asc => "ASC",
                SortOrder::Desc => "DESC",
            };
            search.sql.push_str(&format!("value #> {path} {direction}, "));
        }
        // Equal rows keep an order of their own, so that pages do not overlap.
        search.sql.push_str("row_id");
        if search.limited {
            let limit = search.bind(Owned::Int(i64::from(query.page.limit)));
            search.sql.push_str(&format!(" LIMIT {limit}"));
        }
        if !query.page.token.is_empty() {
            search.skip = query
                .page
                .token
                .parse()
                .ok()
                .filter(|skip| *skip >= 0)
                .ok_or_else(|| Error::invalid(format!("invalid page token {:?}", query.page.token)))?;
            let skip = search.bind(Owned::Int(search.skip));
            search.sql.push_str(&format!(" OFFSET {skip}"));
        }
        Ok(search)
    }

    fn bind(&mut self, value: Owned) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn path(&mut self, field: &str) -> String {
        self.bind(Owned::Path(field.split('.').map(str::to_owned).collect()))
    }

    fn condition(&mut self, filter: &Filter) -> Result<String, Error> {
        Ok(match filter {
            Filter::Eq(field, value) => self.equal(field, value, "="),
            Filter::Neq(field, value) => self.equal(field, value, "<>"),
            Filter::Gt(field, value) => self.ordered(field, value, ">")?,
            Filter::Gte(field, value) => self.ordered(field, value, ">=")?,
            Filter::Lt(field, value) => self.ordered(field, value, "<")?,
            Filter::Lte(field, value) => self.ordered(field, value, "<=")?,
            Filter::In(field, values) if values.is_empty() => {
                return Err(Error::invalid(format!("empty IN operator for key {field:?}")));
            }
            Filter::In(field, values) => {
                let parts: Vec<_> = values.iter().map(|value| self.equal(field, value, "=")).collect();
                format!("({})", parts.join(" OR "))
            }
            Filter::And(filters) => self.joined(filters, " AND ")?,
            Filter::Or(filters) => self.joined(filters, " OR ")?,
        })
    }

    fn joined(&mut self, filters: &[Filter], operator: &str) -> Result<String, Error> {
        let parts = filters.iter().map(|filter| self.condition(filter));
        Ok(format!(
            "({})",
            parts.collect::<Result<Vec<_>, _>>()?.join(operator)
        ))
    }

    fn equal(&mut self, field: &str, value: &Json, operator: &str) -> String {
        let path = self.path(field);
        match value {
            Json::String(text) => {
                let text = self.bind(Owned::Text(text.clone()));
                format!("value #>> {path} {operator} {text}")
            }
            other => {
                let other = self.bind(Owned::Text(other.to_string()));
                format!("value #> {path} {operator} {other}::jsonb")
            }
        }
    }

    fn ordered(&mut self, field: &str, value: &Json, operator: &str) -> Result<String, Error> {
        if let Json::String(text) = value {
            return Err(Error::invalid(format!(
                "unsupported type of value {text}; string type not permitted"
            )));
        }
        let path = self.path(field);
        let value = self.bind(Owned::Text(value.to_string()));
        Ok(format!(
            "(jsonb_typeof(value #> {path}) = jsonb_typeof({value}::jsonb) AND value #> {path} {operator} {value}::jsonb)"
        ))
    }

    pub(super) fn params(&self) -> Vec<Param<'_>> {
        let values = self.values.iter().map(|value| match value {
            Owned::Text(text) => Param::Text(text),
            Owned::Path(path) => Param::Texts(path.iter().map(String::as_str).collect()),
            Owned::Int(number) => Param::Int(Some(*number)),
        });
        values.collect()
    }

    /// The rows as items; the token is the number of items so far, also at the end, as upstream writes it.
    pub(super) fn result(&self, rows: &[Row]) -> Result<QueryResult, Error> {
        let items = rows.iter().map(|row| {
            Ok(QueryItem {
                key: StateKey::from(row.required_text(0)?),
                data: Bytes::copy_from_slice(row.required_text(2)?.as_bytes()),
                etag: row.text(1)?.map(Etag::new),
            })
        });
        let items = items.collect::<Result<Vec<_>, Error>>()?;
        let end = self.skip + i64::try_from(items.len()).unwrap_or(i64::MAX);
        Ok(QueryResult {
            items,
            token: if self.limited {
                end.to_string()
            } else {
                String::new()
            },
            ..QueryResult::default()
        })
    }
}
