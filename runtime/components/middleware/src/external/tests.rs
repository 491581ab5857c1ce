use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use http::{Request, Response};
use outrigger_component::{Error, Properties};
use outrigger_middleware::{Body, Middleware, Next, Pipeline};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{EXTERNAL, External, ExternalConfig};
use crate::testing::{Seen, call, get, open, post};

/// A handler that answers as it is told, and remembers what it was asked.
struct Process {
    folder: TempDir,
    asked: Asked,
}

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

impl Process {
    /// Answers `/request` and `/response` with a status and JSON.
    async fn start(request: (u16, Value), response: (u16, Value)) -> Self {
        let folder = TempDir::new().unwrap();
        let asked = Asked::default();
        let answer = |path: &'static str, (status, told): (u16, Value)| {
            routing::post(
                move |State(asked): State<Asked>, Json(question): Json<Value>| async move {
                    asked.lock().unwrap().push((path.to_owned(), question));
                    let status = StatusCode::from_u16(status).unwrap();
                    match status {
                        StatusCode::NO_CONTENT => status.into_response(),
                        _ => (status, told.to_string()).into_response(),
                    }
                },
            )
        };
        let router = Router::new()
            .route("/request", answer("/request", request))
            .route("/response", answer("/response", response))
            .with_state(Arc::clone(&asked));
        let listener = tokio::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { folder, asked }
    }

    async fn handler(&self, more: &[(&str, &str)]) -> Arc<dyn Middleware> {
        handler(&self.folder.path().join("socket"), more).await
    }
}

async fn handler(socket: &Path, more: &[(&str, &str)]) -> Arc<dyn Middleware> {
    let mut pairs = vec![("socket", socket.to_str().unwrap())];
    pairs.extend_from_slice(more);
    open(EXTERNAL, &pairs).await.unwrap()
}

const AS_IT_IS: (u16, Value) = (204, Value::Null);

fn failure(seen: &Seen) -> (u16, Value) {
    (seen.status, serde_json::from_str(&seen.body).unwrap())
}

