//! Which proxy stands before an address, by the rules of Go's clients.
//!
//! Upstream's components share Go's default transport, which reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`
//! (`golang.org/x/net/http/httpproxy`). The matcher of `hyper-util` follows curl: it knows no ports, proxies loopback
//! and lets `.example.com` stand for `example.com`. Hence the rules here; the handshakes with a proxy are the library's.

use std::{fmt, net::IpAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use ipnet::IpNet;
use outrigger_types::Environment;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The proxies of an environment; cheap to clone. The default has none.
#[derive(Clone, Default)]
pub struct Proxies(Option<Arc<Rules>>);

#[derive(Debug)]
struct Rules {
    http: Option<Proxy>,
    https: Option<Proxy>,
    bypass: Vec<Bypass>,
}

/// One proxy. Its credentials are never printed.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) kind: ProxyKind,
    /// Where it is, without credentials.
    pub(crate) uri: Uri,
    /// User and password, decoded.
    pub(crate) user: Option<(String, String)>,
    /// The same for HTTP.
    pub(crate) authorization: Option<HeaderValue>,
}

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    Http,
    Https,
    Socks5,
}

/// An entry of `NO_PROXY`. Ports are compared as they are written.
#[derive(Debug)]
enum Bypass {
    All,
    Network(IpNet),
    Address(IpAddr, Option<String>),
    /// `.example.com`, and whether `example.com` is meant too.
    Domain(String, bool, Option<String>),
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case. What cannot be read is warned about
    /// and counts as absent, as in Go. With `REQUEST_METHOD`, which tells of a CGI process, `HTTP_PROXY` is not believed:
    /// there a client sets it.
    #[must_use]
    pub fn from_environment(environment: &Environment) -> Self {
        let value = |name: &str| {
            environment
                .non_empty(name)
                .or_else(|| environment.non_empty(&name.to_ascii_lowercase()))
        };
        let proxy = |name: &str| {
            let proxy = Proxy::parse(value(name)?);
            if proxy.is_none() {
                // Not its value: there may be a password in it.
                tracing::warn!("{name} is not the address of a proxy: it is not used");
            }
            proxy
        };
        let https = proxy("HTTPS_PROXY");
        let http = proxy("HTTP_PROXY").filter(|_| environment.non_empty("REQUEST_METHOD").is_none());
        if http.is_none() && https.is_none() {
            return Self::default();
        }
        let bypass = value("NO_PROXY")
            .unwrap_or_default()
            .split(',')
            .filter_map(Bypass::parse)
            .collect();
        Self(Some(Arc::new(Rules { http, https, bypass })))
    }

    /// The proxy before an address. `localhost` and loopback addresses never have one.
    pub(crate) fn of(&self, uri: &Uri) -> Option<&Proxy> {
        let rules = self.0.as_deref()?;
        let (proxy, port) = match uri.scheme_str()? {
            "http" => (rules.http.as_ref()?, "80"),
            "https" => (rules.https.as_ref()?, "443"),
            _ => return None,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let port = uri
            .port()
            .map_or_else(|| port.to_owned(), |port| port.as_str().to_owned());
        (!rules.bypassed(&host.to_ascii_lowercase(), &port)).then_some(proxy)
    }

    /// What a request in the clear must carry for its proxy.
    pub(crate) fn authorization(&self, uri: &Uri) -> Option<&HeaderValue> {
        let proxy = self
            .of(uri)
            .filter(|_| uri.scheme() == Some(&http::uri::Scheme::HTTP))?;
        proxy
            .authorization
            .as_ref()
            .filter(|_| proxy.kind != ProxyKind::Socks5)
    }

    /// Whether there is any; and whether one of them is reached by TLS.
    pub(crate) fn any(&self) -> (bool, bool) {
        let all = self
            .0
            .iter()
            .flat_map(|rules| rules.http.iter().chain(&rules.https));
        let tls = all.clone().any(|proxy| proxy.kind == ProxyKind::Https);
        (all.count() > 0, tls)
    }
}

impl Rules {
    fn bypassed(&self, host: &str, port: &str) -> bool {
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        host == "localhost"
            || address.is_some_and(|address| address.is_loopback())
            || self.bypass.iter().any(|entry| entry.fits(host, address, port))
    }
}

impl Bypass {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_lowercase();
        if entry == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = entry.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = host_and_port(&entry);
        let port = port.filter(|port| !port.is_empty()).map(str::to_owned);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical(), port));
        }
        // `*.example.com` is `.example.com`: what is below it, not itself.
        let host = host
            .strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(host);
        let (name, below) = host.strip_prefix('.').map_or((host, false), |name| (name, true));
        if host.is_empty() {
            return None;
        }
        let name = match Host::parse(name) {
            Ok(Host::Domain(ascii)) if !name.is_ascii() => ascii,
            _ => name.to_owned(),
        };
        Some(Self::Domain(format!(".{name}"), !below, port))
    }

    fn fits(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let this_port = |wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| wanted == port);
        match (self, address) {
            (Self::All, _) => true,
            (Self::Network(network), Some(address)) => network.contains(&address),
            (Self::Address(wanted, wanted_port), Some(address)) => {
                *wanted == address && this_port(wanted_port)
            }
            (Self::Domain(suffix, itself, wanted_port), None) => {
                (host.ends_with(suffix) || (*itself && host == &suffix[1..])) && this_port(wanted_port)
            }
            _ => false,
        }
    }
}

