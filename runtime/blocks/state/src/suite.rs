//! The behaviour every state store shows, as tests any crate can run on its store.
//!
//! Cases are chosen by the capabilities the store declares (components-contrib `tests/conformance/state` is the
//! list of cases matched first). A failed expectation panics, as in any test.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use outrigger_component::ErrorKind;
use outrigger_types::StateKey;

use crate::{
    Etag, Expect, Item, KeyPattern, Operation, Query, ReadOptions, SharedStateStore, Ttl, Value, WriteOptions,
};

/// How long a case waits for a condition before it fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// Writers in the race for one key (A3.8).
const RACERS: usize = 32;

/// What a store promises beyond its capabilities.
#[derive(Debug, Clone, Copy)]
pub struct Promises {
    /// A write that names no time to live ends an earlier one's; Dapr's Redis store leaves it running.
    pub plain_write_ends_ttl: bool,
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            plain_write_ends_ttl: true,
        }
    }
}

/// Runs all cases that the store's capabilities call for. The factory gives a store without keys and is asked
/// once per case.
pub async fn run<F, Fut>(store: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = SharedStateStore>,
{
    run_with(store, Promises::default()).await;
}

/// As [`run`], for a store that promises less.
pub async fn run_with<F, Fut>(mut store: F, promises: Promises)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = SharedStateStore>,
{
    let capabilities = store().await.capabilities();
    reads_what_was_written(store().await).await;
    answers_in_order(store().await).await;
    if capabilities.etag {
        etags_guard_writes(store().await).await;
        first_write_has_one_winner(store().await).await;
        one_etag_has_one_winner(store().await).await;
    }
    if capabilities.transactional {
        transactions_are_all_or_nothing(store().await).await;
        transactions_keep_their_order(store().await).await;
        transactions_are_isolated(store().await).await;
    }
    if capabilities.ttl {
        items_expire(store().await, promises).await;
    }
    if capabilities.delete_with_prefix {
        prefixes_are_deleted(store().await).await;
    }
    if capabilities.keys_like {
        keys_are_listed(store().await).await;
    }
    if capabilities.query {
        documents_are_found(store().await).await;
    }
    closes(store().await).await;
}

/// A write of a JSON document without further conditions.
#[must_use]
pub fn set(key: &str, json: &str) -> Operation {
    Operation::Set {
        key: key.into(),
        value: Value::Json(Bytes::copy_from_slice(json.as_bytes())),
        expect: Expect::Any,
        ttl: Ttl::Default,
        options: WriteOptions::default(),
    }
}

/// A removal without conditions.
#[must_use]
pub fn delete(key: &str) -> Operation {
    Operation::Delete {
        key: key.into(),
        expect: Expect::Any,
        options: WriteOptions::default(),
    }
}

/// The same operation with an expectation.
#[must_use]
pub fn expecting(mut operation: Operation, expected: Expect) -> Operation {
    let (Operation::Set { expect, .. } | Operation::Delete { expect, .. }) = &mut operation;
    *expect = expected;
    operation
}

fn living(mut operation: Operation, time: Ttl) -> Operation {
    if let Operation::Set { ttl, .. } = &mut operation {
        *ttl = time;
    }
    operation
}

async fn get(store: &SharedStateStore, key: &str) -> Option<Item> {
    store
        .get(&key.into(), &ReadOptions::default())
        .await
        .expect("get")
}

async fn text(store: &SharedStateStore, key: &str) -> Option<String> {
    get(store, key)
        .await
        .map(|item| String::from_utf8_lossy(item.value.bytes()).into_owned())
}

async fn apply(store: &SharedStateStore, operation: Operation) -> Option<Etag> {
    store
        .transact(vec![operation])
        .await
        .expect("write")
        .pop()
        .flatten()
}

async fn refused(store: &SharedStateStore, operation: Operation) {
    let error = store
        .transact(vec![operation])
        .await
        .expect_err("must be refused");
    assert_eq!(error.kind(), ErrorKind::EtagMismatch, "{}", error.chain());
}

async fn until_gone(store: &SharedStateStore, key: &str) {
    let wait = async {
        while get(store, key).await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, wait).await.is_ok(),
        "{key} did not expire"
    );
}

