//! The tables as the Go components make and fill them.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use outrigger_component::ErrorKind;
use outrigger_state::{
    Etag, Expect, KeyPattern, Operation, Ttl, Value,
    suite::{expecting, set},
};

use super::{get, open, text};
use crate::testing;

/// The seed's file (requirement A3.10), its secret filled in.
#[tokio::test]
async fn the_seeds_component_opens() {
    let Some(url) = testing::url("the_seeds_component_opens") else {
        return;
    };
    let schema = format!("seed_{}", std::process::id());
    let store = open(
        "v1",
        &[
            ("connectionString", &url),
            ("tableName", "state_table"),
            ("schema", &schema),
            ("actorStateStore", "true"),
        ],
    )
    .await;
    store.transact(vec![set("a", "1")]).await.unwrap();
    let peer = testing::peer(&url).await;
    let row = peer
        .query_one(&format!("SELECT value::text FROM {schema}.state_table"), &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "1");
    testing::drop_schema(&url, "seed").await;
}

/// The rows of the Go component, and the bookkeeping around them (wire.md §7; its SQL is in the module docs).
#[tokio::test]
async fn rows_of_version_1_are_those_of_the_go_component() {
    let Some(url) = testing::url("rows_of_version_1_are_those_of_the_go_component") else {
        return;
    };
    let here = testing::schema(&url, "golden_v1").await;
    let peer = testing::peer(&here).await;
    // As an older Go component left it: two steps done, no row numbers.
    peer.batch_execute(
        "CREATE TABLE dapr_metadata (key text NOT NULL PRIMARY KEY, value text NOT NULL);
         INSERT INTO dapr_metadata VALUES ('migrations', '2');
         CREATE TABLE state (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, isbinary boolean NOT NULL,
            insertdate timestamptz NOT NULL DEFAULT now(), updatedate timestamptz NULL, expiredate timestamptz);
         INSERT INTO state VALUES
            ('second', '\"AAH/\"', true, '2001-01-02'), ('first', '{\"a\":1}', false, '2001-01-01');
         INSERT INTO state VALUES ('old', '1', false, now(), NULL, '2001-01-01');
         INSERT INTO state VALUES ('new', '1', false, now(), NULL, '2101-01-01 00:00:00+00');",
    )
    .await
    .unwrap();
    let store = open("v1", &[("url", &here)]).await;
    let item = get(&store, "second").await.unwrap();
    assert_eq!(item.value, Value::Binary(Bytes::from_static(&[0, 1, 255])));
    let item = get(&store, "first").await.unwrap();
    assert_eq!(item.value, Value::Json(Bytes::from_static(br#"{"a": 1}"#)));
    let xmin: String = peer
        .query_one("SELECT xmin::text FROM state WHERE key = 'first'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(item.etag, Some(Etag::new(xmin)));
    assert!(get(&store, "old").await.is_none());
    let expires = get(&store, "new").await.unwrap().expires.unwrap();
    assert_eq!(
        expires.duration_since(std::time::UNIX_EPOCH).unwrap(),
        Duration::from_secs(4_133_980_800)
    );
    let numbers: Vec<(String, i64)> = peer
        .query("SELECT key, row_id FROM state ORDER BY row_id LIMIT 2", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(numbers, [("first".to_owned(), 1), ("second".to_owned(), 2)]);

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
    let rows: BTreeMap<String, (String, bool, bool, bool)> = peer
        .query(
            "SELECT key, value::text, isbinary, updatedate IS NULL,
                expiredate IS NULL OR expiredate = insertdate + interval '100 seconds'
             FROM state WHERE key IN ('mine', 'json', 'old')",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3), row.get(4))))
        .collect();
    assert_eq!(rows["mine"], ("\"AAH/\"".to_owned(), true, true, true));
    assert_eq!(rows["json"], (r#"{"x": "ü"}"#.to_owned(), false, true, true));
    assert_eq!(rows["old"], ("2".to_owned(), false, false, true));
    let level: String = peer
        .query_one("SELECT value FROM dapr_metadata WHERE key = 'migrations'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(level, "3");
    // The peer's writes are seen at once.
    peer.execute("UPDATE state SET value = '3' WHERE key = 'json'", &[])
        .await
        .unwrap();
    assert_eq!(text(&store, "json").await.as_deref(), Some("3"));
    // An etag that can be none is told apart from one that is stale.
    for (etag, kind) in [("x", ErrorKind::EtagInvalid), ("1", ErrorKind::EtagMismatch)] {
        let write = expecting(set("json", "4"), Expect::Match(Etag::new(etag)));
        assert_eq!(store.transact(vec![write]).await.unwrap_err().kind(), kind);
    }
    testing::drop_schema(&url, "golden_v1").await;
}

#[tokio::test]
async fn rows_of_version_2_are_those_of_the_go_component() {
    let Some(url) = testing::url("rows_of_version_2_are_those_of_the_go_component") else {
        return;
    };
    let here = testing::schema(&url, "golden_v2").await;
    let peer = testing::peer(&here).await;
    let store = open("v2", &[("url", &here), ("tablePrefix", "my_")]).await;
    let mut binary = set("mine", "");
    if let Operation::Set { value, ttl, .. } = &mut binary {
        *value = Value::Binary(Bytes::from_static(&[0, 1, 255]));
        *ttl = Ttl::Seconds(100);
    }
    let etags = store
        .transact(vec![binary, set("json", r#"{"x":"ü"}"#)])
        .await
        .unwrap();
    let rows: BTreeMap<String, (Vec<u8>, String, bool, bool)> = peer
        .query(
            "SELECT key, value, etag::text, updated_at IS NULL,
                expires_at IS NULL OR expires_at = created_at + interval '100 seconds'
             FROM my_state",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3), row.get(4))))
        .collect();
    let etag = |at: usize| etags[at].as_ref().unwrap().as_str().to_owned();
    assert_eq!(rows["mine"], (vec![0, 1, 255], etag(0), true, true));
    assert_eq!(rows["json"], (r#"{"x":"ü"}"#.into(), etag(1), true, true));
    let metadata: BTreeMap<String, String> = peer
        .query("SELECT key, value FROM dapr_metadata", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(metadata["migrations-state-v2-my_"], "2");
    assert_eq!(metadata["lock"], "lock");
    let indexes: Vec<String> = peer
        .query(
            "SELECT indexname::text FROM pg_indexes WHERE tablename = 'my_state' AND schemaname = current_schema()
             ORDER BY 1",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(
        indexes,
        ["my_state_expires_at_idx", "my_state_pkey", "my_state_row_id_uidx"]
    );
    // Version 2 does not know what an etag cannot be.
    let write = expecting(set("json", "4"), Expect::Match(Etag::new("x")));
    assert_eq!(
        store.transact(vec![write]).await.unwrap_err().kind(),
        ErrorKind::EtagMismatch
    );
    testing::drop_schema(&url, "golden_v2").await;
}

/// Many sidecars start at once, and two components share the count of steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_do_not_disturb_one_another() {
    let Some(url) = testing::url("migrations_do_not_disturb_one_another") else {
        return;
    };
    let here = testing::schema(&url, "migrations").await;
    let opened = futures::future::join_all((0..8).map(|number| {
        let here = here.clone();
        async move {
            let table = format!("table_{}", number % 2);
            let pairs = [("connectionString", here.as_str()), ("tableName", &table)];
            let store = open("", &pairs).await;
            store
                .transact(vec![set(&format!("key-{number}"), "1")])
                .await
                .unwrap();
        }
    }));
    opened.await;
    let store = open("", &[("connectionString", &here), ("tableName", "table_1")]).await;
    let pattern = KeyPattern {
        like: "key-%".into(),
        ..KeyPattern::default()
    };
    assert_eq!(store.keys(pattern).await.unwrap().keys.len(), 4);
    testing::drop_schema(&url, "migrations").await;
}

#[tokio::test]
async fn expired_rows_are_removed_once_for_all_sidecars() {
    let Some(url) = testing::url("expired_rows_are_removed_once_for_all_sidecars") else {
        return;
    };
    let here = testing::schema(&url, "cleanup").await;
    let peer = testing::peer(&here).await;
    for (version, table, column) in [("v1", "state", "expiredate"), ("v2", "two_state", "expires_at")] {
        let pairs = [
            ("connectionString", here.as_str()),
            ("cleanupIntervalInSeconds", "1"),
            ("tablePrefix", "two_"),
        ];
        let store = open(version, &pairs).await;
        let mut short = set("old", "1");
        if let Operation::Set { ttl, .. } = &mut short {
            *ttl = Ttl::Seconds(1);
        }
        store.transact(vec![short, set("kept", "1")]).await.unwrap();
        peer.execute(
            &format!("UPDATE {table} SET {column} = '2001-01-01' WHERE key = 'old'"),
            &[],
        )
        .await
        .unwrap();
        let gone = async {
            loop {
                let count: i64 = peer
                    .query_one(&format!("SELECT count(*) FROM {table}"), &[])
                    .await
                    .unwrap()
                    .get(0);
                if count == 1 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
        store.close().await.unwrap();
    }
    let keys: Vec<String> = peer
        .query(
            "SELECT key FROM dapr_metadata WHERE key LIKE 'last-cleanup%' ORDER BY 1",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(keys, ["last-cleanup", "last-cleanup-state-v2-two_"]);
    testing::drop_schema(&url, "cleanup").await;
}