#[tokio::test]
async fn a_request_goes_on_as_the_handler_leaves_it() {
    let process = Process::start(AS_IT_IS, AS_IT_IS).await;
    let handler = process.handler(&[("readBody", "true")]).await;
    let mut request = post("/v1.0//x/../state/s?a=b", "text/x", "hello");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request
        .headers_mut()
        .insert("traceparent", trace.parse().unwrap());
    request.headers_mut().append("x-two", "1".parse().unwrap());
    request.headers_mut().append("x-two", "2".parse().unwrap());
    let seen = call(&handler, request).await;
    assert_eq!((seen.status, seen.body.as_str()), (200, "inner"));
    assert_eq!(seen.passed.unwrap().body(), "hello");
    let asked = process.asked.lock().unwrap().clone();
    let (phase, question) = &asked[0];
    assert_eq!((asked.len(), phase.as_str()), (1, "/request"));
    assert_eq!(question["handler"], "handler");
    assert_eq!(question["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(question["method"], "POST");
    assert_eq!(question["path"], "/v1.0/state/s?a=b", "as it will be dispatched");
    assert_eq!(question["headers"]["x-two"], json!(["1", "2"]));
    assert_eq!(question["body"], STANDARD.encode("hello"));
    assert!(question.get("status").is_none());

    let changes = json!({
        "path": "/v1.0/state/t?c=d",
        "headers": {"x-two": null, "x-new": ["a", "b"], "x-one": "c"},
        "body": STANDARD.encode("bye"),
    });
    let process = Process::start((200, changes), AS_IT_IS).await;
    let mut request = post("/v1.0/state/s", "text/x", "hello");
    request.headers_mut().append("x-two", "1".parse().unwrap());
    let seen = call(&process.handler(&[]).await, request).await;
    let passed = seen.passed.unwrap();
    assert_eq!(
        (passed.uri().to_string().as_str(), passed.body().as_str()),
        ("/v1.0/state/t?c=d", "bye")
    );
    assert!(!passed.headers().contains_key("x-two"));
    assert_eq!(passed.headers().get_all("x-new").iter().count(), 2);
    assert_eq!(passed.headers()["x-one"], "c");
    let asked = process.asked.lock().unwrap().clone();
    assert!(
        asked[0].1.get("body").is_none(),
        "without readBody it is not shown"
    );
}

#[tokio::test]
async fn a_handler_answers_in_place_of_the_rest() {
    let respond =
        json!({"respond": {"status": 451, "headers": {"x-why": "law"}, "body": STANDARD.encode("no")}});
    let process = Process::start((200, respond), AS_IT_IS).await;
    let seen = call(&process.handler(&[("responses", "all")]).await, get("/")).await;
    assert_eq!((seen.status, seen.body.as_str()), (451, "no"));
    assert_eq!(seen.headers["x-why"], "law");
    assert!(seen.passed.is_none());
    assert_eq!(process.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn answers_are_seen_and_rewritten_where_that_is_wanted() {
    let changes = json!({"status": 202, "headers": {"x-inner": null, "x-outer": "1"}, "body": STANDARD.encode("other")});
    let process = Process::start(AS_IT_IS, (200, changes)).await;
    for (responses, status, body, asked) in [
        ("none", 200, "inner", 1),
        ("errors", 200, "inner", 1),
        ("all", 202, "other", 2),
    ] {
        process.asked.lock().unwrap().clear();
        let seen = call(&process.handler(&[("responses", responses)]).await, get("/")).await;
        assert_eq!((seen.status, seen.body.as_str()), (status, body), "{responses}");
        assert_eq!(seen.headers.contains_key("x-outer"), asked == 2);
        assert_eq!(process.asked.lock().unwrap().len(), asked, "{responses}");
    }
    let asked = process.asked.lock().unwrap().clone();
    assert_eq!(asked[1].1["status"], 200);
    assert_eq!(asked[1].1["body"], STANDARD.encode("inner"));
    assert_eq!(asked[1].1["headers"]["x-inner"], json!(["yes"]));
}

#[tokio::test]
async fn failures_name_the_handler_and_the_cause() {
    let folder = TempDir::new().unwrap();
    let seen = call(&handler(&folder.path().join("absent"), &[]).await, get("/")).await;
    let (status, body) = failure(&seen);
    assert_eq!(
        (status, &body["errorCode"]),
        (503, &json!("ERR_MIDDLEWARE_EXTERNAL"))
    );
    assert_eq!(body["handler"], "handler");
    assert!(
        body["message"].as_str().unwrap().starts_with("nobody is at"),
        "{body}"
    );
    assert!(seen.passed.is_none(), "a failure never lets a request pass");

    let long = "x".repeat(20 << 10);
    for (answer, cause) in [
        ((500, json!({"error": "out of tea"})), "out of tea"),
        ((404, json!("text")), "the handler answered with status 404"),
        (
            (200, json!({"hedaers": {}})),
            "the handler's answer cannot be read",
        ),
        ((200, json!({"status": 200})), "a status belongs into"),
        ((200, json!({"path": "http://evil.example/"})), "is no path"),
        ((200, json!({"path": "/a b"})), "is no path"),
        ((200, json!({"headers": {"a b": "c"}})), "is no header"),
        ((200, json!({"headers": {"a": "b\r\nc: d"}})), "cannot be sent"),
        (
            (200, json!({"headers": {"Content-Length": "1"}})),
            "is not the handler's",
        ),
        ((200, json!({"body": "%"})), "not base64"),
        ((200, json!({"respond": {"status": 101}})), "101 is no status"),
        ((200, json!({"respond": {"path": "/"}})), "neither"),
    ] {
        let process = Process::start(answer.clone(), AS_IT_IS).await;
        let seen = call(&process.handler(&[]).await, get("/")).await;
        let (status, body) = failure(&seen);
        assert_eq!(status, 500, "{answer:?}");
        assert!(body["message"].as_str().unwrap().contains(cause), "{body}");
        assert!(seen.passed.is_none());
    }
    let process = Process::start((200, json!({"body": long.repeat(20)})), AS_IT_IS).await;
    let seen = call(&process.handler(&[("maxBodySize", "1")]).await, get("/")).await;
    assert!(seen.body.contains("is larger than"), "{}", seen.body);
}

/// Accepts, and says nothing.
fn silent(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("silent");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    path
}

#[tokio::test]
async fn a_silent_handler_is_given_up_and_bounded() {
    let folder = TempDir::new().unwrap();
    let path = silent(&folder);
    let seen = call(&handler(&path, &[("timeout", "50ms")]).await, get("/")).await;
    assert_eq!(seen.status, 504);
    assert!(seen.body.contains("did not answer within 50ms"), "{}", seen.body);

    let bounded = handler(&path, &[("timeout", "1s"), ("maxConcurrency", "1")]).await;
    let (first, second) = tokio::join!(call(&bounded, get("/")), call(&bounded, get("/")));
    assert_eq!((first.status, second.status), (504, 503));
    assert!(second.body.contains("too many requests"), "{}", second.body);
}

#[tokio::test]
async fn wrong_metadata_is_said_at_the_start() {
    for pair in [
        ("socket", ""),
        ("timeout", "0s"),
        ("timeout", "soon"),
        ("responses", "some"),
        ("maxBodySize", "0"),
        ("maxConcurrency", "9999"),
    ] {
        let error: Error = open(EXTERNAL, &[("socket", "s"), pair]).await.unwrap_err();
        assert!(error.to_string().contains(pair.0), "{error}");
    }
}

/// The app behind, which always fails.
struct Broken;

impl Next for Broken {
    fn run(self: Box<Self>, _request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let response = Response::builder().status(500).body(Body::whole("no tea"));
        Box::pin(async { response.unwrap() })
    }
}

struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
async fn the_python_example_handles_requests_and_errors() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("tenants.sock");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/http-middleware/handler.py");
    let python = match Command::new("python3")
        .arg(example)
        .arg("--socket")
        .arg(&socket)
        .spawn()
    {
        Ok(child) => Python(child),
        Err(error) => {
            eprintln!("skipped: no python3: {error}");
            return;
        }
    };
    let there = async {
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), there)
        .await
        .unwrap();

    // Loaded machines start threads slowly.
    let handler = handler(&socket, &[("responses", "errors"), ("timeout", "60s")]).await;
    let ask = |name: &'static str, value: &'static str| {
        let mut request = get("/v1.0/metadata");
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let seen = call(&handler, get("/v1.0/metadata")).await;
    let (status, body) = failure(&seen);
    assert_eq!((status, &body["reason"]), (400, &json!("x-tenant is missing")));

    let seen = call(&handler, ask("x-tenant", "Blue")).await;
    let passed = seen.passed.unwrap();
    assert_eq!(
        (seen.status, passed.headers()["x-tenant"].to_str().unwrap()),
        (200, "blue")
    );
    assert_eq!(passed.headers()["x-handled-by"], "handler");

    let (status, body) = failure(&call(&handler, ask("x-fail", "1")).await);
    assert_eq!((status, &body["handler"]), (500, &json!("handler")));
    assert_eq!(body["message"], "ValueError: asked to fail");

    let pipeline = Pipeline::new(vec![Arc::clone(&handler)]);
    let response = pipeline.run(ask("x-tenant", "Blue"), Box::new(Broken)).await;
    assert_eq!(response.status(), 500);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body: Value = serde_json::from_slice(&response.into_body().as_whole().unwrap()).unwrap();
    assert_eq!(body, json!({"title": "the shop is closed", "detail": "no tea"}));

    // A handler before it in the pipeline rewrites its failure.
    drop(python);
    let gone = Properties::from_pairs([("socket", "s")]);
    let gone = External::new(ExternalConfig::parse("gone", &gone).unwrap(), socket);
    let changes = json!({"status": 502, "body": STANDARD.encode("rewritten")});
    let process = Process::start(AS_IT_IS, (200, changes)).await;
    let outer = process.handler(&[("responses", "errors")]).await;
    let pipeline = Pipeline::new(vec![outer, Arc::new(gone)]);
    let response = pipeline.run(get("/"), Box::new(Broken)).await;
    assert_eq!(
        (
            response.status().as_u16(),
            response.into_body().as_whole().unwrap()
        ),
        (502, "rewritten".into())
    );
    let asked = process.asked.lock().unwrap().clone();
    let told = STANDARD.decode(asked[1].1["body"].as_str().unwrap()).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(
        (&told["handler"], &told["errorCode"]),
        (&json!("gone"), &json!("ERR_MIDDLEWARE_EXTERNAL"))
    );
}
