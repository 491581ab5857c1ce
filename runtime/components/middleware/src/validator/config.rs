//! Metadata of `middleware.http.validator`.

use http::Method;
use outrigger_component::{Error, Properties};
use serde::Deserialize;
use serde_json::Value;

/// Larger JSON bodies are refused (Dapr's default bound of a request).
pub(super) const DEFAULT_MAX_BODY: usize = 4 << 20;

/// The metadata, read.
#[derive(Debug, Clone)]
pub struct ValidatorConfig {
    /// The component's name, for its answers.
    pub name: String,
    /// `schemas`: what is checked; the first rule that fits a request counts.
    pub rules: Vec<SchemaRule>,
    /// `maxBodySize`, in bytes.
    pub max_body: usize,
}

/// One entry of `schemas`.
#[derive(Debug, Clone)]
pub struct SchemaRule {
    /// A template such as `/v1.0/invoke/shop/method/orders/{id}`.
    pub path: String,
    /// The methods; POST, PUT and PATCH unless said otherwise.
    pub methods: Vec<Method>,
    /// The schema.
    pub schema: SchemaSource,
}

/// Where a schema is.
#[derive(Debug, Clone)]
pub enum SchemaSource {
    /// `schema`: it stands in the metadata.
    Inline(Value),
    /// `schemaFile`: a file, relative to the host's base folder.
    File(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    path: String,
    #[serde(default)]
    methods: Vec<String>,
    schema: Option<Value>,
    schema_file: Option<String>,
}

impl ValidatorConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When `schemas` is no list of rules.
    pub fn parse(name: &str, properties: &Properties) -> Result<Self, Error> {
        let invalid = |reason: String| Error::configuration(format!("metadata property 'schemas': {reason}"));
        let entries: Vec<Entry> = match properties.non_empty("schemas") {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?,
        };
        let rules = entries
            .into_iter()
            .map(|entry| {
                let methods = if entry.methods.is_empty() {
                    vec![Method::POST, Method::PUT, Method::PATCH]
                } else {
                    entry
                        .methods
                        .iter()
                        .map(|method| Method::from_bytes(method.to_ascii_uppercase().as_bytes()))
                        .collect::<Result<_, _>>()
                        .map_err(|_| invalid(format!("{}: a method cannot be read", entry.path)))?
                };
                let schema = match (entry.schema, entry.schema_file) {
                    (Some(schema), None) => SchemaSource::Inline(schema),
                    (None, Some(file)) => SchemaSource::File(file),
                    _ => {
                        return Err(invalid(format!(
                            "{}: either schema or schemaFile must be there",
                            entry.path
                        )));
                    }
                };
                Ok(SchemaRule {
                    path: entry.path,
                    methods,
                    schema,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            name: name.to_owned(),
            rules,
            max_body: properties.number("maxBodySize")?.unwrap_or(DEFAULT_MAX_BODY),
        })
    }
}
