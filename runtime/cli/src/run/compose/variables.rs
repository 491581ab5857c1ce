//! `${VARIABLE:-default}` in the values of a Compose file (Compose specification, "Interpolation").

use anyhow::{Result, bail};
use outrigger_resources::yaml::{Content, Node};
use outrigger_types::Environment;

/// Replaces variables in every value of a tree. Keys stay as they are.
pub(super) fn interpolate(node: &mut Node, environment: &Environment, unset: &mut Vec<String>) -> Result<()> {
    let line = node.at.line;
    match &mut node.content {
        Content::Scalar { text, .. } => {
            if text.contains('$') {
                match replace(text, environment, unset) {
                    Ok(replaced) => *text = replaced,
                    Err(error) => bail!("line {line}: {error}"),
                }
            }
        }
        Content::Sequence(items) => {
            for item in items {
                interpolate(item, environment, unset)?;
            }
        }
        Content::Mapping(mapping) => {
            for entry in &mut mapping.entries {
                interpolate(&mut entry.value, environment, unset)?;
            }
        }
    }
    Ok(())
}

fn replace(text: &str, environment: &Environment, unset: &mut Vec<String>) -> Result<String> {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        replaced.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            replaced.push('$');
            rest = after;
        } else if let Some(braced) = after.strip_prefix('{') {
            let Some(end) = closing(braced) else {
                bail!("invalid interpolation format for {text:?}: a brace is not closed");
            };
            replaced.push_str(&braces(&braced[..end], environment, unset)?);
            rest = &braced[end + 1..];
        } else {
            let end = name_end(after);
            if end == 0 {
                bail!("invalid interpolation format for {text:?}: write $$ for a dollar sign");
            }
            replaced.push_str(&value(&after[..end], environment, unset));
            rest = &after[end..];
        }
    }
    replaced.push_str(rest);
    Ok(replaced)
}

/// The brace that ends what has begun before; defaults may have braces of their own.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn name_end(text: &str) -> usize {
    text.find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .unwrap_or(text.len())
}

/// What stands in braces: a name, and what to do when it is not set (`-`, `?`, `+`) or empty too (with a colon).
fn braces(text: &str, environment: &Environment, unset: &mut Vec<String>) -> Result<String> {
    let (name, operation) = text.split_at(name_end(text));
    if name.is_empty() {
        bail!("invalid interpolation format: ${{{text}}} names no variable");
    }
    let (or_empty, operation) = match operation.strip_prefix(':') {
        Some(operation) => (true, operation),
        None => (false, operation),
    };
    let found = environment
        .get(name)
        .filter(|value| !(or_empty && value.is_empty()));
    let mut characters = operation.chars();
    match characters.next() {
        None if !or_empty => Ok(value(name, environment, unset)),
        Some('-') => match found {
            Some(found) => Ok(found.to_owned()),
            None => replace(characters.as_str(), environment, unset),
        },
        Some('?') => match found {
            Some(found) => Ok(found.to_owned()),
            None => bail!("the variable {name} is missing: {}", characters.as_str()),
        },
        Some('+') => match found {
            Some(_) => replace(characters.as_str(), environment, unset),
            None => Ok(String::new()),
        },
        _ => bail!("invalid interpolation format: ${{{text}}}"),
    }
}

fn value(name: &str, environment: &Environment, unset: &mut Vec<String>) -> String {
    match environment.get(name) {
        Some(value) => value.to_owned(),
        None => {
            if !unset.iter().any(|known| known == name) {
                unset.push(name.to_owned());
            }
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::from_pairs([
            ("SET".to_owned(), "here".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ])
    }

    #[test]
    fn variables_are_replaced_as_compose_does() {
        for (text, wanted) in [
            ("a ${SET} b", "a here b"),
            ("$SET/x", "here/x"),
            ("${SET:-other}", "here"),
            ("${EMPTY:-other}", "other"),
            ("${EMPTY-other}", ""),
            ("${NONE:-}", ""),
            ("${NONE-a:b}", "a:b"),
            ("${NONE:-${SET}}", "here"),
            ("${SET:+yes}${NONE:+no}", "yes"),
            ("${SET:?why}", "here"),
            ("$$SET", "$SET"),
            ("no variables", "no variables"),
        ] {
            let mut unset = Vec::new();
            assert_eq!(
                replace(text, &environment(), &mut unset).unwrap(),
                wanted,
                "{text}"
            );
            assert!(unset.is_empty(), "{text}");
        }
        let mut unset = Vec::new();
        assert_eq!(replace("${NONE}$NONE", &environment(), &mut unset).unwrap(), "");
        assert_eq!(unset, ["NONE"], "told once");
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error() {
        for (text, wanted) in [
            ("${SET", "a brace is not closed"),
            ("${}", "names no variable"),
            ("${SET:}", "${SET:}"),
            ("$ 5", "write $$ for a dollar sign"),
            ("${NONE:?say it}", "the variable NONE is missing: say it"),
        ] {
            let error = replace(text, &environment(), &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains(wanted), "{text}: {error}");
        }
    }
}
