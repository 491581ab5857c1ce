//! Requests, and what comes back in a form that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Calls one instance.
#[derive(Clone)]
pub(crate) struct Caller {
    pool: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    pub(crate) body: Value,
}

impl Caller {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            pool: Client::builder(TokioExecutor::new()).build_http(),
            url: url.to_owned(),
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.try_send(method, path, body, headers)
            .await
            .expect("an answer")
    }

    /// `None` if nobody answers.
    async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Option<Answer> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = request.body(Full::new(bytes)).unwrap();
        let (head, body) = self.pool.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer {
            status: head.status.as_u16(),
            retry_after: head.headers.contains_key("retry-after"),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, &[]).await
    }

    pub(crate) async fn add(&self, user: &str, title: &str) -> Answer {
        let body = json!({"title": title});
        self.send("POST", &format!("/users/{user}/tasks"), Some(&body), &[])
            .await
    }

    /// Waits until the service is ready.
    pub(crate) async fn ready(&self) {
        until("the service is ready", async || {
            let answer = self.try_send("GET", "/health/ready", None, &[]).await?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Waits until events arrive: RabbitMQ drops what comes before a queue was ever bound.
    pub(crate) async fn connected(&self) {
        until("an event has arrived", async || {
            let user = uuid::Uuid::new_v4().simple().to_string();
            assert_eq!(self.add(&user, "Early").await.status, 201);
            let one = json!({"created": 1, "completed": 0, "deleted": 0});
            let counted = self.counted(&user, &one);
            let counted = tokio::time::timeout(Duration::from_secs(3), counted).await;
            counted.is_ok().then_some(())
        })
        .await;
    }

    /// Waits until so much was counted today, as the overview tells it.
    pub(crate) async fn counted(&self, user: &str, today: &Value) -> Answer {
        until("it is counted", async || {
            let answer = self.get(&format!("/users/{user}/overview")).await;
            (answer.body["today"] == *today).then_some(answer)
        })
        .await
    }
}

/// Waits until `condition` holds and returns what it found.
pub(crate) async fn until<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut condition: F) -> T {
    let wait = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Answers in a form that does not depend on the run: ids are numbered, times have gone.
#[derive(Default)]
struct Transcript {
    lines: Vec<String>,
    ids: BTreeMap<String, usize>,
}

impl Transcript {
    fn note(&mut self, what: &str, answer: &Answer) {
        let mut body = answer.body.clone();
        self.neutral(&mut body);
        self.lines.push(format!("{what}: {} {body}", answer.status));
    }

    fn neutral(&mut self, value: &mut Value) {
        match value {
            Value::String(text) if uuid::Uuid::parse_str(text).is_ok() => {
                let next = self.ids.len();
                let number = *self.ids.entry(text.clone()).or_insert(next);
                *text = format!("id {number}");
            }
            Value::Number(number) if number.as_i64().is_some_and(|number| number > 1_000_000_000_000) => {
                *value = json!("a time");
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.neutral(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.neutral(field)),
            _ => {}
        }
    }
}

/// A user's life: each request goes to the one or the other instance.
pub(crate) async fn ordinary(tasks: &[Caller; 2], user: &str) -> Vec<String> {
    let [one, two] = tasks;
    let mut transcript = Transcript::default();
    let list = format!("/users/{user}/tasks");
    transcript.note("an empty list", &one.get(&list).await);
    let key = [("idempotency-key", "first")];
    let body = json!({"title": "  Tea \n time "});
    let first = one.send("POST", &list, Some(&body), &key).await;
    transcript.note("a task", &first);
    transcript.note(
        "the same again",
        &two.send("POST", &list, Some(&body), &key).await,
    );
    transcript.note("no title", &two.add(user, " ").await);
    transcript.note("a long title", &one.add(user, &"x".repeat(201)).await);
    let task = format!("{list}/{}", first.body["task"]["id"].as_str().unwrap());
    let done = json!({"done": true});
    transcript.note("done", &two.send("PATCH", &task, Some(&done), &[]).await);
    transcript.note("done before", &one.send("PATCH", &task, Some(&done), &[]).await);
    let late = json!({"title": "Late", "ifRev": 1});
    transcript.note("too late", &one.send("PATCH", &task, Some(&late), &[]).await);
    transcript.note("a second task", &two.add(user, "Coffee").await);
    transcript.note("a third task", &one.add(user, "Water").await);
    transcript.note("both see them", &two.get(&list).await);
    let unknown = format!("{list}/unknown");
    transcript.note("unknown", &one.send("DELETE", &unknown, None, &[]).await);
    transcript.note("removed", &two.send("DELETE", &task, None, &[]).await);
    transcript.note("cleared", &one.send("DELETE", &list, None, &[]).await);
    let wrong = one.get("/users/No%20body/tasks").await;
    transcript.note("no user", &wrong);
    transcript.note("nothing there", &one.get("/nothing").await);

    let writers = (0..12).map(|number| {
        let writer = tasks[number % 2].clone();
        let user = user.to_owned();
        tokio::spawn(async move { writer.add(&user, &format!("task {number}")).await })
    });
    let mut revisions = BTreeSet::new();
    for writer in writers.collect::<Vec<_>>() {
        let answer = writer.await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        revisions.insert(answer.body["rev"].as_u64().unwrap());
    }
    transcript
        .lines
        .push(format!("revisions of their own: {revisions:?}"));

    let today = json!({"created": 15, "completed": 1, "deleted": 1});
    let overview = one.counted(user, &today).await;
    transcript.note(
        "counted",
        &Answer {
            body: overview.body["today"].clone(),
            ..overview
        },
    );
    transcript.lines
}
