//! Our sidecar beside a reference one: each calls the other, and each reads what the other has stored.

use std::{collections::HashMap, path::Path};

use bytes::Bytes;
use http::Method;
use outrigger_wire::dapr::proto::{
    common::v1::{Etag, StateItem},
    runtime::v1::{DeleteStateRequest, GetStateRequest, SaveStateRequest},
};
use serde_json::json;
use tonic::Code;

use crate::{
    moving_callee::speak_all_kinds,
    support::{
        app::App,
        client::{Answer, get, post, request, send},
        echo::EchoApp,
        eventually, program,
        sidecar::{Launch, Sidecar},
    },
};

/// Sidecars of both makes, told apart by their app ids; they find one another by mDNS.
pub(crate) fn launch(app_id: &str, reference: Option<&Path>) -> Launch {
    let launch = Launch::new(&format!("{app_id}-{}", std::process::id()));
    match reference {
        Some(program) => launch.program(program),
        None => launch,
    }
}

async fn invoke_through(caller: &Sidecar, target: &Sidecar) {
    let url = caller.url(&format!(
        "/v1.0/invoke/{}/method/some/path%20x?q=%C3%A4&b=2",
        target.app_id
    ));
    let body = "a body ".repeat(20_000);
    let answer = eventually("the callee is found", || async {
        let request = request(Method::PUT, &url, &[("content-type", "text/x-own")], body.clone());
        send(request).await.ok().filter(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(answer.header("content-type"), "text/x-own");
    assert_eq!(answer.text(), format!("PUT /some/path%20x?q=%C3%A4&b=2 {body}"));
    let url = caller.url("/echo");
    let answer = send(request(
        Method::DELETE,
        &url,
        &[("dapr-app-id", target.app_id.as_str())],
        "",
    ))
    .await
    .unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "DELETE /echo "));
}

#[tokio::test]
async fn http_calls_pass_between_the_makes() {
    let Some(reference) = program::reference("http_calls_pass_between_the_makes") else {
        return;
    };
    let app = App::echo().await;
    let ours = launch("http-ours", None).start_with_app(app.port).await;
    let theirs = launch("http-theirs", Some(&reference))
        .start_with_app(app.port)
        .await;
    invoke_through(&ours, &theirs).await;
    invoke_through(&theirs, &ours).await;
    // Nobody of that name: both makes say the same.
    let missing = |sidecar: &Sidecar| sidecar.url("/v1.0/invoke/nobody/method/x");
    let (from_ours, from_theirs) = (
        get(&missing(&ours)).await.unwrap(),
        get(&missing(&theirs)).await.unwrap(),
    );
    assert_eq!(from_ours.status, from_theirs.status);
    assert_eq!(from_ours.json()["errorCode"], from_theirs.json()["errorCode"]);
}

#[tokio::test]
async fn grpc_streams_pass_between_the_makes() {
    let Some(reference) = program::reference("grpc_streams_pass_between_the_makes") else {
        return;
    };
    let (near, far) = (
        EchoApp::start("behind ours").await,
        EchoApp::start("behind theirs").await,
    );
    let grpc = |launch: Launch| launch.args(["--app-protocol", "grpc"]);
    let ours = grpc(launch("grpc-ours", None)).start_with_app(near.port).await;
    let theirs = grpc(launch("grpc-theirs", Some(&reference)))
        .start_with_app(far.port)
        .await;
    speak_all_kinds(&ours, &theirs.app_id, "behind theirs").await;
    speak_all_kinds(&theirs, &ours.app_id, "behind ours").await;
    speak_all_kinds(&ours, &ours.app_id, "behind ours").await;
    speak_all_kinds(&theirs, &theirs.app_id, "behind theirs").await;
}

fn store(launch: Launch, file: &Path) -> Launch {
    launch.component(
        "statestore",
        "state.sqlite",
        &[
            ("connectionString", file.to_str().unwrap()),
            ("keyPrefix", "none"),
        ],
    )
}

pub(crate) const BINARY: &[u8] = b"\x00\xff\xfe not text \x80";

/// Stores one row of each kind.
pub(crate) async fn write(sidecar: &Sidecar) {
    let url = sidecar.url("/v1.0/state/statestore");
    let rows = json!([
        {"key": "object", "value": {"a": [1, 2.5, null], "b": "ä<&>\u{2028}"}},
        {"key": "text", "value": "plain"},
        {"key": "number", "value": 9_007_199_254_740_993_i64},
        {"key": "short", "value": "soon gone", "metadata": {"ttlInSeconds": "1"}},
        {"key": "long", "value": "stays", "metadata": {"ttlInSeconds": "3600"}},
        {"key": "changed", "value": "first"},
        {"key": "deleted", "value": 1},
    ]);
    let answer = post(&url, &rows).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    let answer = send(request(Method::DELETE, &format!("{url}/deleted"), &[], ""))
        .await
        .unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    let states = vec![
        StateItem {
            key: "binary".to_owned(),
            value: Bytes::from_static(BINARY),
            ..StateItem::default()
        },
        StateItem {
            key: "grpc-json".to_owned(),
            value: Bytes::from_static(br#"{"from":"grpc"}"#),
            metadata: HashMap::from([("contentType".to_owned(), "application/json".to_owned())]),
            ..StateItem::default()
        },
    ];
    let request = SaveStateRequest {
        store_name: "statestore".to_owned(),
        states,
    };
    sidecar.dapr().await.save_state(request).await.unwrap();
}

async fn read(sidecar: &Sidecar, key: &str) -> Answer {
    get(&sidecar.url(&format!("/v1.0/state/statestore/{key}")))
        .await
        .unwrap()
}

/// Reads what [`write`] has stored, through both APIs, and changes rows by their etags. Not every store tells when an
/// item expires.
pub(crate) async fn read_all(reader: &Sidecar, writer: &Sidecar, tells_expiry: bool) {
    for key in ["object", "text", "number", "long", "changed"] {
        let (here, there) = (read(reader, key).await, read(writer, key).await);
        assert_eq!((here.status, &here.body), (200, &there.body), "{key}");
        assert_eq!(here.header("etag"), there.header("etag"), "{key}");
        assert!(!here.header("etag").is_empty(), "{key}");
    }
    let expiry = |answer: &Answer| answer.header("metadata.ttlexpiretime").to_owned();
    let (here, there) = (read(reader, "long").await, read(writer, "long").await);
    assert_eq!(expiry(&here), expiry(&there));
    assert_eq!(expiry(&here).starts_with("20"), tells_expiry, "{here:?}");
    assert_eq!(read(reader, "deleted").await.status, 204);
    // An expired row is nobody's.
    eventually("the row expires", || async {
        (read(reader, "short").await.status == 204).then_some(())
    })
    .await;

    let (mut dapr, mut writers) = (reader.dapr().await, writer.dapr().await);
    let wanted = |key: &str| GetStateRequest {
        store_name: "statestore".to_owned(),
        key: key.to_owned(),
        ..GetStateRequest::default()
    };
    for key in ["binary", "grpc-json", "object", "number"] {
        let here = dapr.get_state(wanted(key)).await.unwrap().into_inner();
        let there = writers.get_state(wanted(key)).await.unwrap().into_inner();
        assert_eq!((here.data, here.etag), (there.data, there.etag), "{key}");
    }
    assert_eq!(
        dapr.get_state(wanted("binary")).await.unwrap().get_ref().data,
        BINARY
    );

    // An etag of one make is good with the other, once.
    let etag = read(writer, "changed").await.header("etag").to_owned();
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
    dapr.save_state(change("second")).await.unwrap();
    let refusal = writers.save_state(change("third")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Aborted);
    assert_eq!(
        writers.get_state(wanted("changed")).await.unwrap().get_ref().data,
        &b"\"second\""[..]
    );
    let delete = DeleteStateRequest {
        store_name: "statestore".to_owned(),
        key: "changed".to_owned(),
        etag: Some(Etag { value: etag }),
        ..DeleteStateRequest::default()
    };
    assert_eq!(dapr.delete_state(delete).await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn rows_of_one_make_are_read_by_the_other() {
    let Some(reference) = program::reference("rows_of_one_make_are_read_by_the_other") else {
        return;
    };
    for ours_writes in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        // Whoever writes makes the tables as well; the other comes to them.
        let (first, second) = if ours_writes {
            (None, Some(&*reference))
        } else {
            (Some(&*reference), None)
        };
        let writer = store(launch("rows-writer", first), &file).start().await;
        write(&writer).await;
        let reader = store(launch("rows-reader", second), &file).start().await;
        read_all(&reader, &writer, true).await;
    }
}
