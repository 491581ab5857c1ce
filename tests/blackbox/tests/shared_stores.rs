//! Our sidecar and a reference one on the same state store, at the same time: each reads, changes and deletes what
//! the other has written.

use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use http::Method;
use outrigger_wire::dapr::proto::{
    common::v1::{Etag, StateItem},
    runtime::v1::{DeleteStateRequest, GetStateRequest, SaveStateRequest},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{
    client::{Answer, get, post, request, send},
    eventually, program,
    sidecar::{Launch, Sidecar, component},
};

/// A store as a component names it.
struct Store {
    kind: &'static str,
    version: &'static str,
    metadata: Vec<(&'static str, String)>,
}

impl Store {
    /// The store under its name, and once more with encryption.
    fn launch(&self, app_id: &str, reference: Option<&Path>, folder: &Path) -> Launch {
        let secrets = folder.join("secrets.json");
        std::fs::write(
            &secrets,
            format!("{{\"state-key\":\"{}\"}}", "0123456789abcdef".repeat(4)),
        )
        .unwrap();
        let metadata: Vec<(&str, &str)> = self
            .metadata
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain([("keyPrefix", "none")])
            .collect();
        let text = |name: &str| {
            component(name, self.kind, &metadata)
                .replace("version: v1\n", &format!("version: {}\n", self.version))
        };
        let encrypted = format!(
            "{}  - name: primaryEncryptionKey\n    secretKeyRef:\n      name: state-key\n      key: state-key\nauth:\n  secretStore: secrets\n",
            text("encrypted")
        );
        let launch = Launch::new(&format!("{app_id}-{}", std::process::id()))
            .resource("statestore.yaml", &text("statestore"))
            .resource("encrypted.yaml", &encrypted)
            .component(
                "secrets",
                "secretstores.local.file",
                &[("secretsFile", secrets.to_str().unwrap())],
            );
        match reference {
            Some(program) => launch.program(program),
            None => launch,
        }
    }
}

const BINARY: &[u8] = b"\x00\xff\xfe not text \x80";

fn item(key: &str, value: &'static [u8], content_type: Option<&str>) -> StateItem {
    StateItem {
        key: key.to_owned(),
        value: Bytes::from_static(value),
        metadata: content_type
            .map(|kind| HashMap::from([("contentType".to_owned(), kind.to_owned())]))
            .unwrap_or_default(),
        ..StateItem::default()
    }
}

async fn post_ok(sidecar: &Sidecar, path: &str, body: &Value) {
    let answer = post(&sidecar.url(path), body).await.unwrap();
    assert_eq!(answer.status, 204, "{path}: {}", answer.text());
}

/// Stores rows of each kind.
async fn write(sidecar: &Sidecar) {
    let rows = json!([
        {"key": "object", "value": {"a": [1, 2.5, null], "b": "ä<&>\u{2028}", "z": {"ü": true}}},
        {"key": "text", "value": "plain"},
        {"key": "utf-8 ключ 🗝", "value": "значение 🔑"},
        {"key": "number", "value": 9_007_199_254_740_993_i64},
        {"key": "fraction", "value": 1.0e-7},
        {"key": "null-inside", "value": [null]},
        {"key": "short", "value": "soon gone", "metadata": {"ttlInSeconds": "1"}},
        {"key": "long", "value": "stays", "metadata": {"ttlInSeconds": "3600"}},
        {"key": "kept", "value": "first", "metadata": {"ttlInSeconds": "1"}},
        {"key": "changed", "value": "first"},
        {"key": "deleted", "value": 1},
        {"key": "deleted-together", "value": 1},
    ]);
    post_ok(sidecar, "/v1.0/state/statestore", &rows).await;
    // Written again without a time it stays.
    post_ok(
        sidecar,
        "/v1.0/state/statestore",
        &json!([{"key": "kept", "value": "second"}]),
    )
    .await;
    let url = sidecar.url("/v1.0/state/statestore/deleted");
    let answer = send(request(Method::DELETE, &url, &[], "")).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    let together = json!({"operations": [
        {"operation": "upsert", "request": {"key": "together-1", "value": {"n": 1}}},
        {"operation": "delete", "request": {"key": "deleted-together"}},
        {"operation": "upsert", "request": {"key": "together-2", "value": "2", "metadata": {"ttlInSeconds": "3600"}}},
    ]});
    post_ok(sidecar, "/v1.0/state/statestore/transaction", &together).await;
    let secret = json!([{"key": "secret-text", "value": "plain"}, {"key": "secret-number", "value": 42}]);
    post_ok(sidecar, "/v1.0/state/encrypted", &secret).await;

    let mut dapr = sidecar.dapr().await;
    for (store, states) in [
        (
            "statestore",
            vec![
                item("binary", BINARY, None),
                item("grpc-json", br#"{"from":"grpc"}"#, Some("application/json")),
            ],
        ),
        ("encrypted", vec![item("secret-binary", BINARY, None)]),
    ] {
        let request = SaveStateRequest {
            store_name: store.to_owned(),
            states,
        };
        dapr.save_state(request).await.unwrap();
    }
}

async fn read(sidecar: &Sidecar, store: &str, key: &str) -> Answer {
    let key: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    get(&sidecar.url(&format!("/v1.0/state/{store}/{key}")))
        .await
        .unwrap()
}

fn wanted(store: &str, key: &str) -> GetStateRequest {
    GetStateRequest {
        store_name: store.to_owned(),
        key: key.to_owned(),
        ..GetStateRequest::default()
    }
}

/// Reads what [`write`] has stored, through both APIs.
async fn read_all(reader: &Sidecar, writer: &Sidecar) {
    for (store, key) in [
        ("statestore", "object"),
        ("statestore", "text"),
        ("statestore", "utf-8 ключ 🗝"),
        ("statestore", "number"),
        ("statestore", "fraction"),
        ("statestore", "null-inside"),
        ("statestore", "long"),
        ("statestore", "changed"),
        ("statestore", "kept"),
        ("statestore", "together-1"),
        ("statestore", "together-2"),
        ("encrypted", "secret-text"),
        ("encrypted", "secret-number"),
    ] {
        let (here, there) = (read(reader, store, key).await, read(writer, store, key).await);
        assert_eq!((here.status, &here.body), (200, &there.body), "{key}");
        assert_eq!(here.header("etag"), there.header("etag"), "{key}");
        assert!(!here.header("etag").is_empty(), "{key}");
        let expiry = |answer: &Answer| answer.header("metadata.ttlexpiretime").to_owned();
        assert_eq!(expiry(&here), expiry(&there), "{key}");
        let has_expiry = ["long", "together-2"].contains(&key);
        assert_eq!(expiry(&here).starts_with("20"), has_expiry, "{key}: {here:?}");
    }
    // What lies in the store is not what was encrypted.
    let stored = read(reader, "statestore", "secret-text").await;
    assert!(
        stored.status == 200 && !stored.text().contains("plain"),
        "{}",
        stored.text()
    );
    for key in ["deleted", "deleted-together"] {
        assert_eq!(read(reader, "statestore", key).await.status, 204, "{key}");
    }
    // An expired row is nobody's.
    eventually("the row expires", || async {
        (read(reader, "statestore", "short").await.status == 204).then_some(())
    })
    .await;
    assert_eq!(read(reader, "statestore", "kept").await.text(), "\"second\"");

    let (mut here, mut there) = (reader.dapr().await, writer.dapr().await);
    for (store, key) in [
        ("statestore", "binary"),
        ("statestore", "grpc-json"),
        ("statestore", "object"),
        ("statestore", "number"),
        ("encrypted", "secret-binary"),
        ("encrypted", "secret-text"),
    ] {
        let ours = here.get_state(wanted(store, key)).await.unwrap().into_inner();
        let theirs = there.get_state(wanted(store, key)).await.unwrap().into_inner();
        assert_eq!((&ours.data, &ours.etag), (&theirs.data, &theirs.etag), "{key}");
        if key.ends_with("binary") {
            assert_eq!(ours.data, BINARY, "{key}");
        }
    }
    let keys = json!({"keys": ["text", "absent", "together-1"]});
    let bulk = async |sidecar: &Sidecar| {
        let answer = post(&sidecar.url("/v1.0/state/statestore/bulk"), &keys)
            .await
            .unwrap();
        let mut rows = answer.json().as_array().unwrap().clone();
        rows.sort_by_key(|row| row["key"].as_str().unwrap().to_owned());
        rows
    };
    assert_eq!(bulk(reader).await, bulk(writer).await);
}

/// Changes rows by the etags the other make has given.
async fn change_by_etag(reader: &Sidecar, writer: &Sidecar) {
    let (mut here, mut there) = (reader.dapr().await, writer.dapr().await);
    // An etag of one make is good with the other, once.
    let etag = read(writer, "statestore", "changed")
        .await
        .header("etag")
        .to_owned();
    let change = |value: &str| {
        let item = StateItem {
            key: "changed".to_owned(),
            value: Bytes::from(format!("{value:?}")),
            etag: Some(Etag { value: etag.clone() }),
            ..StateItem::default()
        };
        SaveStateRequest {
            store_name: "statestore".to_owned(),
            states: vec![item],
        }
    };
    here.save_state(change("second")).await.unwrap();
    let refusal = there.save_state(change("third")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Aborted);
    let now = there
        .get_state(wanted("statestore", "changed"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(now.data, &b"\"second\""[..]);
    let delete = |etag: &str| DeleteStateRequest {
        store_name: "statestore".to_owned(),
        key: "changed".to_owned(),
        etag: Some(Etag {
            value: etag.to_owned(),
        }),
        ..DeleteStateRequest::default()
    };
    assert_eq!(
        here.delete_state(delete(&etag)).await.unwrap_err().code(),
        Code::Aborted
    );
    // A transaction with a stale etag leaves nothing behind, on either side.
    for (sidecar, other) in [(reader, writer), (writer, reader)] {
        let stale = json!({"operations": [
            {"operation": "upsert", "request": {"key": "half", "value": 1}},
            {"operation": "upsert", "request": {"key": "changed", "value": 1, "etag": etag}},
        ]});
        let answer = post(&sidecar.url("/v1.0/state/statestore/transaction"), &stale)
            .await
            .unwrap();
        assert!(answer.status >= 400, "{}", answer.text());
        assert_eq!(read(other, "statestore", "half").await.status, 204);
    }
    there.delete_state(delete(&now.etag)).await.unwrap();
    assert_eq!(read(reader, "statestore", "changed").await.status, 204);
}

/// Whoever writes makes the tables as well; the other comes to them.
async fn both_ways(reference: &Path, store: impl Fn(&Path) -> Store) {
    for ours_writes in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let (first, second) = if ours_writes {
            (None, Some(reference))
        } else {
            (Some(reference), None)
        };
        let writer = store.launch("rows-writer", first, folder.path()).start().await;
        write(&writer).await;
        let reader = store.launch("rows-reader", second, folder.path()).start().await;
        read_all(&reader, &writer).await;
        change_by_etag(&reader, &writer).await;
    }
}

#[tokio::test]
async fn sqlite_is_shared() {
    let Some(reference) = program::reference("sqlite_is_shared") else {
        return;
    };
    both_ways(&reference, |folder| Store {
        kind: "state.sqlite",
        version: "v1",
        metadata: vec![(
            "connectionString",
            folder.join("state.db").to_str().unwrap().to_owned(),
        )],
    })
    .await;
}

/// Tables of their own on a server that is there already.
fn postgres(url: &str, version: &'static str) -> Store {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "shared_{}_{}_",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let table = match version {
        "v2" => ("tablePrefix", name.clone()),
        _ => ("tableName", format!("{name}state")),
    };
    Store {
        kind: "state.postgresql",
        version,
        metadata: vec![
            ("connectionString", url.to_owned()),
            ("metadataTableName", format!("{name}metadata")),
            table,
        ],
    }
}

async fn postgres_is_shared(test: &str, version: &'static str) {
    let Some(reference) = program::reference(test) else {
        return;
    };
    let Some(url) = std::env::var("OUTRIGGER_TEST_POSTGRES")
        .ok()
        .filter(|url| !url.is_empty())
    else {
        eprintln!("skipped {test}: OUTRIGGER_TEST_POSTGRES names no server");
        return;
    };
    both_ways(&reference, |_| postgres(&url, version)).await;
}

#[tokio::test]
async fn postgres_version_1_is_shared() {
    postgres_is_shared("postgres_version_1_is_shared", "v1").await;
}

#[tokio::test]
async fn postgres_version_2_is_shared() {
    postgres_is_shared("postgres_version_2_is_shared", "v2").await;
}
