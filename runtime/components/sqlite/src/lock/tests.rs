use std::{sync::Arc, time::Duration};

use outrigger_component::{Host, Properties, Spec};
use outrigger_lock::{SharedLockStore, UnlockStatus};
use tempfile::TempDir;

use super::registration;

async fn open(folder: &TempDir) -> SharedLockStore {
    let spec = Spec {
        name: "locks".into(),
        type_name: "lock.sqlite".into(),
        version: String::new(),
        properties: Properties::from_pairs([("connectionString", "locks.db")]),
    };
    (registration().validate)(&spec)
        .unwrap()
        .run(Host::new("app", folder.path()))
        .await
        .unwrap()
}

const LONG: Duration = Duration::from_secs(100);

#[tokio::test]
async fn one_owner_at_a_time() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    assert_eq!(
        one.unlock("r", "a").await.unwrap(),
        UnlockStatus::LockDoesNotExist
    );
    assert!(one.try_lock("r", "a", LONG).await.unwrap());
    assert!(!one.try_lock("r", "a", LONG).await.unwrap(), "not reentrant");
    assert!(!other.try_lock("r", "b", LONG).await.unwrap());
    assert!(other.try_lock("s", "b", LONG).await.unwrap());
    assert_eq!(
        other.unlock("r", "b").await.unwrap(),
        UnlockStatus::LockBelongsToOthers
    );
    assert_eq!(other.unlock("r", "a").await.unwrap(), UnlockStatus::Success);
    assert!(other.try_lock("r", "b", LONG).await.unwrap());
}

#[tokio::test]
async fn a_lock_runs_out() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    for owner in ["a", "b"] {
        let taken = async {
            while !store
                .try_lock("r", owner, Duration::from_millis(200))
                .await
                .unwrap()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), taken)
            .await
            .unwrap();
    }
    let gone = async {
        while store.unlock("r", "a").await.unwrap() != UnlockStatus::LockDoesNotExist {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_has_one_winner() {
    let folder = TempDir::new().unwrap();
    let stores = [open(&folder).await, open(&folder).await];
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let store = Arc::clone(&stores[task % 2]);
            tokio::spawn(async move { store.try_lock("r", &task.to_string(), LONG).await.unwrap() })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let folder = TempDir::new().unwrap();
    open(&folder).await.close().await.unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("locks.db")).unwrap();
    connection
        .execute(
            "UPDATE metadata SET value = '2' WHERE key = 'lock-migrations'",
            [],
        )
        .unwrap();
    let spec = Spec {
        name: "locks".into(),
        type_name: "lock.sqlite".into(),
        version: String::new(),
        properties: Properties::from_pairs([("connectionString", "locks.db")]),
    };
    let opened = (registration().validate)(&spec)
        .unwrap()
        .run(Host::new("app", folder.path()))
        .await;
    assert!(opened.unwrap_err().to_string().contains("format version 2"));
}
