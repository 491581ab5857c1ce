//! What the clients share.

use outrigger_platform_client::{
    API_VERSION, Error, Options,
    gateway::GatewayClient,
    virtufin::{SubscribeRequest, *},
    websocketmanager::WebSocketManagerClient,
    workmanager::WorkManagerClient,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    server::Server,
    structure::{enums, fields, services, structure},
};

pub(crate) fn at(server: &Server) -> Options {
    Options::local(server.port).host("127.0.0.1")
}

// X1
#[tokio::test]
async fn every_status_arrives_as_an_error_of_its_own() {
    let server = Server::start().await;
    let client = GatewayClient::new(&at(&server)).unwrap();
    for number in 1..=16 {
        let code = Code::from(number);
        server.refuse("list_services", Status::new(code, "why"));
        let error = client.list_services().await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{error:?}");
        assert_eq!(error.failure().unwrap().message, "why");
        let variant = format!("{error:?}");
        assert!(variant.starts_with(&format!("{code:?}(")), "{variant}");
    }
}

// X2
#[tokio::test]
async fn details_of_a_status_arrive() {
    let server = Server::start().await;
    let client = GatewayClient::new(&at(&server)).unwrap();
    let mut details = ErrorDetails::with_error_info("NOT_OWNER", "virtufin", [("owner".into(), "b".into())]);
    details.add_bad_request_violation("id", "not here");
    let status = Status::with_error_details(Code::FailedPrecondition, "elsewhere", details);
    server.refuse("list_services", status);
    let error = client.list_services().await.unwrap_err();
    assert_eq!(error.reason(), Some("NOT_OWNER"));
    let failure = error.failure().unwrap();
    assert_eq!(failure.metadata["owner"], "b");
    assert_eq!(failure.violations[0].description, "not here");
}

// X3
#[tokio::test]
async fn another_version_of_the_contract_is_told_by_its_own_error() {
    let server = Server::start().await;
    let client = GatewayClient::new(&at(&server).api_version("2.0.0")).unwrap();
    let details = ErrorDetails::with_error_info("API_VERSION_MISMATCH", "virtufin", []);
    let status = Status::with_error_details(Code::FailedPrecondition, "this service speaks 1.0.0", details);
    server.refuse("list_services", status);
    let error = client.list_services().await.unwrap_err();
    assert!(matches!(error, Error::ApiVersionMismatch(_)), "{error:?}");
    assert_eq!(server.calls()[0].metadata.get("x-api-version").unwrap(), "2.0.0");
}

// X4
#[tokio::test]
async fn version_and_metadata_are_sent_with_every_call() {
    let server = Server::start().await;
    let options = at(&server).app_id("it").metadata("Dapr-Api-Token", "t");
    let events = GatewayClient::new(&options)
        .unwrap()
        .subscribe_events(SubscribeRequest::default())
        .await;
    drop(events.unwrap());
    let workers = WorkManagerClient::new(&options).unwrap();
    workers.list_workers(Vec::new()).await.unwrap();
    let sockets = WebSocketManagerClient::new(&options).unwrap();
    sockets.list(Vec::new()).await.unwrap();
    let calls = server.calls();
    assert_eq!(calls.len(), 3);
    for call in calls {
        for (name, value) in [
            ("x-api-version", API_VERSION),
            ("dapr-app-id", "it"),
            ("dapr-api-token", "t"),
        ] {
            assert_eq!(call.metadata.get(name).unwrap(), value, "{}: {name}", call.method);
        }
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    // The port of the discard service, which nobody has run for decades.
    let client = GatewayClient::new(&Options::local(9).host("127.0.0.1")).unwrap();
    let error = client.list_services().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable), "{error:?}");
}

#[tokio::test]
async fn a_call_ends_when_its_time_is_over() {
    // It takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = Options::local(port)
        .host("127.0.0.1")
        .timeout(std::time::Duration::from_millis(50));
    let client = GatewayClient::new(&options).unwrap();
    let error = client.list_services().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::DeadlineExceeded), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_an_option_is_refused() {
    assert!(matches!(
        GatewayClient::new(&Options::gateway().host("not a host")),
        Err(Error::Options { .. })
    ));
    let error = GatewayClient::new(&Options::gateway().metadata("token", "s3cret\n")).unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

// X7
#[test]
fn every_message_enum_and_service_has_the_structure_of_the_contract() {
    let structure = structure();
    for (name, expected) in structure["messages"].as_object().unwrap() {
        assert_eq!(&fields(name), expected, "{name}");
    }
    assert_eq!(enums(), structure["enums"]);
    assert_eq!(services(), structure["services"]);
}

// X10
#[tokio::test]
async fn tags_are_passed_on() {
    let server = Server::start().await;
    let workers = WorkManagerClient::new(&at(&server)).unwrap();
    let sockets = WebSocketManagerClient::new(&at(&server)).unwrap();
    let tags = std::collections::BTreeMap::from([("b".to_owned(), "2".to_owned())]);
    workers.set_tag("w", "a", "1").await.unwrap();
    let request: SetTagRequest = server.last("set_tag");
    assert_eq!((request.id.as_str(), request.value.as_str()), ("w", "1"));
    assert_eq!(sockets.get_tag("c", "a").await.unwrap(), None);
    let found = GetTagResponse {
        value: String::new(),
        found: true,
    };
    server.answer("get_tag", &found);
    assert_eq!(workers.get_tag("w", "a").await.unwrap(), Some(String::new()));
    sockets.set_tags("c", tags.clone()).await.unwrap();
    assert_eq!(server.last::<SetTagsRequest>("set_tags").tags, tags);
    server.answer("get_tags", &GetTagsResponse { tags: tags.clone() });
    assert_eq!(workers.get_tags("w").await.unwrap(), tags);
    assert_eq!(sockets.get_tags("c").await.unwrap(), tags);
}
