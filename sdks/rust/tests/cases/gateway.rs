//! The gateway's client (cases A).

use std::{collections::HashSet, time::Duration};

use outrigger_platform_client::{
    Error, Options,
    gateway::{Ask, CORRELATION_ID, GatewayClient, Side, Stored},
    virtufin::{self, *},
};
use serde_json::json;
use tonic::{Code, transport::Endpoint};

use crate::{common::at, server::Server, structure::methods};

async fn connected() -> (Server, GatewayClient) {
    let server = Server::start().await;
    let client = GatewayClient::new(&at(&server)).unwrap();
    (server, client)
}

// A1
#[test]
fn the_gateway_is_on_this_machine_at_5002() {
    assert_eq!(Options::gateway().address(), "http://localhost:5002");
}

// A2
#[test]
fn host_and_port_can_be_given() {
    let options = Options::gateway().host("gateway.example").port(6002);
    assert_eq!(options.address(), "http://gateway.example:6002");
    assert_eq!(Options::gateway().host("::1").address(), "http://[::1]:5002");
}

// A3
#[tokio::test]
async fn every_method_of_the_contract_is_there() {
    let (server, client) = connected().await;
    call_all(&server, &client).await;
    let mut called: Vec<_> = server.calls().iter().map(|call| call.method).collect();
    called.sort_unstable();
    called.dedup();
    // Both services have a method of this name; here they share one.
    let told: HashSet<_> = ["Gateway", "Pubsub", "State", "Config"]
        .iter()
        .flat_map(|service| {
            let service = format!("virtufin.{service}");
            methods(&service)
                .into_iter()
                .map(move |method| (service.clone(), method))
        })
        .collect();
    assert_eq!(called.len(), told.len() - 1, "{called:?}");
}

// A4
#[test]
fn types_can_be_imported() {
    let _: (
        virtufin::InvokeRequest,
        virtufin::PublishRequest,
        virtufin::SaveStateRequest,
    ) = Default::default();
    let _: (
        virtufin::ConfigService,
        virtufin::TopicEventRequest,
        virtufin::MethodSchema,
    ) = Default::default();
    let _: outrigger_platform_client::io::cloudevents::v1::CloudEvent = Default::default();
}

// A5
#[tokio::test]
async fn sides_of_a_schema_are_an_enum() {
    let (server, client) = connected().await;
    let schema = Some(MethodSchema::default());
    server.answer("get_method_schema", &GetMethodSchemaResponse { schema });
    for (side, name) in [(Side::Input, "input"), (Side::Output, "output")] {
        client.get_method_schema("a", "Do", side).await.unwrap();
        let request: GetMethodSchemaRequest = server.last("get_method_schema");
        assert_eq!(request.schema_type, name);
    }
}

// A6
#[tokio::test]
async fn a_stub_can_be_made() {
    let server = Server::start().await;
    let channel = Endpoint::from_shared(at(&server).address())
        .unwrap()
        .connect_lazy();
    let mut stub = virtufin::gateway_client::GatewayClient::new(channel);
    stub.list_services(Empty {}).await.unwrap();
}

// A7
#[tokio::test]
async fn calls_go_over_a_channel_of_ones_own() {
    let server = Server::start().await;
    let channel = Endpoint::from_shared(at(&server).address())
        .unwrap()
        .connect_lazy();
    let client = GatewayClient::over(channel, &Options::gateway()).unwrap();
    client.list_services().await.unwrap();
    assert!(server.calls()[0].metadata.contains_key("x-api-version"));
}

fn reply(correlation_id: &str, data: &'static [u8]) -> PubsubSubscribeResponse {
    PubsubSubscribeResponse {
        topic: "answers".to_owned(),
        data: data.into(),
        metadata: [(CORRELATION_ID.to_owned(), correlation_id.to_owned())].into(),
        ..PubsubSubscribeResponse::default()
    }
}

