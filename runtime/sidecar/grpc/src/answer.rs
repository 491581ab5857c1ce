//! Answers on the wire: statuses as headers and trailers.

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use percent_encoding::percent_decode;
use tonic::{Code, Status, body::Body};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Binary metadata: written without padding, read either way.
pub(crate) const BINARY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Most of a status's text and details on the wire: grpc-java takes 8 KiB of header in all, others 16.
const MAX_TEXT: usize = 4 << 10;
const MAX_DETAILS: usize = 3 << 10;

/// An answer that is a status alone.
pub(crate) fn status(status: Status) -> Response<Body> {
    status.into_http()
}

/// The trailers of a status.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    if status.add_header(&mut trailers).is_err() {
        trailers.insert(GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// Code and text of a status among headers or trailers.
pub(crate) fn read_status(headers: &HeaderMap) -> Option<(Code, String)> {
    let code = Code::from_bytes(headers.get(GRPC_STATUS)?.as_bytes());
    let message = headers
        .get(GRPC_MESSAGE)
        .map(|message| {
            percent_decode(message.as_bytes())
                .decode_utf8_lossy()
                .into_owned()
        })
        .unwrap_or_default();
    Some((code, message))
}

/// Takes the status out of the headers of an answer that is a status alone, if other metadata is with it: that is
/// for the caller's header, as grpc-go sends it, and would be lost among trailers.
pub(crate) fn split_status(headers: &mut HeaderMap) -> Option<HeaderMap> {
    let own = [GRPC_STATUS, GRPC_MESSAGE, GRPC_DETAILS, header::CONTENT_TYPE];
    let others = headers.keys().any(|name| !own.contains(name));
    if !others || !headers.contains_key(GRPC_STATUS) {
        return None;
    }
    let mut trailers = HeaderMap::with_capacity(3);
    for name in [GRPC_STATUS, GRPC_MESSAGE, GRPC_DETAILS] {
        if let Some(value) = headers.remove(&name) {
            trailers.insert(name, value);
        }
    }
    Some(trailers)
}

/// Cuts a status to what any client takes. An error may quote what it was asked for, which may be long; a client that
/// is sent more header than it takes drops the connection with every call on it.
pub(crate) fn bound(headers: &mut HeaderMap) {
    if let Some(text) = headers.get(&GRPC_MESSAGE).map(HeaderValue::as_bytes)
        && text.len() > MAX_TEXT
    {
        // Not within an escape.
        let end = (MAX_TEXT - 2..MAX_TEXT)
            .find(|at| text[*at] == b'%')
            .unwrap_or(MAX_TEXT);
        if let Ok(cut) = HeaderValue::from_bytes(&[&text[..end], b"..."].concat()) {
            headers.insert(GRPC_MESSAGE, cut);
        }
    }
    if headers
        .get(&GRPC_DETAILS)
        .is_some_and(|details| details.len() > MAX_DETAILS)
    {
        headers.remove(&GRPC_DETAILS);
    }
}

/// What is answered to a request that is no gRPC call (grpc-go's texts).
pub(crate) fn no_call(request: &http::request::Parts) -> Option<Response<Body>> {
    let (http, status) = if request.method != http::Method::POST {
        let text = format!(
            "http2Server.operateHeaders parsed a :method field: {} which should be POST",
            request.method
        );
        (StatusCode::METHOD_NOT_ALLOWED, Status::internal(text))
    } else {
        let kind = request
            .headers
            .get(header::CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let is_grpc = kind
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
        if is_grpc {
            return None;
        }
        let text = format!(
            "invalid gRPC request content-type {:?}",
            String::from_utf8_lossy(kind)
        );
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, Status::invalid_argument(text))
    };
    let mut response: Response<Body> = status.into_http();
    *response.status_mut() = http;
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_status_is_cut_between_escapes() {
        let long = "\u{e4}".repeat(MAX_TEXT);
        let mut headers = status(Status::with_details(
            Code::NotFound,
            long,
            vec![0; MAX_DETAILS].into(),
        ))
        .into_parts()
        .0
        .headers;
        bound(&mut headers);
        assert!(headers[GRPC_MESSAGE].len() <= MAX_TEXT + 3);
        assert!(!headers.contains_key(GRPC_DETAILS));
        let (code, text) = read_status(&headers).unwrap();
        assert_eq!(code, Code::NotFound);
        assert!(text.ends_with("...") && !text.contains('%'), "{text}");
        let mut headers = status(Status::not_found("short")).into_parts().0.headers;
        bound(&mut headers);
        assert_eq!(read_status(&headers), Some((Code::NotFound, "short".to_owned())));
    }

    #[test]
    fn metadata_of_an_error_stays_in_the_header() {
        let mut headers = status(Status::not_found("no such thing: 100 %"))
            .into_parts()
            .0
            .headers;
        assert!(split_status(&mut headers).is_none());
        headers.insert("grpc-trace-bin", HeaderValue::from_static("AAA"));
        let trailers = split_status(&mut headers).unwrap();
        assert_eq!(
            read_status(&trailers),
            Some((Code::NotFound, "no such thing: 100 %".to_owned()))
        );
        assert!(headers.contains_key("grpc-trace-bin") && !headers.contains_key(GRPC_STATUS));
    }
}
