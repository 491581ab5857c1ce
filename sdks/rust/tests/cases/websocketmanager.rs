//! The WebSocket manager's client (cases W).

use std::time::Duration;

use outrigger_platform_client::{
    Error, Options,
    virtufin::{self, *},
    websocketmanager::{SEND_TIMEOUT, WebSocketManagerClient},
};
use tonic::{Status, transport::Endpoint};

use crate::{
    common::at,
    server::Server,
    structure::{methods, schema},
};

async fn connected() -> (Server, WebSocketManagerClient) {
    let server = Server::start().await;
    let client = WebSocketManagerClient::new(&at(&server)).unwrap();
    (server, client)
}

fn text() -> String {
    "x".to_owned()
}

fn send_request() -> SendRequest {
    SendRequest {
        id: text(),
        message: (&b"x"[..]).into(),
        timeout_ms: 1,
        content_type: text(),
    }
}

// W1
#[test]
fn the_websocket_manager_is_on_this_machine_at_5202() {
    assert_eq!(Options::websocket_manager().address(), "http://localhost:5202");
}

// W3
#[tokio::test]
async fn every_method_of_the_contract_is_there() {
    let (server, client) = connected().await;
    client.connect(ConnectRequest::default()).await.unwrap();
    client.list(Vec::new()).await.unwrap();
    client.disconnect("c").await.unwrap();
    client.send("c", &b"m"[..], "text/plain", None).await.unwrap();
    client.send_raw("c", &b"m"[..], "text/plain").await.unwrap();
    client.start_publish("c", "t").await.unwrap();
    client.stop_publish("c").await.unwrap();
    client.set_tag("c", "a", "1").await.unwrap();
    client.get_tag("c", "a").await.unwrap();
    client.set_tags("c", [(text(), text())].into()).await.unwrap();
    client.get_tags("c").await.unwrap();
    assert_eq!(server.calls().len(), methods("virtufin.WebSocketManager").len());
}

// W4
#[test]
fn types_can_be_imported() {
    let _: (
        virtufin::ConnectRequest,
        virtufin::WebSocketConnection,
        virtufin::SendResponse,
    ) = Default::default();
    let _: virtufin::WebSocketMessage = Default::default();
}

// W5
#[tokio::test]
async fn a_stub_can_be_made() {
    let server = Server::start().await;
    let channel = Endpoint::from_shared(at(&server).address())
        .unwrap()
        .connect_lazy();
    let mut stub = virtufin::web_socket_manager_client::WebSocketManagerClient::new(channel);
    stub.list(ListRequest::default()).await.unwrap();
}

// W6
#[tokio::test]
async fn the_connection_is_made_by_the_first_call() {
    // Nobody is there, and nobody minds before a call.
    let options = Options::websocket_manager().host("127.0.0.1").port(1);
    let client = WebSocketManagerClient::new(&options).unwrap();
    assert!(matches!(
        client.list(Vec::new()).await,
        Err(Error::Unavailable(_))
    ));
}

// W7
#[test]
fn schema_of_connect_request() {
    let full = ConnectRequest {
        url: text(),
        auto_reconnect: true,
        tags: [(text(), text())].into(),
    };
    schema("ConnectRequest", &full, &[]);
}

// W8
#[test]
fn schema_of_connect_response() {
    let full = ConnectResponse {
        id: text(),
        status: text(),
    };
    schema("ConnectResponse", &full, &[]);
}

// W9
#[test]
fn schema_of_list_request() {
    let filters = vec![TagFilter::default()];
    schema("ListRequest", &ListRequest { filters }, &[]);
}

// W10
#[test]
fn schema_of_list_response() {
    let connections = vec![WebSocketConnection::default()];
    schema("ListResponse", &ListResponse { connections }, &[]);
}

// W11
#[test]
fn schema_of_disconnect_request() {
    schema("DisconnectRequest", &DisconnectRequest { id: text() }, &[]);
}

// W12
#[test]
fn schema_of_send_request() {
    schema("SendRequest", &send_request(), &[]);
}

// W13
#[tokio::test]
async fn fields_of_send_request_are_filled() {
    let (server, client) = connected().await;
    let response = (&b"pong"[..]).into();
    server.answer("send", &SendResponse { response });
    let answer = client.send("c", &b"x"[..], "text/plain", Some(Duration::from_millis(500)));
    assert_eq!(&answer.await.unwrap()[..], b"pong");
    let request: SendRequest = server.last("send");
    assert_eq!((request.id.as_str(), &request.message[..]), ("c", &b"x"[..]));
    assert_eq!(
        (request.timeout_ms, request.content_type.as_str()),
        (500, "text/plain")
    );
    client.send("c", &b"x"[..], "", None).await.unwrap();
    let request: SendRequest = server.last("send");
    assert_eq!(
        u128::try_from(request.timeout_ms).unwrap(),
        SEND_TIMEOUT.as_millis()
    );
}

// W14
#[test]
fn schema_of_send_raw_request() {
    let full = SendRawRequest {
        id: text(),
        message: (&b"x"[..]).into(),
        content_type: text(),
    };
    schema("SendRawRequest", &full, &[]);
}

// W15
#[test]
fn schema_of_start_publish_request() {
    let full = StartPublishRequest {
        id: text(),
        topic: text(),
    };
    schema("StartPublishRequest", &full, &[]);
}

// W16
#[test]
fn schema_of_stop_publish_request() {
    schema("StopPublishRequest", &StopPublishRequest { id: text() }, &[]);
}

// W17
#[test]
fn schema_of_web_socket_connection() {
    let full = WebSocketConnection {
        id: text(),
        url: text(),
        status: text(),
        topic: text(),
        instance_id: text(),
        content_type: text(),
        tags: [(text(), text())].into(),
    };
    schema("WebSocketConnection", &full, &[]);
}

// W27
#[tokio::test]
async fn an_error_of_connect_is_typed() {
    let (server, client) = connected().await;
    server.refuse("connect", Status::invalid_argument("ws or wss only"));
    let error = client.connect(ConnectRequest::default()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
}

// W30
#[tokio::test]
async fn calls_go_over_a_channel_of_ones_own() {
    let server = Server::start().await;
    let channel = Endpoint::from_shared(at(&server).address())
        .unwrap()
        .connect_lazy();
    let client = WebSocketManagerClient::over(channel, &Options::websocket_manager()).unwrap();
    client.list(Vec::new()).await.unwrap();
    assert_eq!(server.calls().len(), 1);
}