async fn reads_what_was_written(store: SharedStateStore) {
    store.ping().await.expect("ping");
    assert!(get(&store, "absent").await.is_none());
    apply(&store, set("json", r#"{"a":[1,2.5,"ü"],"b":null}"#)).await;
    // A store of documents may write its own blanks.
    let read = text(&store, "json").await.expect("json");
    let document: serde_json::Value = serde_json::from_str(&read).expect("JSON");
    assert_eq!(document, serde_json::json!({"a": [1, 2.5, "ü"], "b": null}));
    let bytes: Bytes = (0..=255).collect();
    for value in [bytes, Bytes::new(), Bytes::from(vec![7; 300 << 10])] {
        let mut operation = set("binary", "");
        if let Operation::Set { value: given, .. } = &mut operation {
            *given = Value::Binary(value.clone());
        }
        apply(&store, operation).await;
        assert_eq!(get(&store, "binary").await.expect("binary").value.bytes(), &value);
    }
    for key in ["with space", "ü||ß", "a%b_c\\d", "'; DROP TABLE state; --"] {
        apply(&store, set(key, "1")).await;
        assert_eq!(text(&store, key).await.as_deref(), Some("1"), "{key}");
    }
    apply(&store, delete("json")).await;
    assert!(get(&store, "json").await.is_none());
    apply(&store, delete("json")).await;
}

async fn answers_in_order(store: SharedStateStore) {
    let answers = store
        .apply_each(vec![set("a", "1"), set("b", "2"), delete("a"), set("c", "3")])
        .await;
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(Result::is_ok));
    let keys: Vec<StateKey> = ["c", "a", "b", "c"].map(StateKey::from).into();
    let items = store.get_many(&keys, &ReadOptions::default()).await;
    let values: Vec<_> = items
        .into_iter()
        .map(|item| {
            item.expect("bulk get")
                .map(|item| String::from_utf8_lossy(item.value.bytes()).into_owned())
        })
        .collect();
    assert_eq!(
        values,
        [
            Some("3".to_owned()),
            None,
            Some("2".to_owned()),
            Some("3".to_owned())
        ]
    );
    assert!(store.get_many(&[], &ReadOptions::default()).await.is_empty());
    assert!(store.apply_each(Vec::new()).await.is_empty());
}

async fn etags_guard_writes(store: SharedStateStore) {
    let first = apply(&store, set("key", "1")).await.expect("etag");
    assert_eq!(
        get(&store, "key").await.expect("key").etag.as_ref(),
        Some(&first),
        "the answered etag is the stored one"
    );
    let second = apply(&store, expecting(set("key", "2"), Expect::Match(first.clone())))
        .await
        .expect("etag");
    assert_ne!(first, second);
    refused(&store, expecting(set("key", "3"), Expect::Match(first.clone()))).await;
    refused(&store, expecting(set("key", "3"), Expect::Absent)).await;
    refused(&store, expecting(delete("key"), Expect::Match(first.clone()))).await;
    refused(&store, expecting(delete("absent"), Expect::Match(first.clone()))).await;
    refused(
        &store,
        expecting(set("absent", "1"), Expect::Match(first.clone())),
    )
    .await;
    assert_eq!(text(&store, "key").await.as_deref(), Some("2"));
    // One failure among independent operations is its own.
    let answers = store
        .apply_each(vec![
            expecting(set("key", "4"), Expect::Match(first)),
            set("other", "1"),
            expecting(set("key", "5"), Expect::Match(second)),
        ])
        .await;
    assert_eq!(
        answers[0].as_ref().expect_err("stale").kind(),
        ErrorKind::EtagMismatch
    );
    assert!(answers[1].is_ok() && answers[2].is_ok());
    let last = get(&store, "key").await.expect("key").etag.expect("etag");
    apply(&store, expecting(delete("key"), Expect::Match(last))).await;
    assert!(get(&store, "key").await.is_none());
    apply(&store, expecting(set("key", "6"), Expect::Absent)).await;
    assert_eq!(text(&store, "key").await.as_deref(), Some("6"));
}

async fn race(store: &SharedStateStore, expect: Expect) -> usize {
    let tasks: Vec<_> = (0..RACERS)
        .map(|racer| {
            let (store, operation) = (
                store.clone(),
                expecting(set("race", &racer.to_string()), expect.clone()),
            );
            tokio::spawn(async move { store.transact(vec![operation]).await })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        match task.await.expect("racer") {
            Ok(_) => winners += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::EtagMismatch, "{}", error.chain()),
        }
    }
    winners
}

async fn first_write_has_one_winner(store: SharedStateStore) {
    for _ in 0..5 {
        apply(&store, delete("race")).await;
        assert_eq!(race(&store, Expect::Absent).await, 1);
    }
}

async fn one_etag_has_one_winner(store: SharedStateStore) {
    for _ in 0..5 {
        let etag = apply(&store, set("race", "0")).await.expect("etag");
        assert_eq!(race(&store, Expect::Match(etag)).await, 1);
    }
}

async fn transactions_are_all_or_nothing(store: SharedStateStore) {
    let etag = apply(&store, set("kept", "1")).await;
    let etags = store
        .transact(vec![set("a", "1"), delete("absent"), set("b", "2")])
        .await
        .expect("transaction");
    assert_eq!(etags.len(), 3);
    if store.capabilities().etag {
        assert_eq!(etags[0], get(&store, "a").await.expect("a").etag);
        assert!(etags[1].is_none() && etags[2].is_some());
        let stale = etag.expect("etag");
        apply(&store, set("kept", "2")).await;
        let error = store
            .transact(vec![
                delete("a"),
                set("new", "1"),
                expecting(set("kept", "3"), Expect::Match(stale)),
                delete("b"),
            ])
            .await
            .expect_err("a stale etag fails all");
        assert_eq!(error.kind(), ErrorKind::EtagMismatch);
        for (key, expected) in [
            ("a", Some("1")),
            ("b", Some("2")),
            ("kept", Some("2")),
            ("new", None),
        ] {
            assert_eq!(text(&store, key).await.as_deref(), expected, "{key}");
        }
    }
    assert!(
        store
            .transact(Vec::new())
            .await
            .expect("nothing to do")
            .is_empty()
    );
}

async fn transactions_keep_their_order(store: SharedStateStore) {
    store
        .transact(vec![
            set("a", "1"),
            set("b", "1"),
            delete("a"),
            set("b", "2"),
            set("c", "1"),
            delete("c"),
            set("c", "3"),
        ])
        .await
        .expect("transaction");
    assert!(get(&store, "a").await.is_none());
    assert_eq!(text(&store, "b").await.as_deref(), Some("2"));
    assert_eq!(text(&store, "c").await.as_deref(), Some("3"));
}

/// Two keys are always written together: however many write at once, they end equal.
async fn transactions_are_isolated(store: SharedStateStore) {
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let value = format!("{}", writer * 100 + round);
                    store
                        .transact(vec![set("left", &value), set("right", &value)])
                        .await
                        .expect("transaction");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writer");
    }
    assert_eq!(text(&store, "left").await, text(&store, "right").await);
}

