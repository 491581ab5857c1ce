//! What was acknowledged survives the loss of power: `shim/unsynced.c`, preloaded into the sidecar, keeps a second
//! folder with only what was synced. The sidecar is killed under load and started again on that folder.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    app::{self, App},
    client::{Pool, request},
    eventually, program,
    random::{Random, seed},
    sidecar::{Launch, Sidecar},
};

/// Acknowledgements before the plug is pulled.
const ENOUGH: usize = 400;
const WORKERS: usize = 8;
const KEYS: usize = 4;

/// The shim, compiled once for all tests. `None` where it cannot work.
fn shim(test: &str) -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let shim = SHIM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let own = folder.join(format!("unsynced-{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&own)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/shim/unsynced.c"))
            .args(["-ldl", "-lpthread"])
            .status()
            .ok()?;
        assert!(compiled.success(), "the shim does not compile");
        // Runs beside one another never see half a library, and leave one.
        let library = folder.join("unsynced.so");
        std::fs::rename(own, &library).unwrap();
        Some(library)
    });
    if shim.is_none() {
        eprintln!("skipped {test}: there is no C compiler");
        return None;
    }
    let program = std::fs::read(program::ours().0).unwrap();
    // A static program has no loader that a library could be given to.
    if !program
        .windows(10)
        .any(|window| window == b"ld-linux-x" || window == b"ld-linux-a")
    {
        eprintln!("skipped {test}: the program is linked statically");
        return None;
    }
    shim.as_deref()
}

/// A folder and its shadow.
struct Disk {
    folder: TempDir,
    shim: &'static Path,
}

impl Disk {
    fn new(shim: &'static Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["disk", "shadow"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, shim }
    }

    /// Where files go.
    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("disk")
    }

    fn watched(&self, launch: Launch) -> Launch {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        launch
            .env("LD_PRELOAD", &text(self.shim))
            .env("UNSYNCED_ROOT", &text(&self.root()))
            .env("UNSYNCED_SHADOW", &text(&self.root().with_file_name("shadow")))
    }

    /// The power is back: the folder holds what was synced, as does the shadow of the next time.
    fn lose_power(&self) {
        let root = self.root();
        std::fs::remove_dir_all(&root).unwrap();
        std::fs::create_dir(&root).unwrap();
        for entry in std::fs::read_dir(root.with_file_name("shadow"))
            .unwrap()
            .map(Result::unwrap)
        {
            if entry.file_name().to_str().unwrap().starts_with(".unlinked-") {
                std::fs::remove_file(entry.path()).unwrap();
            } else {
                std::fs::copy(entry.path(), root.join(entry.file_name())).unwrap();
            }
        }
    }
}

/// What one key may hold: the last value that was acknowledged, or one that was sent after it.
#[derive(Debug, Clone, Default)]
struct Known {
    acknowledged: Option<u64>,
    sent: Option<Option<u64>>,
}

/// Every worker's keys. A worker changes only its own, one request at a time.
type Ledger = Arc<Mutex<Vec<Vec<Known>>>>;

fn key(worker: usize, key: usize) -> String {
    format!("w{worker}-k{key}")
}

