//! The query API (A3.6): the request's JSON to the block's [`Query`].

use std::sync::Arc;

use http::Response;
use outrigger_component::Metadata;
use outrigger_engine_dispatch::go_json;
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Reply, errors};
use outrigger_state::{Filter, Page, Query, QueryResult, ReadOptions, SortKey};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    StateService, original_key,
    service::{error_text, or_own},
};

/// How deep filters may nest.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Asked {
    filter: Value,
    sort: Vec<SortKey>,
    page: Page,
}

/// Reads a query.
///
/// # Errors
/// A text that names what is wrong.
pub(crate) fn parse(text: &[u8]) -> Result<Query, String> {
    let asked: Asked = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let filter = match &asked.filter {
        Value::Null => None,
        Value::Object(fields) if fields.is_empty() => None,
        value => Some(filter(value, 0)?),
    };
    Ok(Query {
        filter,
        sort: asked.sort,
        page: asked.page,
    })
}

fn filter(value: &Value, depth: usize) -> Result<Filter, String> {
    if depth > MAX_DEPTH {
        return Err(format!("filters nest deeper than {MAX_DEPTH}"));
    }
    let Some((name, operand)) = value
        .as_object()
        .filter(|fields| fields.len() == 1)
        .and_then(|fields| fields.iter().next())
    else {
        return Err("filter must be an object with one operator".to_owned());
    };
    let field = || {
        operand
            .as_object()
            .filter(|fields| fields.len() == 1)
            .and_then(|fields| fields.iter().next())
            .map(|(field, value)| (field.clone(), value.clone()))
            .ok_or_else(|| format!("{name} filter must contain exactly one key/value pair"))
    };
    let all = || {
        operand
            .as_array()
            .filter(|filters| filters.len() >= 2)
            .ok_or_else(|| format!("{name} filter must contain at least two entries"))?
            .iter()
            .map(|inner| filter(inner, depth + 1))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match name.as_str() {
        "EQ" => field().map(|(field, value)| Filter::Eq(field, value))?,
        "NEQ" => field().map(|(field, value)| Filter::Neq(field, value))?,
        "GT" => field().map(|(field, value)| Filter::Gt(field, value))?,
        "GTE" => field().map(|(field, value)| Filter::Gte(field, value))?,
        "LT" => field().map(|(field, value)| Filter::Lt(field, value))?,
        "LTE" => field().map(|(field, value)| Filter::Lte(field, value))?,
        "IN" => {
            let (field, values) = field()?;
            let values = values
                .as_array()
                .cloned()
                .ok_or("IN filter value must be an array")?;
            Filter::In(field, values)
        }
        "AND" => Filter::And(all()?),
        "OR" => Filter::Or(all()?),
        other => return Err(format!("unsupported filter {other:?}")),
    })
}

impl StateService {
    /// Runs a query of either surface.
    pub(crate) async fn run_query(
        &self,
        store_name: &str,
        text: &[u8],
        metadata: Metadata,
        app_id: &str,
    ) -> Result<QueryResult, ApiError> {
        let store = self.store(store_name, app_id).await?;
        if !store.loaded.instance.capabilities().query {
            return Err(errors::state::query_unsupported(store.name()));
        }
        if store.settings.encryption.is_some() {
            return Err(errors::state::query_failed(
                store.name(),
                "cannot query encrypted store",
            ));
        }
        let query = parse(text).map_err(|error| {
            errors::state::query_failed(store.name(), format!("failed to parse JSON query body: {error}"))
        })?;
        let options = ReadOptions {
            metadata,
            ..ReadOptions::default()
        };
        self.policy(&store)
            .run(|_| store.loaded.instance.query(query.clone(), options.clone()))
            .await
            .map_err(|error| {
                or_own(&error, || {
                    errors::state::query_failed(store.name(), error_text(&error))
                })
            })
    }

    pub(crate) async fn http_query(
        self: Arc<Self>,
        mut request: ApiRequest,
    ) -> Result<Response<Body>, ApiError> {
        let body = request.bytes().await?;
        let metadata = request.query_metadata();
        let found = self
            .run_query(request.param("storeName"), &body, metadata, "")
            .await?;
        if found.items.is_empty() {
            return Ok(Reply::no_content());
        }
        let mut out = b"{\"results\":[".to_vec();
        for (i, item) in found.items.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"key\":");
            go_json::write_string(original_key(&item.key).as_bytes(), &mut out);
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(if item.data.is_empty() { b"null" } else { &item.data });
            if let Some(etag) = &item.etag {
                out.extend_from_slice(b",\"etag\":");
                go_json::write_string(etag.as_str().as_bytes(), &mut out);
            }
            out.push(b'}');
        }
        out.push(b']');
        if !found.token.is_empty() {
            out.extend_from_slice(b",\"token\":");
            go_json::write_string(found.token.as_bytes(), &mut out);
        }
        if !found.metadata.is_empty() {
            out.extend_from_slice(b",\"metadata\":");
            out.extend_from_slice(&serde_json::to_vec(&found.metadata).map_err(errors::malformed_response)?);
        }
        out.push(b'}');
        Ok(Reply::json_bytes(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_filters_sort_and_page() {
        let query = parse(
            br#"{"filter":{"AND":[{"EQ":{"a.b":1}},{"IN":{"c":["x","y"]}}]},
                "sort":[{"key":"a","order":"DESC"}],"page":{"limit":2,"token":"t"}}"#,
        )
        .unwrap();
        assert!(matches!(query.filter, Some(Filter::And(filters)) if filters.len() == 2));
        assert_eq!((query.page.limit, query.sort.len()), (2, 1));
        for bad in [
            "{",
            r#"{"filter":{"XX":{"a":1}}}"#,
            r#"{"filter":{"IN":{"a":1}}}"#,
            r#"{"filter":{"AND":[]}}"#,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