// A8
#[tokio::test]
async fn the_reply_with_the_correlation_id_is_given() {
    let (server, client) = connected().await;
    server.reply(|request| {
        let own = &request.metadata[CORRELATION_ID];
        vec![
            PubsubSubscribeResponse::default(),
            reply("another", b"another's"),
            reply(own, b"mine"),
            reply(own, b"late"),
        ]
    });
    let mut ask = Ask::new("ask", "answers", &b"question"[..]);
    ask.metadata.insert("ce-type".to_owned(), "asked".to_owned());
    let event = client.publish_with_result(ask).await.unwrap();
    assert_eq!(&event.data[..], b"mine");
    assert_eq!(server.order(), ["subscribed", "published"]);
    let request: PublishRequest = server.last("publish_event");
    assert_eq!(
        (request.topic.as_str(), &request.data[..]),
        ("ask", &b"question"[..])
    );
    assert_eq!(request.metadata["ce-type"], "asked");
}

#[tokio::test]
async fn interleaved_asks_get_their_own_replies() {
    let (server, client) = connected().await;
    let asked = std::sync::Mutex::new(Vec::new());
    server.reply(move |request| {
        let mut asked = asked.lock().unwrap();
        asked.push((request.metadata[CORRELATION_ID].clone(), request.data.clone()));
        if asked.len() < 10 {
            return Vec::new();
        }
        let replies = asked.iter().rev().map(|(id, data)| PubsubSubscribeResponse {
            data: data.clone(),
            ..reply(id, b"")
        });
        replies.collect()
    });
    let asks = (0..10u8).map(|number| client.publish_with_result(Ask::new("ask", "answers", vec![number])));
    let replies = futures::future::join_all(asks).await;
    for (number, event) in (0..10u8).zip(replies) {
        assert_eq!(event.unwrap().data[..], [number]);
    }
}

// A9
#[tokio::test]
async fn a_reply_that_does_not_come_is_an_error() {
    let (server, client) = connected().await;
    server.reply(|_| vec![reply("another", b"")]);
    let mut ask = Ask::new("ask", "answers", Vec::new());
    ask.timeout = Duration::from_millis(50);
    let error = client.publish_with_result(ask).await.unwrap_err();
    assert!(
        matches!(&error, Error::NoReply { topic, .. } if topic == "answers"),
        "{error:?}"
    );
}

// A10
#[tokio::test]
async fn every_ask_makes_a_correlation_id() {
    let (server, client) = connected().await;
    server.reply(|request| vec![reply(&request.metadata[CORRELATION_ID], b"")]);
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let event = client
            .publish_with_result(Ask::new("ask", "answers", Vec::new()))
            .await;
        seen.insert(event.unwrap().metadata[CORRELATION_ID].clone());
    }
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|id| uuid::Uuid::parse_str(id).is_ok()));
}

/// A gateway that runs, if there is one.
fn real() -> Option<GatewayClient> {
    let Ok(address) = std::env::var("VIRTUFIN_TEST_GATEWAY") else {
        eprintln!("skipped: VIRTUFIN_TEST_GATEWAY (host:port) is not set");
        return None;
    };
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let options = Options::gateway().host(host).port(port.parse().expect("a port"));
    Some(GatewayClient::new(&options).unwrap())
}

// A11
#[tokio::test]
async fn a_real_gateway_answers() {
    let Some(client) = real() else { return };
    client.list_services().await.unwrap();
}

// A12
#[tokio::test]
async fn a_real_gateway_lists_services() {
    let Some(client) = real() else { return };
    let configured = client.list_config_services().await.unwrap();
    let names: Vec<_> = configured.into_iter().map(|service| service.name).collect();
    assert_eq!(client.list_services().await.unwrap(), names);
}

// A13
#[tokio::test]
async fn a_real_gateway_lists_methods() {
    let Some(client) = real() else { return };
    let services = client.list_services().await.unwrap();
    let service = services.first().expect("the gateway has backends");
    assert!(!client.list_methods(service).await.unwrap().is_empty());
    let error = client.list_methods("no-such-service").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound), "{error:?}");
}

// A14
#[tokio::test]
async fn a_real_gateway_publishes() {
    let Some(client) = real() else { return };
    let topic = format!("clients.{}", uuid::Uuid::new_v4());
    let mut events = client.subscribe([&topic]).await.unwrap();
    let request = PublishRequest {
        topic,
        data: (&br#"{"n":1}"#[..]).into(),
        metadata: [("ce-type", "test"), ("correlationid", "7")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        cloudevent: None,
    };
    client.publish_event(request).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
    let event = event
        .expect("it comes in time")
        .unwrap()
        .expect("the stream is open");
    assert_eq!(event.metadata["correlationid"], "7");
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&event.data).unwrap(),
        json!({"n": 1})
    );
}

