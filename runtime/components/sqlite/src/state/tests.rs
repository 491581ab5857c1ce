use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use outrigger_component::{Host, Properties, Spec};
use outrigger_state::{
    Expect, KeyPattern, Operation, ReadOptions, SharedStateStore, Ttl, Value, WriteOptions,
    suite::{self, expecting, set},
};
use outrigger_types::StateKey;
use rusqlite::Connection;
use tempfile::TempDir;

use super::registration;

async fn open(folder: &TempDir, pairs: &[(&str, &str)]) -> SharedStateStore {
    try_open(folder, pairs).await.unwrap()
}

async fn try_open(
    folder: &TempDir,
    pairs: &[(&str, &str)],
) -> Result<SharedStateStore, outrigger_component::Error> {
    let spec = Spec {
        name: "store".into(),
        type_name: "state.sqlite".into(),
        version: "v1".into(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    (registration().validate)(&spec)?
        .run(Host::new("app", folder.path()))
        .await
}

fn raw(folder: &TempDir) -> Connection {
    let connection = Connection::open(folder.path().join("state.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_behaves_as_a_state_store() {
    let folder = TempDir::new().unwrap();
    let mut number = 0;
    suite::run(|| {
        number += 1;
        let path = format!("file:state-{number}.db");
        let folder = &folder;
        async move { open(folder, &[("connectionString", &path)]).await }
    })
    .await;
}

#[tokio::test]
async fn memory_and_rollback_journal_behave_as_a_state_store() {
    let folder = TempDir::new().unwrap();
    suite::run(|| open(&folder, &[("connectionString", ":memory:")])).await;
    let mut number = 0;
    suite::run(|| {
        number += 1;
        let path = format!("journal-{number}.db");
        let folder = &folder;
        async move {
            open(
                folder,
                &[("url", &path), ("disableWAL", "true"), ("synchronous", "off")],
            )
            .await
        }
    })
    .await;
}

#[test]
fn lists_the_names_upstream_lists() {
    let folder = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = runtime.block_on(open(&folder, &[("connectionString", ":memory:")]));
    assert_eq!(
        store.capabilities().names(),
        ["ETAG", "TRANSACTIONAL", "TTL", "KEYS_LIKE"]
    );
}

#[tokio::test]
async fn metadata_errors_have_upstreams_text() {
    let folder = TempDir::new().unwrap();
    for (pairs, text) in [
        (&[][..], "missing connection string"),
        (
            &[("url", "a.db"), ("tableName", "a b")],
            "invalid identifier: a b",
        ),
        (
            &[("url", "a.db"), ("metadataTableName", "")],
            "invalid identifier: ",
        ),
    ] {
        assert_eq!(try_open(&folder, pairs).await.unwrap_err().to_string(), text);
    }
    assert!(try_open(&folder, &[("url", "absent-folder/a.db")]).await.is_err());
}

/// The peer's Go tests make the tables themselves and read and write rows while we run (suite-map §1.5).
#[tokio::test]
async fn rows_are_those_of_the_go_component() {
    let folder = TempDir::new().unwrap();
    let peer = raw(&folder);
    peer.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL);
         INSERT INTO metadata VALUES ('migrations', '1');
         CREATE TABLE inttest (
            key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, is_binary BOOLEAN NOT NULL, etag TEXT NOT NULL,
            expiration_time TIMESTAMP DEFAULT NULL, update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
         INSERT INTO inttest (key, value, is_binary, etag) VALUES
            ('b', 'AAH/', 1, 'one'), ('t', 'AAH/', true, 'two'), ('j', '{\"a\":1}', 0, 'three');
         INSERT INTO inttest VALUES ('old', '1', 0, 'e', '2001-01-01 00:00:00', CURRENT_TIMESTAMP);
         INSERT INTO inttest VALUES ('new', '1', 0, 'e', '2101-01-01 00:00:00', CURRENT_TIMESTAMP);",
    )
    .unwrap();
    let path = format!("file:{}", folder.path().join("state.db").display());
    let store = open(
        &folder,
        &[
            ("connectionString", &path),
            ("tableName", "inttest"),
            ("actorStateStore", "true"),
        ],
    )
    .await;

    let options = ReadOptions::default();
    for key in ["b", "t"] {
        let item = store.get(&key.into(), &options).await.unwrap().unwrap();
        assert_eq!(item.value, Value::Binary(Bytes::from_static(&[0, 1, 255])));
    }
    let item = store.get(&"j".into(), &options).await.unwrap().unwrap();
    assert_eq!(
        (item.value, item.etag.unwrap().as_str()),
        (Value::Json(Bytes::from_static(br#"{"a":1}"#)), "three")
    );
    assert!(store.get(&"old".into(), &options).await.unwrap().is_none());
    let expires = store
        .get(&"new".into(), &options)
        .await
        .unwrap()
        .unwrap()
        .expires
        .unwrap();
    assert_eq!(
        expires.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
        4_133_980_800
    );

    let mut binary = set("mine", "");
    if let Operation::Set { value, ttl, .. } = &mut binary {
        *value = Value::Binary(Bytes::from_static(&[0, 1, 255]));
        *ttl = Ttl::Seconds(100);
    }
    store
        .transact(vec![
            binary,
            set("json", r#"{"x":"ü"}"#),
            expecting(set("old", "2"), Expect::Absent),
        ])
        .await
        .unwrap();
    let row = |key: &str| {
        peer.query_row(
            "SELECT value, typeof(value), is_binary, typeof(is_binary), length(etag),
                expiration_time IS NULL OR expiration_time = DATETIME(update_time, '+100 seconds'),
                COALESCE(expiration_time GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]', -1)
             FROM inttest WHERE key = ?1",
            [key],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, String>(3)?,
                    row.get::<_, i64>(4)?,
                    row.get::<_, bool>(5)?,
                    row.get::<_, i64>(6)?,
                ))
            },
        )
        .unwrap()
    };
    let expected = |value: &str, binary, expires| {
        (
            value.into(),
            "text".into(),
            binary,
            "integer".into(),
            36,
            true,
            expires,
        )
    };
    assert_eq!(row("mine"), expected("AAH/", 1, 1));
    assert_eq!(row("json"), expected(r#"{"x":"ü"}"#, 0, -1));
    assert_eq!(row("old"), expected("2", 0, -1));

    // The peer's writes are seen at once, and its writes do not wait for ours.
    peer.execute(
        "INSERT OR REPLACE INTO inttest (key, value, is_binary, etag) VALUES ('json', '3', 0, 'x')",
        [],
    )
    .unwrap();
    let item = store.get(&"json".into(), &options).await.unwrap().unwrap();
    assert_eq!(item.value.bytes(), "3");
}

#[tokio::test]
async fn an_upper_case_neighbour_is_another_key() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, &[("url", "state.db")]).await;
    store
        .apply_each(vec![
            set("App||é1", "1"),
            set("app||é1", "1"),
            set("app||é2", "1"),
        ])
        .await;
    let page = store
        .keys(KeyPattern {
            like: "app||é%".into(),
            ..KeyPattern::default()
        })
        .await
        .unwrap();
    assert_eq!(page.keys, ["app||é1", "app||é2"].map(StateKey::from));
    assert_eq!(store.delete_prefix("app").await.unwrap(), 2);
}

#[tokio::test]
async fn expired_rows_are_removed_when_asked_for() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, &[("url", "state.db"), ("cleanupInterval", "1s")]).await;
    raw(&folder)
        .execute(
            "INSERT INTO state VALUES ('old', '1', 0, 'e', '2001-01-01 00:00:00', CURRENT_TIMESTAMP)",
            [],
        )
        .unwrap();
    let gone = async {
        while raw(&folder)
            .query_row("SELECT count(*) FROM state", [], |row| row.get::<_, i64>(0))
            .unwrap()
            > 0
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_locked_file_is_a_passing_failure() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, &[("url", "state.db"), ("busyTimeout", "50ms")]).await;
    let peer = raw(&folder);
    peer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.transact(vec![set("a", "1")]).await.unwrap_err();
    assert_eq!(error.retry(), outrigger_component::Retry::Transient);
    assert!(error.chain().contains("locked"), "{}", error.chain());
    peer.execute_batch("COMMIT").unwrap();
    store.transact(vec![set("a", "1")]).await.unwrap();
}

/// A3.5, A3.8: concurrent read-modify-write with etags loses nothing, although all share commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_commit_keeps_every_transaction_apart() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, &[("url", "state.db"), ("synchronous", "normal")]).await;
    store.transact(vec![set("counter", "0")]).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..25 {
                    loop {
                        let item = store
                            .get(&"counter".into(), &ReadOptions::default())
                            .await
                            .unwrap()
                            .unwrap();
                        let count: u32 = std::str::from_utf8(item.value.bytes()).unwrap().parse().unwrap();
                        let next = expecting(
                            set("counter", &(count + 1).to_string()),
                            Expect::Match(item.etag.unwrap()),
                        );
                        // The mark must not stay behind when the counter's etag is stale.
                        let mark =
                            expecting(set(&format!("mark-{task}-{round}-{count}"), "1"), Expect::Absent);
                        if store.transact(vec![mark, next]).await.is_ok() {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let item = store
        .get(&"counter".into(), &ReadOptions::default())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(item.value.bytes(), "200");
    let marks = store
        .keys(KeyPattern {
            like: "mark-%".into(),
            ..KeyPattern::default()
        })
        .await
        .unwrap();
    assert_eq!(marks.keys.len(), 200);
}

const CRASH_FOLDER: &str = "OUTRIGGER_TEST_CRASH_FOLDER";

/// Not a test of its own: the process that `acknowledged_writes_survive_a_kill` kills.
#[test]
#[ignore = "started by another test"]
fn crash_child() {
    let Some(folder) = std::env::var_os(CRASH_FOLDER) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let spec = Spec {
            name: "store".into(),
            type_name: "state.sqlite".into(),
            version: String::new(),
            properties: Properties::from_pairs([("connectionString", "state.db")]),
        };
        let store = (registration().validate)(&spec)
            .unwrap()
            .run(Host::new("app", folder))
            .await
            .unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for round in 0.. {
                        let pair = [format!("{task}-{round}-left"), format!("{task}-{round}-right")];
                        store
                            .transact(pair.iter().map(|key| set(key, "1")).collect())
                            .await
                            .unwrap();
                        writeln!(std::io::stdout().lock(), "acknowledged {task}-{round}").unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    let folder = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::tests::crash_child", "--ignored", "--nocapture"])
        .env(CRASH_FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, name)) = line.split_once("acknowledged ") {
            acknowledged.push(name.to_owned());
            if acknowledged.len() == 300 {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= 300);
    let store = open(&folder, &[("connectionString", "state.db")]).await;
    let page = store
        .keys(KeyPattern {
            like: "%".into(),
            ..KeyPattern::default()
        })
        .await
        .unwrap();
    let mut halves: BTreeMap<String, usize> = BTreeMap::new();
    for key in &page.keys {
        *halves
            .entry(key.as_str().rsplit_once('-').unwrap().0.to_owned())
            .or_default() += 1;
    }
    assert!(
        halves.values().all(|count| *count == 2),
        "half a transaction is there"
    );
    for name in &acknowledged {
        assert!(halves.contains_key(name), "{name} was acknowledged and is gone");
    }
}

/// Not a test: prints CPU and wall time per operation.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let cpu = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let nanoseconds = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
            text.split(' ')
                .next()
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or_default()
        });
        Duration::from_nanos(nanoseconds.sum())
    };
    let folder = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for synchronous in ["full", "normal"] {
            let path = format!("{synchronous}.db");
            let store = open(&folder, &[("url", &path), ("synchronous", synchronous)]).await;
            let value = Bytes::from(vec![b'1'; 1000]);
            for (name, tasks, rounds) in [("1 caller", 1, 3000), ("32 callers", 32, 300)] {
                for writes in [true, false] {
                    let (before, start) = (cpu(), std::time::Instant::now());
                    let running: Vec<_> = (0..tasks)
                        .map(|task| {
                            let (store, value) = (store.clone(), value.clone());
                            tokio::spawn(async move {
                                for round in 0..rounds {
                                    let key: StateKey = format!("app||{task}-{}", round % 50).into();
                                    if writes {
                                        let operation = Operation::Set {
                                            key,
                                            value: Value::Json(value.clone()),
                                            expect: Expect::Any,
                                            ttl: Ttl::Default,
                                            options: WriteOptions::default(),
                                        };
                                        store.transact(vec![operation]).await.unwrap();
                                    } else {
                                        store.get(&key, &ReadOptions::default()).await.unwrap().unwrap();
                                    }
                                }
                            })
                        })
                        .collect();
                    for task in running {
                        task.await.unwrap();
                    }
                    let operations = u32::try_from(tasks * rounds).unwrap();
                    let what = if writes { "write" } else { "read" };
                    writeln!(
                        std::io::stderr(),
                        "{synchronous:>6} {name:>10} {what:>5}: {:>7.1?} wall, {:>7.1?} CPU each",
                        start.elapsed() / operations,
                        (cpu() - before) / operations
                    )
                    .unwrap();
                }
            }
            drop(Arc::clone(&store));
            store.close().await.unwrap();
        }
    });
}
