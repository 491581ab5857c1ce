//! HTTP clients: one that is right and one that can be wrong on purpose.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    async fn of(response: Response<Incoming>) -> Result<Self, String> {
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        Ok(Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or_default())
    }
}

/// Sends one request over a connection of its own.
pub(crate) async fn send(request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let authority = request
        .uri()
        .authority()
        .expect("an absolute URL")
        .as_str()
        .to_owned();
    let stream = TcpStream::connect(&authority)
        .await
        .map_err(|error| error.to_string())?;
    over(stream, request).await
}

async fn over<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let (mut head, body) = request.into_parts();
    if !head.headers.contains_key(http::header::HOST) {
        let host = head
            .uri
            .authority()
            .map_or("localhost", |authority| authority.as_str());
        head.headers.insert(http::header::HOST, host.parse().unwrap());
    }
    head.uri = head
        .uri
        .path_and_query()
        .expect("a path")
        .as_str()
        .parse()
        .unwrap();
    let sending = sender.send_request(Request::from_parts(head, body));
    Answer::of(sending.await.map_err(|error| error.to_string())?).await
}

/// Sends one request over a Unix socket.
pub(crate) async fn send_unix(socket: &Path, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| error.to_string())?;
    over(stream, request).await
}

pub(crate) fn request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

pub(crate) async fn get(url: &str) -> Result<Answer, String> {
    send(request(Method::GET, url, &[], "")).await
}

pub(crate) async fn post(url: &str, body: &serde_json::Value) -> Result<Answer, String> {
    send(request(
        Method::POST,
        url,
        &[("content-type", "application/json")],
        body.to_string(),
    ))
    .await
}

/// Sends requests over connections that stay open, for tests that send many.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Client<HttpConnector, Full<Bytes>>);

impl Pool {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        Answer::of(
            self.0
                .request(request)
                .await
                .map_err(|error| format!("{error:?}"))?,
        )
        .await
    }
}

/// What came back for bytes that need not be a request.
#[derive(Debug)]
pub(crate) enum Raw {
    /// The connection was closed without a word.
    Closed,
    /// Nothing within the time.
    Silent,
    /// An answer.
    Answered(Answer),
}

/// Sends bytes as they are and reads until the end of the answer.
pub(crate) async fn send_raw(port: u16, bytes: &[u8], within: Duration) -> Raw {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        // A server may answer and close before it has read everything: both at once, and errors are ends.
        let write = async {
            let _ = writer.write_all(bytes).await;
            std::future::pending::<()>().await;
        };
        let read = async {
            let mut chunk = vec![0; 64 << 10];
            while let Ok(length) = reader.read(&mut chunk).await {
                if length == 0 {
                    break;
                }
                answer.extend_from_slice(&chunk[..length]);
            }
        };
        tokio::select! { () = write => {} () = read => {} }
        answer
    };
    match tokio::time::timeout(within, exchange).await {
        Err(_) => Raw::Silent,
        Ok(answer) if answer.is_empty() => Raw::Closed,
        Ok(answer) => Raw::Answered(parse(&answer)),
    }
}

/// Splits an answer that ends with its connection.
fn parse(bytes: &[u8]) -> Answer {
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no end of the head: {}", shown()));
    let head = std::str::from_utf8(&bytes[..end]).unwrap_or_else(|_| panic!("not text: {}", shown()));
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok());
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .unwrap_or_else(|| panic!("not a header: {line:?}"));
        headers.append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            http::HeaderValue::from_str(value.trim()).unwrap(),
        );
    }
    let rest = &bytes[end + 4..];
    let status = status.unwrap_or_else(|| panic!("no status: {}", shown()));
    if status == 100 {
        return parse(rest);
    }
    let chunked = headers
        .get("transfer-encoding")
        .is_some_and(|value| value == "chunked");
    let body = if chunked { unchunk(rest) } else { rest.to_vec() };
    Answer {
        status,
        headers,
        body: body.into(),
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size.filter(|size| *size > 0 && bytes.len() >= end + 4 + size) else {
            break;
        };
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    body
}
