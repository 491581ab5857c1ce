//! The request and the answer that a guest works on.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use outrigger_middleware::{Body, PeerAddress};

/// The largest body that a guest can hold, read or write.
pub(super) const MAX_BODY: usize = 16 << 20;

/// Features of the ABI (`api/handler/features.go`). Trailers are not offered.
pub(super) const BUFFER_REQUEST: u32 = 1;
pub(super) const BUFFER_RESPONSE: u32 = 2;
pub(super) const OFFERED: u32 = BUFFER_REQUEST | BUFFER_RESPONSE;

/// A body: what came, how far it was read, what the guest wrote in its place.
#[derive(Debug, Default)]
pub(super) struct Content {
    came: Bytes,
    read: usize,
    written: Option<Vec<u8>>,
}

impl Content {
    pub(super) fn new(came: Bytes) -> Self {
        Self {
            came,
            ..Self::default()
        }
    }

    /// The next bytes, at most so many, and whether they are the last.
    pub(super) fn read(&mut self, limit: usize) -> (Bytes, bool) {
        let end = self.came.len().min(self.read.saturating_add(limit));
        let part = self.came.slice(self.read..end);
        self.read = end;
        (part, end == self.came.len())
    }

    /// Adds to what the guest writes; the first time in place of what came.
    pub(super) fn write(&mut self, part: &[u8]) -> Result<(), &'static str> {
        let written = self.written.get_or_insert_default();
        if written.len() + part.len() > MAX_BODY {
            return Err("the body that the guest writes is too large");
        }
        written.extend_from_slice(part);
        Ok(())
    }

    fn is_written(&self) -> bool {
        self.written.is_some()
    }

    fn into_body(self) -> Body {
        match self.written {
            Some(written) => Body::whole(written),
            None => Body::whole(self.came),
        }
    }
}

/// One exchange. Between exchanges a guest has an empty one.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) source: String,
    pub(super) request_headers: HeaderMap,
    pub(super) request_body: Content,
    pub(super) status: StatusCode,
    pub(super) response_headers: HeaderMap,
    pub(super) response_body: Content,
    /// Whether the next handler has run.
    pub(super) after_next: bool,
    pub(super) features: u32,
    extensions: http::Extensions,
}

impl Exchange {
    /// Takes a request whose body is there.
    pub(super) fn of(request: Request<Body>, features: u32) -> Self {
        let (head, body) = request.into_parts();
        let source = head.extensions.get::<PeerAddress>();
        Self {
            source: source.map(ToString::to_string).unwrap_or_default(),
            method: head.method,
            uri: head.uri,
            version: head.version,
            request_headers: head.headers,
            request_body: Content::new(body.as_whole().unwrap_or_default()),
            features,
            extensions: head.extensions,
            ..Self::default()
        }
    }

    /// The request as the guest leaves it, for the next handler. A body that was read and not kept is gone, as in the
    /// ABI, unless the guest asked for buffering.
    pub(super) fn take_request(&mut self) -> Request<Body> {
        let content = std::mem::take(&mut self.request_body);
        let changed = content.is_written() || (content.read > 0 && self.features & BUFFER_REQUEST == 0);
        let body = if changed && !content.is_written() {
            Body::Empty
        } else {
            content.into_body()
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.extensions_mut() = std::mem::take(&mut self.extensions);
        let mut headers = self.request_headers.clone();
        if changed {
            announce(&mut headers, request.body());
        }
        *request.headers_mut() = headers;
        request
    }

    /// What the next handler answered; the body only where the guest may change it.
    pub(super) fn answered(&mut self, head: &http::response::Parts, body: Bytes) {
        self.after_next = true;
        self.status = head.status;
        self.response_headers = head.headers.clone();
        self.response_body = Content::new(body);
    }

    /// The answer as the guest leaves it.
    pub(super) fn take_response(&mut self) -> Response<Body> {
        let content = std::mem::take(&mut self.response_body);
        let changed = content.is_written();
        let mut response = Response::new(content.into_body());
        *response.status_mut() = self.status;
        let mut headers = std::mem::take(&mut self.response_headers);
        if changed {
            announce(&mut headers, response.body());
        }
        *response.headers_mut() = headers;
        response
    }

    /// The headers of a kind of the ABI; `None` for trailers, which nobody has here.
    pub(super) fn headers(&mut self, kind: i32) -> Option<&mut HeaderMap> {
        match kind {
            0 => Some(&mut self.request_headers),
            1 => Some(&mut self.response_headers),
            _ => None,
        }
    }

    /// Whether the guest may still change what goes out.
    pub(super) fn may_change(&self, request: bool) -> Result<(), &'static str> {
        match (self.after_next, request) {
            (false, _) => Ok(()),
            (true, true) => Err("the request cannot be changed after the next handler"),
            (true, false) if self.features & BUFFER_RESPONSE != 0 => Ok(()),
            (true, false) => {
                Err("the response can only be changed after the next handler when buffer_response is enabled")
            }
        }
    }
}

/// The length of a body that took another's place.
fn announce(headers: &mut HeaderMap, body: &Body) {
    headers.remove(header::TRANSFER_ENCODING);
    let length = body.as_whole().unwrap_or_default().len();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// A header's name and value, as the guest wrote them.
pub(super) fn pair(name: &[u8], value: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::from_bytes(name).map_err(|_| "the guest's header name cannot be sent")?;
    let value = HeaderValue::from_bytes(value).map_err(|_| "the guest's header value cannot be sent")?;
    Ok((name, value))
}
