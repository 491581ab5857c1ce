//! Crashes and measurements with several processes: this test binary starts itself again in a role.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::future::BoxFuture;
use outrigger_component::Metadata;
use outrigger_pubsub::{BulkOptions, Delivery, Handler, OutgoingEntry, PubSub, SubscribeRequest, Verdict};

use super::{message, open, request};

const ROLE: &str = "OUTRIGGER_PUBSUB_TEST_ROLE";
const FOLDER: &str = "OUTRIGGER_PUBSUB_TEST_FOLDER";
/// Not `current_exe`: the file is gone when somebody rebuilds meanwhile, this still is it.
const EXE: &str = "/proc/self/exe";
const LIMIT: Duration = Duration::from_secs(60);

/// A child process in a role; its standard output line by line.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn start(role: &str, folder: &Path) -> Self {
        let mut child = Command::new(EXE)
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "pubsub::tests::processes::role",
            ])
            .env(ROLE, role)
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("> ")
                    && sender.send(rest.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// SIGKILL; answers the lines it still said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says something to the test that started this process.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {line}").and_then(|()| out.flush()).unwrap();
}

fn micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

/// Says every text it gets, then acknowledges.
struct Sayer;

impl Handler for Sayer {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            say(&String::from_utf8_lossy(&delivery.data));
            Verdict::Ack
        })
    }
}

/// The body of the child processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests below"]
async fn role() {
    let (Ok(role), Ok(folder)) = (std::env::var(ROLE), std::env::var(FOLDER)) else {
        return;
    };
    let broker = open(Path::new(&folder), &[]).await;
    match role.as_str() {
        "consumer" => {
            let subscription = PubSub::subscribe(&broker, request("crash", "app"), Arc::new(Sayer))
                .await
                .unwrap();
            std::future::pending::<()>().await;
            drop(subscription);
        }
        "publisher" => {
            let mut workers = Vec::new();
            for worker in 0..4 {
                let broker = broker.clone();
                workers.push(tokio::spawn(async move {
                    for number in 0.. {
                        let text = format!("{}-{worker}-{number}", std::process::id());
                        PubSub::publish(&broker, message("crash", &text, &[]))
                            .await
                            .unwrap();
                        say(&text);
                    }
                }));
            }
            for worker in workers {
                worker.await.unwrap();
            }
        }
        // Publishes its clock, slowly: the latency of one message at a time.
        "clock" => loop {
            let now = micros().to_string();
            PubSub::publish(&broker, message("clock", &now, &[]))
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        },
        // Publishes one by one from many tasks, 100 bytes each.
        "flood" => {
            let text = "x".repeat(100);
            let count: usize = 20_000;
            let next = Arc::new(AtomicUsize::new(0));
            let started = Instant::now();
            let workers: Vec<_> = (0..64)
                .map(|_| {
                    let (broker, text, next) = (broker.clone(), text.clone(), next.clone());
                    tokio::spawn(async move {
                        while next.fetch_add(1, Ordering::Relaxed) < count {
                            PubSub::publish(&broker, message("flood", &text, &[]))
                                .await
                                .unwrap();
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.await.unwrap();
            }
            say(&format!("{:.0}", count as f64 / started.elapsed().as_secs_f64()));
        }
        "flood-bulk" => {
            let started = Instant::now();
            for _ in 0..200 {
                let entries = (0..100)
                    .map(|number: usize| OutgoingEntry {
                        id: number.to_string().into(),
                        data: vec![b'x'; 100].into(),
                        content_type: None,
                        metadata: Metadata::new(),
                    })
                    .collect();
                let failures =
                    PubSub::publish_bulk(&broker, &"flood".into(), entries, &Metadata::new()).await;
                assert!(failures.is_empty(), "{failures:?}");
            }
            say(&format!("{:.0}", 20_000.0 / started.elapsed().as_secs_f64()));
        }
        // Passes on what it gets.
        "relay" => {
            let relay = Arc::new(Relay(broker.clone()));
            let subscription = PubSub::subscribe(&broker, request("asked", "app"), relay)
                .await
                .unwrap();
            std::future::pending::<()>().await;
            drop(subscription);
        }
        // Publishes its clock so many times a second, whether or not the last one was stored.
        other => {
            let Some(rate) = other
                .strip_prefix("ticks-")
                .and_then(|rate| rate.parse::<f64>().ok())
            else {
                panic!("no role {other}");
            };
            let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
            loop {
                ticks.tick().await;
                let broker = broker.clone();
                tokio::spawn(async move {
                    let now = format!("{:>400}", micros());
                    PubSub::publish(&broker, message("asked", &now, &[]))
                        .await
                        .unwrap();
                });
            }
        }
    }
}

/// Publishes again what it gets.
struct Relay(super::super::broker::SqlitePubSub);

impl Handler for Relay {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            let text = String::from_utf8_lossy(&delivery.data).into_owned();
            match PubSub::publish(&self.0, message("told", &text, &[])).await {
                Ok(()) => Verdict::Ack,
                Err(error) => Verdict::Retry(error),
            }
        })
    }
}

/// A2.6: a consumer killed again and again, and a publisher killed in the end, lose nothing that was acknowledged.
#[test]
fn kill_9_of_consumers_and_publishers_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let publisher = Process::start("publisher", folder.path());
    let mut published: HashSet<String> = HashSet::new();
    let mut delivered: HashSet<String> = HashSet::new();
    for round in 0..6 {
        let consumer = Process::start("consumer", folder.path());
        let started = Instant::now();
        let mut count = 0;
        // Kill it in the midst of work, at uneven points.
        while count < 50 + round * 17 {
            assert!(
                started.elapsed() < LIMIT,
                "the consumer of round {round} got {count} messages"
            );
            if let Ok(text) = consumer.lines.recv_timeout(Duration::from_millis(100)) {
                delivered.insert(text);
                count += 1;
            }
            published.extend(publisher.lines.try_iter());
        }
        delivered.extend(consumer.kill());
    }
    published.extend(publisher.kill());
    // How many depends on the machine; some must have been at risk.
    assert!(published.len() > 100, "{} published", published.len());
    let last = Process::start("consumer", folder.path());
    let started = Instant::now();
    while !published.is_subset(&delivered) {
        let missing = published.difference(&delivered).count();
        assert!(
            started.elapsed() < LIMIT,
            "{missing} of {} acknowledged messages are lost",
            published.len()
        );
        if let Ok(text) = last.lines.recv_timeout(Duration::from_millis(100)) {
            delivered.insert(text);
        }
    }
}

