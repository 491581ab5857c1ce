//! Statements with their parameters, in all three ways they travel.

use std::fmt::Write as _;

use outrigger_component::Error;
use tokio_postgres::{
    SimpleQueryMessage, SimpleQueryRow,
    types::{FromSql, ToSql, Type},
};

use crate::connection::ExecMode;

/// A parameter. Only types that every way of travelling has.
#[derive(Debug)]
pub(crate) enum Param<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Bool(bool),
    /// `NULL` where absent.
    Int(Option<i64>),
    Texts(Vec<&'a str>),
    ByteStrings(Vec<&'a [u8]>),
    Bools(Vec<bool>),
    Ints(Vec<Option<i64>>),
}

impl Param<'_> {
    fn value(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(value) => value,
            Self::Bytes(value) => value,
            Self::Bool(value) => value,
            Self::Int(value) => value,
            Self::Texts(value) => value,
            Self::ByteStrings(value) => value,
            Self::Bools(value) => value,
            Self::Ints(value) => value,
        }
    }

    fn kind(&self) -> Type {
        match self {
            Self::Text(_) => Type::TEXT,
            Self::Bytes(_) => Type::BYTEA,
            Self::Bool(_) => Type::BOOL,
            Self::Int(_) => Type::INT8,
            Self::Texts(_) => Type::TEXT_ARRAY,
            Self::ByteStrings(_) => Type::BYTEA_ARRAY,
            Self::Bools(_) => Type::BOOL_ARRAY,
            Self::Ints(_) => Type::INT8_ARRAY,
        }
    }

    /// Writes it as SQL.
    fn literal(&self, out: &mut String) {
        fn array<T>(out: &mut String, items: &[T], kind: &str, mut one: impl FnMut(&mut String, &T)) {
            out.push_str("ARRAY[");
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                one(out, item);
            }
            let _ = write!(out, "]::{kind}[]");
        }
        match self {
            Self::Text(value) => {
                quote(out, value);
                out.push_str("::text");
            }
            Self::Bytes(value) => bytes(out, value),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => int(out, *value),
            Self::Texts(values) => array(out, values, "text", |out, value| quote(out, value)),
            Self::ByteStrings(values) => array(out, values, "bytea", |out, value| bytes(out, value)),
            Self::Bools(values) => array(out, values, "bool", |out, value| {
                out.push_str(if *value { "true" } else { "false" });
            }),
            Self::Ints(values) => array(out, values, "int8", |out, value| int(out, *value)),
        }
    }
}

