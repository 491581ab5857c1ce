use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use outrigger_bindings::{
    Binding, Event, EventHandler, InputBinding, InvokeError, InvokeRequest, InvokeResponse, OutputBinding,
    Reading,
};
use outrigger_component::{Error, Metadata};
use outrigger_sidecar_api::{ApiError, Components};
use outrigger_sidecar_app_channel::{AppChannel, Protocol};
use outrigger_sidecar_blocks::{
    AppState, BindingsService, BindingsServiceOptions, InputBindings, InputBindingsOptions,
};
use outrigger_telemetry::{Tracer, trace::SpanContext};
use outrigger_wire::dapr::proto::runtime::v1::{
    BindingEventRequest, BindingEventResponse, InvokeBindingRequest, JobEventRequest, JobEventResponse,
    ListInputBindingsResponse, ListTopicSubscriptionsResponse, SaveStateRequest, TopicEventBulkRequest,
    TopicEventBulkResponse, TopicEventRequest, TopicEventResponse,
    app_callback_server::{AppCallback, AppCallbackServer},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};
use tonic::metadata::MetadataMap;

use crate::support::{
    Answer, call, channel, components, http_app, loaded, metrics, post, rendered, resilience,
    resilience_from, within,
};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// An output that keeps what it gets and fails where told to.
#[derive(Debug, Default)]
struct Sink {
    got: Mutex<Vec<InvokeRequest>>,
}

impl OutputBinding for Sink {
    fn operations(&self) -> Vec<&str> {
        vec!["create", "fail", "nothing"]
    }

    async fn invoke(&self, request: InvokeRequest) -> Result<Option<InvokeResponse>, InvokeError> {
        let operation = request.operation.clone();
        self.got.lock().unwrap().push(request.clone());
        let response = InvokeResponse {
            data: Some(request.data),
            metadata: Metadata::from([("statusCode".to_owned(), "404".to_owned())]),
            content_type: None,
        };
        match operation.as_str() {
            "fail" => Err(InvokeError {
                error: Error::internal("broken"),
                response: Some(response),
            }),
            "nothing" => Ok(None),
            _ => Ok(Some(response)),
        }
    }
}

/// An input that the test feeds by hand.
#[derive(Debug, Default)]
struct Source(Arc<Feed>);

#[derive(Default)]
struct Feed {
    handler: Mutex<Option<Arc<dyn EventHandler>>>,
    reads: AtomicUsize,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Feed")
    }
}

impl Feed {
    async fn send(&self, event: Event) -> Result<Option<Bytes>, Error> {
        let handler = self.handler.lock().unwrap().clone().unwrap();
        within(handler.handle(event)).await
    }

    fn reads(&self) -> bool {
        self.handler.lock().unwrap().is_some()
    }
}

struct Stop(Arc<Feed>);

impl Reading for Stop {
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { *self.0.handler.lock().unwrap() = None })
    }
}

impl InputBinding for Source {
    async fn read(&self, handler: Arc<dyn EventHandler>) -> Result<Box<dyn Reading>, Error> {
        *self.0.handler.lock().unwrap() = Some(handler);
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Stop(Arc::clone(&self.0))))
    }
}

fn output(bindings: Arc<Components<Binding>>, metrics: outrigger_telemetry::Metrics) -> Arc<BindingsService> {
    Arc::new(BindingsService::new(BindingsServiceOptions {
        bindings,
        resilience: resilience(),
        metrics,
    }))
}

fn sink(properties: &[(&str, &str)]) -> (Arc<Sink>, Arc<BindingsService>) {
    let sink = Arc::new(Sink::default());
    let binding = Binding {
        input: None,
        output: Some(Arc::clone(&sink) as _),
    };
    let bindings = components([loaded("out", "bindings.test", properties, binding)]);
    (sink, output(bindings, metrics()))
}

async fn invoke(service: &Arc<BindingsService>, name: &str, body: &str) -> Answer {
    let mut request = post(body);
    request
        .extensions_mut()
        .insert(SpanContext::from_traceparent(TRACEPARENT).unwrap());
    request.headers_mut().insert("baggage", "k=v".parse().unwrap());
    let params = [("name", name)];
    call(
        &service.endpoints(),
        Method::POST,
        "v1.0",
        "bindings/{name}",
        &params,
        request,
    )
    .await
}