async fn items_expire(store: SharedStateStore, promises: Promises) {
    apply(&store, living(set("short", "1"), Ttl::Seconds(1))).await;
    apply(&store, living(set("long", "1"), Ttl::Seconds(1000))).await;
    apply(&store, living(set("kept", "1"), Ttl::Seconds(1))).await;
    apply(&store, living(set("kept", "2"), Ttl::Never)).await;
    apply(&store, living(set("replaced", "1"), Ttl::Seconds(1))).await;
    apply(&store, set("replaced", "2")).await;
    let long = get(&store, "long").await.expect("long");
    if let Some(expires) = long.expires {
        let left = expires
            .duration_since(std::time::SystemTime::now())
            .expect("in the future");
        assert!(
            (Duration::from_secs(990)..=Duration::from_secs(1001)).contains(&left),
            "{left:?}"
        );
    }
    until_gone(&store, "short").await;
    if store.capabilities().etag {
        // Gone is absent, also before anything was cleaned up.
        apply(&store, expecting(set("short", "2"), Expect::Absent)).await;
        assert_eq!(text(&store, "short").await.as_deref(), Some("2"));
    }
    if !promises.plain_write_ends_ttl {
        until_gone(&store, "replaced").await;
        apply(&store, set("replaced", "2")).await;
    }
    for (key, expected) in [("long", "1"), ("kept", "2"), ("replaced", "2")] {
        let item = get(&store, key).await.expect("alive");
        assert_eq!(item.value.bytes(), expected.as_bytes());
        assert_eq!(
            item.expires.is_some(),
            key == "long" && long.expires.is_some(),
            "{key}"
        );
    }
}

async fn prefixes_are_deleted(store: SharedStateStore) {
    let keys = ["p||1", "p||2", "p||q||3", "pp||4", "other||p||5", "p"];
    store
        .apply_each(keys.iter().map(|key| set(key, "1")).collect())
        .await;
    assert_eq!(store.delete_prefix("p").await.expect("delete"), 2);
    for (key, there) in keys.iter().zip([false, false, true, true, true, true]) {
        assert_eq!(get(&store, key).await.is_some(), there, "{key}");
    }
    assert_eq!(store.delete_prefix("p||q||").await.expect("delete"), 1);
    for prefix in ["", "||"] {
        assert_eq!(
            store.delete_prefix(prefix).await.expect_err("no prefix").kind(),
            ErrorKind::InvalidRequest
        );
    }
}