/// Saves, deletes and transacts until the sidecar is gone.
async fn write_state(
    url: String,
    worker: usize,
    random: u64,
    ledger: Ledger,
    acknowledged: Arc<AtomicUsize>,
) {
    let mut random = Random::new(random, worker as u64);
    let pool = Pool::new();
    for number in 1.. {
        let first = random.below(KEYS);
        let entry = |at: usize| {
            // Sizes differ so that pages split and overflow.
            json!({"key": key(worker, at), "value": {"number": number, "padding": "x".repeat(number as usize * 37 % 3000)}})
        };
        let kind = random.below(10);
        let (touched, value) = match kind {
            0..7 => (vec![first], Some(number)),
            7 => (vec![first], None),
            _ => (vec![first, (first + 1) % KEYS], Some(number)),
        };
        for &at in &touched {
            ledger.lock().unwrap()[worker][at].sent = Some(value);
        }
        let json = [("content-type", "application/json")];
        let request = match kind {
            0..7 => request(Method::POST, &url, &json, json!([entry(first)]).to_string()),
            7 => request(Method::DELETE, &format!("{url}/{}", key(worker, first)), &[], ""),
            _ => {
                let operations: Vec<Value> = touched
                    .iter()
                    .map(|&at| json!({"operation": "upsert", "request": entry(at)}))
                    .collect();
                let body = json!({"operations": operations}).to_string();
                request(Method::POST, &format!("{url}/transaction"), &json, body)
            }
        };
        match pool.send(request).await {
            Ok(answer) if answer.status == 204 => {}
            Ok(answer) => panic!("refused: {} {}", answer.status, answer.text()),
            Err(_) => return,
        }
        let mut ledger = ledger.lock().unwrap();
        for &at in &touched {
            ledger[worker][at] = Known {
                acknowledged: value,
                sent: None,
            };
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Several lives of one store under load, each ended without warning. How many keys were not as acknowledged.
async fn lives_of_a_store(shim: &'static Path, synchronous: &str, lives: usize) -> usize {
    let disk = Disk::new(shim);
    let file = disk.root().join("state.db");
    let launch = || {
        Launch::new("durable").component(
            "statestore",
            "state.sqlite",
            &[
                ("connectionString", file.to_str().unwrap()),
                ("synchronous", synchronous),
            ],
        )
    };
    let ledger: Ledger = Arc::new(Mutex::new(vec![vec![Known::default(); KEYS]; WORKERS]));
    let mut lost = 0;
    for life in 0..lives {
        let mut sidecar = disk.watched(launch()).start().await;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let url = sidecar.url("/v1.0/state/statestore");
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let random = seed() + life as u64;
                tokio::spawn(write_state(
                    url.clone(),
                    worker,
                    random,
                    Arc::clone(&ledger),
                    Arc::clone(&acknowledged),
                ))
            })
            .collect();
        eventually("enough is acknowledged", || async {
            (acknowledged.load(Ordering::Relaxed) >= ENOUGH
                || workers.iter().any(tokio::task::JoinHandle::is_finished))
            .then_some(())
        })
        .await;
        sidecar.kill().await;
        for worker in workers {
            worker.await.unwrap();
        }
        assert!(
            acknowledged.load(Ordering::Relaxed) >= ENOUGH,
            "{}",
            sidecar.log()
        );
        disk.lose_power();
        let sidecar = launch().start().await;
        lost += read_back(&sidecar, &ledger).await;
        drop(sidecar);
        // The next life goes on from what was read, not from what the reader's own writes made of it.
        disk.lose_power();
    }
    lost
}

/// Compares every key; what is found is what is known from now on.
async fn read_back(sidecar: &Sidecar, ledger: &Ledger) -> usize {
    let pool = Pool::new();
    let mut lost = 0;
    for worker in 0..WORKERS {
        for at in 0..KEYS {
            let url = sidecar.url(&format!("/v1.0/state/statestore/{}", key(worker, at)));
            let answer = pool.send(request(Method::GET, &url, &[], "")).await.unwrap();
            let found = match answer.status {
                204 => None,
                200 => Some(answer.json()["number"].as_u64().unwrap()),
                other => panic!("{other}: {}", answer.text()),
            };
            let known = std::mem::replace(
                &mut ledger.lock().unwrap()[worker][at],
                Known {
                    acknowledged: found,
                    sent: None,
                },
            );
            if found != known.acknowledged && Some(found) != known.sent {
                eprintln!("{}: {found:?} where {known:?}", key(worker, at));
                lost += 1;
            }
        }
    }
    lost
}

#[tokio::test]
async fn acknowledged_state_survives_the_loss_of_power() {
    let Some(shim) = shim("acknowledged_state_survives_the_loss_of_power") else {
        return;
    };
    assert_eq!(lives_of_a_store(shim, "FULL", 3).await, 0);
}

#[tokio::test]
async fn state_that_is_not_synced_is_lost() {
    let Some(shim) = shim("state_that_is_not_synced_is_lost") else {
        return;
    };
    // The control: were nothing lost here, the test above would prove nothing.
    assert!(lives_of_a_store(shim, "OFF", 1).await > WORKERS);
    assert!(lives_of_a_store(shim, "NORMAL", 1).await > 0);
}

/// An app that has accepted some events.
struct Inbox {
    app: App,
    accepted: Arc<Mutex<BTreeSet<u64>>>,
    /// Refuses every other event while set.
    choosy: Arc<AtomicBool>,
}

impl Inbox {
    async fn open() -> Self {
        let accepted = Arc::new(Mutex::new(BTreeSet::new()));
        let choosy = Arc::new(AtomicBool::new(true));
        let (into, picks) = (Arc::clone(&accepted), Arc::clone(&choosy));
        let app = App::start(move |request| {
            let (into, picks) = (Arc::clone(&into), Arc::clone(&picks));
            async move {
                match request.uri().path() {
                    "/dapr/subscribe" => {
                        app::json(&json!([{"pubsubname": "pubsub", "topic": "events", "route": "/events"}]))
                    }
                    "/events" => {
                        let event: Value = serde_json::from_slice(request.body()).unwrap();
                        let number = event["data"]["number"].as_u64().unwrap();
                        if picks.load(Ordering::Relaxed) && number % 2 == 1 {
                            return app::json(&json!({"status": "RETRY"}));
                        }
                        into.lock().unwrap().insert(number);
                        app::json(&json!({"status": "SUCCESS"}))
                    }
                    _ => app::status(404),
                }
            }
        })
        .await;
        Self {
            app,
            accepted,
            choosy,
        }
    }

    fn has(&self, wanted: &BTreeSet<u64>) -> usize {
        let accepted = self.accepted.lock().unwrap();
        wanted.iter().filter(|number| accepted.contains(number)).count()
    }
}

/// Publishes until the sidecar is gone.
async fn publish(url: String, next: Arc<AtomicUsize>, acknowledged: Arc<Mutex<BTreeSet<u64>>>, bulk: bool) {
    let pool = Pool::new();
    let json = [("content-type", "application/json")];
    loop {
        let count = if bulk { 5 } else { 1 };
        let first = next.fetch_add(count, Ordering::Relaxed) as u64;
        let numbers: Vec<u64> = (first..first + count as u64).collect();
        let request = if bulk {
            let entries: Vec<Value> = numbers
                .iter()
                .map(|number| {
                    json!({"entryId": number.to_string(), "event": {"number": number}, "contentType": "application/json"})
                })
                .collect();
            request(
                Method::POST,
                &format!("{url}/v1.0/publish/bulk/pubsub/events"),
                &json,
                Value::from(entries).to_string(),
            )
        } else {
            request(
                Method::POST,
                &format!("{url}/v1.0/publish/pubsub/events"),
                &json,
                json!({"number": first}).to_string(),
            )
        };
        match pool.send(request).await {
            Ok(answer) if answer.status == 204 => acknowledged.lock().unwrap().extend(numbers),
            Ok(answer) => panic!("refused: {} {}", answer.status, answer.text()),
            Err(_) => return,
        }
    }
}

/// Publishes under load, pulls the plug, and counts the acknowledged events that the app never accepts.
async fn lost_events(shim: &'static Path, synchronous: &str) -> usize {
    let disk = Disk::new(shim);
    let inbox = Inbox::open().await;
    let file = disk.root().join("pubsub.db");
    let launch = || {
        Launch::new("durable-events").component(
            "pubsub",
            "pubsub.sqlite",
            &[
                ("connectionString", file.to_str().unwrap()),
                ("synchronous", synchronous),
                ("redeliverInterval", "100ms"),
                ("redeliverMaxInterval", "500ms"),
                ("leaseDuration", "2s"),
            ],
        )
    };
    let mut sidecar = disk.watched(launch()).start_with_app(inbox.app.port).await;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let next = Arc::new(AtomicUsize::new(1));
    let publishers: Vec<_> = (0..4)
        .map(|worker| {
            tokio::spawn(publish(
                sidecar.url(""),
                Arc::clone(&next),
                Arc::clone(&acknowledged),
                worker == 0,
            ))
        })
        .collect();
    eventually("enough is published and some is delivered", || async {
        (acknowledged.lock().unwrap().len() >= ENOUGH && inbox.accepted.lock().unwrap().len() >= ENOUGH / 8)
            .then_some(())
    })
    .await;
    sidecar.kill().await;
    for publisher in publishers {
        publisher.await.unwrap();
    }
    disk.lose_power();
    inbox.choosy.store(false, Ordering::Relaxed);
    let _sidecar = launch().start_with_app(inbox.app.port).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    // Done when all are there, or when nothing has come for long after every lease and redelivery is due.
    let (began, mut last, mut seen) = (std::time::Instant::now(), std::time::Instant::now(), 0);
    while began.elapsed() < PATIENCE && last.elapsed() < Duration::from_secs(8) {
        let now = inbox.has(&acknowledged);
        if now == acknowledged.len() {
            return 0;
        }
        if now != seen {
            (seen, last) = (now, std::time::Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    acknowledged.len() - seen
}

#[tokio::test]
async fn acknowledged_events_survive_the_loss_of_power() {
    let Some(shim) = shim("acknowledged_events_survive_the_loss_of_power") else {
        return;
    };
    assert_eq!(lost_events(shim, "FULL").await, 0);
}

#[tokio::test]
async fn events_that_are_not_synced_are_lost() {
    let Some(shim) = shim("events_that_are_not_synced_are_lost") else {
        return;
    };
    assert!(lost_events(shim, "OFF").await > 0);
}
