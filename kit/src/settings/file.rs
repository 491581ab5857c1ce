//! The settings file: one flat mapping, in YAML or in JSON, which YAML contains.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr_parser::{Event, Parser};

/// A settings file is a page of text.
const MAX_SIZE: u64 = 1 << 20;

/// Reads the file as names and values.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let problem = |error: &dyn std::fmt::Display| format!("settings file {}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(|error| problem(&error))?.len();
    if size > MAX_SIZE {
        return Err(problem(&format!("longer than {MAX_SIZE} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| problem(&error))?;
    parse(&text).map_err(|error| problem(&error))
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    let mut name: Option<String> = None;
    let mut inside = false;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let line = span.start.line();
        match event {
            Event::MappingStart(..) if !inside => inside = true,
            Event::MappingEnd => inside = false,
            Event::Scalar(value, ..) if inside => match name.take() {
                None => name = Some(value.into_owned()),
                Some(name) => {
                    if values.insert(name.clone(), value.into_owned()).is_some() {
                        return Err(format!("line {line}: {name:?} stands twice"));
                    }
                }
            },
            Event::Scalar(value, ..) if value.is_empty() || &*value == "~" => {}
            Event::MappingStart(..) | Event::SequenceStart(..) | Event::Scalar(..) | Event::Alias(_) => {
                return Err(format!(
                    "line {line}: only names with plain values may stand here"
                ));
            }
            _ => {}
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_mappings_are_read() {
        let values = parse("# comment\nHttpPort: 8080\npubsubName: \"my pubsub\"\n").unwrap();
        assert_eq!(values["HttpPort"], "8080");
        assert_eq!(values["pubsubName"], "my pubsub");
        assert_eq!(parse("{\"a\": \"b\", \"c\": 1}").unwrap()["c"], "1");
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        for text in ["a: [1]", "a: {b: c}", "- a", "a: 1\na: 2", "text", "a: \"open"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
