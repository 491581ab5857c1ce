//! Message metadata as headers of requests to the app (upstream `pkg/messaging/v1/util.go`).

use http::{HeaderMap, HeaderName, HeaderValue};
use outrigger_component::Metadata;
use outrigger_telemetry::trace::Span;
use tonic::metadata::{AsciiMetadataKey, BinaryMetadataKey, BinaryMetadataValue, MetadataMap};

use crate::delivery::PUBSUB_NAME;

const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";
const GRPC_TRACE: &str = "grpc-trace-bin";

/// Whether an HTTP request to the app carries metadata of this (lower-case) name.
fn is_forwarded(name: &str) -> bool {
    !name.ends_with("-bin")
        && !name.starts_with("proxy-auth")
        && !matches!(
            name,
            "content-type"
                | "content-length"
                | "connection"
                | "keep-alive"
                | "proxy-connection"
                | "transfer-encoding"
                | "upgrade"
                | "http2-settings"
                | "te"
                | "trailer"
                | "host"
                | "destination-app-id"
        )
}

/// Adds metadata to a request over HTTP. What cannot be a header is left out.
pub(super) fn to_http(metadata: &Metadata, pubsub: &str, span: Option<&Span>, headers: &mut HeaderMap) {
    for (name, value) in metadata {
        let name = name.to_ascii_lowercase();
        if !is_forwarded(&name) {
            continue;
        }
        let reserved = name.starts_with(':') || name.starts_with("grpc-");
        let name = if reserved {
            format!("dapr-{}", name.trim_start_matches(':'))
        } else {
            name
        };
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    if let Ok(value) = HeaderValue::from_str(pubsub) {
        headers.insert(HeaderName::from_static("pubsubname"), value);
    }
    let Some(context) = span.map(Span::context) else {
        return;
    };
    if let Ok(value) = HeaderValue::from_bytes(context.traceparent().as_bytes()) {
        headers.insert(HeaderName::from_static(TRACE_PARENT), value);
    }
    if let Some(Ok(value)) = context.tracestate().map(HeaderValue::from_str) {
        headers.insert(HeaderName::from_static(TRACE_STATE), value);
    }
}

/// Adds metadata to a call over gRPC.
pub(super) fn to_grpc(metadata: &Metadata, pubsub: &str, span: Option<&Span>, into: &mut MetadataMap) {
    let own = [(PUBSUB_NAME, pubsub)];
    let pairs = metadata
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(own);
    for (name, value) in pairs {
        let name = name.to_ascii_lowercase();
        if matches!(name.as_str(), "content-type" | "content-length" | "te") || name.starts_with("grpc-") {
            continue;
        }
        if name.ends_with("-bin") {
            if let Ok(key) = BinaryMetadataKey::from_bytes(name.as_bytes()) {
                into.insert_bin(key, BinaryMetadataValue::from_bytes(value.as_bytes()));
            }
        } else if let (Ok(key), Ok(value)) = (AsciiMetadataKey::from_bytes(name.as_bytes()), value.parse()) {
            into.insert(key, value);
        }
    }
    let Some(context) = span.map(Span::context) else {
        return;
    };
    if let Some(binary) = context.to_binary() {
        into.insert_bin(GRPC_TRACE, BinaryMetadataValue::from_bytes(&binary));
    }
    if let Ok(value) = context.traceparent().as_str().parse() {
        into.insert(TRACE_PARENT, value);
    }
    if let Some(Ok(value)) = context.tracestate().map(str::parse) {
        into.insert(TRACE_STATE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_header_stays_behind() {
        let metadata: Metadata = [
            ("key", "v"),
            ("Content-Length", "5"),
            ("connection", "x"),
            ("grpc-x", "y"),
            ("bad name", "v"),
            ("line", "a\nb"),
            ("x-bin", "v"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let mut headers = HeaderMap::new();
        to_http(&metadata, "p", None, &mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["dapr-grpc-x", "key", "pubsubname"]);
        let mut calls = MetadataMap::new();
        to_grpc(&metadata, "p", None, &mut calls);
        assert_eq!(calls.get("pubsubname").unwrap(), "p");
        assert!(calls.get_bin("x-bin").is_some() && calls.get("line").is_none());
    }
}
