//! The JSON form of queries, with the rules and texts of components-contrib `state/query`.

use outrigger_component::Error;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::{Filter, Page, Query, SortKey};

/// Filters may nest this deep; far beyond any query, and no stack is at risk.
const MAX_DEPTH: usize = 64;

#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    filter: Option<Map<String, Json>>,
    #[serde(default)]
    sort: Option<Vec<SortKey>>,
    #[serde(default)]
    page: Option<Page>,
}

impl Query {
    /// Reads `{"filter":{…},"sort":[…],"page":{…}}`; all three may be missing.
    ///
    /// # Errors
    /// `InvalidRequest` with upstream's text.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        let fields: Fields =
            serde_json::from_slice(text).map_err(|error| Error::invalid(error.to_string()))?;
        let filter = match fields.filter {
            Some(filter) if !filter.is_empty() => Some(parse(filter, 0)?),
            _ => None,
        };
        Ok(Self {
            filter,
            sort: fields.sort.unwrap_or_default(),
            page: fields.page.unwrap_or_default(),
        })
    }
}

fn parse(object: Map<String, Json>, depth: usize) -> Result<Filter, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("the filter nests too deeply"));
    }
    if object.len() != 1 {
        return Err(Error::invalid("filter unit must have a single element"));
    }
    let Some((name, value)) = object.into_iter().next() else {
        return Err(Error::invalid("filter unit must have a single element"));
    };
    Ok(match name.as_str() {
        "EQ" => pair(&name, value).map(|(field, value)| Filter::Eq(field, value))?,
        "NEQ" => pair(&name, value).map(|(field, value)| Filter::Neq(field, value))?,
        "GT" => pair(&name, value).map(|(field, value)| Filter::Gt(field, value))?,
        "GTE" => pair(&name, value).map(|(field, value)| Filter::Gte(field, value))?,
        "LT" => pair(&name, value).map(|(field, value)| Filter::Lt(field, value))?,
        "LTE" => pair(&name, value).map(|(field, value)| Filter::Lte(field, value))?,
        "IN" => match pair(&name, value)? {
            (field, Json::Array(values)) => Filter::In(field, values),
            _ => return Err(Error::invalid("IN filter value must be an array")),
        },
        "AND" => Filter::And(several(&name, value, depth)?),
        "OR" => Filter::Or(several(&name, value, depth)?),
        _ => return Err(Error::invalid(format!("unsupported filter {name:?}"))),
    })
}

fn pair(name: &str, value: Json) -> Result<(String, Json), Error> {
    let Json::Object(object) = value else {
        return Err(Error::invalid(format!("{name} filter must be a map")));
    };
    let mut pairs = object.into_iter();
    match (pairs.next(), pairs.next()) {
        (Some(pair), None) => Ok(pair),
        _ => Err(Error::invalid(format!(
            "{name} filter must contain a single key/value pair"
        ))),
    }
}

fn several(name: &str, value: Json, depth: usize) -> Result<Vec<Filter>, Error> {
    let Json::Array(items) = value else {
        return Err(Error::invalid(format!("{name} filter must be an array")));
    };
    if items.len() < 2 {
        return Err(Error::invalid(format!(
            "{name} filter must contain at least two entries"
        )));
    }
    items
        .into_iter()
        .map(|item| match item {
            Json::Object(object) => parse(object, depth + 1),
            _ => Err(Error::invalid("filter unit must be a map")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_malformed_queries() {
        for (text, message) in [
            (r#"{"filter":{"EQ":1}}"#, "EQ filter must be a map"),
            (
                r#"{"filter":{"LT":{"a":1,"b":2}}}"#,
                "LT filter must contain a single key/value pair",
            ),
            (r#"{"filter":{"IN":{"a":1}}}"#, "IN filter value must be an array"),
            (r#"{"filter":{"XX":{}}}"#, r#"unsupported filter "XX""#),
            (
                r#"{"filter":{"EQ":{"a":1},"NEQ":{"a":1}}}"#,
                "filter unit must have a single element",
            ),
        ] {
            assert_eq!(
                Query::from_json(text.as_bytes()).unwrap_err().to_string(),
                message
            );
        }
        assert!(
            Query::from_json(br#"{"filter":null,"sort":null}"#)
                .unwrap()
                .filter
                .is_none()
        );
    }
}
