mod failures;
mod rows;

use outrigger_component::{Error, ErrorKind, Host, Properties, Spec};
use outrigger_state::{
    Expect, KeyPattern, Operation, Query, ReadOptions, SharedStateStore, Ttl,
    suite::{self, delete, expecting, set},
};

use super::registration;
use crate::testing;

async fn try_open(version: &str, pairs: &[(&str, &str)]) -> Result<SharedStateStore, Error> {
    let spec = Spec {
        name: "store".into(),
        type_name: "state.postgresql".into(),
        version: version.into(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    assert!(registration().serves("state.postgres", version));
    (registration().validate)(&spec)?.run(Host::new("app", "/")).await
}

async fn open(version: &str, pairs: &[(&str, &str)]) -> SharedStateStore {
    try_open(version, pairs)
        .await
        .unwrap_or_else(|error| panic!("{}", error.chain()))
}

async fn get(store: &SharedStateStore, key: &str) -> Option<outrigger_state::Item> {
    store.get(&key.into(), &ReadOptions::default()).await.unwrap()
}

async fn text(store: &SharedStateStore, key: &str) -> Option<String> {
    let item = get(store, key).await?;
    Some(String::from_utf8(item.value.bytes().to_vec()).unwrap())
}

/// The suite on tables of its own, one pair per case.
async fn behaves(version: &str, url: &str, schema: &str, more: &[(&str, &str)]) {
    let url = testing::schema(url, schema).await;
    let mut number = 0;
    suite::run(|| {
        number += 1;
        let (url, version) = (url.clone(), version.to_owned());
        let more: Vec<(String, String)> = more.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        async move {
            let prefix = format!("case_{number}_");
            let names = [format!("{prefix}state"), format!("{prefix}metadata")];
            let mut pairs = vec![
                ("connectionString", url.as_str()),
                ("metadataTableName", names[1].as_str()),
            ];
            pairs.push(match version.as_str() {
                "v2" => ("tablePrefix", prefix.as_str()),
                _ => ("tableName", names[0].as_str()),
            });
            pairs.extend(more.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            open(&version, &pairs).await
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_behave_as_state_stores() {
    let Some(url) = testing::url("both_versions_behave_as_state_stores") else {
        return;
    };
    for version in ["v1", "v2"] {
        let schema = format!("suite_{version}");
        behaves(version, &url, &schema, &[]).await;
        testing::drop_schema(&url, &schema).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_behave_so_however_statements_travel() {
    let Some(url) = testing::url("they_behave_so_however_statements_travel") else {
        return;
    };
    for mode in ["simple_protocol", "exec"] {
        for version in ["v1", "v2"] {
            let schema = format!("suite_{mode}_{version}");
            behaves(
                version,
                &url,
                &schema,
                &[("queryExecMode", mode), ("maxConns", "2")],
            )
            .await;
            testing::drop_schema(&url, &schema).await;
        }
    }
}

#[tokio::test]
async fn lists_the_names_upstream_lists() {
    let Some(url) = testing::url("lists_the_names_upstream_lists") else {
        return;
    };
    let url_here = testing::schema(&url, "names").await;
    let pairs = [("connectionString", url_here.as_str())];
    assert_eq!(
        open("v1", &pairs).await.capabilities().names(),
        ["ETAG", "TRANSACTIONAL", "TTL", "QUERY_API", "KEYS_LIKE"]
    );
    assert_eq!(
        open("v2", &[pairs[0], ("tablePrefix", "v2_")])
            .await
            .capabilities()
            .names(),
        ["ETAG", "TRANSACTIONAL", "TTL", "KEYS_LIKE"]
    );
    testing::drop_schema(&url, "names").await;
}

/// A3.5, A3.8: however operations share statements, none is lost and no etag stands for another's value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sharing_statements_keeps_every_operation_apart() {
    let Some(url) = testing::url("sharing_statements_keeps_every_operation_apart") else {
        return;
    };
    let here = testing::schema(&url, "sharing").await;
    for version in ["v1", "v2"] {
        let pairs = [("connectionString", here.as_str()), ("tablePrefix", "two_")];
        let store = open(version, &pairs).await;
        store.transact(vec![set("counter", "0")]).await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for round in 0..15 {
                        // Plain writes of hot keys at the same time: the etag must be of what was written.
                        let value = format!("1{task}{round:02}");
                        let hot = format!("hot-{}", round % 3);
                        let etag = store.transact(vec![set(&hot, &value)]).await.unwrap().remove(0);
                        let item = get(&store, &hot).await.unwrap();
                        if etag.is_some() && item.etag == etag {
                            assert_eq!(item.value.bytes(), value.as_bytes());
                        }
                        loop {
                            let item = get(&store, "counter").await.unwrap();
                            let count: u32 =
                                std::str::from_utf8(item.value.bytes()).unwrap().parse().unwrap();
                            let next = expecting(
                                set("counter", &(count + 1).to_string()),
                                Expect::Match(item.etag.unwrap()),
                            );
                            // The mark must not stay behind when the counter's etag is stale.
                            let mark =
                                expecting(set(&format!("mark-{task}-{round}-{count}"), "1"), Expect::Absent);
                            let both = if task % 2 == 0 {
                                vec![mark, next]
                            } else {
                                vec![next, mark]
                            };
                            match store.transact(both).await {
                                Ok(_) => break,
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::EtagMismatch, "{}", error.chain());
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(text(&store, "counter").await.as_deref(), Some("120"));
        let marks = KeyPattern {
            like: "mark-%".into(),
            ..KeyPattern::default()
        };
        assert_eq!(store.keys(marks).await.unwrap().keys.len(), 120);
    }
    testing::drop_schema(&url, "sharing").await;
}

/// Writers of one key share statements; a value the server refuses is refused to its writer alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_key_do_not_wait_for_each_other() {
    let Some(url) = testing::url("writers_of_one_key_do_not_wait_for_each_other") else {
        return;
    };
    let here = testing::schema(&url, "one_key").await;
    for version in ["v1", "v2"] {
        let pairs = [("connectionString", here.as_str()), ("tablePrefix", "two_")];
        let store = open(version, &pairs).await;
        let writers = (0..100).map(|writer| {
            let store = store.clone();
            // No jsonb has the character; bytes are bytes.
            let value = match writer % 10 {
                9 => r#""\u0000""#.to_owned(),
                _ => writer.to_string(),
            };
            async move {
                let answer = store.transact(vec![set("one", &value)]).await;
                (value, answer)
            }
        });
        let mut refused = 0;
        for (value, answer) in futures::future::join_all(writers).await {
            let is_bad = version == "v1" && value.contains("u0000");
            assert_eq!(answer.is_err(), is_bad, "{version}: {value}");
            refused += u32::from(answer.is_err());
        }
        assert_eq!(refused, if version == "v1" { 10 } else { 0 });
        // Nothing was passed over for good: what is written last stands, and its etag is good.
        let etags = store.transact(vec![set("one", "7")]).await.unwrap();
        let item = get(&store, "one").await.unwrap();
        assert_eq!(
            (item.value.bytes().as_ref(), item.etag),
            (&b"7"[..], etags[0].clone())
        );
    }
    testing::drop_schema(&url, "one_key").await;
}

#[tokio::test]
async fn long_transactions_keep_their_order() {
    let Some(url) = testing::url("long_transactions_keep_their_order") else {
        return;
    };
    let here = testing::schema(&url, "order").await;
    for mode in ["cache_statement", "exec", "simple_protocol"] {
        let pairs = [("connectionString", here.as_str()), ("queryExecMode", mode)];
        let store = open("v1", &pairs).await;
        let mut operations: Vec<Operation> =
            (0..200).map(|number| set("same", &number.to_string())).collect();
        operations.extend((0..100).map(|number| set(&format!("own-{number}"), "1")));
        operations.push(delete("own-7-absent"));
        let etags = store.transact(operations).await.unwrap();
        assert_eq!(etags.iter().flatten().count(), 300);
        assert_eq!(text(&store, "same").await.as_deref(), Some("199"));
        let answers = store
            .apply_each((0..200).map(|number| set("same", &number.to_string())).collect())
            .await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(text(&store, "same").await.as_deref(), Some("199"));
    }
    testing::drop_schema(&url, "order").await;
}

#[tokio::test]
async fn documents_are_searched_by_value() {
    let Some(url) = testing::url("documents_are_searched_by_value") else {
        return;
    };
    let here = testing::schema(&url, "search").await;
    let store = open("v1", &[("connectionString", &here)]).await;
    for (key, document) in [
        ("1", r#"{"n":9,"s":"a","o":{"it's":true}}"#),
        ("2", r#"{"n":10,"s":"9"}"#),
        ("3", r#"{"n":1.5,"s":"b","o":{"it's":false}}"#),
        ("4", r#""n""#),
    ] {
        store.transact(vec![set(key, document)]).await.unwrap();
    }
    let mut expired = set("5", r#"{"n":9}"#);
    if let Operation::Set { ttl, .. } = &mut expired {
        *ttl = Ttl::Seconds(1);
    }
    store.transact(vec![expired]).await.unwrap();
    testing::peer(&here)
        .await
        .execute("UPDATE state SET expiredate = '2001-01-01' WHERE key = '5'", &[])
        .await
        .unwrap();
    let find = async |text: &str| {
        let query = Query::from_json(text.as_bytes()).unwrap();
        let found = store.query(query, ReadOptions::default()).await?;
        let keys: Vec<String> = found
            .items
            .iter()
            .map(|item| item.key.as_str().to_owned())
            .collect();
        Ok::<_, Error>((keys.join(""), found.token))
    };
    for (query, keys) in [
        (r"{}", "1234"),
        (r#"{"filter":{"GT":{"n":9}}}"#, "2"),
        (r#"{"filter":{"LTE":{"n":9}}}"#, "13"),
        (r#"{"filter":{"EQ":{"n":9.0}}}"#, "1"),
        (r#"{"filter":{"EQ":{"n":"9"}}}"#, "1"),
        (r#"{"filter":{"NEQ":{"s":"a"}}}"#, "23"),
        (r#"{"filter":{"EQ":{"o.it's":true}}}"#, "1"),
        (r#"{"filter":{"IN":{"n":[9,1.5]}}}"#, "13"),
        (
            r#"{"filter":{"AND":[{"GTE":{"n":2}},{"OR":[{"EQ":{"s":"a"}},{"EQ":{"s":"9"}}]}]}}"#,
            "12",
        ),
        (
            r#"{"filter":{"GT":{"n":0}},"sort":[{"key":"n","order":"DESC"}]}"#,
            "213",
        ),
    ] {
        assert_eq!(find(query).await.unwrap().0, keys, "{query}");
    }
    let page = find(r#"{"sort":[{"key":"n"}],"page":{"limit":2}}"#)
        .await
        .unwrap();
    assert_eq!(page, ("31".to_owned(), "2".to_owned()));
    let page = find(r#"{"sort":[{"key":"n"}],"page":{"limit":2,"token":"2"}}"#)
        .await
        .unwrap();
    assert_eq!(page, ("24".to_owned(), "4".to_owned()));
    for (query, text) in [
        (
            r#"{"filter":{"GT":{"s":"a"}}}"#,
            "unsupported type of value a; string type not permitted",
        ),
        (r#"{"filter":{"IN":{"s":[]}}}"#, "empty IN operator for key \"s\""),
        (r#"{"page":{"limit":1,"token":"x"}}"#, "invalid page token \"x\""),
    ] {
        assert_eq!(find(query).await.unwrap_err().to_string(), text);
    }
    testing::drop_schema(&url, "search").await;
}
