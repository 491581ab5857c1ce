//! Queries on the wire: the filter as a map of operator to JSON text (upstream `toQuery`).

use std::collections::HashMap;

use outrigger_component::Error;
use outrigger_state::{Filter, Page, Query, SortKey, SortOrder};
use outrigger_wire::dapr::proto::components::v1 as pb;
use prost_types::Any;
use serde_json::{Value, json};

/// The query as it is sent.
pub(crate) fn to_wire(query: &Query) -> pb::Query {
    let filter = query.filter.as_ref().map(to_json);
    let filter = match filter {
        Some(Value::Object(operators)) => operators
            .into_iter()
            .map(|(operator, operand)| {
                let value = Any {
                    type_url: String::new(),
                    value: operand.to_string().into_bytes(),
                };
                (operator, value)
            })
            .collect(),
        _ => HashMap::new(),
    };
    pb::Query {
        filter,
        sort: query
            .sort
            .iter()
            .map(|key| pb::Sorting {
                key: key.key.clone(),
                order: match key.order {
                    SortOrder::Asc => pb::sorting::Order::Asc,
                    SortOrder::Desc => pb::sorting::Order::Desc,
                }
                .into(),
            })
            .collect(),
        pagination: Some(pb::Pagination {
            limit: query.page.limit.into(),
            token: query.page.token.clone(),
        }),
    }
}

/// The query that was sent.
///
/// # Errors
/// `InvalidRequest` with upstream's text.
pub(crate) fn from_wire(query: pb::Query) -> Result<Query, Error> {
    let mut filter = serde_json::Map::new();
    for (operator, operand) in query.filter {
        let operand: Value =
            serde_json::from_slice(&operand.value).map_err(|error| Error::invalid(error.to_string()))?;
        filter.insert(operator, operand);
    }
    let parsed = Query::from_json(json!({ "filter": filter }).to_string().as_bytes())?;
    let pagination = query.pagination.unwrap_or_default();
    Ok(Query {
        filter: parsed.filter,
        sort: query
            .sort
            .into_iter()
            .map(|sorting| SortKey {
                order: match sorting.order() {
                    pb::sorting::Order::Asc => SortOrder::Asc,
                    pb::sorting::Order::Desc => SortOrder::Desc,
                },
                key: sorting.key,
            })
            .collect(),
        page: Page {
            limit: u32::try_from(pagination.limit.max(0)).unwrap_or(u32::MAX),
            token: pagination.token,
        },
    })
}

fn to_json(filter: &Filter) -> Value {
    let one = |name: &str, field: &str, value: Value| json!({ name: { field: value } });
    match filter {
        Filter::Eq(field, value) => one("EQ", field, value.clone()),
        Filter::Neq(field, value) => one("NEQ", field, value.clone()),
        Filter::Gt(field, value) => one("GT", field, value.clone()),
        Filter::Gte(field, value) => one("GTE", field, value.clone()),
        Filter::Lt(field, value) => one("LT", field, value.clone()),
        Filter::Lte(field, value) => one("LTE", field, value.clone()),
        Filter::In(field, values) => one("IN", field, values.clone().into()),
        Filter::And(filters) => json!({ "AND": filters.iter().map(to_json).collect::<Vec<_>>() }),
        Filter::Or(filters) => json!({ "OR": filters.iter().map(to_json).collect::<Vec<_>>() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_survive_the_wire() {
        let text = br#"{"filter":{"AND":[{"OR":[{"EQ":{"a.b":1}},{"NEQ":{"a":"x"}}]},{"IN":{"c":["x",2]}},
            {"GT":{"d":1}},{"GTE":{"d":1}},{"LT":{"d":9}},{"LTE":{"d":9}}]},
            "sort":[{"key":"a","order":"DESC"},{"key":"b"}],"page":{"limit":2,"token":"t"}}"#;
        let query = Query::from_json(text).unwrap();
        let back = from_wire(to_wire(&query)).unwrap();
        assert_eq!(format!("{query:?}"), format!("{back:?}"));
        let empty = from_wire(to_wire(&Query::default())).unwrap();
        assert!(empty.filter.is_none());
    }
}