#[tokio::test]
async fn a_real_gateway_passes_replies() {
    let Some(client) = real() else { return };
    let [ask, answers] = ["ask", "answers"].map(|name| format!("clients.{name}.{}", uuid::Uuid::new_v4()));
    let mut asked = client.subscribe([&ask]).await.unwrap();
    let responder = client.clone();
    let to = answers.clone();
    // Answers every question, each after one that is for nobody.
    let answering = tokio::spawn(async move {
        while let Some(question) = asked.next().await.unwrap() {
            for id in ["nobody", &question.metadata[CORRELATION_ID]] {
                let reply = PublishRequest {
                    topic: to.clone(),
                    data: question.data.clone(),
                    metadata: [(CORRELATION_ID.to_owned(), id.to_owned())].into(),
                    cloudevent: None,
                };
                responder.publish_event(reply).await.unwrap();
            }
        }
    });
    let asks = (0..20u8).map(|number| {
        let mut ask = Ask::new(&ask, &answers, number.to_string());
        ask.timeout = Duration::from_secs(20);
        client.publish_with_result(ask)
    });
    for (number, reply) in (0..20u8).zip(futures::future::join_all(asks).await) {
        assert_eq!(reply.unwrap().data, number.to_string());
    }
    answering.abort();
    let mut late = Ask::new(&answers, &ask, "");
    late.timeout = Duration::from_millis(100);
    let error = client.publish_with_result(late).await.unwrap_err();
    assert!(matches!(error, Error::NoReply { .. }), "{error:?}");
}

#[tokio::test]
async fn a_real_gateway_keeps_state_and_calls_by_name() {
    let Some(client) = real() else { return };
    let key = format!("clients/{}", uuid::Uuid::new_v4());
    let save = |etag: &str| SaveStateRequest {
        service: "clients".to_owned(),
        key: key.clone(),
        value: "1".to_owned(),
        etag: etag.to_owned(),
        ..SaveStateRequest::default()
    };
    assert_eq!(client.get_state("clients", &key).await.unwrap(), None);
    let etag = client.save_state(save("")).await.unwrap();
    let stored = client
        .get_state("clients", &key)
        .await
        .unwrap()
        .expect("it is there");
    assert_eq!((stored.value.as_str(), &stored.etag), ("1", &etag));
    client.save_state(save(&etag)).await.unwrap();
    let error = client.save_state(save(&etag)).await.unwrap_err();
    assert!(matches!(error, Error::Aborted(_)), "{error:?}");
    let all = client.get_all_state("clients").await.unwrap();
    assert_eq!(all.get(&key).map(String::as_str), Some("1"));
    let services = client.list_services().await.unwrap();
    let error = client
        .service(&services[0])
        .call("NoSuchMethod", json!({}))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::NotFound(_) | Error::Unimplemented(_)),
        "{error:?}"
    );
    let address = std::env::var("VIRTUFIN_TEST_GATEWAY").unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    let options = Options::gateway()
        .host(host)
        .port(port.parse().unwrap())
        .api_version("9.0.0");
    let error = GatewayClient::new(&options)
        .unwrap()
        .list_services()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ApiVersionMismatch(_)), "{error:?}");
}

