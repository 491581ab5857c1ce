//! Where the sidecar is (E1.1).

use std::collections::BTreeMap;
use std::fmt;

use http::Uri;

use crate::Error;

/// The process environment as passed in, so that tests and several services in one process need no globals.
pub type Environment = BTreeMap<String, String>;

/// Dapr's default HTTP and gRPC ports.
const DEFAULT_PORT: u16 = 3500;
const DEFAULT_GRPC_PORT: u16 = 50001;

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
        if let Some(endpoint) = set(environment, "DAPR_HTTP_ENDPOINT") {
            return Self::parse(endpoint);
        }
        Self::on_this_host(environment, "DAPR_HTTP_PORT", DEFAULT_PORT)
    }

    /// The gRPC endpoint: `DAPR_GRPC_ENDPOINT`, else `DAPR_GRPC_PORT` on this host, else Dapr's default port.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a variable is set to something that is no address or port.
    pub fn grpc_from_environment(environment: &Environment) -> Result<Self, Error> {
        if let Some(endpoint) = set(environment, "DAPR_GRPC_ENDPOINT") {
            return Self::parse_grpc(endpoint);
        }
        Self::on_this_host(environment, "DAPR_GRPC_PORT", DEFAULT_GRPC_PORT)
    }

    /// Parses a gRPC endpoint as Dapr's SDKs write it: `host:port`, `dns:host:port`, `http://…`, `https://…`, and
    /// `?tls=true` after any of them (dapr docs, "Dapr API endpoints").
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no such address.
    pub fn parse_grpc(text: &str) -> Result<Self, Error> {
        let (address, query) = text.trim().split_once('?').unwrap_or((text.trim(), ""));
        let tls = match query {
            "" | "tls=false" => false,
            "tls=true" => true,
            _ => {
                return Err(Error::Invalid(format!(
                    "gRPC endpoint {text:?}: after ? only tls=true or tls=false is known"
                )));
            }
        };
        let address = address
            .strip_prefix("dns:")
            .unwrap_or(address)
            .trim_start_matches('/');
        if address.starts_with("http://") || address.starts_with("https://") {
            return Self::parse(address);
        }
        Self::parse(&format!("{}://{address}", if tls { "https" } else { "http" }))
    }

    fn on_this_host(environment: &Environment, variable: &str, default: u16) -> Result<Self, Error> {
        let port = match set(environment, variable) {
            None => default,
            Some(port) => port
                .trim()
                .parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| Error::Invalid(format!("{variable} {port:?} is not a port (1-65535)")))?,
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

/// A variable that is set to more than blanks.
fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a String> {
    environment.get(name).filter(|value| !value.trim().is_empty())
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
    fn grpc_endpoints_have_several_spellings() {
        for (text, expected) in [
            ("localhost:50001", "http://localhost:50001"),
            ("dns:dapr.example:443?tls=true", "https://dapr.example:443"),
            ("https://dapr.example", "https://dapr.example"),
            ("http://dapr.example:80", "http://dapr.example:80"),
        ] {
            assert_eq!(Endpoint::parse_grpc(text).unwrap().as_str(), expected);
        }
        assert!(Endpoint::parse_grpc("host:1?tls=perhaps").is_err());
        let environment = Environment::from([("DAPR_GRPC_PORT".to_owned(), "4001".to_owned())]);
        assert_eq!(
            Endpoint::grpc_from_environment(&environment).unwrap().as_str(),
            "http://127.0.0.1:4001"
        );
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
