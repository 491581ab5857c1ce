//! Queries as RediSearch takes them (components-contrib `state/redis/redis_query.go`).

use outrigger_component::{Error, Metadata};
use outrigger_state::{Etag, Filter, Query, QueryItem, QueryResult, SortOrder};
use redis::{Cmd, Value};
use serde_json::Value as Json;

use super::schema::{Schema, Schemas};

/// The request metadata that names the index.
const INDEX: &str = "queryIndexName";

/// The command and where its page begins.
pub(super) fn command(schemas: &Schemas, query: &Query, metadata: &Metadata) -> Result<(Cmd, u64), Error> {
    let name = metadata
        .get(INDEX)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::invalid("query index not found"))?;
    let schema = schemas
        .get(name)
        .ok_or_else(|| Error::invalid(format!("query index schema {name:?} not found")))?;
    let filter = match &query.filter {
        None => "*".to_owned(),
        // The outermost one stands without parentheses unless it is a list.
        Some(filter) => condition(schema, filter)?,
    };
    let mut command = redis::cmd("FT.SEARCH");
    command.arg(name.as_str()).arg(filter);
    match &query.sort[..] {
        [] => {}
        [key] => {
            command.arg("SORTBY").arg(alias(schema, &key.key)?);
            if key.order == SortOrder::Desc {
                command.arg("DESC");
            }
        }
        _ => {
            return Err(Error::invalid(
                "multiple SORTBY steps are not allowed. Sort multiple fields in a single step",
            ));
        }
    }
    let mut offset = 0;
    if query.page.limit > 0 {
        if !query.page.token.is_empty() {
            offset = query.page.token.parse().map_err(|_| {
                Error::invalid(format!(
                    "strconv.ParseInt: parsing {:?}: invalid syntax",
                    query.page.token
                ))
            })?;
        }
        command.arg("LIMIT").arg(offset).arg(query.page.limit);
    }
    command.arg("RETURN").arg(2).arg("$.data").arg("$.version");
    Ok((command, offset))
}

fn alias(schema: &Schema, path: &str) -> Result<String, Error> {
    schema
        .alias(path)
        .ok_or_else(|| Error::invalid(format!("JSON path {path:?} is not indexed")))
}

fn condition(schema: &Schema, filter: &Filter) -> Result<String, Error> {
    let range = |path: &str, value: &Json, render: fn(&str) -> String| {
        if let Json::String(text) = value {
            return Err(Error::invalid(format!(
                "unsupported type of value {text}; string type not permitted"
            )));
        }
        Ok(format!("@{}:{}", alias(schema, path)?, render(&number(value))))
    };
    match filter {
        Filter::Eq(path, value) | Filter::Neq(path, value) => equal(schema, path, value),
        Filter::Gt(path, value) => range(path, value, |value| format!("[({value} +inf]")),
        Filter::Gte(path, value) => range(path, value, |value| format!("[{value} +inf]")),
        Filter::Lt(path, value) => range(path, value, |value| format!("[-inf ({value}]")),
        Filter::Lte(path, value) => range(path, value, |value| format!("[-inf {value}]")),
        Filter::In(path, values) => one_of(schema, path, values),
        Filter::And(filters) => list(schema, " ", filters),
        Filter::Or(filters) => list(schema, "|", filters),
    }
}

fn equal(schema: &Schema, path: &str, value: &Json) -> Result<String, Error> {
    let alias = alias(schema, path)?;
    Ok(match value {
        Json::String(text) => format!("@{alias}:({text})"),
        value => {
            let value = number(value);
            format!("@{alias}:[{value} {value}]")
        }
    })
}

fn one_of(schema: &Schema, path: &str, values: &[Json]) -> Result<String, Error> {
    if values.len() < 2 {
        return Err(Error::invalid(format!(
            "too few values in IN operator for key {path:?}"
        )));
    }
    if values[0].is_string() {
        let texts: Vec<_> = values.iter().filter_map(Json::as_str).collect();
        return Ok(format!("@{}:({})", alias(schema, path)?, texts.join("|")));
    }
    let each: Vec<_> = values
        .iter()
        .map(|value| Filter::Eq(path.to_owned(), value.clone()))
        .collect();
    list(schema, "|", &each)
}

