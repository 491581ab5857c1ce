//! One Redis, both makes: the same requests leave the same rows, and what one has written the other reads.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Method;
use outrigger_wire::dapr::proto::runtime::v1::PublishEventRequest;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    mixed_mesh::{launch, read_all, write},
    support::{
        app::{self, App},
        client::{Answer, get, post, request, send},
        eventually, program,
        sidecar::{Launch, Sidecar},
    },
};

/// Databases of this file's tests; those of the component's own tests are below.
const OURS: u8 = 14;
const THEIRS: u8 = 15;

/// The server and the reference, or the reason to skip.
fn surroundings(test: &str) -> Option<(String, PathBuf)> {
    let reference = program::reference(test)?;
    let Ok(server) = std::env::var("OUTRIGGER_TEST_REDIS") else {
        eprintln!("skipped {test}: OUTRIGGER_TEST_REDIS names no server");
        return None;
    };
    Some((server, reference))
}

async fn database(server: &str, number: u8) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{server}/{number}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn redis_component(
    launch: Launch,
    name: &str,
    kind: &str,
    server: &str,
    number: u8,
    more: &[(&str, &str)],
) -> Launch {
    let number = number.to_string();
    let mut metadata = vec![("redisHost", server), ("redisDB", &number)];
    metadata.extend(more);
    launch.component(name, kind, &metadata)
}

/// A sidecar whose keys begin with `prefix`.
fn with_store(launch: Launch, server: &str, number: u8, prefix: &str, more: &[(&str, &str)]) -> Launch {
    let mut metadata = vec![("keyPrefix", prefix)];
    metadata.extend(more);
    redis_component(launch, "statestore", "state.redis", server, number, &metadata)
}

/// What a database holds below a prefix: fields of hashes in their order, and whether the key expires.
async fn rows(
    connection: &mut MultiplexedConnection,
    prefix: &str,
) -> BTreeMap<String, (Vec<Vec<u8>>, bool)> {
    let mut rows = BTreeMap::new();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("{prefix}||*"))
        .query_async(connection)
        .await
        .unwrap();
    for key in keys {
        let fields: Vec<Vec<u8>> = redis::cmd("HGETALL")
            .arg(&key)
            .query_async(connection)
            .await
            .unwrap();
        let ttl: i64 = redis::cmd("TTL").arg(&key).query_async(connection).await.unwrap();
        rows.insert(key, (fields, ttl > 0));
    }
    rows
}

async fn ask(sidecar: &Sidecar, path: &str, body: &Value) -> Answer {
    post(&sidecar.url(path), body).await.unwrap()
}

/// Which answer of [`exercise`] is about a first-write that comes second.
const CONFLICT: usize = 4;

/// A row as texts; the fields of an object in its data come in any order with the reference.
fn comparable((fields, expires): &(Vec<Vec<u8>>, bool)) -> (Vec<String>, bool) {
    let text = |field: &Vec<u8>| match serde_json::from_slice(field) {
        Ok(object @ Value::Object(_)) => object.to_string(),
        _ => field.escape_ascii().to_string(),
    };
    (fields.iter().map(text).collect(), *expires)
}

