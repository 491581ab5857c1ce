//! Which headers travel, and in which dress (upstream `pkg/messaging/v1/util.go`; pain I3).

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Standard base64, padding optional on the way in: gRPC peers leave it out.
pub(crate) const BINARY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(crate) const DESTINATION: &str = "destination-app-id";
pub(crate) const CALLER_NAMESPACE: &str = "dapr-caller-namespace";
pub(crate) const CALLER_APP_ID: &str = "dapr-caller-app-id";
pub(crate) const CALLEE_APP_ID: &str = "dapr-callee-app-id";
pub(crate) const API_TOKEN: &str = "dapr-api-token";
pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
pub(crate) const BAGGAGE: &str = "baggage";
pub(crate) const GRPC_TRACE: &str = "grpc-trace-bin";

/// Headers of one connection, not of the message (RFC 9110 §7.6.1 and the older ones upstream lists). `name` is
/// lower-case.
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    match name.len() {
        2 => name == "te",
        7 => name == "upgrade" || name == "trailer",
        10 => name == "connection" || name == "keep-alive",
        14 => name == "http2-settings",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        18 => name == "proxy-authenticate",
        19 => name == "proxy-authorization",
        _ => false,
    }
}

/// The further hop-by-hop headers that `Connection` names; rarely any.
#[derive(Debug, Default)]
pub(crate) struct Nominated(Vec<String>);

