//! Requests as handlers see them, and the replies they give.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use outrigger_component::Metadata;
use outrigger_middleware::Body;
use serde::Serialize;

use crate::{ApiError, errors};

/// Query-given request metadata: every `metadata.<name>=<value>` pair, first value wins.
pub type RequestMetadata = Metadata;

/// A request that matched an endpoint.
#[derive(Debug)]
pub struct ApiRequest {
    /// Method, original URI, headers and extensions (the trace context of the call is an extension).
    pub head: Parts,
    /// The values of the route's placeholders, unescaped.
    pub params: Params,
    /// The body, limited by the server; reading past the limit fails.
    pub body: Body,
}

impl ApiRequest {
    /// The value of a placeholder; empty when the route has none of that name.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name)
    }

    /// The raw query string.
    #[must_use]
    pub fn query(&self) -> &str {
        self.head.uri.query().unwrap_or("")
    }

    /// The first value of a query parameter.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        query_pairs(self.query())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// All values of a query parameter.
    #[must_use]
    pub fn query_values(&self, name: &str) -> Vec<String> {
        query_pairs(self.query())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// Request metadata from the query.
    #[must_use]
    pub fn query_metadata(&self) -> RequestMetadata {
        let mut metadata = RequestMetadata::new();
        if !self.query().contains("metadata.") {
            return metadata;
        }
        for (key, value) in query_pairs(self.query()) {
            if let Some(name) = key.strip_prefix("metadata.") {
                metadata.entry(name.to_owned()).or_insert(value);
            }
        }
        metadata
    }

    /// A header as text; empty when absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.head
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// `ERR_BODY_READ` when the client goes away or the body is larger than the server allows.
    pub async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        if let Some(bytes) = self.body.as_whole() {
            return Ok(bytes);
        }
        let mut body = std::mem::take(&mut self.body);
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(errors::body_read)?;
            if let Ok(data) = frame.into_data() {
                match &first {
                    None if rest.is_empty() => first = Some(data),
                    Some(head) => {
                        rest.extend_from_slice(head);
                        rest.extend_from_slice(&data);
                        first = None;
                    }
                    None => rest.extend_from_slice(&data),
                }
            }
        }
        Ok(first.unwrap_or_else(|| rest.freeze()))
    }
}

fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    // Go's url.Query drops pairs that hold a semicolon or a broken escape; form_urlencoded keeps them. The former
    // cannot reach metadata names, so the difference stays unseen.
    form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key.into_owned(), value.into_owned()))
}

/// Placeholder values of a matched route, in route order.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    /// Adds a value.
    pub fn push(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    /// The value of a placeholder; the rest matched by `*` is named `*`. Empty when there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    }

    /// All pairs, for unescaping.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut String)> {
        self.0.iter_mut().map(|(name, value)| (*name, value))
    }
}

/// The usual answers.
#[derive(Debug, Clone, Copy)]
pub struct Reply;

impl Reply {
    /// 204.
    #[must_use]
    pub fn no_content() -> Response<Body> {
        Self::status(StatusCode::NO_CONTENT)
    }

    /// An empty answer.
    #[must_use]
    pub fn status(status: StatusCode) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        response
    }

    /// 200 with JSON bytes that are ready.
    #[must_use]
    pub fn json_bytes(bytes: impl Into<Bytes>) -> Response<Body> {
        let mut response = Response::new(Body::whole(bytes));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// 200 with a value encoded as JSON.
    ///
    /// # Errors
    /// `ERR_MALFORMED_RESPONSE` when the value cannot be encoded.
    pub fn json(value: &impl Serialize) -> Result<Response<Body>, ApiError> {
        serde_json::to_vec(value)
            .map(Self::json_bytes)
            .map_err(errors::malformed_response)
    }

    /// An answer of plain text, as Go's `http.Error` gives it.
    #[must_use]
    pub fn text(status: StatusCode, text: &str) -> Response<Body> {
        let mut response = Response::new(Body::whole(format!("{text}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        response
    }
}