/// Everything that shapes a row. Answers the statuses, which must agree as well.
async fn exercise(sidecar: &Sidecar) -> Vec<u16> {
    write(sidecar).await;
    let mut statuses = Vec::new();
    let state = "/v1.0/state/statestore";
    let transaction = "/v1.0/state/statestore/transaction";
    let first = json!({"concurrency": "first-write"});
    let last = json!({"concurrency": "last-write"});
    for (path, body) in [
        (
            state,
            json!([{"key": "floats", "value": [0.1, 1e21, 123456789.123, -2.5]}]),
        ),
        (state, json!([{"key": "nothing", "value": null}])),
        (
            state,
            json!([{"key": "escaped", "value": "<a href=\"x\">&\u{2028}\u{7f}é"}]),
        ),
        // First-write: the flag, with and without an etag.
        (state, json!([{"key": "first", "value": 1, "options": first}])),
        (state, json!([{"key": "first", "value": 2, "options": first}])),
        (state, json!([{"key": "first", "value": 3}])),
        (state, json!([{"key": "first", "value": 4, "etag": "1"}])),
        (state, json!([{"key": "first", "value": 5, "etag": "1"}])),
        (state, json!([{"key": "second", "value": 1}])),
        (
            state,
            json!([{"key": "second", "value": 2, "etag": "1", "options": first}]),
        ),
        (
            state,
            json!([{"key": "second", "value": 3, "etag": "9", "options": last}]),
        ),
        (state, json!([{"key": "second", "value": 4, "etag": "text"}])),
        (
            state,
            json!([{"key": "strong", "value": 1, "options": {"consistency": "strong"}}]),
        ),
        // Times to live: kept by a plain write, ended by -1.
        (
            state,
            json!([{"key": "kept", "value": 1, "metadata": {"ttlInSeconds": "1000"}}]),
        ),
        (state, json!([{"key": "kept", "value": 2}])),
        (
            state,
            json!([{"key": "ended", "value": 1, "metadata": {"ttlInSeconds": "1000"}}]),
        ),
        (
            state,
            json!([{"key": "ended", "value": 2, "metadata": {"ttlInSeconds": "-1"}}]),
        ),
        (
            transaction,
            json!({"operations": [
                {"operation": "upsert", "request": {"key": "tx-1", "value": {"a": 1}}},
                {"operation": "upsert", "request": {"key": "tx-2", "value": "b", "metadata": {"ttlInSeconds": "900"}}},
                {"operation": "upsert", "request": {"key": "tx-1", "value": {"a": 2}}},
                {"operation": "upsert", "request": {"key": "tx-3", "value": 3}},
                {"operation": "delete", "request": {"key": "tx-3"}},
                {"operation": "upsert", "request": {"key": "second", "value": 5, "etag": "2"}},
            ]}),
        ),
    ] {
        statuses.push(ask(sidecar, path, &body).await.status);
    }
    for (key, etag) in [("second", "1"), ("strong", "1"), ("absent", "")] {
        let url = sidecar.url(&format!("{state}/{key}"));
        let headers: &[(&str, &str)] = if etag.is_empty() {
            &[]
        } else {
            &[("if-match", etag)]
        };
        statuses.push(
            send(request(Method::DELETE, &url, headers, ""))
                .await
                .unwrap()
                .status,
        );
    }
    statuses
}

#[tokio::test]
async fn the_same_requests_leave_the_same_rows() {
    let Some((server, reference)) = surroundings("the_same_requests_leave_the_same_rows") else {
        return;
    };
    let prefix = format!("rows-{}", std::process::id());
    let ours = with_store(launch("redis-ours", None), &server, OURS, &prefix, &[])
        .start()
        .await;
    let theirs = with_store(
        launch("redis-theirs", Some(&reference)),
        &server,
        THEIRS,
        &prefix,
        &[],
    )
    .start()
    .await;
    let (mut from_ours, mut from_theirs) = (exercise(&ours).await, exercise(&theirs).await);
    // A conflict is a conflict, whatever the store: docs/adr/0010.
    assert_eq!(
        (from_ours.remove(CONFLICT), from_theirs.remove(CONFLICT)),
        (409, 500)
    );
    assert_eq!(from_ours, from_theirs);
    let (mut here, mut there) = (database(&server, OURS).await, database(&server, THEIRS).await);
    // One of the rows lives for a second.
    let gone = format!("{prefix}||short");
    for connection in [&mut here, &mut there] {
        let _: i64 = redis::cmd("DEL")
            .arg(&gone)
            .query_async(connection)
            .await
            .unwrap();
    }
    let (here, there) = (rows(&mut here, &prefix).await, rows(&mut there, &prefix).await);
    assert!(here.len() > 12, "{:?}", here.keys());
    for (key, row) in &there {
        let ours = here.get(key).map(comparable);
        assert_eq!(ours, Some(comparable(row)), "{key}: ours (left), theirs (right)");
    }
    assert_eq!(here.len(), there.len());
    // Neither can query without the server's modules; the words differ, as ours asks what the store can do first.
    let query = json!({"filter": {}});
    let (from_ours, from_theirs) = (
        ask(&ours, "/v1.0-alpha1/state/statestore/query", &query).await,
        ask(&theirs, "/v1.0-alpha1/state/statestore/query", &query).await,
    );
    assert!(
        from_ours.status >= 400 && from_theirs.status >= 400,
        "{} {}",
        from_ours.status,
        from_theirs.status
    );
}