/// A5.2: data is JSON again, trace context and baggage go along, metadata comes back in headers.
#[tokio::test]
async fn outputs_are_called() {
    let (sink, service) = sink(&[]);
    let body = r#"{"operation":"create","data":{"b": 1.0, "a":"<x>"},"metadata":{"m":"1"}}"#;
    let answer = invoke(&service, "out", body).await;
    assert_eq!(
        (answer.status, answer.text()),
        (StatusCode::OK, r#"{"a":"\u003cx\u003e","b":1}"#)
    );
    assert_eq!(answer.head.headers["metadata.statuscode"], "404");
    let got = sink.got.lock().unwrap().pop().unwrap();
    assert_eq!(got.metadata["traceparent"], TRACEPARENT);
    assert_eq!(got.metadata["baggage"], "k=v");
    assert_eq!(got.metadata["m"], "1");

    let answer = invoke(&service, "out", r#"{"operation":"create","data":"text"}"#).await;
    assert_eq!(answer.text(), "\"text\"");
    let answer = invoke(&service, "out", r#"{"operation":"create"}"#).await;
    assert_eq!(answer.text(), "null");
    let answer = invoke(&service, "out", r#"{"operation":"nothing"}"#).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn failures_keep_their_metadata() {
    let (_, service) = sink(&[]);
    let answer = invoke(&service, "out", r#"{"operation":"fail"}"#).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        answer.json()["message"],
        "error invoking output binding out: broken"
    );
    assert_eq!(answer.head.headers["metadata.statuscode"], "404");

    let request = InvokeBindingRequest {
        name: "out".to_owned(),
        operation: "fail".to_owned(),
        ..Default::default()
    };
    let outcome = service
        .grpc_invoke(request, &SpanContext::default(), &MetadataMap::new())
        .await;
    assert_eq!(
        outcome.headers,
        [("metadata.statuscode".to_owned(), "404".to_owned())]
    );
    assert_eq!(outcome.result.unwrap_err().grpc_code(), tonic::Code::Internal);
}

#[tokio::test]
async fn requests_are_checked() {
    let (_, service) = sink(&[]);
    for (name, body, message) in [
        ("out", "", "failed deserializing HTTP body: EOF"),
        (
            "out",
            "{}",
            "error invoking output binding out: operation field is missing from request",
        ),
        (
            "none",
            r#"{"operation":"create"}"#,
            "error invoking output binding none: couldn't find output binding none",
        ),
        (
            "out",
            r#"{"operation":"get"}"#,
            "error invoking output binding out: binding out does not support operation get. supported operations:create fail nothing",
        ),
    ] {
        assert_eq!(invoke(&service, name, body).await.json()["message"], message);
    }
    let (_, service) = sink(&[("direction", "input")]);
    let answer = invoke(&service, "out", r#"{"operation":"create"}"#).await;
    assert!(answer.text().contains("couldn't find output binding out"));
}

#[tokio::test]
async fn grpc_metadata_goes_on_to_the_component() {
    let (sink, service) = sink(&[]);
    let request = InvokeBindingRequest {
        name: "out".to_owned(),
        operation: "create".to_owned(),
        data: Bytes::from_static(b"raw"),
        metadata: [("mine".to_owned(), "1".to_owned())].into(),
    };
    let mut incoming = MetadataMap::new();
    incoming.insert("mine", "2".parse().unwrap());
    incoming.insert("other", "3".parse().unwrap());
    incoming.insert("grpc-x", "4".parse().unwrap());
    let trace = SpanContext::from_traceparent(TRACEPARENT).unwrap();
    let outcome = service.grpc_invoke(request.clone(), &trace, &incoming).await;
    assert_eq!(outcome.result.unwrap().data, "raw");
    let got = sink.got.lock().unwrap().pop().unwrap().metadata;
    assert_eq!(
        (
            got["mine"].as_str(),
            got["other"].as_str(),
            got["dapr-grpc-x"].as_str()
        ),
        ("1", "3", "4")
    );
    assert_eq!(got["traceparent"], TRACEPARENT);

    incoming.insert("baggage", "no baggage".parse().unwrap());
    let outcome = service.grpc_invoke(request, &trace, &incoming).await;
    assert_eq!(
        outcome.result.unwrap_err().grpc_code(),
        tonic::Code::InvalidArgument
    );
}

#[derive(Debug)]
struct Saved(mpsc::UnboundedSender<SaveStateRequest>);

impl AppState for Saved {
    fn save(&self, request: SaveStateRequest) -> BoxFuture<'_, Result<(), ApiError>> {
        let _ = self.0.send(request);
        Box::pin(async { Ok(()) })
    }
}

struct Inputs {
    feed: Arc<Feed>,
    sink: Arc<Sink>,
    saved: mpsc::UnboundedReceiver<SaveStateRequest>,
    metrics: outrigger_telemetry::Metrics,
    inputs: InputBindings,
}

fn inputs(
    app: Option<AppChannel>,
    properties: &[(&str, &str)],
    policies: Option<serde_json::Value>,
) -> Inputs {
    let feed = Arc::new(Feed::default());
    let sink = Arc::new(Sink::default());
    let input = Binding {
        input: Some(Arc::new(Source(Arc::clone(&feed)))),
        output: None,
    };
    let out = || Binding {
        input: None,
        output: Some(Arc::clone(&sink) as _),
    };
    let bindings = components([
        loaded("in", "bindings.test", properties, input),
        loaded("out", "bindings.test", &[], out()),
        loaded("out2", "bindings.test", &[], out()),
    ]);
    let metrics = metrics();
    let (sender, saved) = mpsc::unbounded_channel();
    let inputs = InputBindings::new(InputBindingsOptions {
        bindings: Arc::clone(&bindings),
        app,
        outputs: output(bindings, metrics.clone()),
        state: Some(Arc::new(Saved(sender))),
        resilience: policies.map_or_else(resilience, resilience_from),
        metrics: metrics.clone(),
        tracer: Tracer::disabled(),
        max_answer: 1 << 20,
    });
    Inputs {
        feed,
        sink,
        saved,
        metrics,
        inputs,
    }
}

fn event() -> Event {
    let metadata = [
        ("Key", "7"),
        ("Connection", "close"),
        ("bad name", "x"),
        ("traceparent", TRACEPARENT),
    ];
    Event {
        data: Bytes::from_static(b"{\"n\":1}"),
        metadata: metadata
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        content_type: None,
    }
}

/// A5.1: the app is asked by OPTIONS, gets events by POST at its route, and its body is the component's answer.
#[tokio::test]
async fn http_apps_get_events() {
    let (app, mut received) = http_app(|request| match request.path.as_str() {
        "/my/route" => (200, "done"),
        _ => (404, ""),
    })
    .await;
    let all = inputs(Some(app), &[("route", "/my/route")], None);
    all.inputs.start().await.unwrap();
    assert_eq!(all.inputs.active().await, ["in"]);
    assert_eq!(received.recv().await.unwrap().method, Method::OPTIONS);

    assert_eq!(all.feed.send(event()).await.unwrap().unwrap(), "done");
    let got = received.recv().await.unwrap();
    assert_eq!(
        (got.method, got.path.as_str(), &got.body[..]),
        (Method::POST, "/my/route", &b"{\"n\":1}"[..])
    );
    assert_eq!(got.head.headers["content-type"], "application/json");
    assert_eq!(got.head.headers["key"], "7");
    assert_eq!(got.head.headers["traceparent"], TRACEPARENT);
    assert!(rendered(&all.metrics).contains("dapr_component_input_binding_count"));
}

#[tokio::test]
async fn bindings_read_only_while_the_app_takes_them() {
    let (app, _received) = http_app(|_| (404, "")).await;
    let all = inputs(Some(app.clone()), &[], None);
    all.inputs.start().await.unwrap();
    assert!(!all.feed.reads());

    // The file says so: nobody is asked.
    let all = inputs(Some(app), &[("direction", "input")], None);
    all.inputs.opened("in").await;
    assert!(!all.feed.reads());
    all.inputs.start().await.unwrap();
    assert!(all.feed.reads());
    all.inputs.stop(false).await;
    assert!(!all.feed.reads());
    all.inputs.start().await.unwrap();
    all.inputs.closing("in").await;
    assert!(!all.feed.reads());
    all.inputs.opened("in").await;
    assert!(all.feed.reads());
    all.inputs.stop(true).await;
    all.inputs.start().await.unwrap();
    assert!(!all.feed.reads());
    assert_eq!(all.feed.reads.load(Ordering::Relaxed), 3);

    let all = inputs(None, &[("direction", "input")], None);
    assert!(all.inputs.start().await.is_err());
    let (app, _received) = http_app(|_| (405, "")).await;
    let all = inputs(Some(app), &[("direction", "output")], None);
    all.inputs.start().await.unwrap();
    assert!(!all.feed.reads());
}

/// A5.6: only 200 satisfies the policy; other successes are success all the same, the rest is the backend's to repeat.
#[tokio::test]
async fn statuses_decide_what_becomes_of_events() {
    let policies = json!({
        "metadata": {"name": "r"},
        "spec": {
            "policies": {"retries": {"twice": {"policy": "constant", "duration": "1ms", "maxRetries": 1}}},
            "targets": {"components": {"in": {"inbound": {"retry": "twice"}}}}
        }
    });
    for (status, taken, attempts) in [(200, true, 1), (202, true, 2), (500, false, 2)] {
        let (app, mut received) = http_app(move |_| (status, "body")).await;
        let all = inputs(Some(app), &[("direction", "input")], Some(policies.clone()));
        all.inputs.start().await.unwrap();
        let answer = all.feed.send(event()).await;
        assert_eq!(answer.is_ok(), taken);
        if let Err(error) = answer {
            assert_eq!(
                error.chain(),
                "fails to send binding event to http app channel, status code: 500 body: body"
            );
        }
        for _ in 0..attempts {
            received.recv().await.unwrap();
        }
        assert!(received.is_empty());
    }
}

#[tokio::test]
async fn answers_write_state_and_call_outputs() {
    let (app, _received) = http_app(|_| {
        (200, r#"{"storeName":"st","state":[{"key":"k","value":{"a":1}}],"to":["out","none","out2"],"data":{"x":1}}"#)
    })
    .await;
    let mut all = inputs(Some(app), &[("direction", "input")], None);
    all.inputs.start().await.unwrap();
    all.feed.send(event()).await.unwrap();
    let saved = all.saved.recv().await.unwrap();
    assert_eq!(
        (saved.store_name.as_str(), saved.states[0].key.as_str()),
        ("st", "k")
    );
    assert_eq!(saved.states[0].value, r#"{"a":1}"#);
    // One after the other, and the first failure ends it.
    let got = all.sink.got.lock().unwrap();
    assert_eq!(got.len(), 1);
    assert_eq!(
        (got[0].operation.as_str(), &got[0].data[..]),
        ("create", &br#"{"x":1}"#[..])
    );
}

/// A gRPC app that lists `in` and sends its events on.
struct GrpcApp(mpsc::UnboundedSender<(BindingEventRequest, MetadataMap)>);

#[tonic::async_trait]
impl AppCallback for GrpcApp {
    async fn on_invoke(
        &self,
        _: tonic::Request<outrigger_wire::dapr::proto::common::v1::InvokeRequest>,
    ) -> Result<tonic::Response<outrigger_wire::dapr::proto::common::v1::InvokeResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn list_topic_subscriptions(
        &self,
        _: tonic::Request<()>,
    ) -> Result<tonic::Response<ListTopicSubscriptionsResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn on_topic_event(
        &self,
        _: tonic::Request<TopicEventRequest>,
    ) -> Result<tonic::Response<TopicEventResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn on_bulk_topic_event(
        &self,
        _: tonic::Request<TopicEventBulkRequest>,
    ) -> Result<tonic::Response<TopicEventBulkResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn on_job_event(
        &self,
        _: tonic::Request<JobEventRequest>,
    ) -> Result<tonic::Response<JobEventResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn list_input_bindings(
        &self,
        _: tonic::Request<()>,
    ) -> Result<tonic::Response<ListInputBindingsResponse>, tonic::Status> {
        Ok(tonic::Response::new(ListInputBindingsResponse {
            bindings: vec!["in".to_owned()],
        }))
    }

    async fn on_binding_event(
        &self,
        request: tonic::Request<BindingEventRequest>,
    ) -> Result<tonic::Response<BindingEventResponse>, tonic::Status> {
        let (metadata, _, message) = request.into_parts();
        if message.data.is_empty() {
            return Err(tonic::Status::internal("no data"));
        }
        let _ = self.0.send((message, metadata));
        Ok(tonic::Response::new(BindingEventResponse {
            to: vec!["out".to_owned(), "none".to_owned(), "out2".to_owned()],
            data: Bytes::from_static(b"world hello"),
            concurrency: 1,
            ..Default::default()
        }))
    }
}

#[tokio::test]
async fn grpc_apps_get_events() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(AppCallbackServer::new(GrpcApp(sender)))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );
    let all = inputs(Some(channel(address, Protocol::Grpc)), &[], None);
    all.inputs.start().await.unwrap();
    assert_eq!(all.inputs.active().await, ["in"]);

    assert_eq!(all.feed.send(event()).await.unwrap().unwrap(), "world hello");
    let (message, metadata) = received.recv().await.unwrap();
    assert_eq!(
        (message.name.as_str(), &message.data[..]),
        ("in", &b"{\"n\":1}"[..])
    );
    assert_eq!(message.metadata["Key"], "7");
    assert_eq!(metadata.get("traceparent").unwrap(), TRACEPARENT);
    // In parallel a failure stands alone.
    assert_eq!(all.sink.got.lock().unwrap().len(), 2);

    let error = all.feed.send(Event::default()).await.unwrap_err();
    assert_eq!(
        error.chain(),
        "error invoking app: rpc error: code = Internal desc = no data"
    );
}
