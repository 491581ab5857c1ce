//! Metrics and log lines pushed to a receiver made of OpenTelemetry's own services (rows C6, O1).

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    logs::v1::{LogRecord, ScopeLogs},
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
};
use outrigger_telemetry::{
    Metrics,
    export::{OtlpOptions, OtlpProtocol, PushOptions, Signal},
    logs::{LogExport, LogLevel, LogOptions, MemorySink, dispatch},
    metrics::{HttpServerRequest, MetricsOptions},
};
use outrigger_types::Environment;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, metadata::MetadataMap};

/// A receiver that keeps what it is sent.
#[derive(Clone, Default)]
struct Receiver {
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    logs: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
    headers: Arc<Mutex<Vec<MetadataMap>>>,
    /// How many calls are to be refused before one is taken.
    refuse: Arc<AtomicU32>,
    /// Whether calls are never answered.
    hangs: Arc<AtomicBool>,
    /// How many records of each batch of logs it cannot use.
    rejects: Arc<AtomicU32>,
}

impl Receiver {
    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, logs) = (
            MetricsServiceServer::new(self.clone()),
            LogsServiceServer::new(self.clone()),
        );
        tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(metrics)
                .add_service(logs)
                .serve_with_incoming(crate::spans::tokio_stream(listener))
                .await
                .unwrap();
        });
        address
    }

    async fn admit(&self, headers: &MetadataMap) -> Result<(), Status> {
        self.headers.lock().unwrap().push(headers.clone());
        if self.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        let left = self.refuse.load(SeqCst);
        if left > 0 {
            self.refuse.store(left - 1, SeqCst);
            return Err(Status::unavailable("not now"));
        }
        Ok(())
    }

    fn metric(&self, name: &str) -> Option<(Resource, Metric)> {
        let requests = self.metrics.lock().unwrap();
        requests
            .iter()
            .rev()
            .flat_map(|request| &request.resource_metrics)
            .find_map(|resource| {
                let metric = resource
                    .scope_metrics
                    .iter()
                    .flat_map(|scope| &scope.metrics)
                    .find(|metric| metric.name == name)?;
                Some((resource.resource.clone().unwrap(), metric.clone()))
            })
    }

    fn scopes(&self) -> Vec<ScopeLogs> {
        let requests = self.logs.lock().unwrap();
        requests
            .iter()
            .flat_map(|request| &request.resource_logs)
            .flat_map(|resource| resource.scope_logs.clone())
            .collect()
    }

    fn records(&self) -> Vec<LogRecord> {
        self.scopes()
            .into_iter()
            .flat_map(|scope| scope.log_records)
            .collect()
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.admit(request.metadata()).await?;
        self.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.admit(request.metadata()).await?;
        self.logs.lock().unwrap().push(request.into_inner());
        let rejected = i64::from(self.rejects.load(SeqCst));
        Ok(Response::new(ExportLogsServiceResponse {
            partial_success: (rejected > 0).then(|| ExportLogsPartialSuccess {
                rejected_log_records: rejected,
                error_message: "too old".into(),
            }),
        }))
    }
}

fn to(address: SocketAddr) -> PushOptions {
    let mut options = PushOptions::new(
        "orders",
        OtlpOptions {
            endpoint: address.to_string(),
            protocol: OtlpProtocol::Grpc,
            is_secure: false,
            headers: vec!["x-key=secret".into()],
            timeout: Some(Duration::from_secs(5)),
        },
    );
    options.namespace = "shop".into();
    options.instance = "host-7".into();
    options.version = "1.18.2".into();
    options
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(5)
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{key} is {other:?}"),
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn some_metrics() -> Metrics {
    let metrics = Metrics::new(&MetricsOptions {
        app_id: "orders".into(),
        latency_buckets: vec![10.0, 100.0],
        increased_cardinality: true,
        ..MetricsOptions::default()
    })
    .unwrap();
    for (elapsed, status) in [(5, 200), (50, 200), (5_000, 200), (1, 500)] {
        metrics.http_server_request(&HttpServerRequest {
            method: "GET",
            path: "/v1.0/metadata",
            status,
            request_bytes: 0,
            response_bytes: 10,
            elapsed: Duration::from_millis(elapsed),
        });
    }
    metrics
}

#[tokio::test]
async fn metrics_are_pushed_at_an_interval_as_they_would_be_scraped() {
    let receiver = Receiver::default();
    let options = to(receiver.serve().await);
    let metrics = some_metrics();
    let push = metrics
        .push(&options, Some(Duration::from_millis(100)))
        .unwrap()
        .unwrap();
    until("two pushes", || receiver.metrics.lock().unwrap().len() >= 2).await;
    push.shutdown(soon()).await;

    let (resource, count) = receiver.metric("dapr_http_server_request_count").unwrap();
    for (key, value) in [
        ("service.name", "orders"),
        ("service.namespace", "shop"),
        ("service.instance.id", "host-7"),
        ("service.version", "1.18.2"),
    ] {
        assert_eq!(text(&resource.attributes, key).as_deref(), Some(value));
    }
    let Some(Data::Sum(sum)) = count.data else {
        panic!("a counter is a sum")
    };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let point = sum
        .data_points
        .iter()
        .find(|point| text(&point.attributes, "status").as_deref() == Some("200"))
        .unwrap();
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(3.0)));
    assert_eq!(text(&point.attributes, "path").as_deref(), Some("/v1.0/metadata"));
    assert!(point.start_time_unix_nano > 0 && point.start_time_unix_nano <= point.time_unix_nano);

    let Some(Data::Histogram(latency)) = receiver.metric("dapr_http_server_latency").unwrap().1.data else {
        panic!("latencies are a histogram")
    };
    let point = latency
        .data_points
        .iter()
        .find(|point| text(&point.attributes, "status").as_deref() == Some("200"))
        .unwrap();
    assert_eq!(point.explicit_bounds, [10.0, 100.0]);
    assert_eq!(point.bucket_counts, [1, 1, 1]);
    assert_eq!((point.count, point.sum), (3, Some(5_055.0)));
    assert!(matches!(
        receiver.metric("process_resident_memory_bytes").unwrap().1.data,
        Some(Data::Gauge(_))
    ));
    let headers = receiver.headers.lock().unwrap();
    assert_eq!(headers[0].get("x-key").unwrap(), "secret");
}