#[tokio::test]
async fn redis_rows_of_one_make_are_read_by_the_other() {
    let Some((server, reference)) = surroundings("redis_rows_of_one_make_are_read_by_the_other") else {
        return;
    };
    for ours_writes in [true, false] {
        let (first, second) = order(ours_writes, &reference);
        let prefix = format!("read-{ours_writes}-{}", std::process::id());
        let start = |name, program| with_store(launch(name, program), &server, OURS, &prefix, &[]).start();
        let writer = start("redis-writer", first).await;
        write(&writer).await;
        let reader = start("redis-reader", second).await;
        read_all(&reader, &writer, false).await;
    }
}

fn order(ours_first: bool, reference: &Path) -> (Option<&Path>, Option<&Path>) {
    if ours_first {
        (None, Some(reference))
    } else {
        (Some(reference), None)
    }
}

#[tokio::test]
async fn encrypted_values_of_one_make_are_read_by_the_other() {
    let Some((server, reference)) = surroundings("encrypted_values_of_one_make_are_read_by_the_other") else {
        return;
    };
    // A key by reference: Dapr finds it in the environment by the store `secretstores.local.env`.
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    for ours_writes in [true, false] {
        let (first, second) = order(ours_writes, &reference);
        let prefix = format!("sealed-{ours_writes}-{}", std::process::id());
        let start = |name, program| {
            let component = format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: statestore\nspec:\n  type: \
                 state.redis\n  version: v1\n  metadata:\n  - name: redisHost\n    value: {server:?}\n  - name: \
                 redisDB\n    value: \"{OURS}\"\n  - name: keyPrefix\n    value: {prefix:?}\n  - name: \
                 primaryEncryptionKey\n    secretKeyRef:\n      name: STATE_KEY\n      key: STATE_KEY\nauth:\n  \
                 secretStore: secrets\n"
            );
            launch(name, program)
                .env("STATE_KEY", key)
                .component("secrets", "secretstores.local.env", &[])
                .resource("statestore.yaml", &component)
                .start()
        };
        let writer = start("sealed-writer", first).await;
        let reader = start("sealed-reader", second).await;
        let items = json!([
            {"key": "text", "value": "sesame"},
            {"key": "number", "value": 12.5},
        ]);
        assert_eq!(ask(&writer, "/v1.0/state/statestore", &items).await.status, 204);
        let mut connection = database(&server, OURS).await;
        let stored = rows(&mut connection, &prefix).await;
        for (key, (fields, _)) in &stored {
            let stored = String::from_utf8_lossy(&fields[1]);
            assert!(
                !stored.contains("sesame") && stored.ends_with("||STATE_KEY"),
                "{key}: {stored}"
            );
        }
        for key in ["text", "number"] {
            let path = format!("/v1.0/state/statestore/{key}");
            let (here, there) = (
                get(&reader.url(&path)).await.unwrap(),
                get(&writer.url(&path)).await.unwrap(),
            );
            assert_eq!((here.status, &here.body), (200, &there.body), "{key}");
            assert_eq!(here.header("etag"), there.header("etag"), "{key}");
        }
    }
}

