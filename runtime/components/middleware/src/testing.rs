//! What the tests of all handlers share: opening one, calling it, seeing what came through.

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use outrigger_component::{Error, Host, Properties, Registration, Spec};
use outrigger_middleware::{Body, Middleware, Next, Pipeline};

/// Opens a handler of these properties.
pub(crate) async fn open(
    registration: Registration<dyn Middleware>,
    pairs: &[(&str, &str)],
) -> Result<Arc<dyn Middleware>, Error> {
    let spec = Spec {
        name: "handler".into(),
        type_name: registration.type_names[0].into(),
        version: "v1".into(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    let host = Host::new("app", env!("CARGO_MANIFEST_DIR"));
    (registration.validate)(&spec)?.run(host).await
}

/// A request without a body.
pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::builder().uri(uri).body(Body::Empty).unwrap()
}

/// A request with a body and its type.
pub(crate) fn post(uri: &str, content_type: &str, body: &str) -> Request<Body> {
    Request::builder()
        .method("POST")
        .uri(uri)
        .header("content-type", content_type)
        .body(Body::whole(body.to_owned()))
        .unwrap()
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// The request as the end of the pipeline got it, with its body; `None` where the handler answered itself.
    pub(crate) passed: Option<Request<String>>,
}

/// The end of the pipeline: remembers the request, answers 200 `inner`.
struct End(Arc<Mutex<Option<Request<String>>>>);

impl Next for End {
    fn run(self: Box<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            *self.0.lock().unwrap() = Some(Request::from_parts(head, text));
            Response::builder()
                .header("x-inner", "yes")
                .body(Body::whole("inner"))
                .unwrap()
        })
    }
}

/// Sends a request through a pipeline of this handler alone.
pub(crate) async fn call(handler: &Arc<dyn Middleware>, request: Request<Body>) -> Seen {
    let passed = Arc::new(Mutex::new(None));
    let pipeline = Pipeline::new(vec![Arc::clone(handler)]);
    let response = pipeline.run(request, Box::new(End(Arc::clone(&passed)))).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        passed: passed.lock().unwrap().take(),
    }
}

/// Serves a router on a port of its own; gives the base address.
pub(crate) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}