/// Every method once; what it gives is what the server answers.
async fn call_all(server: &Server, client: &GatewayClient) {
    let ok = || {
        Some(StatusResponse {
            success: true,
            status: "OK".to_owned(),
            message: String::new(),
        })
    };
    server.answer(
        "invoke",
        &InvokeResponse {
            success: true,
            response_data: (&b"out"[..]).into(),
            ..InvokeResponse::default()
        },
    );
    assert_eq!(&client.invoke("a", "Do", &b"in"[..]).await.unwrap()[..], b"out");
    server.answer(
        "invoke_json",
        &InvokeJsonResponse {
            success: true,
            response_data: "{}".to_owned(),
            ..InvokeJsonResponse::default()
        },
    );
    assert_eq!(client.invoke_json("a", "Do", "{}").await.unwrap(), "{}");
    client.list_services().await.unwrap();
    client.list_methods("a").await.unwrap();
    let schema = Some(MethodSchema::default());
    server.answer("get_method_schema", &GetMethodSchemaResponse { schema });
    client.get_method_schema("a", "Do", Side::Output).await.unwrap();
    drop(
        client
            .subscribe_events(SubscribeRequest::default())
            .await
            .unwrap(),
    );
    server.answer("publish_event", &PublishResponse { status: ok() });
    client.publish_event(PublishRequest::default()).await.unwrap();
    drop(client.subscribe(["t"]).await.unwrap());
    client.unsubscribe("s1").await.unwrap();
    assert_eq!(
        server.last::<UnsubscribeRequest>("unsubscribe").subscription_id,
        "s1"
    );
    let answer = SaveStateResponse {
        status: ok(),
        etag: "2".to_owned(),
    };
    server.answer("save_state", &answer);
    assert_eq!(client.save_state(SaveStateRequest::default()).await.unwrap(), "2");
    assert_eq!(client.get_state("svc", "k").await.unwrap(), None);
    let answer = GetStateResponse {
        key: "k".to_owned(),
        value: "v".to_owned(),
        etag: "1".to_owned(),
    };
    server.answer("get_state", &answer);
    let stored = Stored {
        value: "v".to_owned(),
        etag: "1".to_owned(),
    };
    assert_eq!(client.get_state("svc", "k").await.unwrap(), Some(stored));
    client.get_all_state("svc").await.unwrap();
    client.register_keys("svc", ["k", "l"]).await.unwrap();
    assert_eq!(
        server.last::<RegisterKeysRequest>("register_keys").keys,
        ["k", "l"]
    );
    client.delete_state(DeleteStateRequest::default()).await.unwrap();
    client.list_config_services().await.unwrap();
    let service = Some(ConfigService::default());
    server.answer("get_service", &GetConfigServiceResponse { service });
    client.get_config_service("b").await.unwrap();
    assert_eq!(server.last::<GetConfigServiceRequest>("get_service").name, "b");
}

// X8
#[tokio::test]
async fn every_call_is_passed_on_and_a_status_inside_an_answer_is_an_error() {
    let (server, client) = connected().await;
    call_all(&server, &client).await;
    let status = Some(StatusResponse {
        success: false,
        status: "ABORTED".to_owned(),
        message: "stale".to_owned(),
    });
    server.answer("delete_state", &DeleteStateResponse { status });
    let error = client
        .delete_state(DeleteStateRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "aborted: stale");
}

// X9
#[tokio::test]
async fn events_arrive_in_order_and_an_error_ends_them() {
    let (server, client) = connected().await;
    let filter = SubscribeRequest {
        services: vec!["a".to_owned()],
        ..SubscribeRequest::default()
    };
    let mut events = client.subscribe_events(filter.clone()).await.unwrap();
    assert_eq!(server.last::<SubscribeRequest>("subscribe_events"), filter);
    for number in 0..100 {
        assert_eq!(events.next().await.unwrap().unwrap().id, number.to_string());
    }
    assert_eq!(events.next().await.unwrap_err().code(), Some(Code::DataLoss));
    assert_eq!(events.next().await, Ok(None));
    server.refuse("subscribe_events", tonic::Status::invalid_argument("bad filter"));
    let error = client.subscribe_events(filter).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument));
}

// X5
#[tokio::test]
async fn a_backend_is_called_by_name() {
    let (server, client) = connected().await;
    server.answer(
        "invoke_json",
        &InvokeJsonResponse {
            success: true,
            response_data: r#"{"workers":[{"id":"w1"}]}"#.to_owned(),
            ..InvokeJsonResponse::default()
        },
    );
    let service = client.service("workmanager");
    let answer = service.call("ListWorkers", json!({"filters": []})).await.unwrap();
    assert_eq!(answer["workers"][0]["id"], "w1");
    let request: InvokeJsonRequest = server.last("invoke_json");
    assert_eq!(request.service, "workmanager");
    assert_eq!(request.method, "ListWorkers");
    assert_eq!(request.request_data, r#"{"filters":[]}"#);
}

// X6
#[tokio::test]
async fn an_error_of_a_backend_called_by_name_keeps_its_status() {
    let (server, client) = connected().await;
    server.answer(
        "invoke_json",
        &InvokeJsonResponse {
            status: "NOT_FOUND".to_owned(),
            message: "no such worker".to_owned(),
            ..InvokeJsonResponse::default()
        },
    );
    let error = client
        .service("workmanager")
        .call("StartWorker", json!({}))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error:?}");
}