/// An app that subscribes to one topic and keeps what it is sent.
async fn subscriber(topic: &str) -> (App, Arc<Mutex<Vec<Value>>>) {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (events, topic) = (seen.clone(), topic.to_owned());
    let app = App::start(move |request| {
        let (events, topic) = (events.clone(), topic.clone());
        async move {
            match request.uri().path() {
                "/dapr/subscribe" => {
                    app::json(&json!([{"pubsubname": "pubsub", "topic": topic, "route": "/event"}]))
                }
                "/event" => {
                    events
                        .lock()
                        .await
                        .push(serde_json::from_slice(request.body()).unwrap());
                    app::status(200)
                }
                _ => app::status(404),
            }
        }
    })
    .await;
    (app, seen)
}

fn with_broker(launch: Launch, server: &str, group: &str) -> Launch {
    redis_component(
        launch,
        "pubsub",
        "pubsub.redis",
        server,
        OURS,
        &[("consumerID", group)],
    )
}

/// Publishes in every way there is.
async fn publish_all(sidecar: &Sidecar, topic: &str) {
    let url = sidecar.url(&format!("/v1.0/publish/pubsub/{topic}"));
    let cloud_event =
        r#"{"specversion":"1.0","id":"given","source":"s","type":"t","data":{"x":1},"own":"kept"}"#;
    for (query, kind, body) in [
        ("", "application/json", r#"{"a":"<ä>","n":12345678901234567890}"#),
        ("", "text/plain", "words"),
        ("", "application/octet-stream", "\u{1}bytes"),
        ("", "application/cloudevents+json", cloud_event),
        ("?metadata.rawPayload=true", "text/plain", "raw"),
        (
            "?metadata.ttlInSeconds=600&metadata.partitionKey=p%26",
            "application/json",
            "1",
        ),
    ] {
        let answer = send(request(
            Method::POST,
            &format!("{url}{query}"),
            &[("content-type", kind)],
            body,
        ))
        .await
        .unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    for metadata in [
        HashMap::new(),
        HashMap::from([("k".to_owned(), "<v>".to_owned())]),
    ] {
        let event = PublishEventRequest {
            pubsub_name: "pubsub".to_owned(),
            topic: topic.to_owned(),
            data: br#"{"by":"grpc"}"#.to_vec().into(),
            data_content_type: "application/json".to_owned(),
            metadata,
        };
        sidecar.dapr().await.publish_event(event).await.unwrap();
    }
}

/// The entries of a stream: fields by name. What differs from call to call is blanked.
async fn entries(connection: &mut MultiplexedConnection, topic: &str) -> Vec<BTreeMap<String, String>> {
    let stored: Vec<(String, Vec<(String, String)>)> = redis::cmd("XRANGE")
        .arg(topic)
        .arg("-")
        .arg("+")
        .query_async(connection)
        .await
        .unwrap();
    let entry = |fields: Vec<(String, String)>| {
        let field = |(name, text): (String, String)| (name, blanked(text));
        let mut fields: BTreeMap<_, _> = fields.into_iter().map(field).collect();
        // Over gRPC the reference leaves out what is empty; over HTTP it does not.
        fields
            .entry("metadata".to_owned())
            .or_insert_with(|| "{}".to_owned());
        fields
    };
    stored.into_iter().map(|(_, fields)| entry(fields)).collect()
}

fn blanked(text: String) -> String {
    let Ok(Value::Object(event)) = serde_json::from_str::<Value>(&text) else {
        return text;
    };
    let mut out = text;
    for name in [
        "id",
        "time",
        "traceid",
        "traceparent",
        "source",
        "topic",
        "expiration",
    ] {
        if let Some(Value::String(value)) = event.get(name)
            && value != "given"
        {
            out = out.replace(&format!("\"{name}\":{value:?}"), &format!("\"{name}\":*"));
        }
    }
    out
}

#[tokio::test]
async fn events_of_both_makes_are_the_same_entries_and_pass_between_them() {
    let Some((server, reference)) = surroundings("events_of_both_makes") else {
        return;
    };
    let id = std::process::id();
    let mut connection = database(&server, OURS).await;
    let mut stored = Vec::new();
    let mut delivered = Vec::new();
    for ours_publishes in [true, false] {
        let (first, second) = order(ours_publishes, &reference);
        let topic = format!("events-{ours_publishes}-{id}");
        let group = format!("group-{id}");
        let (app, seen) = subscriber(&topic).await;
        let publisher = with_broker(launch("events-publisher", first), &server, "nobody")
            .start()
            .await;
        let _subscriber = with_broker(launch("events-subscriber", second), &server, &group)
            .start_with_app(app.port)
            .await;
        publish_all(&publisher, &topic).await;
        // The raw one is no envelope, so it is not for this route.
        let events = eventually("all events arrive", || async {
            let seen = seen.lock().await;
            (seen.len() >= 7).then(|| seen.clone())
        })
        .await;
        let mut events: Vec<_> = events.iter().map(|event| blanked(event.to_string())).collect();
        events.sort();
        delivered.push(events);
        stored.push(entries(&mut connection, &topic).await);
    }
    assert_eq!(stored[0].len(), 8);
    for (ours, theirs) in stored[0].iter().zip(&stored[1]) {
        assert_eq!(ours, theirs, "ours (left), theirs (right)");
    }
    assert_eq!(delivered[0], delivered[1]);
}

#[tokio::test]
async fn sidecars_of_both_makes_share_a_group() {
    let Some((server, reference)) = surroundings("sidecars_of_both_makes_share_a_group") else {
        return;
    };
    let topic = format!("shared-{}", std::process::id());
    let (app, seen) = subscriber(&topic).await;
    let start = |name, program| with_broker(launch(name, program), &server, &topic).start_with_app(app.port);
    let (ours, theirs) = (
        start("shared-ours", None).await,
        start("shared-theirs", Some(&reference)).await,
    );
    for number in 0..200 {
        let publisher = if number % 2 == 0 { &ours } else { &theirs };
        let answer = ask(
            publisher,
            &format!("/v1.0/publish/pubsub/{topic}"),
            &json!(number),
        )
        .await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    eventually("all events arrive", || async {
        (seen.lock().await.len() >= 200).then_some(())
    })
    .await;
    let mut numbers: Vec<_> = seen
        .lock()
        .await
        .iter()
        .map(|event| event["data"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "each event once");
    let mut connection = database(&server, OURS).await;
    eventually("nothing stays pending", || {
        let (mut connection, topic) = (connection.clone(), topic.clone());
        async move {
            let pending: redis::Value = redis::cmd("XPENDING")
                .arg(&topic)
                .arg(&topic)
                .query_async(&mut connection)
                .await
                .unwrap();
            matches!(pending.as_sequence(), Some([redis::Value::Int(0), ..])).then_some(())
        }
    })
    .await;
    let _: i64 = redis::cmd("DEL")
        .arg(&topic)
        .query_async(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn configuration_is_read_alike() {
    let Some((server, reference)) = surroundings("configuration_is_read_alike") else {
        return;
    };
    let id = std::process::id();
    let start = |name, program| {
        redis_component(
            launch(name, program),
            "configuration",
            "configuration.redis",
            &server,
            OURS,
            &[],
        )
        .start()
    };
    let (ours, theirs) = (
        start("configuration-ours", None).await,
        start("configuration-theirs", Some(&reference)).await,
    );
    let mut connection = database(&server, OURS).await;
    for (key, text) in [("a", "1||v1"), ("b", "2"), ("c", "")] {
        let _: () = redis::cmd("SET")
            .arg(format!("configured-{id}-{key}"))
            .arg(text)
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    let keys: Vec<_> = ["a", "b", "c", "absent"]
        .map(|key| format!("key=configured-{id}-{key}"))
        .into();
    let path = format!("/v1.0/configuration/configuration?{}", keys.join("&"));
    let (from_ours, from_theirs) = (
        get(&ours.url(&path)).await.unwrap(),
        get(&theirs.url(&path)).await.unwrap(),
    );
    assert_eq!(from_ours.json(), from_theirs.json());
    assert_eq!(from_ours.json()[format!("configured-{id}-a")]["version"], "v1");
}
