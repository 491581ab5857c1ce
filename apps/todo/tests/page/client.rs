//! A small HTTP client for tests: JSON requests with a cookie, and server-sent events.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

#[derive(Clone)]
pub(crate) struct Visitor {
    pool: Pool<HttpConnector, Full<Bytes>>,
    pub(crate) url: String,
    cookie: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Visitor {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            pool: Pool::builder(TokioExecutor::new()).build_http(),
            url: url.to_owned(),
            cookie: String::new(),
        }
    }

    /// A visitor with a session of this user.
    pub(crate) async fn enter(url: &str, user: &str) -> Self {
        let mut visitor = Self::new(url);
        let body = serde_json::json!({"user": user});
        let answer = super::until("a session", async || {
            let answer = visitor.send("POST", "/api/session", Some(&body), &[]).await;
            answer.filter(|answer| answer.status == 200)
        })
        .await;
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        visitor.cookie = cookie.split(';').next().unwrap().to_owned();
        visitor
    }

    /// Sends a request; `None` if nobody answers.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Option<Answer> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("cookie", &self.cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Bytes::from(serde_json::to_vec(body).unwrap())
            }
            None => Bytes::new(),
        };
        let response = self
            .pool
            .request(request.body(Full::new(bytes)).unwrap())
            .await
            .ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, &[]).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body), &[]).await.expect("an answer")
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, Some(body), &[])
            .await
            .expect("an answer")
    }

    /// Adds a task and returns it.
    pub(crate) async fn add(&self, title: &str) -> Value {
        let answer = self
            .post("/api/tasks", &serde_json::json!({"title": title}))
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["task"].clone()
    }

    /// Opens the live stream.
    pub(crate) async fn stream(&self, after: u64) -> Stream {
        self.try_stream(after).await.expect("a live stream")
    }

    /// Opens the live stream; `None` if it cannot be had now.
    pub(crate) async fn try_stream(&self, after: u64) -> Option<Stream> {
        let request = http::Request::builder()
            .uri(format!("{}/api/events?after={after}", self.url))
            .header("cookie", &self.cookie)
            .body(Full::default())
            .unwrap();
        let response = self.pool.request(request).await.ok()?;
        (response.status() == 200).then(|| Stream {
            body: axum::body::Body::new(response.into_body()),
            text: String::new(),
        })
    }
}

/// An open live stream.
pub(crate) struct Stream {
    body: axum::body::Body,
    text: String,
}

impl Stream {
    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut event = Event::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event.name = name.to_owned(),
                        Some(("id", id)) => event.id = id.to_owned(),
                        Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                if !event.name.is_empty() {
                    return Some(event);
                }
                continue;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.text.push_str(std::str::from_utf8(data).unwrap());
            }
        }
    }

    /// The next event of this name, within some seconds.
    pub(crate) async fn wait(&mut self, name: &str) -> Event {
        let found = async {
            loop {
                let event = self.next().await.expect("the stream goes on");
                if event.name == name {
                    return event;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), found)
            .await
            .unwrap_or_else(|_| panic!("no {name} event"))
    }
}
