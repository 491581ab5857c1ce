use std::{path::Path, sync::Arc};

use futures::StreamExt as _;
use http::{Method, StatusCode};
use outrigger_configuration::SharedConfigurationStore;
use outrigger_sidecar_app_channel::AppChannel;
use outrigger_sidecar_blocks::{ConfigurationService, ConfigurationServiceOptions};
use outrigger_wire::dapr::proto::runtime::v1::{
    GetConfigurationRequest, SubscribeConfigurationRequest, UnsubscribeConfigurationRequest,
};

use crate::support::{Answer, call, components, get, http_app, loaded, metrics, open, resilience, within};

async fn service(folder: &Path, app: Option<AppChannel>) -> Arc<ConfigurationService> {
    let store: SharedConfigurationStore = open(
        outrigger_components_sqlite::configuration::registration(),
        folder,
        &[("connectionString", "c.db")],
    )
    .await;
    Arc::new(ConfigurationService::new(ConfigurationServiceOptions {
        stores: components([loaded("cfg", "configuration.sqlite", &[], store)]),
        app,
        resilience: resilience(),
        metrics: metrics(),
    }))
}

/// Any program may write items.
fn set(folder: &Path, key: &str, value: &str) {
    let connection = rusqlite::Connection::open(folder.join("c.db")).unwrap();
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .unwrap();
    connection
        .execute(
            "REPLACE INTO configuration (key, value, version) VALUES (?1, ?2, '1')",
            (key, value),
        )
        .unwrap();
}

async fn http(service: &Arc<ConfigurationService>, route: &'static str, id: &str, uri: &str) -> Answer {
    let params = [("storeName", "cfg"), ("configurationSubscribeID", id)];
    call(
        &service.endpoints(),
        Method::GET,
        "v1.0",
        route,
        &params,
        get(uri),
    )
    .await
}

/// A9.1.
#[tokio::test]
async fn items_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path(), None).await;
    let route = "configuration/{storeName}";
    assert_eq!(
        http(&service, route, "", "/?key=a").await.status,
        StatusCode::NO_CONTENT
    );
    set(folder.path(), "a", "1");
    set(folder.path(), "b", "2");
    let answer = http(&service, route, "", "/?key=a&key=none").await;
    assert_eq!(answer.text(), "{\"a\":{\"value\":\"1\",\"version\":\"1\"}}\n");
    let request = GetConfigurationRequest {
        store_name: "cfg".to_owned(),
        ..Default::default()
    };
    assert_eq!(service.grpc_get(request).await.unwrap().items.len(), 2);

    let request = GetConfigurationRequest {
        store_name: "none".to_owned(),
        ..Default::default()
    };
    let error = service.grpc_get(request).await.unwrap_err();
    assert_eq!(error.message(), "configuration store none not found");
    assert_eq!(error.reason(), Some("ERR_CONFIGURATION_STORE_NOT_FOUND"));
}

/// A9.2 over HTTP: only the keys asked for, and nothing after the end.
#[tokio::test]
async fn updates_are_posted_to_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let (app, mut received) = http_app(|_| (200, "")).await;
    let service = service(folder.path(), Some(app)).await;
    let answer = http(&service, "configuration/{storeName}/subscribe", "", "/?key=a%2Fb").await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();

    set(folder.path(), "other", "0");
    set(folder.path(), "a/b", "1");
    let update = within(received.recv()).await.unwrap();
    assert_eq!(
        (update.method, update.path.as_str()),
        (Method::POST, "/configuration/cfg/a/b")
    );
    let body: serde_json::Value = serde_json::from_slice(&update.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"id": id, "items": {"a/b": {"value": "1", "version": "1"}}})
    );

    let route = "configuration/{storeName}/{configurationSubscribeID}/unsubscribe";
    assert_eq!(http(&service, route, &id, "/").await.text(), "{\"ok\":true}\n");
    let answer = http(&service, route, &id, "/").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        answer.json()["message"]
            .as_str()
            .unwrap()
            .starts_with("failed to unsubscribe to configuration request")
    );
    assert!(received.is_empty());
}

#[tokio::test]
async fn without_an_app_nobody_subscribes_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path(), None).await;
    let answer = http(&service, "configuration/{storeName}/subscribe", "", "/").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["errorCode"], "ERR_APP_CHANNEL_NIL");
}

/// A9.2 over gRPC: the id first, then updates; streams end by request, by the sidecar and with the client.
#[tokio::test]
async fn updates_stream_until_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path(), None).await;
    let request = SubscribeConfigurationRequest {
        store_name: "cfg".to_owned(),
        keys: vec!["a".to_owned()],
        ..Default::default()
    };
    let mut stream = service.grpc_subscribe(request.clone()).await.unwrap();
    let first = within(stream.next()).await.unwrap().unwrap();
    assert!(!first.id.is_empty() && first.items.is_empty());
    set(folder.path(), "a", "1");
    let update = within(stream.next()).await.unwrap().unwrap();
    assert_eq!(
        (update.id.as_str(), update.items["a"].value.as_str()),
        (first.id.as_str(), "1")
    );

    let unsubscribe = UnsubscribeConfigurationRequest {
        store_name: "cfg".to_owned(),
        id: first.id,
    };
    assert!(service.grpc_unsubscribe(unsubscribe.clone()).await.ok);
    assert!(within(stream.next()).await.is_none());
    let again = service.grpc_unsubscribe(unsubscribe).await;
    assert!(!again.ok && again.message.ends_with("subscription does not exist"));

    let mut stream = service.grpc_subscribe(request.clone()).await.unwrap();
    let id = within(stream.next()).await.unwrap().unwrap().id;
    drop(stream);
    let unsubscribe = UnsubscribeConfigurationRequest {
        store_name: "cfg".to_owned(),
        id,
    };
    assert!(!service.grpc_unsubscribe(unsubscribe).await.ok);

    let mut stream = service.grpc_subscribe(request.clone()).await.unwrap();
    within(stream.next()).await.unwrap().unwrap();
    within(service.close()).await;
    assert!(within(stream.next()).await.is_none());
    assert!(service.grpc_subscribe(request).await.is_err());
}
