use std::time::Duration;

use outrigger_component::{Host, Properties, Spec};
use outrigger_lock::{SharedLockStore, UnlockStatus};

use super::registration;
use crate::testing::{Raw, properties, server};

const LONG: Duration = Duration::from_secs(100);

fn spec(properties: Properties) -> Spec {
    Spec {
        name: "locks".into(),
        type_name: "lock.redis".into(),
        version: String::new(),
        properties,
    }
}

async fn open(server: &str, database: u8) -> SharedLockStore {
    (registration().validate)(&spec(properties(server, database, &[])))
        .unwrap()
        .run(Host::new("app", "."))
        .await
        .unwrap()
}

#[test]
fn what_cannot_keep_a_lock_is_refused() {
    for (pairs, text) in [
        (&[][..], "metadata property redisHost is empty"),
        (
            &[("redisHost", "a"), ("redisType", "cluster")],
            "this component does not support connecting to Redis Cluster",
        ),
    ] {
        let spec = spec(Properties::from_pairs(pairs.iter().copied()));
        assert_eq!((registration().validate)(&spec).unwrap_err().message(), text);
    }
}

#[tokio::test]
async fn one_owner_at_a_time() {
    let Some(server) = server("lock.redis") else {
        return;
    };
    let raw = Raw::emptied(&server, 7).await;
    let (one, other) = (open(&server, 7).await, open(&server, 7).await);
    assert_eq!(
        one.unlock("r", "a").await.unwrap(),
        UnlockStatus::LockDoesNotExist
    );
    assert!(one.try_lock("r", "a", LONG).await.unwrap());
    // As upstream stores it: the owner, and nothing else.
    assert_eq!(raw.texts(&["GET", "r"]).await, ["a"]);
    let left: i64 = raw.texts(&["PTTL", "r"]).await[0].parse().unwrap();
    assert!((90_000..=100_000).contains(&left), "{left}");
    assert!(!one.try_lock("r", "a", LONG).await.unwrap(), "not reentrant");
    assert!(!other.try_lock("r", "b", LONG).await.unwrap());
    assert!(other.try_lock("s", "b", LONG).await.unwrap());
    assert_eq!(
        other.unlock("r", "b").await.unwrap(),
        UnlockStatus::LockBelongsToOthers
    );
    assert_eq!(other.unlock("r", "a").await.unwrap(), UnlockStatus::Success);
    assert!(other.try_lock("r", "b", LONG).await.unwrap());
    one.close().await.unwrap();
    assert!(one.try_lock("t", "a", LONG).await.is_err());
}

#[tokio::test]
async fn a_lock_runs_out() {
    let Some(server) = server("lock.redis and its expiry") else {
        return;
    };
    Raw::emptied(&server, 8).await;
    let store = open(&server, 8).await;
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
}
