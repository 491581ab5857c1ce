//! Where the sidecar is (E1.1).

use std::collections::BTreeMap;
use std::fmt;

use http::Uri;

use crate::Error;

/// The process environment as passed in, so that tests and several services in one process need no globals.
pub type Environment = BTreeMap<String, String>;

/// Dapr's default HTTP port.
const DEFAULT_PORT: u16 = 3500;

/// A base address without a trailing slash.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Parses `http://host:port` or `https://host:port`, with an optional path.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no such address.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim().trim_end_matches('/');
        let uri: Uri = text
            .parse()
            .map_err(|error| Error::Invalid(format!("endpoint {text:?}: {error}")))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(_)) => Ok(Self(text.to_owned())),
            _ => Err(Error::Invalid(format!(
                "endpoint {text:?} is not http://host:port or https://host:port"
            ))),
        }
    }

    /// `DAPR_HTTP_ENDPOINT`, else `DAPR_HTTP_PORT` on this host, else Dapr's default port.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a variable is set to something that is no address or port.
    pub fn from_environment(environment: &Environment) -> Result<Self, Error> {
        let set = |name: &str| environment.get(name).filter(|value| !value.trim().is_empty());
        if let Some(endpoint) = set("DAPR_HTTP_ENDPOINT") {
            return Self::parse(endpoint);
        }
        let port = match set("DAPR_HTTP_PORT") {
            None => DEFAULT_PORT,
            Some(port) => port
                .trim()
                .parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| Error::Invalid(format!("DAPR_HTTP_PORT {port:?} is not a port (1-65535)")))?,
        };
        Ok(Self(format!("http://127.0.0.1:{port}")))
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token that never prints.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// The token in a variable; empty counts as not set, as in Dapr.
    pub(crate) fn from_environment(environment: &Environment, name: &str) -> Option<Self> {
        environment
            .get(name)
            .filter(|token| !token.is_empty())
            .map(|token| Self(token.clone()))
    }

    pub(crate) fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Compares without telling by its duration how much was right.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        let expected = self.0.as_bytes();
        let mut difference = expected.len() ^ given.len();
        for (index, byte) in expected.iter().enumerate() {
            difference |= usize::from(byte ^ given.get(index).copied().unwrap_or_default());
        }
        difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(&str, &str)]) -> Result<String, Error> {
        let environment = pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        Endpoint::from_environment(&environment).map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn the_endpoint_variable_beats_the_port_which_beats_the_default() {
        assert_eq!(found(&[]).unwrap(), "http://127.0.0.1:3500");
        assert_eq!(
            found(&[("DAPR_HTTP_PORT", "4000")]).unwrap(),
            "http://127.0.0.1:4000"
        );
        let both = [
            ("DAPR_HTTP_PORT", "4000"),
            ("DAPR_HTTP_ENDPOINT", "https://dapr.example:443/"),
        ];
        assert_eq!(found(&both).unwrap(), "https://dapr.example:443");
    }

    #[test]
    fn mistakes_are_refused() {
        for (name, value) in [
            ("DAPR_HTTP_PORT", "0"),
            ("DAPR_HTTP_PORT", "many"),
            ("DAPR_HTTP_ENDPOINT", "ftp://x"),
        ] {
            assert!(found(&[(name, value)]).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn tokens_compare_and_never_print() {
        let token = Token::new("secret");
        assert!(token.matches(b"secret"));
        for wrong in [&b"secre"[..], b"secret2", b"", b"Secret"] {
            assert!(!token.matches(wrong));
        }
        assert_eq!(format!("{token:?}"), "***");
    }
}