fn list(schema: &Schema, operator: &str, filters: &[Filter]) -> Result<String, Error> {
    let parts: Vec<_> = filters
        .iter()
        .map(|filter| {
            let text = condition(schema, filter)?;
            Ok(match filter {
                Filter::And(_) | Filter::Or(_) => text,
                Filter::Neq(..) => format!("-({text})"),
                _ => format!("({text})"),
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok(format!("({})", parts.join(operator)))
}

/// Numbers as Go's `%f` writes them: JSON's are all floats there.
fn number(value: &Json) -> String {
    value
        .as_f64()
        .map_or_else(|| value.to_string(), |number| format!("{number:.6}"))
}

/// Reads `[total, key, [path, value, …], …]`.
pub(super) fn result(answer: Value, offset: u64, limited: bool) -> Result<QueryResult, Error> {
    let invalid = || Error::internal("invalid output");
    let Value::Array(parts) = answer else {
        return Err(invalid());
    };
    let mut items = Vec::with_capacity(parts.len() / 2);
    for pair in parts.get(1..).unwrap_or_default().chunks(2) {
        let [Value::BulkString(key), Value::Array(fields)] = pair else {
            return Err(invalid());
        };
        let (mut data, mut etag) = (Vec::new(), None);
        for field in fields.chunks(2) {
            match field {
                [Value::BulkString(name), Value::BulkString(value)] if name == b"$.data" => {
                    data.clone_from(value);
                }
                [Value::BulkString(name), Value::BulkString(value)] if name == b"$.version" => {
                    etag = Some(Etag::new(String::from_utf8_lossy(value)));
                }
                _ => {}
            }
        }
        items.push(QueryItem {
            key: String::from_utf8_lossy(key).into_owned().into(),
            data: data.into(),
            etag,
        });
    }
    let token = if limited && !items.is_empty() {
        (offset + items.len() as u64).to_string()
    } else {
        String::new()
    };
    Ok(QueryResult {
        items,
        token,
        ..QueryResult::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(query: &str) -> Result<String, String> {
        let text = r#"[{"name":"i","indexes":[{"key":"org","type":"TEXT"},{"key":"id","type":"NUMERIC"}]}]"#;
        let schemas = Schemas::parse(text).unwrap();
        let metadata = Metadata::from([(INDEX.to_owned(), "i".to_owned())]);
        let query = Query::from_json(query.as_bytes()).unwrap();
        let (command, _) =
            command(&schemas, &query, &metadata).map_err(|error| error.message().to_owned())?;
        let packed = String::from_utf8(command.get_packed_command()).unwrap();
        let words: Vec<_> = packed.lines().skip(6).step_by(2).collect();
        Ok(words.join(" "))
    }

    #[test]
    fn filters_become_search_terms() {
        for (query, expected) in [
            ("{}", "* RETURN 2 $.data $.version"),
            (
                r#"{"filter":{"EQ":{"org":"A"}}}"#,
                "@var0:(A) RETURN 2 $.data $.version",
            ),
            (
                r#"{"filter":{"AND":[{"EQ":{"id":2}},{"NEQ":{"org":"B"}},{"OR":[{"GT":{"id":1}},{"LTE":{"id":5}}]}]}}"#,
                "((@var1:[2.000000 2.000000]) -(@var0:(B)) ((@var1:[(1.000000 +inf])|(@var1:[-inf 5.000000]))) \
                 RETURN 2 $.data $.version",
            ),
            (
                r#"{"filter":{"IN":{"org":["A","B"]}},"sort":[{"key":"id","order":"DESC"}],"page":{"limit":2,"token":"4"}}"#,
                "@var0:(A|B) SORTBY var1 DESC LIMIT 4 2 RETURN 2 $.data $.version",
            ),
        ] {
            assert_eq!(words(query).unwrap(), expected, "{query}");
        }
        assert_eq!(
            words(r#"{"filter":{"EQ":{"x":1}}}"#).unwrap_err(),
            "JSON path \"x\" is not indexed"
        );
    }

    #[test]
    fn answers_become_items_and_a_token() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = ["$.data", "{}", "$.version", "3"].map(bulk);
        let answer = Value::Array(vec![Value::Int(9), bulk("k"), Value::Array(fields.into())]);
        let found = result(answer, 4, true).unwrap();
        assert_eq!((found.items[0].key.as_str(), found.token.as_str()), ("k", "5"));
        assert_eq!(found.items[0].etag.as_ref().unwrap().as_str(), "3");
    }
}
