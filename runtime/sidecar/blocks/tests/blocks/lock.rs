use std::sync::Arc;

use http::{Method, StatusCode};
use outrigger_lock::SharedLockStore;
use outrigger_sidecar_blocks::{LockService, LockServiceOptions};
use outrigger_wire::dapr::proto::runtime::v1::UnlockRequest;

use crate::support::{Answer, call, components, loaded, open, post, resilience};

async fn service(folder: &std::path::Path, app_id: &str, properties: &[(&str, &str)]) -> Arc<LockService> {
    let store: SharedLockStore = open(
        outrigger_components_sqlite::lock::registration(),
        folder,
        &[("connectionString", "locks.db")],
    )
    .await;
    Arc::new(LockService::new(LockServiceOptions {
        app_id: app_id.into(),
        stores: components([loaded("locks", "lock.sqlite", properties, store)]),
        resilience: resilience(),
    }))
}

async fn lock(service: &Arc<LockService>, body: &str) -> Answer {
    let params = [("storeName", "locks")];
    call(
        &service.endpoints(),
        Method::POST,
        "v1.0-alpha1",
        "lock/{storeName}",
        &params,
        post(body),
    )
    .await
}

async fn unlock(service: &Arc<LockService>, body: &str) -> Answer {
    let params = [("storeName", "locks")];
    call(
        &service.endpoints(),
        Method::POST,
        "v1.0-alpha1",
        "unlock/{storeName}",
        &params,
        post(body),
    )
    .await
}

/// A9.9: shapes of both answers, and whose lock it is.
#[tokio::test]
async fn locks_are_taken_and_released() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path(), "myapp", &[]).await;
    let taken = r#"{"resourceId":"r","lockOwner":"me","expiryInSeconds":60}"#;
    assert_eq!(lock(&service, taken).await.text(), r#"{"success":true}"#);
    let other = r#"{"resourceId":"r","lockOwner":"you","expiryInSeconds":60}"#;
    assert_eq!(lock(&service, other).await.text(), r#"{"success":false}"#);
    assert_eq!(
        unlock(&service, r#"{"resourceId":"r","lockOwner":"you"}"#)
            .await
            .text(),
        r#"{"status":2}"#
    );
    assert_eq!(
        unlock(&service, r#"{"resourceId":"r","lockOwner":"me"}"#)
            .await
            .text(),
        r#"{"status":0}"#
    );
    assert_eq!(
        unlock(&service, r#"{"resourceId":"r","lockOwner":"me"}"#)
            .await
            .text(),
        r#"{"status":1}"#
    );
}

#[tokio::test]
async fn apps_share_locks_only_where_the_prefix_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let body = r#"{"resourceId":"r","lockOwner":"me","expiryInSeconds":60}"#;
    for (properties, second) in [(&[][..], "true"), (&[("keyPrefix", "name")][..], "false")] {
        let first_app = service(folder.path(), "a", properties).await;
        let second_app = service(folder.path(), "b", properties).await;
        assert_eq!(lock(&first_app, body).await.text(), r#"{"success":true}"#);
        assert_eq!(
            lock(&second_app, body).await.text(),
            format!(r#"{{"success":{second}}}"#)
        );
    }
}

#[tokio::test]
async fn requests_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path(), "myapp", &[]).await;
    for (body, message) in [
        ("", "ExpiryInSeconds is not positive in lock store locks"),
        (
            r#"{"expiryInSeconds":1,"lockOwner":"me"}"#,
            "ResourceId is empty in lock store locks",
        ),
        (
            r#"{"expiryInSeconds":1,"resourceId":"r"}"#,
            "LockOwner is empty in lock store locks",
        ),
    ] {
        let answer = lock(&service, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["message"], message);
        assert_eq!(answer.json()["errorCode"], "ERR_MALFORMED_REQUEST");
    }
    let answer = lock(
        &service,
        r#"{"resourceId":"a||b","lockOwner":"me","expiryInSeconds":60}"#,
    )
    .await;
    assert_eq!(answer.json()["errorCode"], "ERR_TRY_LOCK");
    let request = UnlockRequest {
        store_name: "none".to_owned(),
        resource_id: "r".to_owned(),
        lock_owner: "me".to_owned(),
    };
    let error = service.grpc_unlock(request).await.unwrap_err();
    assert_eq!(error.code(), "ERR_LOCK_STORE_NOT_FOUND");
    assert_eq!(error.grpc_code(), tonic::Code::InvalidArgument);
}