/// A text in quotes that means the same whatever `standard_conforming_strings` says (as libpq's `PQescapeLiteral`).
fn quote(out: &mut String, text: &str) {
    // The blank keeps the prefix apart from a word before it.
    out.push_str(if text.contains('\\') { " E'" } else { "'" });
    for c in text.chars() {
        if c == '\'' || c == '\\' {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
}

fn bytes(out: &mut String, bytes: &[u8]) {
    out.push_str(" E'\\\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push_str("'::bytea");
}

fn int(out: &mut String, value: Option<i64>) {
    match value {
        Some(value) => {
            let _ = write!(out, "({value})::int8");
        }
        None => out.push_str("NULL::int8"),
    }
}

/// Puts the parameters into the text. The statements of this crate have `$` only before the number of a parameter.
fn inline(sql: &str, params: &[Param<'_>]) -> String {
    let mut out = String::with_capacity(sql.len() + 64);
    let mut rest = sql;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let digits = &rest[at + 1..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let number: Option<usize> = digits[..end].parse().ok();
        match number.and_then(|number| params.get(number.checked_sub(1)?)) {
            Some(param) => param.literal(&mut out),
            None => out.push_str(&rest[at..=at + end]),
        }
        rest = &digits[end..];
    }
    out.push_str(rest);
    out
}

/// A row; its columns are of the types text, bytea, bool and int8 whichever way it came.
#[derive(Debug)]
pub(crate) enum Row {
    Binary(tokio_postgres::Row),
    Text(SimpleQueryRow),
}

/// A column is not what this crate's own statements ask for: a table made by somebody else.
fn unexpected(column: usize) -> Error {
    Error::internal(format!(
        "column {column} of the answer is not of the expected type"
    ))
}

impl Row {
    /// A text; `None` for `NULL`.
    pub(crate) fn text(&self, column: usize) -> Result<Option<&str>, Error> {
        match self {
            Self::Binary(row) => binary(row, column),
            Self::Text(row) => row.try_get(column).map_err(|_| unexpected(column)),
        }
    }

    /// A text that is not `NULL`.
    pub(crate) fn required_text(&self, column: usize) -> Result<&str, Error> {
        self.text(column)?.ok_or_else(|| unexpected(column))
    }

    /// Bytes that are not `NULL`.
    pub(crate) fn bytes(&self, column: usize) -> Result<Vec<u8>, Error> {
        match self {
            Self::Binary(row) => binary::<&[u8]>(row, column)?.map(<[u8]>::to_vec),
            Self::Text(row) => row
                .try_get(column)
                .map_err(|_| unexpected(column))?
                .and_then(unhex),
        }
        .ok_or_else(|| unexpected(column))
    }

    /// A truth value; `NULL` is false.
    pub(crate) fn bool(&self, column: usize) -> Result<bool, Error> {
        match self {
            Self::Binary(row) => Ok(binary(row, column)?.unwrap_or_default()),
            Self::Text(_) => Ok(self.text(column)? == Some("t")),
        }
    }

    /// A number; `None` for `NULL`.
    pub(crate) fn int(&self, column: usize) -> Result<Option<i64>, Error> {
        match self {
            Self::Binary(row) => binary(row, column),
            Self::Text(_) => self
                .text(column)?
                .map(|text| text.parse().map_err(|_| unexpected(column)))
                .transpose(),
        }
    }
}

fn binary<'a, T: FromSql<'a>>(row: &'a tokio_postgres::Row, column: usize) -> Result<Option<T>, Error> {
    row.try_get(column).map_err(|_| unexpected(column))
}

/// `\x…` of `bytea_output = hex`.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if digits.len() % 2 != 0 {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}

/// Prepares a statement, unless it is.
pub(crate) async fn prepare(
    client: &deadpool_postgres::ClientWrapper,
    sql: &str,
    params: &[Param<'_>],
) -> Result<tokio_postgres::Statement, tokio_postgres::Error> {
    let kinds: Vec<Type> = params.iter().map(Param::kind).collect();
    client.prepare_typed_cached(sql, &kinds).await
}

/// Runs a statement without parameters and rows, such as `COMMIT`.
pub(crate) async fn command(
    client: &deadpool_postgres::ClientWrapper,
    sql: &str,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(sql).await
}

/// Runs one statement on a connection and answers its rows.
pub(crate) async fn run(
    client: &deadpool_postgres::ClientWrapper,
    mode: ExecMode,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let rows = match mode {
        ExecMode::Prepared => {
            let statement = prepare(client, sql, params).await?;
            let values: Vec<_> = params.iter().map(Param::value).collect();
            client.query(&statement, &values).await?
        }
        ExecMode::Unnamed => {
            let values: Vec<_> = params.iter().map(|param| (param.value(), param.kind())).collect();
            client.query_typed(sql, &values).await?
        }
        ExecMode::Simple => {
            let messages = client.simple_query(&inline(sql, params)).await?;
            let rows = messages.into_iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(Row::Text(row)),
                _ => None,
            });
            return Ok(rows.collect());
        }
    };
    Ok(rows.into_iter().map(Row::Binary).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_quotes() {
        let text = inline(
            "SELECT $1, $2, $3, $10, $4",
            &[
                Param::Text(r"a' \'; --"),
                Param::Bytes(&[0, 255]),
                Param::Int(Some(-5)),
                Param::Texts(vec!["$1", "x"]),
            ],
        );
        assert_eq!(
            text,
            r"SELECT  E'a'' \\''; --'::text,  E'\\x00ff'::bytea, (-5)::int8, $10, ARRAY['$1','x']::text[]"
        );
    }

    #[test]
    fn hex_is_read() {
        assert_eq!(unhex("\\x00ff"), Some(vec![0, 255]));
        assert_eq!(unhex("\\x"), Some(Vec::new()));
        for text in ["", "00", "\\x0", "\\xzz"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
