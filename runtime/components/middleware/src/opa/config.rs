//! Metadata of `middleware.http.opa`.

use http::HeaderName;
use outrigger_component::{Error, Properties};

/// The metadata, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpaConfig {
    /// The policy's text; it defines `data.http.allow`.
    pub rego: String,
    /// The status of a refusal, 403 unless said otherwise.
    pub default_status: u16,
    /// Headers that the policy may see.
    pub included_headers: Vec<HeaderName>,
    /// Whether the policy sees the body.
    pub read_body: bool,
}

impl OpaConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When the policy is missing or the status is none.
    pub fn parse(properties: &Properties) -> Result<Self, Error> {
        let default_status = properties.number::<u16>("defaultStatus")?.unwrap_or(403);
        if !(100..600).contains(&default_status) {
            return Err(Error::configuration(format!(
                "invalid status value {default_status} expected in range [100-599]"
            )));
        }
        Ok(Self {
            rego: properties.required("rego")?.to_owned(),
            default_status,
            included_headers: properties
                .get("includedHeaders")
                .unwrap_or_default()
                .split(',')
                // A name that no header can have is seen by nobody.
                .filter_map(|name| HeaderName::from_bytes(name.replace(' ', "").as_bytes()).ok())
                .collect(),
            read_body: properties.truthy("readBody"),
        })
    }
}
