//! Queries over documents in memory: for stores whose backend cannot search.

use std::cmp::Ordering;

use outrigger_component::Error;
use serde_json::Value as Json;

use crate::{Filter, Query, QueryItem, QueryResult, SortOrder};

/// Runs a query over all items of a store, given in a stable order. Items that are no JSON documents are only found
/// by a query without filter. The token is the number of items already given, as upstream's stores write it.
///
/// # Errors
/// `InvalidRequest` when the token is no number or an order is asked of strings with `GT` and its like.
pub fn search(items: impl IntoIterator<Item = QueryItem>, query: &Query) -> Result<QueryResult, Error> {
    let skip: usize = match query.page.token.as_str() {
        "" => 0,
        token => token
            .parse()
            .map_err(|_| Error::invalid(format!("invalid page token {token:?}")))?,
    };
    let mut found: Vec<(QueryItem, Vec<Json>)> = Vec::new();
    for item in items {
        let document: Json = serde_json::from_slice(&item.data).unwrap_or(Json::Null);
        if query
            .filter
            .as_ref()
            .is_none_or(|filter| holds(filter, &document))
        {
            let sort_values = query
                .sort
                .iter()
                .map(|key| field(&document, &key.key).cloned().unwrap_or_default());
            let sort_values = sort_values.collect();
            found.push((item, sort_values));
        }
    }
    // Stable: equal items keep the store's order, so pages do not overlap.
    found.sort_by(|(_, left), (_, right)| {
        let pairs = left.iter().zip(right).zip(&query.sort);
        pairs.fold(Ordering::Equal, |so_far, ((left, right), key)| {
            so_far.then_with(|| {
                let order = compare(left, right);
                if key.order == SortOrder::Desc {
                    order.reverse()
                } else {
                    order
                }
            })
        })
    });
    let total = found.len();
    let limit = if query.page.limit == 0 {
        usize::MAX
    } else {
        query.page.limit as usize
    };
    let items: Vec<_> = found
        .into_iter()
        .map(|(item, _)| item)
        .skip(skip)
        .take(limit)
        .collect();
    let end = skip.saturating_add(items.len());
    let token = if end < total && !items.is_empty() {
        end.to_string()
    } else {
        String::new()
    };
    Ok(QueryResult {
        items,
        token,
        ..QueryResult::default()
    })
}

/// Whether the condition holds; comparing with a field that is not there never does.
fn holds(filter: &Filter, document: &Json) -> bool {
    let with = |path: &str, test: &dyn Fn(&Json) -> bool| field(document, path).is_some_and(test);
    let ordered = |path: &str, value: &Json, test: fn(Ordering) -> bool| {
        with(path, &|found| {
            same_kind(found, value) && test(compare(found, value))
        })
    };
    match filter {
        Filter::Eq(path, value) => with(path, &|found| equal(found, value)),
        Filter::Neq(path, value) => with(path, &|found| !equal(found, value)),
        Filter::Gt(path, value) => ordered(path, value, Ordering::is_gt),
        Filter::Gte(path, value) => ordered(path, value, Ordering::is_ge),
        Filter::Lt(path, value) => ordered(path, value, Ordering::is_lt),
        Filter::Lte(path, value) => ordered(path, value, Ordering::is_le),
        Filter::In(path, values) => with(path, &|found| values.iter().any(|value| equal(found, value))),
        Filter::And(filters) => filters.iter().all(|filter| holds(filter, document)),
        Filter::Or(filters) => filters.iter().any(|filter| holds(filter, document)),
    }
}

fn field<'a>(document: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(document, |at, name| match at {
        Json::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    })
}

fn same_kind(left: &Json, right: &Json) -> bool {
    rank(left) == rank(right)
}

fn equal(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(_), Json::Number(_)) => compare(left, right).is_eq(),
        _ => left == right,
    }
}

/// A total order: by kind, then by value; arrays and objects are equal among themselves.
fn compare(left: &Json, right: &Json) -> Ordering {
    match (left, right) {
        (Json::Number(l), Json::Number(r)) => match (l.as_i64(), r.as_i64()) {
            (Some(l), Some(r)) => l.cmp(&r),
            _ => l
                .as_f64()
                .unwrap_or_default()
                .total_cmp(&r.as_f64().unwrap_or_default()),
        },
        (Json::String(l), Json::String(r)) => l.cmp(r),
        (Json::Bool(l), Json::Bool(r)) => l.cmp(r),
        _ => rank(left).cmp(&rank(right)),
    }
}

fn rank(value: &Json) -> u8 {
    match value {
        Json::Null => 0,
        Json::Bool(_) => 1,
        Json::Number(_) => 2,
        Json::String(_) => 3,
        Json::Array(_) => 4,
        Json::Object(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use outrigger_types::StateKey;

    use super::*;

    fn keys(query: &str) -> Vec<String> {
        let items = [
            r#"{"state":"CA","person":{"org":"A","id":3}}"#,
            r#"{"state":"WA","person":{"org":"B","id":1.5}}"#,
            r#"{"state":"CA","person":{"org":"B","id":2}}"#,
            "not json",
        ];
        let items = items.iter().enumerate().map(|(at, data)| QueryItem {
            key: StateKey::from(at.to_string()),
            data: Bytes::from_static(data.as_bytes()),
            etag: None,
        });
        let query = Query::from_json(query.as_bytes()).unwrap();
        search(items, &query)
            .unwrap()
            .items
            .into_iter()
            .map(|item| item.key.as_str().to_owned())
            .collect()
    }

    #[test]
    fn filters_sort_and_page() {
        assert_eq!(keys("{}"), ["0", "1", "2", "3"]);
        assert_eq!(keys(r#"{"filter":{"EQ":{"state":"CA"}}}"#), ["0", "2"]);
        assert_eq!(keys(r#"{"filter":{"NEQ":{"state":"CA"}}}"#), ["1"]);
        assert_eq!(keys(r#"{"filter":{"GTE":{"person.id":2}}}"#), ["0", "2"]);
        assert_eq!(keys(r#"{"filter":{"LT":{"person.id":2}}}"#), ["1"]);
        assert_eq!(
            keys(
                r#"{"filter":{"AND":[{"IN":{"state":["CA","WA"]}},{"EQ":{"person.org":"B"}}]},"sort":[{"key":"person.id","order":"DESC"}]}"#
            ),
            ["2", "1"]
        );
        assert_eq!(
            keys(
                r#"{"filter":{"OR":[{"EQ":{"person.id":3}},{"EQ":{"person.id":1.5}}]},"sort":[{"key":"person.id"}]}"#
            ),
            ["1", "0"]
        );
        assert_eq!(keys(r#"{"page":{"limit":2,"token":"1"}}"#), ["1", "2"]);
    }
}