#[derive(Default)]
struct Clock(parking_lot::Mutex<Vec<u128>>, AtomicUsize);

impl Handler for Clock {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if let Ok(sent) = String::from_utf8_lossy(&delivery.data).trim().parse::<u128>() {
            self.0.lock().push(micros().saturating_sub(sent));
        }
        Box::pin(async { Verdict::Ack })
    }

    fn handle_bulk(&self, deliveries: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        self.1.fetch_add(deliveries.len(), Ordering::Relaxed);
        Box::pin(async move { deliveries.iter().map(|_| Verdict::Ack).collect() })
    }
}

/// Design §6, across two processes: p50 ≤ 5 ms, ≥ 3,000 msg/s durable, idle ≤ 0.1 % CPU. Run with
/// `cargo test --profile fast -p outrigger-components-sqlite -- --ignored --nocapture --exact
/// pubsub::tests::processes::across_two_processes`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
async fn across_two_processes() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path(), &[]).await;
    let clock = Arc::new(Clock::default());
    let subscription = PubSub::subscribe(&broker, request("clock", "app"), clock.clone())
        .await
        .unwrap();
    let publisher = Process::start("clock", folder.path());
    while clock.0.lock().len() < 1000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    publisher.kill();
    subscription.close().await;
    let mut times = clock.0.lock().clone();
    times.sort_unstable();
    println!(
        "latency publish to handler: p50 {} µs, p99 {} µs",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );

    for (role, bulk) in [
        ("flood", None),
        (
            "flood",
            Some(BulkOptions {
                max_messages: 100,
                max_wait: Duration::from_millis(5),
            }),
        ),
        ("flood-bulk", None),
        (
            "flood-bulk",
            Some(BulkOptions {
                max_messages: 100,
                max_wait: Duration::from_millis(5),
            }),
        ),
    ] {
        let counter = Arc::new(Clock::default());
        let asked = SubscribeRequest {
            bulk,
            ..request("flood", "app")
        };
        let subscription = PubSub::subscribe(&broker, asked, counter.clone()).await.unwrap();
        let flood = Process::start(role, folder.path());
        while counter.1.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let started = Instant::now();
        while counter.1.load(Ordering::Relaxed) < 20_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let rate = 20_000.0 / started.elapsed().as_secs_f64();
        let published = flood.lines.recv().unwrap();
        println!(
            "{role}, bulk subscription {}: published {published} msg/s, delivered {rate:.0} msg/s",
            bulk.is_some()
        );
        subscription.close().await;
    }

    let subscription = PubSub::subscribe(&broker, request("idle", "app"), Arc::new(Clock::default()))
        .await
        .unwrap();
    let (before, started) = (cpu_time(), Instant::now());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let used = (cpu_time() - before).as_secs_f64();
    println!(
        "idle: {:.3} % CPU",
        used / started.elapsed().as_secs_f64() * 100.0
    );
    subscription.close().await;
}

/// From a publisher over a process that passes on to this one, all on one file, at several rates. Run as the one above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
async fn along_three_processes() {
    for rate in [40, 400, 1000, 2000] {
        let folder = tempfile::tempdir().unwrap();
        let broker = open(folder.path(), &[]).await;
        let clock = Arc::new(Clock::default());
        let subscription = PubSub::subscribe(&broker, request("told", "app"), clock.clone())
            .await
            .unwrap();
        let _relay = Process::start("relay", folder.path());
        let publisher = Process::start(&format!("ticks-{rate}"), folder.path());
        while clock.0.lock().len() < 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        clock.0.lock().clear();
        tokio::time::sleep(Duration::from_secs(8)).await;
        let log = std::fs::metadata(folder.path().join("pubsub.db-wal")).map_or(0, |about| about.len());
        publisher.kill();
        let mut times = std::mem::take(&mut *clock.0.lock());
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize] as f64 / 1000.0;
        println!(
            "{rate}/s: {:.0}/s arrive, p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, most {:.1} ms, log {} KiB",
            times.len() as f64 / 8.0,
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            log / 1024
        );
        subscription.close().await;
    }
}

/// CPU time of all threads of this process, exact.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = |path: &Path| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat"))
            .ok()?
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    Duration::from_nanos(tasks.flatten().filter_map(|task| nanos(&task.path())).sum())
}
