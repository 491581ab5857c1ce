//! Answers as upstream's middleware writes them (components-contrib `common/httputils`): plain text, usually the name
//! of the status.

use http::{HeaderValue, Response, StatusCode, header};
use outrigger_middleware::Body;

/// An answer with this text.
pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::whole(message.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// An answer with the name of its status; a status without a name becomes 500, as upstream answers it.
pub(crate) fn status(status: u16) -> Response<Body> {
    let named = StatusCode::from_u16(status)
        .ok()
        .and_then(|code| Some((code, name(code)?)));
    match named {
        Some((code, name)) => text(code, name),
        None => text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
    }
}

/// An answer that sends the client elsewhere.
pub(crate) fn redirect(location: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::try_from(location) else {
        return status(500);
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// Go's name of a status, which differs from the registry's in a few.
fn name(code: StatusCode) -> Option<&'static str> {
    match code.as_u16() {
        203 => Some("Non-Authoritative Information"),
        413 => Some("Request Entity Too Large"),
        416 => Some("Requested Range Not Satisfiable"),
        _ => code.canonical_reason(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_answered_by_gos_name() {
        for (asked, code, name) in [
            (401, 401, "Unauthorized"),
            (413, 413, "Request Entity Too Large"),
            (599, 500, "Internal Server Error"),
            (7, 500, "Internal Server Error"),
        ] {
            let response = status(asked);
            assert_eq!(response.status(), code);
            assert_eq!(response.into_body().as_whole().unwrap(), name);
        }
    }
}
