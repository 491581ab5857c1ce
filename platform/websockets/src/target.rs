//! Where a connection may lead. The URL is a stranger's.

use std::collections::HashSet;
use std::net::IpAddr;

use outrigger_platform_fetch::is_public;
use url::{Host, Url};

/// URLs longer than this are refused.
const MAX_URL: usize = 2048;

/// Which hosts may be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether addresses that are not public are refused, unless their host is listed. Off by default: an exchange
    /// may well be a neighbour.
    pub public_only: bool,
    /// If there are any, only these may be connected to, wherever they are: `name`, or `name:port`.
    pub hosts: HashSet<String>,
}

/// Why a URL is not connected to. The texts name what the caller wrote, never what a resolver said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is no URL.
    #[error("not a URL: {0}")]
    Malformed(String),
    /// Neither `ws` nor `wss`.
    #[error("scheme {0:?} is not ws or wss")]
    Scheme(String),
    /// A user name or a password.
    #[error("a URL with a user name or password is not connected to")]
    UserInfo,
    /// A fragment, which WebSocket URLs have none of (RFC 6455, 3).
    #[error("a WebSocket URL has no fragment")]
    Fragment,
    /// No host, or the port 0.
    #[error("the URL names no host that can be reached")]
    Host,
    /// Not on the list.
    #[error("host {0:?} is not among the allowed ones")]
    NotAllowed(String),
    /// An address of an inner network.
    #[error("host {0:?} is not on the public internet; allow it by name if it is meant")]
    Inner(String),
}

/// A URL that may be connected to, as far as it tells itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As the caller wrote it.
    pub(crate) text: String,
    pub(crate) url: Url,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The host, where it is written as an address.
    pub(crate) address: Option<IpAddr>,
    pub(crate) is_secure: bool,
    checks_address: bool,
}

impl Reach {
    /// Reads a list with commas.
    #[must_use]
    pub fn hosts(list: &str) -> HashSet<String> {
        list.split(',')
            .map(|host| host.trim().trim_end_matches('.').to_ascii_lowercase())
            .filter(|host| !host.is_empty())
            .collect()
    }

    /// Reads and checks a URL.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(&self, text: &str) -> Result<Target, TargetError> {
        if text.len() > MAX_URL {
            return Err(TargetError::Malformed(format!(
                "it is longer than {MAX_URL} bytes"
            )));
        }
        // The standard drops tabs, line breaks and blanks around; nobody writes them in good faith.
        if text
            .chars()
            .any(|c| c.is_ascii_control() || c == ' ' || c == '\\')
        {
            return Err(TargetError::Malformed(
                "it has characters that no URL has".to_owned(),
            ));
        }
        let url = Url::parse(text).map_err(|error| TargetError::Malformed(error.to_string()))?;
        let is_secure = match url.scheme() {
            "ws" => false,
            "wss" => true,
            other => return Err(TargetError::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        let port = url
            .port_or_known_default()
            .filter(|port| *port != 0)
            .ok_or(TargetError::Host)?;
        let (host, address) = match url.host().ok_or(TargetError::Host)? {
            Host::Domain(name) => (name.trim_end_matches('.').to_owned(), None),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::V6(address))),
        };
        if host.is_empty() {
            return Err(TargetError::Host);
        }
        let is_listed = self.hosts.contains(&host) || self.hosts.contains(&format!("{host}:{port}"));
        if !self.hosts.is_empty() && !is_listed {
            return Err(TargetError::NotAllowed(host));
        }
        let target = Target {
            text: text.to_owned(),
            url,
            host,
            port,
            address,
            is_secure,
            checks_address: self.public_only && !is_listed,
        };
        if let Some(address) = address {
            target.check(address)?;
        }
        Ok(target)
    }
}

impl Target {
    /// Whether an address of the host may be connected to.
    ///
    /// # Errors
    /// [`TargetError::Inner`].
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), TargetError> {
        if !self.checks_address || is_public(address) {
            return Ok(());
        }
        Err(TargetError::Inner(self.host.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(reach: &Reach, url: &str) -> String {
        reach.parse(url).unwrap_err().to_string()
    }

    #[test]
    fn only_websocket_urls_are_taken() {
        let reach = Reach::default();
        for url in [
            "ws://localhost:9001/echo",
            "wss://stream.example.com",
            "ws://127.0.0.1:1/a?b=c",
            "ws://[::1]:80/",
        ] {
            assert!(reach.parse(url).is_ok(), "{url}");
        }
        for (url, text) in [
            ("http://x/", "scheme \"http\" is not ws or wss"),
            ("https://x/", "scheme \"https\" is not ws or wss"),
            ("file:///etc/passwd", "scheme \"file\" is not ws or wss"),
            ("x", "not a URL: relative URL without a base"),
            ("", "not a URL: relative URL without a base"),
            ("ws://", "not a URL: empty host"),
            ("ws://x:0/", "the URL names no host that can be reached"),
            (
                "ws://a:b@x/",
                "a URL with a user name or password is not connected to",
            ),
            ("ws://x/#y", "a WebSocket URL has no fragment"),
            ("ws://x/\n", "not a URL: it has characters that no URL has"),
        ] {
            assert_eq!(why(&reach, url), text, "{url}");
        }
        assert!(why(&reach, &format!("ws://x/{}", "y".repeat(3000))).contains("longer"));
    }

    #[test]
    fn inner_addresses_are_refused_where_that_is_wanted() {
        let reach = Reach {
            public_only: true,
            hosts: HashSet::new(),
        };
        for url in [
            "ws://127.0.0.1/",
            "ws://0x7f.1/",
            "ws://[::ffff:10.0.0.1]/",
            "ws://169.254.169.254/",
        ] {
            assert!(why(&reach, url).contains("not on the public internet"), "{url}");
        }
        let named = reach.parse("ws://exchange.example/").unwrap();
        assert!(named.check("10.0.0.1".parse().unwrap()).is_err());
        assert!(named.check("1.1.1.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_list_leaves_out_everybody_else_and_lets_neighbours_in() {
        let reach = Reach {
            public_only: true,
            hosts: Reach::hosts("Exchange.example. , 10.0.0.7:9443,"),
        };
        let named = reach.parse("wss://EXCHANGE.example/ws").unwrap();
        assert!(named.check("10.0.0.1".parse().unwrap()).is_ok());
        assert!(reach.parse("wss://10.0.0.7:9443/").is_ok());
        assert_eq!(
            why(&reach, "wss://10.0.0.7/"),
            "host \"10.0.0.7\" is not among the allowed ones"
        );
        assert_eq!(
            why(&reach, "wss://other.example/"),
            "host \"other.example\" is not among the allowed ones"
        );
    }
}
