//! What refused state calls tell; texts and details as measured beside daprd 1.18.2 with `state.in-memory`.

use outrigger_wire::dapr::proto::{
    common::v1::{Etag, StateItem, StateOptions},
    runtime::v1::*,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    bench::{get, save},
    support::Sidecar,
};

const EXISTS: &str =
    "possible etag mismatch. error from state store: item already exists and no etag was passed";

fn new_only(key: &str) -> StateItem {
    StateItem {
        key: key.to_owned(),
        value: b"1".to_vec().into(),
        options: Some(StateOptions {
            concurrency: 1,
            consistency: 0,
        }),
        ..StateItem::default()
    }
}

fn with_ttl(key: &str, ttl: &str) -> StateItem {
    StateItem {
        key: key.to_owned(),
        metadata: [("ttlInSeconds".to_owned(), ttl.to_owned())].into(),
        ..StateItem::default()
    }
}

fn saving(states: Vec<StateItem>) -> SaveStateRequest {
    SaveStateRequest {
        store_name: "mystore".to_owned(),
        states,
    }
}

fn transaction(operation: &str, item: StateItem) -> ExecuteStateTransactionRequest {
    ExecuteStateTransactionRequest {
        store_name: "mystore".to_owned(),
        operations: vec![TransactionalStateOperation {
            operation_type: operation.to_owned(),
            request: Some(item),
        }],
        ..Default::default()
    }
}

/// Code, text, and the reason of the error info, which is the only detail.
fn told(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "dapr.io");
    assert!(info.metadata.is_empty());
    assert_eq!(status.get_error_details_vec().len(), 1);
    (status.code(), status.message().to_owned(), info.reason.clone())
}

fn row(code: Code, text: impl Into<String>, reason: &str) -> (Code, String, String) {
    (code, text.into(), reason.to_owned())
}

#[tokio::test]
async fn refusals_carry_their_reason() {
    let sidecar = Sidecar::start(|_| {}).await;
    let mut client = sidecar.client().await;
    for key in ["a", "b"] {
        client.save_state(save(key, "v")).await.unwrap();
    }
    let save_failed = "failed saving state in state store mystore: ";
    for (states, code, text) in [
        (vec![new_only("a")], Code::Aborted, EXISTS.to_owned()),
        (
            vec![new_only("c"), new_only("a"), new_only("b")],
            Code::Aborted,
            format!("possible etag mismatch. error from state store: {EXISTS}\n{EXISTS}"),
        ),
        (
            vec![with_ttl("a", "x"), new_only("b")],
            Code::Aborted,
            format!("strconv.Atoi: parsing \"x\": invalid syntax\n{EXISTS}"),
        ),
        (
            vec![with_ttl("a", "x")],
            Code::Internal,
            "strconv.Atoi: parsing \"x\": invalid syntax".to_owned(),
        ),
    ] {
        let status = client.save_state(saving(states)).await.unwrap_err();
        assert_eq!(
            told(&status),
            row(code, format!("{save_failed}{text}"), "ERR_STATE_SAVE")
        );
    }
    let status = client
        .save_state(saving(vec![StateItem::default()]))
        .await
        .unwrap_err();
    assert_eq!(
        told(&status),
        row(
            Code::InvalidArgument,
            "state key cannot be empty",
            "ERR_STATE_SAVE"
        )
    );
    let status = client
        .execute_state_transaction(transaction("upsert", new_only("a")))
        .await
        .unwrap_err();
    assert_eq!(
        told(&status),
        row(
            Code::Internal,
            format!("error while executing state transaction: {EXISTS}"),
            "ERR_STATE_TRANSACTION"
        )
    );
    let status = client
        .execute_state_transaction(transaction("nope", new_only("a")))
        .await
        .unwrap_err();
    assert_eq!(
        told(&status),
        row(
            Code::Unimplemented,
            "operation type nope not supported",
            "ERR_NOT_SUPPORTED_STATE_OPERATION"
        )
    );
    let etag = Some(Etag {
        value: "wrong".to_owned(),
    });
    let status = client
        .delete_state(DeleteStateRequest {
            store_name: "mystore".to_owned(),
            key: "a".to_owned(),
            etag: etag.clone(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    let (code, text, reason) = told(&status);
    assert_eq!((code, &reason[..]), (Code::Aborted, "ERR_STATE_DELETE"));
    assert!(text.starts_with("failed deleting state with key a: possible etag mismatch."));
    let states = ["a", "b"].map(|key| StateItem {
        key: key.to_owned(),
        etag: etag.clone(),
        ..StateItem::default()
    });
    let status = client
        .delete_bulk_state(DeleteBulkStateRequest {
            store_name: "mystore".to_owned(),
            states: states.into(),
        })
        .await
        .unwrap_err();
    let (code, text, reason) = told(&status);
    assert_eq!((code, &reason[..]), (Code::Aborted, "ERR_STATE_BULK_DELETE"));
    assert_eq!(text.matches("possible etag mismatch.").count(), 3, "{text}");
}

#[tokio::test]
async fn what_can_be_saved_is_saved_beside_what_cannot() {
    let sidecar = Sidecar::start(|_| {}).await;
    let mut client = sidecar.client().await;
    let good = save("good", "v").states.remove(0);
    client
        .save_state(saving(vec![with_ttl("bad", "x"), good]))
        .await
        .unwrap_err();
    let answer = client.get_state(get("good")).await.unwrap();
    assert_eq!(&answer.into_inner().data[..], b"v");
}
