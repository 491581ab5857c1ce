//! Table names from metadata. SQL has no parameters for them, so they are checked before they become part of it.

use outrigger_component::Error;

/// A table name, perhaps with a schema: parts joined by dots, each plain (folded to lower case by the server, as
/// with upstream, which writes them as they come) or in double quotes.
///
/// # Errors
/// A configuration error that names the metadata field.
pub(crate) fn table(field: &str, text: &str) -> Result<String, Error> {
    let wrong = || {
        Error::configuration(format!(
            "invalid value for '{field}': {text:?} is not a table name"
        ))
    };
    let mut parts = 0;
    let mut rest = text;
    loop {
        parts += 1;
        let end = part(rest).ok_or_else(wrong)?;
        if end == rest.len() {
            break;
        }
        rest = rest[end..].strip_prefix('.').ok_or_else(wrong)?;
    }
    // database.schema.table is the longest form there is.
    if parts > 3 {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// Where the first part ends.
fn part(text: &str) -> Option<usize> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut bytes = quoted.bytes().enumerate().peekable();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                0 => return None,
                b'"' if bytes.peek().is_some_and(|(_, next)| *next == b'"') => {
                    bytes.next();
                }
                b'"' => return (at > 0).then_some(at + 2),
                _ => {}
            }
        }
        return None;
    }
    let first = text.chars().next()?;
    if !(first.is_alphabetic() || first == '_') {
        return None;
    }
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
        .unwrap_or(text.len());
    Some(end)
}

/// Whether the name has a schema.
pub(crate) fn is_qualified(table: &str) -> bool {
    part(table).is_some_and(|end| end < table.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_pass() {
        for name in ["state", "public.State_2", r#""My ""table""".x"#, "a.b.c", "tä$"] {
            assert_eq!(table("tableName", name).unwrap(), name);
        }
        for name in [
            "",
            ".",
            "a.",
            "a b",
            "a;drop table b",
            "2a",
            r#""a"#,
            r#""""#,
            "a.b.c.d",
            "a-b",
            r#"a"b""#,
        ] {
            let error = table("tableName", name).unwrap_err().to_string();
            assert!(error.starts_with("invalid value for 'tableName': "), "{error}");
        }
        assert!(is_qualified("a.b") && is_qualified(r#""a".b"#) && !is_qualified(r#""a.b""#));
    }
}
