//! Reads what exchanges said and what workers made of it, by a sidecar of its own: a group of its own in the broker,
//! which no kill of the pipeline's processes touches.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use outrigger_kit::client::StreamOptions;
use outrigger_kit::{Ack, Client, RetryPolicy};
use outrigger_market::pipeline::{EXCHANGES, Results, messages_topic, results_topic};
use outrigger_market::shapes::{Exchange, Tick, Update};
use parking_lot::Mutex;
use serde_json::Value;

use super::running::Pipeline;

/// A trade is told by all of this: an exchange that was killed counts from one again.
type Trade = (Exchange, String, u64, i64);

#[derive(Debug, Default)]
struct Seen {
    messages: BTreeSet<Trade>,
    results: BTreeSet<Trade>,
    /// Results that came again.
    repeats: u64,
    /// The event time of the newest result, and the age of each at its arrival, in ms.
    newest: BTreeMap<Exchange, i64>,
    ages: Vec<f64>,
}

/// The auditor's sidecar and what it has read.
pub(crate) struct Auditor {
    sidecar: Child,
    seen: Arc<Mutex<Seen>>,
}

fn trade(tick: &Tick) -> Trade {
    (
        tick.exchange,
        tick.symbol.clone(),
        tick.trade_id,
        // Messages of Binance tell milliseconds only.
        tick.event_time_ns / 1_000_000,
    )
}

pub(crate) fn now_ns() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

impl Auditor {
    /// Starts a sidecar beside the pipeline and reads all its topics.
    pub(crate) async fn start(pipeline: &Pipeline) -> Self {
        let [http, grpc] = outrigger_test_ports::free::<2>()
            .unwrap()
            .map(|port| port.to_string());
        let home = pipeline.home.path();
        let sidecar = Command::new(pipeline.programs.join("outrigger"))
            .args(["daprd", "--app-id", "auditor", "--log-level", "warn"])
            .args(["--dapr-http-port", &http, "--dapr-grpc-port", &grpc])
            .args(["--dapr-internal-grpc-port", "0", "--metrics-port", "0"])
            .arg("--resources-path")
            .arg(home.join("resources"))
            .current_dir(home)
            .env("OUTRIGGER_REGISTRY_DIR", home.join("registry"))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let client = Client::builder()
            .endpoint(format!("http://127.0.0.1:{http}"))
            .grpc_endpoint(format!("127.0.0.1:{grpc}"))
            .retry(RetryPolicy::new(8, Duration::from_millis(50)).unwrap())
            .build()
            .unwrap();
        client.wait_for_sidecar(Duration::from_secs(30)).await.unwrap();
        let auditor = Self {
            sidecar,
            seen: Arc::default(),
        };
        for exchange in EXCHANGES {
            auditor
                .read(&client, &messages_topic(exchange), exchange, false)
                .await;
            auditor
                .read(&client, &results_topic(exchange), exchange, true)
                .await;
        }
        auditor
    }

    async fn read(&self, client: &Client, topic: &str, exchange: Exchange, results: bool) {
        let mut deliveries = client
            .subscribe("pubsub", topic, StreamOptions::default())
            .await
            .unwrap();
        let seen = self.seen.clone();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let ticks = if results {
                    result_ticks(&delivery.event.data)
                } else {
                    message_ticks(exchange, &delivery.event.data)
                };
                seen.lock().note(&ticks, results);
                delivery.settle(Ack::Success);
            }
        });
    }

    /// Whether each exchange has a result of a trade after `moment`, nanoseconds since 1970.
    pub(crate) fn has_news_since(&self, moment: i64) -> bool {
        let seen = self.seen.lock();
        EXCHANGES
            .iter()
            .all(|exchange| seen.newest.get(exchange).is_some_and(|newest| *newest > moment))
    }

    /// How many trades were told by exchanges, how many of them have no result, and how many results came again.
    pub(crate) fn sums(&self) -> (usize, usize, u64) {
        let seen = self.seen.lock();
        let without = seen.messages.difference(&seen.results).count();
        (seen.messages.len(), without, seen.repeats)
    }

    /// Half, and 99 of 100, of the results were younger than this when they arrived, in ms.
    pub(crate) fn ages(&self) -> (f64, f64) {
        let mut ages = self.seen.lock().ages.clone();
        ages.sort_by(f64::total_cmp);
        let part = |share: usize| ages.get(ages.len().saturating_sub(1) * share / 100).copied();
        (part(50).unwrap_or_default(), part(99).unwrap_or_default())
    }

    /// Waits until every trade that an exchange told has its result.
    pub(crate) async fn settled(&self) {
        let began = Instant::now();
        loop {
            let (_, without, _) = self.sums();
            // Trades go on meanwhile, so there is always one under way: what counts is that none stays.
            if without == 0 {
                return;
            }
            if began.elapsed() > Duration::from_secs(60) {
                let seen = self.seen.lock();
                let lost: Vec<_> = seen.messages.difference(&seen.results).take(5).collect();
                panic!("{without} trades have no result: {lost:?} …");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Seen {
    fn note(&mut self, ticks: &[Tick], results: bool) {
        for tick in ticks {
            if !results {
                self.messages.insert(trade(tick));
            } else if self.results.insert(trade(tick)) {
                let newest = self.newest.entry(tick.exchange).or_insert(i64::MIN);
                *newest = (*newest).max(tick.event_time_ns);
                self.ages.push((now_ns() - tick.event_time_ns) as f64 / 1e6);
            } else {
                self.repeats += 1;
            }
        }
    }
}

fn result_ticks(data: &Value) -> Vec<Tick> {
    let Results(results) = Results::read(data.to_string().as_bytes()).expect("a result of ours");
    results.into_iter().map(|result| result.tick).collect()
}

fn message_ticks(exchange: Exchange, data: &Value) -> Vec<Tick> {
    let payload = data["Payload"]
        .as_str()
        .expect("the WebSocket manager's envelope");
    let message = base64::engine::general_purpose::STANDARD
        .decode(payload)
        .expect("base64");
    let updates = exchange.read(&message).unwrap_or_default().into_iter();
    updates
        .filter_map(|update| match update {
            Update::Trade(tick) => Some(tick),
            _ => None,
        })
        .collect()
}

impl Drop for Auditor {
    fn drop(&mut self) {
        super::running::signal("-TERM", self.sidecar.id());
        let _ = self.sidecar.wait();
    }
}
