//! HTTP headers as gRPC metadata, and back.

use http::{HeaderMap, HeaderName, header};
use tonic::metadata::MetadataMap;

/// Headers about this connection or this encoding of the body, which say nothing about the call.
const OF_HTTP: [HeaderName; 17] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::USER_AGENT,
    HeaderName::from_static("keep-alive"),
];

/// A request's headers as metadata: all but those of HTTP itself and gRPC's own, `grpc-timeout` excepted.
pub(crate) fn request(headers: &HeaderMap) -> MetadataMap {
    MetadataMap::from_headers(filtered(headers, |name| {
        name == "grpc-timeout" || !name.starts_with("grpc-")
    }))
}

/// An answer's metadata as headers.
pub(crate) fn response(metadata: MetadataMap) -> HeaderMap {
    filtered(&metadata.into_headers(), |name| !name.starts_with("grpc-"))
}

fn filtered(headers: &HeaderMap, keep: impl Fn(&str) -> bool) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| !OF_HTTP.contains(name) && keep(name.as_str()))
        .fold(HeaderMap::new(), |mut kept, (name, value)| {
            kept.append(name, value.clone());
            kept
        })
}