async fn keys_are_listed(store: SharedStateStore) {
    let like = |like: &str| KeyPattern {
        like: like.into(),
        ..KeyPattern::default()
    };
    let page = |size, token| KeyPattern {
        like: "k%".into(),
        page_size: Some(size),
        token,
    };
    let names = |keys: Vec<StateKey>| {
        let mut names: Vec<String> = keys.iter().map(|key| key.as_str().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(
        store.keys(like("")).await.expect_err("no pattern").kind(),
        ErrorKind::InvalidRequest
    );
    let keys = [
        "k1", "k2", "k3", "k4", "k5", "a||b||x", "a||c||x", "ab||c", "%", "_", "hello%%", "hello_", "helloo",
    ];
    store
        .apply_each(keys.iter().map(|key| set(key, "1")).collect())
        .await;
    for (pattern, expected) in [
        ("a||%", &["a||b||x", "a||c||x"][..]),
        ("%||c%", &["ab||c", "a||c||x"]),
        ("k_", &["k1", "k2", "k3", "k4", "k5"]),
        ("k1", &["k1"]),
        ("hello_", &["hello_", "helloo"]),
        (r"hello\_", &["hello_"]),
        (r"hello\%\%", &["hello%%"]),
        (r"\%", &["%"]),
        ("none%", &[]),
    ] {
        let found = store.keys(like(pattern)).await.expect("keys");
        assert_eq!(names(found.keys), expected, "{pattern}");
        assert!(found.token.is_none());
    }
    let first = store.keys(page(2, None)).await.expect("keys");
    assert_eq!(first.keys.len(), 2);
    let second = store.keys(page(2, first.token.clone())).await.expect("keys");
    assert_eq!((second.keys.len(), second.token.is_some()), (2, true));
    let third = store.keys(page(100, second.token)).await.expect("keys");
    assert_eq!((third.keys.len(), third.token), (1, None));
    assert_eq!(
        names([first.keys, second.keys, third.keys].concat()),
        ["k1", "k2", "k3", "k4", "k5"]
    );
    // What vanishes between pages does not make others vanish.
    let first = store.keys(page(3, None)).await.expect("keys");
    let mut seen = first.keys.clone();
    apply(&store, delete(first.keys[0].as_str())).await;
    apply(&store, set("k6", "1")).await;
    seen.extend(store.keys(page(100, first.token)).await.expect("keys").keys);
    assert_eq!(names(seen), ["k1", "k2", "k3", "k4", "k5", "k6"]);
    if store.capabilities().ttl {
        apply(&store, living(set("k7", "1"), Ttl::Seconds(1))).await;
        until_gone(&store, "k7").await;
        assert!(!names(store.keys(like("k%")).await.expect("keys").keys).contains(&"k7".to_owned()));
    }
}

async fn documents_are_found(store: SharedStateStore) {
    for (key, document) in [
        ("1", r#"{"person":{"org":"A","id":1036},"state":"WA"}"#),
        ("2", r#"{"person":{"org":"B","id":1028},"state":"CA"}"#),
        ("3", r#"{"person":{"org":"B","id":1042},"state":"CA"}"#),
    ] {
        apply(&store, set(key, document)).await;
    }
    let query = |text: &str| Query::from_json(text.as_bytes()).expect("query");
    let sorted = r#"{"filter":{"IN":{"person.org":["A","B"]}},"sort":[{"key":"person.id","order":"DESC"}],"page":{"limit":2}}"#;
    let first = store
        .query(query(sorted), ReadOptions::default())
        .await
        .expect("query");
    let keys: Vec<_> = first.items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["3", "1"]);
    let mut next = query(sorted);
    next.page.token = first.token;
    let second = store.query(next, ReadOptions::default()).await.expect("query");
    assert_eq!(second.items.len(), 1);
    let found = store
        .query(
            query(r#"{"filter":{"EQ":{"state":"CA"}}}"#),
            ReadOptions::default(),
        )
        .await
        .expect("query");
    assert_eq!(found.items.len(), 2);
}

async fn closes(store: SharedStateStore) {
    apply(&store, set("key", "1")).await;
    store.close().await.expect("close");
    store.close().await.expect("close again");
    let error = store
        .get(&"key".into(), &ReadOptions::default())
        .await
        .expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(
        store
            .transact(vec![set("key", "2")])
            .await
            .expect_err("closed")
            .kind(),
        ErrorKind::Closed
    );
}
