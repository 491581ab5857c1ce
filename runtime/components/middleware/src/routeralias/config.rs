//! Metadata of `middleware.http.routeralias`.

use std::borrow::Cow;

use outrigger_component::{Error, Properties};
use saphyr_parser::{Event, Parser, ScalarStyle};

/// The metadata, read: templates and the paths they stand for, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterAliasConfig {
    /// Pairs of a template (`/v1.0/hello/{name}`) and the path behind it.
    pub routes: Vec<(String, String)>,
}

impl RouterAliasConfig {
    /// Reads the metadata: either `routes`, a flat map in JSON or YAML, or, deprecated, one property per route.
    ///
    /// # Errors
    /// When `routes` is no flat map, or a single route has an empty side.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let count = properties.iter().count();
        match properties.non_empty("routes") {
            _ if count == 0 => Ok(Self::default()),
            Some(routes) if count == 1 => flat_map(routes).map(|routes| Self { routes }).map_err(|reason| {
                Error::configuration(format!(
                    "failed to decode 'routes' property as JSON or YAML: {reason}"
                ))
            }),
            _ => {
                tracing::warn!(
                    "listing routes as key-value pairs is deprecated; use the 'routes' property instead"
                );
                let mut routes = Vec::with_capacity(count);
                for (template, path) in properties.iter() {
                    if template.is_empty() || path.is_empty() {
                        return Err(Error::configuration(
                            "invalid key/value pair in metadata: must not be empty",
                        ));
                    }
                    routes.push((template.to_owned(), path.to_owned()));
                }
                Ok(Self { routes })
            }
        }
    }
}

/// A map from texts to texts; JSON is YAML.
fn flat_map(text: &str) -> Result<Vec<(String, String)>, Cow<'static, str>> {
    let mut pairs = Vec::new();
    let mut key = None;
    let mut inside = false;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, _) = event.map_err(|error| error.to_string())?;
        match event {
            Event::MappingStart(..) if !inside => inside = true,
            Event::Scalar(text, style, ..) if inside => {
                let null =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let text = if null { String::new() } else { text.into_owned() };
                match key.take() {
                    None => key = Some(text),
                    Some(key) => pairs.push((key, text)),
                }
            }
            Event::Scalar(text, ..) if text.is_empty() || &*text == "null" => {}
            Event::MappingStart(..) | Event::SequenceStart(..) | Event::Scalar(..) | Event::Alias(_) => {
                return Err("it must be a map of texts".into());
            }
            Event::StreamEnd => break,
            _ => {}
        }
    }
    Ok(pairs)
}