/// `host:port` and `[v6]:port` taken apart; anything else is a host.
fn host_and_port(entry: &str) -> (&str, Option<&str>) {
    if let Some((host, port)) = entry.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        return (host, Some(port));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (entry, None),
    }
}

impl Proxy {
    /// An address, or `host:port` of an HTTP proxy.
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(Url::has_host).or_else(|| {
            let without_scheme = !text.contains("://");
            without_scheme.then(|| Url::parse(&format!("http://{text}")).ok())?
        })?;
        let (kind, port) = match url.scheme() {
            "http" => (ProxyKind::Http, 80),
            "https" => (ProxyKind::Https, 443),
            // The proxy resolves names in both cases, as in Go.
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            _ => return None,
        };
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let scheme = if kind == ProxyKind::Https { "https" } else { "http" };
        let uri = format!("{scheme}://{host}:{}/", url.port().unwrap_or(port));
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = (!url.username().is_empty() || url.password().is_some()).then(|| {
            (
                decoded(url.username()),
                decoded(url.password().unwrap_or_default()),
            )
        });
        let authorization = user.as_ref().and_then(|(name, password)| {
            let pair = STANDARD.encode(format!("{name}:{password}"));
            let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Some(Self {
            kind,
            uri: uri.parse().ok()?,
            user,
            authorization,
        })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxies").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Proxies {
        Proxies::from_environment(&Environment::from_pairs(pairs.iter().copied()))
    }

    fn of(proxies: &Proxies, uri: &str) -> Option<String> {
        proxies
            .of(&uri.parse().unwrap())
            .map(|proxy| proxy.uri.to_string())
    }

    #[test]
    fn each_scheme_has_its_variable_in_either_case() {
        let both = [("HTTP_PROXY", "http://one:1"), ("https_proxy", "two:2")];
        let proxies = with(&both);
        assert_eq!(of(&proxies, "http://a/").unwrap(), "http://one:1/");
        assert_eq!(of(&proxies, "https://a/").unwrap(), "http://two:2/");
        assert_eq!(of(&with(&[("HTTP_PROXY", "p")]), "https://a/"), None);
        assert_eq!(of(&with(&[]), "http://a/"), None);
        let upper_first = with(&[("HTTP_PROXY", "upper"), ("http_proxy", "lower")]);
        assert_eq!(of(&upper_first, "http://a/").unwrap(), "http://upper:80/");
        let empty = with(&[("HTTP_PROXY", ""), ("http_proxy", "lower")]);
        assert_eq!(of(&empty, "http://a/").unwrap(), "http://lower:80/");
        let cgi = with(&[
            ("HTTP_PROXY", "p"),
            ("HTTPS_PROXY", "p"),
            ("REQUEST_METHOD", "GET"),
        ]);
        assert_eq!(
            (of(&cgi, "http://a/"), of(&cgi, "https://a/").is_some()),
            (None, true)
        );
        for bad in ["ftp://p/", "http://", "://", "http://[::1"] {
            assert_eq!(of(&with(&[("HTTP_PROXY", bad)]), "http://a/"), None, "{bad}");
        }
        for (text, kind, uri) in [
            ("https://p", ProxyKind::Https, "https://p:443/"),
            ("socks5://p", ProxyKind::Socks5, "http://p:1080/"),
            ("socks5h://p:9", ProxyKind::Socks5, "http://p:9/"),
            ("10.0.0.1", ProxyKind::Http, "http://10.0.0.1:80/"),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!((proxy.kind, proxy.uri.to_string().as_str()), (kind, uri));
        }
    }

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        for (no_proxy, direct, proxied) in [
            (
                "",
                &[
                    "http://localhost",
                    "http://localhost:8",
                    "http://127.0.0.1",
                    "http://127.9.9.9:1",
                    "http://[::1]:5",
                    "http://[::ffff:127.0.0.1]/",
                ][..],
                &["http://a", "http://10.0.0.1", "http://localhost.example"][..],
            ),
            ("*", &["http://a", "https://10.0.0.1"], &[]),
            (
                "a.example , b.example",
                &[
                    "http://a.example",
                    "http://A.Example:8",
                    "http://x.a.example",
                    "http://b.example",
                ],
                &["http://xa.example", "http://example"],
            ),
            (
                ".a.example",
                &["http://x.a.example", "http://x.y.a.example"],
                &["http://a.example"],
            ),
            (
                "*.a.example",
                &["http://x.a.example"],
                &["http://a.example", "http://xa.example"],
            ),
            (
                "a.example:8443",
                &["https://a.example:8443", "https://x.a.example:8443"],
                &["https://a.example", "https://a.example:80"],
            ),
            (
                "a.example:80,b.example:443",
                &["http://a.example", "https://b.example"],
                &["https://a.example", "http://b.example"],
            ),
            (
                "10.0.0.0/8,fd00::/8",
                &[
                    "http://10.255.0.1",
                    "http://[fd00::1]:8",
                    "http://[::ffff:10.1.1.1]",
                ],
                &["http://11.0.0.1", "http://ten.example", "http://[fe00::1]"],
            ),
            (
                "192.168.1.1,[fd00::2]:81,fd00::3",
                &["http://192.168.1.1:99", "http://[fd00::2]:81", "http://[fd00::3]"],
                &["http://192.168.1.2", "http://[fd00::2]"],
            ),
            (
                "192.168.1.1:80",
                &["http://192.168.1.1"],
                &["http://192.168.1.1:81"],
            ),
            (
                "bücher.example",
                &["http://xn--bcher-kva.example"],
                &["http://bucher.example"],
            ),
            (",, ,:80,", &[], &["http://a", "http://10.0.0.1"]),
        ] {
            let proxies = with(&[("HTTP_PROXY", "p"), ("HTTPS_PROXY", "p"), ("no_proxy", no_proxy)]);
            for uri in direct {
                assert_eq!(of(&proxies, uri), None, "{uri} with {no_proxy:?}");
            }
            for uri in proxied {
                assert!(of(&proxies, uri).is_some(), "{uri} with {no_proxy:?}");
            }
        }
    }

    #[test]
    fn credentials_are_used_and_never_shown() {
        let proxies = with(&[
            ("HTTP_PROXY", "http://us%40er:pass%3Aword@p:3128"),
            ("HTTPS_PROXY", "user:password@p"),
        ]);
        let value = proxies.authorization(&"http://a/".parse().unwrap()).unwrap();
        assert_eq!(value, &format!("Basic {}", STANDARD.encode("us@er:pass:word")));
        assert!(
            proxies
                .authorization(&"http://localhost/".parse().unwrap())
                .is_none()
        );
        // To an `https` address there is a tunnel; whoever is at its end is not to see them.
        assert!(proxies.authorization(&"https://a/".parse().unwrap()).is_none());
        assert!(
            proxies
                .of(&"https://a/".parse().unwrap())
                .unwrap()
                .authorization
                .is_some()
        );
        let shown = format!("{proxies:?}");
        assert!(
            shown.contains("p:3128") && !shown.contains("word") && !shown.contains("er:"),
            "{shown}"
        );
    }
}