#[tokio::test]
async fn the_last_push_is_made_at_shutdown() {
    let receiver = Receiver::default();
    let options = to(receiver.serve().await);
    let push = some_metrics().push(&options, None).unwrap().unwrap();
    push.shutdown(soon()).await;
    assert_eq!(receiver.metrics.lock().unwrap().len(), 1);
}

/// Ten thousand series of one family would be one message of several megabytes.
#[tokio::test]
async fn many_series_go_in_several_messages() {
    let receiver = Receiver::default();
    let options = to(receiver.serve().await);
    let metrics = some_metrics();
    let families = metrics.families().unwrap();
    for family in 0..5 {
        let counter = families
            .counter(&format!("test/family_{family}"), "Many", &["app_id", "id"])
            .unwrap();
        for id in 0..900 {
            counter.with(
                &["orders", &id.to_string()],
                outrigger_telemetry::metrics::Counter::inc,
            );
        }
    }
    let push = metrics.push(&options, None).unwrap().unwrap();
    push.shutdown(soon()).await;
    let requests = receiver.metrics.lock().unwrap();
    let points: Vec<usize> = requests
        .iter()
        .map(|request| {
            request.resource_metrics[0].scope_metrics[0]
                .metrics
                .iter()
                .map(|metric| match metric.data.as_ref().unwrap() {
                    Data::Sum(sum) => sum.data_points.len(),
                    Data::Gauge(gauge) => gauge.data_points.len(),
                    Data::Histogram(histogram) => histogram.data_points.len(),
                    other => panic!("{other:?}"),
                })
                .sum()
        })
        .collect();
    assert_eq!(points[..2], [2_000, 2_000]);
    assert!(points.iter().sum::<usize>() > 4_500);
}

/// A program's log with its export.
struct Log {
    export: LogExport,
    dispatch: tracing::Dispatch,
    sink: MemorySink,
}

impl Log {
    fn new() -> Self {
        let export = LogExport::default();
        let sink = MemorySink::default();
        let options = LogOptions {
            level: LogLevel::Debug,
            app_id: Some("orders".into()),
            clock: Arc::new(|| (UNIX_EPOCH + Duration::new(1_763_720_000, 5), 0)),
            export: Some(export.clone()),
            ..LogOptions::new("host", "1.18.2")
        };
        let (dispatch, _) = dispatch(options, Arc::new(sink.clone()));
        Self {
            export,
            dispatch,
            sink,
        }
    }

    fn say(&self, log: impl FnOnce()) {
        tracing::dispatcher::with_default(&self.dispatch, log);
    }
}

