use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use outrigger_bindings::{DynInputBinding, Event, EventHandler, suite};
use outrigger_component::{Error, ErrorKind, Host, Metadata, Properties, Spec};
use outrigger_types::Environment;
use tokio::{sync::Notify, time::Instant};

use super::{CRON, Clock, Cron, CronConfig, clock::go_text};

/// The time of day runs with tokio's clock, which the tests move.
#[derive(Debug)]
struct TestClock {
    start: Timestamp,
    since: Instant,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.start + self.since.elapsed()
    }
}

fn config(pairs: &[(&str, &str)]) -> Result<CronConfig, Error> {
    CronConfig::parse(&Properties::from_pairs(pairs.iter().copied()))
}

fn cron(pairs: &[(&str, &str)], start: &str) -> Arc<dyn DynInputBinding> {
    let clock = TestClock {
        start: start.parse().unwrap(),
        since: Instant::now(),
    };
    Arc::new(Cron::new(
        config(pairs).unwrap(),
        &Environment::from_pairs([("TZ", "UTC")]),
        Arc::new(clock),
    ))
}

/// Remembers when events came, and what with.
#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<(Duration, Metadata)>>,
    start: Mutex<Option<Instant>>,
    /// How long the app takes.
    takes: Duration,
}

impl Recorder {
    fn new(takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            start: Mutex::new(Some(Instant::now())),
            takes,
            ..Self::default()
        })
    }

    fn millis(&self) -> Vec<u128> {
        self.events
            .lock()
            .unwrap()
            .iter()
            .map(|(at, _)| at.as_millis())
            .collect()
    }
}

impl EventHandler for Recorder {
    fn handle(&self, event: Event) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            let at = self.start.lock().unwrap().unwrap().elapsed();
            self.events.lock().unwrap().push((at, event.metadata));
            tokio::time::sleep(self.takes).await;
            Err(Error::internal("refused"))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn periods_do_not_drift() {
    let cron = cron(&[("schedule", "@every 1s")], "2026-01-01T00:00:00.3Z");
    // Three seconds of work, three times the period: turns overlap and none is late.
    let recorder = Recorder::new(Duration::from_secs(3));
    let reading = cron.read(recorder.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60_500)).await;
    let expected: Vec<u128> = (1..=60).map(|second| second * 1000).collect();
    assert_eq!(recorder.millis(), expected);
    reading.close().await;
}

#[tokio::test(start_paused = true)]
async fn civil_times_fire_on_the_second() {
    let cron = cron(&[("schedule", "*/15 * * * * *")], "2026-01-01T00:00:07.25Z");
    let recorder = Recorder::new(Duration::ZERO);
    let reading = cron.read(recorder.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(recorder.millis(), [7750, 22750, 37750, 52750]);
    let (_, metadata) = recorder.events.lock().unwrap()[0].clone();
    assert_eq!(metadata["timeZone"], "UTC");
    assert_eq!(metadata["readTimeUTC"], "2026-01-01 00:00:15 +0000 UTC");
    drop(reading);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(recorder.millis().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn zones_decide_the_hour() {
    for (pairs, name) in [
        (
            vec![("schedule", "0 12 * * *"), ("timeZone", "America/New_York")],
            "America/New_York",
        ),
        (vec![("schedule", "CRON_TZ=America/New_York 0 12 * * *")], "UTC"),
        (vec![("schedule", "0 17 * * *")], "UTC"),
    ] {
        let cron = cron(&pairs, "2026-01-01T16:00:00Z");
        let recorder = Recorder::new(Duration::ZERO);
        let _reading = cron.read(recorder.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3601)).await;
        assert_eq!(recorder.millis(), [3_600_000]);
        assert_eq!(recorder.events.lock().unwrap()[0].1["timeZone"], name);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_event_under_way() {
    let cron = cron(&[("schedule", "@every 10s")], "2026-01-01T00:00:00Z");
    struct Slow(AtomicUsize, Notify);
    impl EventHandler for Slow {
        fn handle(&self, _event: Event) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
            Box::pin(async {
                self.1.notify_one();
                tokio::time::sleep(Duration::from_secs(5)).await;
                self.0.fetch_add(1, Ordering::SeqCst);
                Ok(None)
            })
        }
    }
    let slow = Arc::new(Slow(AtomicUsize::new(0), Notify::new()));
    let reading = cron.read(slow.clone()).await.unwrap();
    slow.1.notified().await;
    reading.close().await;
    assert_eq!(slow.0.load(Ordering::SeqCst), 1);
    reading.close().await;

    let reading = cron.read(slow.clone()).await.unwrap();
    cron.close().await.unwrap();
    reading.close().await;
    let Err(error) = cron.read(slow).await else {
        panic!("closed")
    };
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Closed, "binding is closed")
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_app_misses_events_instead_of_piling_them_up() {
    let cron = cron(&[("schedule", "@every 1s")], "2026-01-01T00:00:00Z");
    let recorder = Recorder::new(Duration::from_secs(1000));
    let _reading = cron.read(recorder.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(recorder.millis().len(), 64);
}

#[test]
fn schedules_are_checked() {
    for schedule in [
        "@every 1s",
        "*/3 * * * * *",
        "*/15 * * * *",
        "0 0 1 * *",
        "0 0 */6 ? * *",
        "@daily",
    ] {
        assert!(config(&[("schedule", schedule)]).is_ok(), "{schedule}");
    }
    let error = config(&[("schedule", "INVALID_SCHEDULE")]).unwrap_err();
    assert!(
        error
            .chain()
            .starts_with("invalid schedule format 'INVALID_SCHEDULE': ")
    );
    assert_eq!(config(&[]).unwrap_err().to_string(), "schedule not set");
    assert!(config(&[("schedule", "@every 0s")]).is_err());
    assert!(config(&[("schedule", "@daily"), ("timeZone", "Nowhere/Land")]).is_err());
}

#[test]
fn times_are_written_as_go_writes_them() {
    for (time, text) in [
        ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05 +0000 UTC"),
        ("2026-01-02T03:04:05.120Z", "2026-01-02 03:04:05.12 +0000 UTC"),
        (
            "2026-01-02T03:04:05.000000009Z",
            "2026-01-02 03:04:05.000000009 +0000 UTC",
        ),
    ] {
        assert_eq!(go_text(time.parse().unwrap()), text);
    }
}

#[tokio::test]
async fn it_is_an_input_only() {
    let spec = Spec {
        name: "tick".into(),
        type_name: "bindings.cron".into(),
        version: "v1".into(),
        properties: Properties::from_pairs([("schedule", "@every 1h")]),
    };
    let binding = (CRON.validate)(&spec)
        .unwrap()
        .run(Host::new("app", "/"))
        .await
        .unwrap();
    assert!(binding.input.is_some() && binding.output.is_none());
}

#[tokio::test(start_paused = true)]
async fn it_behaves_as_every_input() {
    for schedule in ["@every 1s", "* * * * * *"] {
        let cron = cron(&[("schedule", schedule)], "2026-01-01T00:00:00Z");
        suite::input(&cron, || tokio::time::sleep(Duration::from_millis(1100))).await;
    }
}