impl Nominated {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut nominated = Self::default();
        for value in headers.get_all(http::header::CONNECTION) {
            nominated.add(value.as_bytes());
        }
        nominated
    }

    pub(crate) fn add(&mut self, connection: &[u8]) {
        for token in String::from_utf8_lossy(connection).split(',') {
            let token = token.trim().to_ascii_lowercase();
            // `keep-alive`, `close` and `upgrade` are what browsers and libraries write: dropped anyway or harmless.
            if !matches!(token.as_str(), "" | "keep-alive" | "close" | "upgrade") {
                self.0.push(token);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        !self.0.is_empty() && self.0.iter().any(|token| token == name)
    }
}

/// Whether a header of an HTTP caller or app goes into the envelope. `name` is lower-case.
pub(crate) fn travels(name: &str, nominated: &Nominated) -> bool {
    !(is_hop_by_hop(name) || name == "host" || is_identity(name) || nominated.contains(name))
}

/// Headers that only sidecars may set; what an app writes there is dropped.
pub(crate) fn is_identity(name: &str) -> bool {
    matches!(
        name,
        CALLER_NAMESPACE | CALLER_APP_ID | CALLEE_APP_ID | DESTINATION
    )
}

/// The pair as a header for an HTTP app or caller; `None` when it does not become one. Hop-by-hop and trace headers
/// are the caller's business.
pub(crate) fn http_header(key: &[u8], value: Bytes) -> Option<(HeaderName, HeaderValue)> {
    let name = match HeaderName::from_bytes(key) {
        Ok(name) if name.as_str().starts_with("grpc-") => prefixed(name.as_str())?,
        Ok(name) => name,
        // The pseudo headers of HTTP/2 (upstream `ReservedGRPCMetadataToDaprPrefixHeader`).
        Err(_) => match key {
            b":method" | b":scheme" | b":path" | b":authority" => {
                prefixed(std::str::from_utf8(&key[1..]).ok()?)?
            }
            _ => return None,
        },
    };
    Some((name, HeaderValue::from_maybe_shared(value).ok()?))
}

fn prefixed(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(format!("dapr-{name}").as_bytes()).ok()
}

/// Headers of HTTP that would clash with gRPC's own (upstream `isPermanentHTTPHeader`): they get the prefix `dapr-`
/// when an HTTP message meets a gRPC app. `key` is as the peer wrote it: gRPC metadata is lower-case and exempt.
pub(crate) fn is_permanent(key: &str) -> bool {
    matches!(
        key,
        "Accept"
            | "Accept-Charset"
            | "Accept-Language"
            | "Accept-Ranges"
            | "Connection"
            | "Keep-Alive"
            | "Proxy-Connection"
            | "Transfer-Encoding"
            | "Upgrade"
            | "Cache-Control"
            | "Content-Type"
            | "Content-Length"
            | "Cookie"
            | "Date"
            | "Expect"
            | "From"
            | "Host"
            | "If-Match"
            | "If-Modified-Since"
            | "If-None-Match"
            | "If-Schedule-Tag-Match"
            | "If-Unmodified-Since"
            | "Max-Forwards"
            | "Origin"
            | "Pragma"
            | "Referer"
            | "Via"
            | "Warning"
    )
}

/// Pairs of metadata in order, keys as the peer wrote them: the form of everything that is not HTTP on both ends.
/// Values of `-bin` keys are base64, as in the envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pairs(pub(crate) Vec<(String, Vec<Bytes>)>);

impl Pairs {
    /// From the metadata of a gRPC message: every key but HTTP/2's and gRPC's framing.
    pub(crate) fn from_grpc(headers: &HeaderMap) -> Self {
        let mut pairs: Vec<(String, Vec<Bytes>)> = Vec::with_capacity(headers.len());
        for name in headers.keys() {
            let name = name.as_str();
            if matches!(
                name,
                "te" | "grpc-encoding"
                    | "grpc-accept-encoding"
                    | "grpc-timeout"
                    | "grpc-status"
                    | "grpc-message"
                    | "grpc-status-details-bin"
            ) || is_identity(name)
            {
                continue;
            }
            // gRPC carries `-bin` values in base64 already; the envelope's are padded.
            let values = headers.get_all(name).iter();
            let values = if name.ends_with("-bin") {
                values
                    .flat_map(|value| value.as_bytes().split(|b| *b == b','))
                    .filter_map(|value| BINARY.decode(value.trim_ascii()).ok())
                    .map(|raw| Bytes::from(BINARY.encode(raw)))
                    .collect()
            } else {
                values
                    .map(|value| Bytes::copy_from_slice(value.as_bytes()))
                    .collect()
            };
            pairs.push((name.to_owned(), values));
        }
        Self(pairs)
    }

    pub(crate) fn first(&self, name: &str) -> Option<&[u8]> {
        let (_, values) = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        values.first().map(|value| &value[..])
    }

    /// As gRPC metadata for an app or caller (upstream `InternalMetadataToGrpcMetadata`). `from_http` prefixes HTTP's
    /// own headers. Trace headers are left out: the caller sets its own.
    pub(crate) fn to_grpc(&self, from_http: bool) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.0.len() + 4);
        for (key, values) in &self.0 {
            let lower = key.to_ascii_lowercase();
            if matches!(
                lower.as_str(),
                TRACEPARENT | TRACESTATE | GRPC_TRACE | DESTINATION
            ) {
                continue;
            }
            let prefix = from_http && is_permanent(key);
            if !prefix
                && (is_hop_by_hop(&lower)
                    || matches!(
                        lower.as_str(),
                        "content-type" | "content-length" | "user-agent" | "host"
                    ))
            {
                // gRPC's library owns these on the wire.
                continue;
            }
            if lower.starts_with("grpc-") || lower.starts_with(':') {
                continue;
            }
            let name = if prefix {
                prefixed(&lower)
            } else {
                HeaderName::from_bytes(lower.as_bytes()).ok()
            };
            let Some(name) = name else { continue };
            for value in values {
                if let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) {
                    map.append(name.clone(), value);
                }
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_are_known() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "te",
            "trailer",
            "proxy-authorization",
            "proxy-authenticate",
        ] {
            assert!(is_hop_by_hop(name), "{name}");
        }
        assert!(!is_hop_by_hop("accept"));
    }

    #[test]
    fn connection_nominates_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("keep-alive, X-Secret"));
        let nominated = Nominated::of(&headers);
        assert!(!travels("x-secret", &nominated));
        assert!(travels("x-open", &nominated));
        assert!(!travels(CALLER_APP_ID, &nominated));
    }

    #[test]
    fn reserved_grpc_keys_get_a_prefix() {
        let (name, _) = http_header(b"grpc-timeout", Bytes::from_static(b"1S")).unwrap();
        assert_eq!(name, "dapr-grpc-timeout");
        let (name, _) = http_header(b":path", Bytes::from_static(b"/x")).unwrap();
        assert_eq!(name, "dapr-path");
        assert!(http_header(b"bad name", Bytes::new()).is_none());
    }

    #[test]
    fn http_headers_are_prefixed_for_grpc_apps() {
        let pairs = Pairs(vec![
            ("Accept".to_owned(), vec![Bytes::from_static(b"x")]),
            ("accept".to_owned(), vec![Bytes::from_static(b"y")]),
            ("Connection".to_owned(), vec![Bytes::from_static(b"close")]),
            ("k-bin".to_owned(), vec![Bytes::from_static(b"AQI=")]),
            ("Destination-App-Id".to_owned(), vec![Bytes::from_static(b"me")]),
        ]);
        let map = pairs.to_grpc(true);
        assert_eq!(map["dapr-accept"], "x");
        assert_eq!(map["accept"], "y");
        assert_eq!(map["dapr-connection"], "close");
        assert_eq!(map["k-bin"], "AQI=");
        assert!(!map.contains_key(DESTINATION));
    }
}
