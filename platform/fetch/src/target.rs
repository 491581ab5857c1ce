//! URLs, read as browsers read them.

use std::{collections::HashSet, net::IpAddr};

use url::{Host, Url};

use crate::{Refusal, is_public};

/// Hosts that may be asked wherever they are (`ALLOWED_CODE_SOURCE_HOSTS`): `name`, or `name:port` for that port
/// alone. Names are compared as URLs spell them: in lower case, without a dot at the end.
#[derive(Debug, Clone, Default)]
pub struct AllowedHosts {
    names: HashSet<String>,
    is_exclusive: bool,
}

impl AllowedHosts {
    /// Reads a list with commas.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        Self {
            names: list
                .split(',')
                .map(|host| host.trim().trim_end_matches('.').to_ascii_lowercase())
                .filter(|host| !host.is_empty())
                .collect(),
            is_exclusive: false,
        }
    }

    /// Takes no other host than these, public ones included, unless the list is empty (Z16).
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.is_exclusive = true;
        self
    }

    fn has(&self, host: &str, port: u16) -> bool {
        self.names.contains(host) || self.names.contains(&format!("{host}:{port}"))
    }

    fn refuses_others(&self) -> bool {
        self.is_exclusive && !self.names.is_empty()
    }
}

/// A URL that may be asked, as far as it tells itself. Where a name leads is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    host: String,
    port: u16,
    /// The host, where it is written as an address.
    address: Option<IpAddr>,
    is_allowed: bool,
}

impl Target {
    /// Reads and checks a URL.
    ///
    /// # Errors
    /// Every [`Refusal`] but a downgrade.
    pub fn parse(text: &str, allowed: &AllowedHosts) -> Result<Self, Refusal> {
        // The standard drops tabs, line breaks and blanks around; nobody writes them in good faith.
        if text
            .chars()
            .any(|c| c.is_ascii_control() || c == ' ' || c == '\\')
        {
            return Err(Refusal::Malformed("it has characters that no URL has".to_owned()));
        }
        let url = Url::parse(text).map_err(|error| Refusal::Malformed(error.to_string()))?;
        Self::of(url, allowed)
    }

    /// Where a redirect leads.
    ///
    /// # Errors
    /// Every [`Refusal`].
    pub fn redirected(&self, location: &str, allowed: &AllowedHosts) -> Result<Self, Refusal> {
        if location.chars().any(|c| c.is_ascii_control() || c == '\\') {
            return Err(Refusal::Malformed("it has characters that no URL has".to_owned()));
        }
        let url = self
            .url
            .join(location)
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        if self.is_https() && url.scheme() == "http" {
            return Err(Refusal::Downgrade);
        }
        Self::of(url, allowed)
    }

    fn of(mut url: Url, allowed: &AllowedHosts) -> Result<Self, Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        url.set_fragment(None);
        let port = url
            .port_or_known_default()
            .filter(|port| *port != 0)
            .ok_or(Refusal::Host)?;
        let (host, address) = match url.host().ok_or(Refusal::Host)? {
            Host::Domain(name) => (name.trim_end_matches('.').to_owned(), None),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::V6(address))),
        };
        if host.is_empty() {
            return Err(Refusal::Host);
        }
        let is_allowed = allowed.has(&host, port);
        if !is_allowed && allowed.refuses_others() {
            return Err(Refusal::NotListed(host));
        }
        let target = Self {
            is_allowed,
            url,
            host,
            port,
            address,
        };
        if let Some(address) = address {
            target.check(address)?;
        }
        Ok(target)
    }

    /// Whether an address of the host may be asked.
    ///
    /// # Errors
    /// [`Refusal::Inner`].
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.is_allowed || is_public(address) {
            return Ok(());
        }
        Err(Refusal::Inner {
            host: self.host.clone(),
            address,
        })
    }

    /// The host in its usual spelling.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host, where it is written as an address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL without its fragment.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}
