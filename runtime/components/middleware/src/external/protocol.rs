//! What goes over the socket, and what it changes.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request, response, uri::PathAndQuery,
};
use outrigger_middleware::{Body, PeerAddress};
use serde::{Deserialize, Serialize};

use crate::path;

/// Headers that the sidecar itself writes.
const OWN_HEADERS: [HeaderName; 3] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
];

type Headers<'a> = BTreeMap<&'a str, Vec<String>>;

/// What `/request` and `/response` carry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Question<'a> {
    handler: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    headers: Headers<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// What a handler sees of a request also when it is asked about the answer.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) trace: Option<String>,
    method: String,
    path: String,
}

impl Context {
    pub(super) fn of(head: &request::Parts, trace: Option<String>) -> Self {
        Self {
            trace,
            method: head.method.to_string(),
            path: path::with_query(&head.uri),
        }
    }

    /// Before the next handler.
    pub(super) fn request<'a>(
        &'a self,
        handler: &'a str,
        head: &'a request::Parts,
        body: Option<&Bytes>,
    ) -> Question<'a> {
        Question {
            source: head.extensions.get::<PeerAddress>().map(ToString::to_string),
            status: None,
            ..self.question(handler, &head.headers, body)
        }
    }

    /// After it.
    pub(super) fn response<'a>(
        &'a self,
        handler: &'a str,
        head: &'a response::Parts,
        body: &Bytes,
    ) -> Question<'a> {
        Question {
            source: None,
            status: Some(head.status.as_u16()),
            ..self.question(handler, &head.headers, Some(body))
        }
    }

    fn question<'a>(&'a self, handler: &'a str, all: &'a HeaderMap, body: Option<&Bytes>) -> Question<'a> {
        let mut headers = Headers::new();
        for (name, value) in all {
            let values = headers.entry(name.as_str()).or_default();
            values.push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        Question {
            handler,
            trace_id: self.trace.as_deref(),
            method: &self.method,
            path: &self.path,
            source: None,
            status: None,
            headers,
            body: body.map(|body| STANDARD.encode(body)),
        }
    }
}

/// What a handler answers. An unknown member is a mistake that should not pass unseen.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    #[serde(default)]
    headers: BTreeMap<String, Option<Values>>,
    path: Option<String>,
    status: Option<u16>,
    body: Option<String>,
    respond: Option<Box<Changes>>,
}

/// One value or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

/// What a request becomes.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes on; with a body in place of its own.
    GoesOn(Option<Bytes>),
    /// It is answered.
    Answered(http::Response<Body>),
}

impl Changes {
    /// Applies the answer to `/request`.
    pub(super) fn of_request(self, head: &mut request::Parts) -> Result<Verdict, String> {
        if let Some(answer) = self.respond {
            let (mut parts, ()) = http::Response::new(()).into_parts();
            let body = answer.of_response(&mut parts)?.unwrap_or_default();
            return Ok(Verdict::Answered(http::Response::from_parts(
                parts,
                Body::whole(body),
            )));
        }
        if self.status.is_some() {
            return Err("a status belongs into \"respond\"".to_owned());
        }
        if let Some(path) = self.path {
            let no_path = || format!("{path:?} is no path");
            let written: PathAndQuery = path.parse().map_err(|_| no_path())?;
            if !path.starts_with('/') {
                return Err(no_path());
            }
            let mut parts = head.uri.clone().into_parts();
            parts.path_and_query = Some(written);
            head.uri = Uri::from_parts(parts).map_err(|_| no_path())?;
        }
        write(&mut head.headers, self.headers)?;
        let body = self.body.map(|body| decoded(&body)).transpose()?;
        if body.is_some() {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        Ok(Verdict::GoesOn(body))
    }

    /// Applies the answer to `/response`; gives the body in place of the old one.
    pub(super) fn of_response(self, head: &mut response::Parts) -> Result<Option<Bytes>, String> {
        if self.respond.is_some() || self.path.is_some() {
            return Err("an answer has neither \"respond\" nor \"path\"".to_owned());
        }
        if let Some(status) = self.status {
            head.status = StatusCode::from_u16(status)
                .ok()
                // What is below is not the end of an exchange.
                .filter(|code| !code.is_informational())
                .ok_or_else(|| format!("{status} is no status"))?;
        }
        write(&mut head.headers, self.headers)?;
        let body = self.body.map(|body| decoded(&body)).transpose()?;
        if body.is_some() {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        Ok(body)
    }
}

fn decoded(body: &str) -> Result<Bytes, String> {
    STANDARD
        .decode(body)
        .map(Bytes::from)
        .map_err(|error| format!("the body is not base64: {error}"))
}

fn write(headers: &mut HeaderMap, changes: BTreeMap<String, Option<Values>>) -> Result<(), String> {
    for (name, values) in changes {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header"))?;
        if OWN_HEADERS.contains(&key) {
            return Err(format!("{name:?} is not the handler's to write"));
        }
        headers.remove(&key);
        let values = match values {
            None => Vec::new(),
            Some(Values::One(value)) => vec![value],
            Some(Values::Several(values)) => values,
        };
        for value in values {
            let value =
                HeaderValue::try_from(value).map_err(|_| format!("the value of {name:?} cannot be sent"))?;
            headers.append(&key, value);
        }
    }
    Ok(())
}
