//! The worker manager's client (cases M).

use outrigger_platform_client::{
    Error, Options,
    virtufin::{self, *},
    workmanager::{WorkManagerClient, code_from_content, code_from_url},
};
use tonic::{Status, transport::Endpoint};

use crate::{
    common::at,
    server::Server,
    structure::{methods, schema, structure},
};

async fn connected() -> (Server, WorkManagerClient) {
    let server = Server::start().await;
    let client = WorkManagerClient::new(&at(&server)).unwrap();
    (server, client)
}

fn text() -> String {
    "x".to_owned()
}

fn map() -> std::collections::BTreeMap<String, String> {
    [(text(), text())].into()
}

fn credential() -> Option<SourceCredential> {
    let bearer = BearerCredential { token: text() };
    Some(SourceCredential {
        credential: Some(source_credential::Credential::Bearer(bearer)),
    })
}

fn source() -> CodeSource {
    CodeSource {
        credential: credential(),
        content_sha256: text(),
        ..code_from_url("https://code.example")
    }
}

// M1
#[test]
fn the_worker_manager_is_on_this_machine_at_5102() {
    assert_eq!(Options::worker_manager().address(), "http://localhost:5102");
}

// M3
#[tokio::test]
async fn every_method_of_the_contract_is_there() {
    let (server, client) = connected().await;
    client
        .create_worker(CreateWorkerRequest::default())
        .await
        .unwrap();
    client.list_workers(Vec::new()).await.unwrap();
    client.delete_worker("w").await.unwrap();
    client.start_worker("w").await.unwrap();
    client.stop_worker("w").await.unwrap();
    server.answer("recover_workers", &RecoverWorkersResponse { recovered_count: 3 });
    assert_eq!(client.recover_workers().await.unwrap(), 3);
    client.get_worker_history("w").await.unwrap();
    client.load_code_from_content("w", &b"code"[..]).await.unwrap();
    assert_eq!(
        &server
            .last::<LoadCodeFromContentRequest>("load_code_from_content")
            .content[..],
        b"code"
    );
    client.load_code_from_url("w", "https://a", None).await.unwrap();
    client
        .load_code("w", code_from_content(&b"code"[..]))
        .await
        .unwrap();
    client.set_tag("w", "a", "1").await.unwrap();
    client.get_tag("w", "a").await.unwrap();
    client.set_tags("w", map()).await.unwrap();
    client.get_tags("w").await.unwrap();
    assert_eq!(server.calls().len(), methods("virtufin.WorkManager").len());
}

// M4
#[test]
fn types_can_be_imported() {
    let _: (
        virtufin::CreateWorkerRequest,
        virtufin::WorkerInfo,
        virtufin::CodeSource,
    ) = Default::default();
    let _: (
        virtufin::HistoryEntry,
        virtufin::SourceCredential,
        virtufin::TagFilter,
    ) = Default::default();
}

// M5
#[test]
fn enums_can_be_imported() {
    assert_eq!(WorkerStatus::default(), WorkerStatus::Unspecified);
    assert_eq!(WorkerStatus::try_from(2), Ok(WorkerStatus::Running));
}

// M6
#[tokio::test]
async fn a_stub_can_be_made() {
    let server = Server::start().await;
    let channel = Endpoint::from_shared(at(&server).address())
        .unwrap()
        .connect_lazy();
    let mut stub = virtufin::work_manager_client::WorkManagerClient::new(channel);
    stub.list_workers(ListWorkersRequest::default()).await.unwrap();
}

// M7
#[tokio::test]
async fn the_connection_is_made_by_the_first_call() {
    // Nobody is there, and nobody minds before a call.
    let client = WorkManagerClient::new(&Options::worker_manager().host("127.0.0.1").port(1)).unwrap();
    assert!(matches!(
        client.recover_workers().await,
        Err(Error::Unavailable(_))
    ));
}

// M8
#[test]
fn schema_of_create_worker_request() {
    let full = CreateWorkerRequest {
        code_source: Some(source()),
        mime_type: text(),
        topic: text(),
        group: text(),
        config: map(),
        tags: map(),
        create_stopped: true,
    };
    schema("CreateWorkerRequest", &full, &[]);
}

// M9
#[test]
fn schema_of_list_workers_request() {
    let filters = vec![TagFilter::default()];
    schema("ListWorkersRequest", &ListWorkersRequest { filters }, &[]);
}

// M10
#[test]
fn schema_of_delete_worker_request() {
    schema("DeleteWorkerRequest", &DeleteWorkerRequest { id: text() }, &[]);
}

// M11
#[test]
fn schema_of_start_worker_request() {
    schema("StartWorkerRequest", &StartWorkerRequest { id: text() }, &[]);
}

// M12
#[test]
fn schema_of_stop_worker_request() {
    schema("StopWorkerRequest", &StopWorkerRequest { id: text() }, &[]);
}

// M13
#[test]
fn schema_of_recover_workers_request() {
    schema("RecoverWorkersRequest", &RecoverWorkersRequest {}, &[]);
}

// M14
#[test]
fn schema_of_load_code_from_content_request() {
    let full = LoadCodeFromContentRequest {
        id: text(),
        content: (&b"x"[..]).into(),
        content_sha256: text(),
    };
    schema("LoadCodeFromContentRequest", &full, &[]);
}

// M15
#[test]
fn schema_of_load_code_from_url_request() {
    let full = LoadCodeFromUrlRequest {
        id: text(),
        url: text(),
        credential: credential(),
        content_sha256: text(),
    };
    schema("LoadCodeFromUrlRequest", &full, &[]);
}

// M16
#[test]
fn schema_of_worker_info() {
    let full = WorkerInfo {
        id: text(),
        code_source: Some(source()),
        mime_type: text(),
        language: text(),
        topic: text(),
        group: text(),
        created_at: text(),
        status: WorkerStatus::Running.into(),
        config: map(),
        tags: map(),
    };
    schema("WorkerInfo", &full, &[]);
}

// M17
#[test]
fn schema_of_code_source() {
    schema("CodeSource", &source(), &["content"]);
    let other = CodeSource {
        credential: credential(),
        content_sha256: text(),
        ..code_from_content(&b"x"[..])
    };
    schema("CodeSource", &other, &["url"]);
}

// M18
#[test]
fn worker_status_has_the_values_of_the_contract() {
    let told = &structure()["enums"]["virtufin.WorkerStatus"];
    assert_eq!(told.as_object().unwrap().len(), 3);
    for status in [
        WorkerStatus::Unspecified,
        WorkerStatus::Stopped,
        WorkerStatus::Running,
    ] {
        assert_eq!(told[status.as_str_name()], i32::from(status));
    }
}

// M30
#[tokio::test]
async fn an_error_of_create_worker_is_typed() {
    let (server, client) = connected().await;
    server.refuse("create_worker", Status::permission_denied("a private address"));
    let error = client
        .create_worker(CreateWorkerRequest::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PermissionDenied(_)), "{error:?}");
}

// M33
#[tokio::test]
async fn calls_go_over_a_channel_of_ones_own() {
    let server = Server::start().await;
    server.answer("create_worker", &CreateWorkerResponse { id: text() });
    let channel = Endpoint::from_shared(at(&server).address())
        .unwrap()
        .connect_lazy();
    let client = WorkManagerClient::over(channel, &Options::worker_manager()).unwrap();
    let id = client
        .create_worker(CreateWorkerRequest::default())
        .await
        .unwrap();
    assert_eq!(id, text());
}
