//! Metadata of `middleware.http.uppercase`.

use outrigger_component::Properties;

/// The metadata, read: which bodies change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UppercaseConfig {
    /// The request's.
    pub request: bool,
    /// The response's.
    pub response: bool,
}

impl UppercaseConfig {
    /// Reads `direction`: `request`, `response` or `both`; all else means `request`, as upstream reads it
    /// (`cmd/daprd/components/middleware_http_uppercase.go`).
    #[must_use]
    pub fn parse(properties: &Properties) -> Self {
        let direction = properties
            .get("direction")
            .unwrap_or_default()
            .to_ascii_lowercase();
        match direction.as_str() {
            "response" => Self {
                request: false,
                response: true,
            },
            "both" => Self {
                request: true,
                response: true,
            },
            _ => Self {
                request: true,
                response: false,
            },
        }
    }
}