#[tokio::test]
async fn log_lines_are_pushed_with_severity_scope_fields_and_ids_also_those_from_before() {
    let receiver = Receiver::default();
    let options = to(receiver.serve().await);
    let log = Log::new();
    log.say(|| tracing::info!(target: "dapr.runtime", "early"));
    let push = log.export.start(&options).unwrap();
    log.say(|| {
        let request = tracing::info_span!(
            target: "dapr.runtime",
            "request",
            trace_id = "4bf92f3577b34da6a3ce929d0e0e4736",
            span_id = "00f067aa0ba902b7"
        );
        let _inside = request.enter();
        tracing::warn!(target: "dapr.runtime.http", code = 500, method = "GET /", slow = true, "late");
        tracing::error!(target: "dapr.runtime", fatal = true, "the end");
    });
    push.shutdown(soon()).await;

    let scopes = receiver.scopes();
    let names: Vec<&str> = scopes
        .iter()
        .map(|scope| scope.scope.as_ref().unwrap().name.as_str())
        .collect();
    assert_eq!(names, ["dapr.runtime", "dapr.runtime.http"]);
    let records = receiver.records();
    let said: Vec<(String, i32, &str)> = records
        .iter()
        .map(|record| {
            let Some(Value::StringValue(body)) = record.body.clone().unwrap().value else {
                panic!("a body is text")
            };
            (body, record.severity_number, record.severity_text.as_str())
        })
        .collect();
    assert_eq!(
        said,
        [
            ("early".to_owned(), 9, "info"),
            ("the end".to_owned(), 21, "fatal"),
            ("late".to_owned(), 13, "warning"),
        ]
    );
    let late = &records[2];
    assert_eq!(late.time_unix_nano, 1_763_720_000_000_000_005);
    assert_eq!(late.trace_id[..2], [0x4b, 0xf9]);
    assert_eq!(late.span_id.len(), 8);
    let value = |key: &str| {
        let pair = late.attributes.iter().find(|pair| pair.key == key).unwrap();
        pair.value.clone().unwrap().value.unwrap()
    };
    assert_eq!(value("code"), Value::IntValue(500));
    assert_eq!(value("slow"), Value::BoolValue(true));
    assert_eq!(value("method"), Value::StringValue("GET /".into()));
    assert_eq!(late.attributes.len(), 3, "ids have places of their own");
    assert_eq!(log.sink.text().lines().count(), 3, "the sink has them too");
}

#[tokio::test]
async fn a_collector_that_is_away_for_a_moment_loses_nothing_and_rejected_records_are_counted() {
    let receiver = Receiver::default();
    receiver.refuse.store(1, SeqCst);
    receiver.rejects.store(1, SeqCst);
    let mut options = to(receiver.serve().await);
    options.environment = Environment::from_pairs([("OTEL_BLRP_SCHEDULE_DELAY", "1")]);
    let log = Log::new();
    let push = log.export.start(&options).unwrap();
    log.say(|| tracing::info!(target: "dapr.runtime", "a"));
    until("the second try", || receiver.records().len() == 1).await;
    assert_eq!(receiver.headers.lock().unwrap().len(), 2);
    let counts = options.counts.clone();
    until("the counts", || {
        counts.failed.value() == 1 && counts.sent.value() == 1
    })
    .await;
    push.shutdown(soon()).await;
}

#[tokio::test]
async fn a_collector_that_hangs_blocks_no_logging_thread_and_no_shutdown() {
    let receiver = Receiver::default();
    receiver.hangs.store(true, SeqCst);
    let metrics = some_metrics();
    let mut options = to(receiver.serve().await);
    options.counts = metrics.export_counts(Signal::Logs);
    options.environment = Environment::from_pairs([
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "10"),
    ]);
    let log = Log::new();
    let push = log.export.start(&options).unwrap();
    let began = SystemTime::now();
    log.say(|| {
        for _ in 0..1_000 {
            tracing::info!(target: "dapr.runtime", "line");
        }
    });
    assert!(began.elapsed().unwrap() < Duration::from_secs(2));
    push.shutdown(tokio::time::Instant::now() + Duration::from_millis(200))
        .await;
    assert!(began.elapsed().unwrap() < Duration::from_secs(4));
    assert_eq!(options.counts.dropped.value(), 990);
    let page = String::from_utf8(metrics.render()).unwrap();
    assert!(
        page.contains(r#"dapr_exporter_items_total{app_id="orders",result="dropped",signal="logs"} 990"#),
        "{page}"
    );
}

#[tokio::test]
async fn nothing_is_kept_once_the_push_is_declined() {
    let receiver = Receiver::default();
    let options = to(receiver.serve().await);
    let log = Log::new();
    log.say(|| tracing::info!(target: "dapr.runtime", "early"));
    log.export.decline();
    log.say(|| tracing::info!(target: "dapr.runtime", "forgotten"));
    let push = log.export.start(&options).unwrap();
    push.shutdown(soon()).await;
    assert!(receiver.records().is_empty());
}

/// A reload makes the next instance beside the one that still answers.
#[tokio::test]
async fn a_second_push_takes_over_and_the_end_of_the_first_does_not_stop_it() {
    let (first, second) = (Receiver::default(), Receiver::default());
    let log = Log::new();
    let old = log.export.start(&to(first.serve().await)).unwrap();
    log.say(|| tracing::info!(target: "dapr.runtime", "to the first"));
    let new = log.export.start(&to(second.serve().await)).unwrap();
    old.shutdown(soon()).await;
    log.say(|| tracing::info!(target: "dapr.runtime", "to the second"));
    new.shutdown(soon()).await;
    assert_eq!((first.records().len(), second.records().len()), (1, 1));
}
