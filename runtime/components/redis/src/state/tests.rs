//! On a real server: the behaviour suite, and what is stored, byte for byte.

use std::sync::Arc;

use outrigger_component::{ErrorKind, Metadata, Properties};
use outrigger_state::{
    Concurrency, Etag, Expect, Operation, ReadOptions, SharedStateStore, StateStore, Ttl, Value,
    WriteOptions,
    suite::{self, Promises, expecting, set},
};

use super::{Config, RedisStateStore};
use crate::testing::{Own, Raw, properties, server};

async fn open(properties: &Properties) -> RedisStateStore {
    RedisStateStore::open(Config::parse(properties).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_behaviour_suite() {
    let Some(server) = server("state.redis' behaviour suite") else {
        return;
    };
    let raw = Raw::open(&server, 1).await;
    let promises = Promises {
        plain_write_ends_ttl: false,
    };
    suite::run_with(
        || async {
            raw.run(&["FLUSHDB"]).await;
            Arc::new(open(&properties(&server, 1, &[])).await) as SharedStateStore
        },
        promises,
    )
    .await;
    // With several connections, and one after another closed for being old.
    let many = properties(
        &server,
        1,
        &[("poolSize", "4"), ("minIdleConns", "2"), ("maxConnAge", "1")],
    );
    suite::run_with(
        || async {
            raw.run(&["FLUSHDB"]).await;
            Arc::new(open(&many).await) as SharedStateStore
        },
        promises,
    )
    .await;
}

fn with(operation: Operation, concurrency: Concurrency, life: Ttl) -> Operation {
    match operation {
        Operation::Set {
            key, value, expect, ..
        } => Operation::Set {
            key,
            value,
            expect,
            ttl: life,
            options: WriteOptions {
                concurrency,
                ..WriteOptions::default()
            },
        },
        other => other,
    }
}

#[tokio::test]
async fn rows_are_those_of_dapr() {
    let Some(server) = server("state.redis' rows") else {
        return;
    };
    let raw = Raw::emptied(&server, 2).await;
    let store = open(&properties(&server, 2, &[])).await;
    let write = async |operation| StateStore::transact(&store, vec![operation]).await;
    let plain = Concurrency::Unspecified;

    write(set("app||a", r#"{"x":1}"#)).await.unwrap();
    let etags = write(set("app||a", "2")).await.unwrap();
    assert_eq!(etags[0].as_ref().unwrap().as_str(), "2");
    assert_eq!(
        raw.texts(&["HGETALL", "app||a"]).await,
        ["data", "2", "version", "2"]
    );
    assert_eq!(raw.texts(&["TTL", "app||a"]).await, ["-1"]);

    // The flag stands between data and version, and keeps writes without an etag out.
    let first = with(
        expecting(set("app||f", "1"), Expect::Absent),
        Concurrency::FirstWrite,
        Ttl::Default,
    );
    write(first).await.unwrap();
    assert_eq!(
        raw.texts(&["HGETALL", "app||f"]).await,
        ["data", "1", "first-write", "0", "version", "1"]
    );
    let error = write(set("app||f", "2")).await.unwrap_err();
    assert_eq!(error.message(), "failed to set key app||f");
    let etag = Expect::Match(Etag::new("1"));
    write(expecting(set("app||f", "2"), etag.clone())).await.unwrap();
    // The etag of a last-write is not looked at.
    let last = with(
        expecting(set("app||a", "3"), etag),
        Concurrency::LastWrite,
        Ttl::Default,
    );
    write(last).await.unwrap();

    // A time to live stays until a write names another one.
    write(with(set("app||t", "1"), plain, Ttl::Seconds(1000)))
        .await
        .unwrap();
    write(set("app||t", "2")).await.unwrap();
    let left: i64 = raw.texts(&["TTL", "app||t"]).await[0].parse().unwrap();
    assert!((990..=1000).contains(&left), "{left}");
    write(with(set("app||t", "3"), plain, Ttl::Never)).await.unwrap();
    assert_eq!(raw.texts(&["TTL", "app||t"]).await, ["-1"]);
}

#[tokio::test]
async fn reads_what_others_left() {
    let Some(server) = server("state.redis beside older values") else {
        return;
    };
    let raw = Raw::emptied(&server, 3).await;
    let store = open(&properties(&server, 3, &[])).await;
    let options = ReadOptions::default();
    raw.run(&["SET", "old", "plain"]).await;
    raw.run(&["HSET", "odd", "field", "1"]).await;
    raw.run(&["RPUSH", "list", "1"]).await;
    let old = StateStore::get(&store, &"old".into(), &options)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&old.value.bytes()[..], old.etag), (&b"plain"[..], None));
    let odd = StateStore::get(&store, &"odd".into(), &options)
        .await
        .unwrap_err();
    assert_eq!(
        odd.message(),
        "required hash field 'data' or 'version' was not found"
    );
    let keys = ["old", "list", "absent"].map(Into::into);
    let many = store.get_many(&keys, &options).await;
    assert!(many[0].as_ref().unwrap().is_some());
    assert_eq!(
        many[1].as_ref().unwrap_err().message(),
        "WRONGTYPE Operation against a key holding the wrong kind of value"
    );
    assert!(many[2].as_ref().unwrap().is_none());
    // A write replaces what is no hash.
    StateStore::transact(&store, vec![set("old", "1")]).await.unwrap();
    assert_eq!(
        raw.texts(&["HGETALL", "old"]).await,
        ["data", "1", "version", "1"]
    );
}

#[tokio::test]
async fn the_components_time_to_live_is_for_items_without_one() {
    let Some(server) = server("state.redis' ttlInSeconds") else {
        return;
    };
    let raw = Raw::emptied(&server, 4).await;
    let store = open(&properties(&server, 4, &[("ttlInSeconds", "500")])).await;
    let never = with(set("never", "1"), Concurrency::Unspecified, Ttl::Never);
    StateStore::transact(&store, vec![set("default", "1"), never])
        .await
        .unwrap();
    assert_ne!(raw.texts(&["TTL", "default"]).await, ["-1"]);
    assert_eq!(raw.texts(&["TTL", "never"]).await, ["-1"]);
}

#[tokio::test]
async fn an_etag_that_is_no_number_is_named() {
    let Some(server) = server("state.redis' etags") else {
        return;
    };
    let store = open(&properties(&server, 5, &[])).await;
    let wrong = expecting(set("k", "1"), Expect::Match(Etag::new("bad")));
    let error = StateStore::transact(&store, vec![wrong]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EtagInvalid);
    assert_eq!(
        error.message(),
        "invalid etag value: strconv.Atoi: parsing \"bad\": invalid syntax"
    );
}

#[tokio::test]
async fn without_the_module_json_is_a_plain_value_and_queries_are_refused() {
    let Some(server) = server("state.redis without modules") else {
        return;
    };
    let raw = Raw::emptied(&server, 6).await;
    let store = open(&properties(&server, 6, &[])).await;
    if StateStore::capabilities(&store).query {
        return;
    }
    let metadata = Metadata::from([("contentType".to_owned(), "application/json".to_owned())]);
    let operation = Operation::Set {
        key: "k".into(),
        value: Value::Json(r#"{"a":1}"#.into()),
        expect: Expect::Any,
        ttl: Ttl::Default,
        options: WriteOptions {
            metadata,
            ..WriteOptions::default()
        },
    };
    StateStore::transact(&store, vec![operation]).await.unwrap();
    assert_eq!(
        raw.texts(&["HGETALL", "k"]).await,
        ["data", r#"{"a":1}"#, "version", "1"]
    );
    let query = outrigger_state::Query::default();
    let error = StateStore::query(&store, query, ReadOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "redis-json server support is required for query capability"
    );
    let indexed = properties(
        &server,
        6,
        &[(
            "queryIndexes",
            r#"[{"name":"i","indexes":[{"key":"a","type":"TEXT"}]}]"#,
        )],
    );
    let error = RedisStateStore::open(Config::parse(&indexed).unwrap())
        .await
        .unwrap_err();
    assert!(
        error
            .chain()
            .starts_with("redis store: error registering query schemas: ERR unknown command"),
        "{}",
        error.chain()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_is_bridged() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut own) = Own::start(
        "state.redis across a restart",
        folder.path(),
        &["--appendonly", "yes"],
    )
    .await
    else {
        return;
    };
    let store = open(&properties(&own.address, 0, &[("redisMaxRetries", "20")])).await;
    StateStore::transact(&store, vec![set("k", "1")]).await.unwrap();
    own.kill();
    let options = ReadOptions::default();
    let key = "k".into();
    // The read is on its way while there is no server, and is answered by the next one.
    let (item, ()) = tokio::join!(StateStore::get(&store, &key, &options), own.restart());
    assert_eq!(&item.unwrap().unwrap().value.bytes()[..], b"1");
    StateStore::transact(&store, vec![set("k", "2")]).await.unwrap();
    StateStore::close(&store).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let config = Config::parse(&properties("127.0.0.1:1", 0, &[("redisMaxRetries", "-1")])).unwrap();
    let error = RedisStateStore::open(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error
            .chain()
            .starts_with("redis store: error connecting to redis at 127.0.0.1:1: "),
        "{}",
        error.chain()
    );
}
