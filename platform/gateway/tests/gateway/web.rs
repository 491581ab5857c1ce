//! gRPC-Web by hand, other origins, and native gRPC passed on (G3.3).

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request};
use outrigger_platform_transcoding::Raw;
use outrigger_platform_wire::virtufin::{
    Empty, InvokeJsonRequest, InvokeJsonResponse, ListServicesResponse, PublishRequest,
    PubsubSubscribeRequest, PubsubSubscribeResponse,
};
use prost::Message;
use serde_json::json;
use tonic::client::Grpc;

use crate::backend::Backend;
use crate::harness::{Answer, Gateway, send, until};

/// What a gRPC-Web answer holds: messages, then the trailers.
struct Web {
    messages: Vec<Bytes>,
    trailers: HeaderMap,
    answer: Answer,
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

fn request(gateway: &Gateway, path: &str, text: bool) -> http::request::Builder {
    let kind = if text {
        "application/grpc-web-text+proto"
    } else {
        "application/grpc-web+proto"
    };
    Request::post(format!("http://{}{path}", gateway.web))
        .header("content-type", kind)
        .header("accept", kind)
        .header("x-grpc-web", "1")
}

async fn call(gateway: &Gateway, path: &str, message: &impl Message, text: bool) -> Web {
    let body = frame(&message.encode_to_vec());
    let body = if text {
        STANDARD.encode(&body).into_bytes()
    } else {
        body
    };
    let request = request(gateway, path, text).body(Body::from(body)).unwrap();
    read(send(request).await, text)
}

fn read(answer: Answer, text: bool) -> Web {
    let mut body = if text {
        decode(&answer.body)
    } else {
        answer.body.clone()
    };
    let mut messages = Vec::new();
    let mut trailers = HeaderMap::new();
    while body.has_remaining() {
        let flag = body.get_u8();
        let length = usize::try_from(body.get_u32()).unwrap();
        let part = body.split_to(length);
        if flag & 0x80 == 0 {
            messages.push(part);
            continue;
        }
        for line in std::str::from_utf8(&part).unwrap().lines() {
            let (name, value) = line.split_once(':').unwrap();
            let name: http::HeaderName = name.trim().parse().unwrap();
            trailers.insert(name, value.trim().parse().unwrap());
        }
    }
    // A failure before anything was sent stands in the headers.
    if trailers.is_empty() {
        trailers.extend(answer.headers.clone());
    }
    Web {
        messages,
        trailers,
        answer,
    }
}

/// Base64 of several parts, each padded by itself.
fn decode(text: &[u8]) -> Bytes {
    text.chunks(4)
        .flat_map(|four| STANDARD.decode(four).unwrap())
        .collect()
}

#[tokio::test]
async fn both_encodings_reach_the_gateway_and_backends() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(json!([backend.entry("shop")]), &[]).await;
    for text in [false, true] {
        let web = call(&gateway, "/virtufin.Gateway/ListServices", &Empty {}, text).await;
        assert_eq!(web.trailers["grpc-status"], "0");
        let kind = web.answer.headers["content-type"].to_str().unwrap();
        assert!(
            kind.starts_with(if text {
                "application/grpc-web-text"
            } else {
                "application/grpc-web"
            }),
            "{kind}"
        );
        let told = ListServicesResponse::decode(web.messages[0].clone()).unwrap();
        assert_eq!(told.services, ["shop"]);

        let invoke = InvokeJsonRequest {
            service: "shop".to_owned(),
            method: "Sum".to_owned(),
            request_data: r#"{"values":[2,3]}"#.to_owned(),
        };
        let web = call(&gateway, "/virtufin.Gateway/InvokeJson", &invoke, text).await;
        let told = InvokeJsonResponse::decode(web.messages[0].clone()).unwrap();
        assert_eq!(told.response_data, r#"{"value":"5"}"#);

        // A backend's own method, unary and streaming. Field 1, 7.
        let seven = prost_types::Duration { seconds: 7, nanos: 0 };
        let web = call(&gateway, "/shop.v1.Shop/Echo", &seven, text).await;
        assert_eq!(web.messages, [Bytes::from_static(&[8, 7])], "{:?}", web.trailers);
        let web = call(&gateway, "/shop.v1.Shop/Watch", &seven, text).await;
        assert_eq!(web.messages.len(), 3);
        assert_eq!(web.trailers["grpc-status"], "0");

        let five = prost_types::Duration { seconds: 5, nanos: 0 };
        let web = call(&gateway, "/shop.v1.Shop/Fail", &five, text).await;
        assert_eq!(web.trailers["grpc-status"], "5");
        assert_eq!(web.trailers["grpc-message"], "it%20failed");
        let web = call(&gateway, "/nobody.Nothing/At", &five, text).await;
        assert_eq!(web.trailers["grpc-status"], "12");
    }
}

#[tokio::test]
async fn a_page_reads_a_stream_of_events() {
    use http_body_util::BodyExt as _;
    let gateway = Gateway::start(json!([]), &[]).await;
    let ask = PubsubSubscribeRequest {
        topics: vec!["t".to_owned()],
    };
    let body = frame(&ask.encode_to_vec());
    let request = request(&gateway, "/virtufin.Pubsub/Subscribe", false)
        .body(Body::from(body))
        .unwrap();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<Body>();
    let mut body = client.request(request).await.unwrap().into_body();
    let publish = PublishRequest {
        topic: "t".to_owned(),
        data: Bytes::from_static(b"hello"),
        ..PublishRequest::default()
    };
    gateway.pubsub().publish_event(publish).await.unwrap();
    let mut read = bytes::BytesMut::new();
    while read.len() < 5
        || read.len() < 5 + usize::try_from(u32::from_be_bytes(read[1..5].try_into().unwrap())).unwrap()
    {
        let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
        read.extend_from_slice(&part);
    }
    let event = PubsubSubscribeResponse::decode(&read[5..]).unwrap();
    assert_eq!(event.data, "hello");
    drop(body);
    drop(client);
    until("it is taken out", async || {
        gateway.health("subscriptions").await["description"] == "0 open on 0 topics"
    })
    .await;
}

async fn from_origin(gateway: &Gateway, method: &str, origin: Option<String>, preflight: bool) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{}/virtufin.Gateway/ListServices", gateway.web))
        .header("content-type", "application/grpc-web+proto");
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    if preflight {
        request = request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-grpc-web");
    }
    send(request.body(Body::from(frame(&[]))).unwrap()).await
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_configured() {
    let gateway = Gateway::start(json!([]), &[]).await;
    let strange = || Some("https://evil.example".to_owned());
    for (method, preflight) in [("POST", false), ("OPTIONS", true)] {
        let answer = from_origin(&gateway, method, strange(), preflight).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.headers.get("access-control-allow-origin"), None);
    }
    assert_eq!(from_origin(&gateway, "POST", None, false).await.status, 200);
    // A page that this very host serves.
    let own = Some(format!("http://{}", gateway.web));
    assert_eq!(from_origin(&gateway, "POST", own, false).await.status, 200);
    // On the REST port too.
    let request = Request::get(format!("http://{}/v1/gateway/list-services", gateway.http))
        .header("origin", "https://evil.example")
        .body(Body::empty())
        .unwrap();
    assert_eq!(send(request).await.status, 403);

    let flags = ["--cors-allowed-origins=https://app.example,http://localhost:3000"];
    let gateway = Gateway::start(json!([]), &flags).await;
    for origin in ["https://app.example", "http://localhost:3000"] {
        let answer = from_origin(&gateway, "OPTIONS", Some(origin.to_owned()), true).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["access-control-allow-origin"], origin);
        assert_eq!(
            answer.headers["access-control-allow-headers"],
            "content-type,x-grpc-web"
        );
        let answer = from_origin(&gateway, "POST", Some(origin.to_owned()), false).await;
        assert_eq!(answer.headers["access-control-allow-origin"], origin);
        let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("grpc-status"), "{exposed}");
        assert_eq!(read(answer, false).trailers["grpc-status"], "0");
    }
    for origin in ["https://evil.example", "https://app.example.evil.example", "null"] {
        assert_eq!(
            from_origin(&gateway, "POST", Some(origin.to_owned()), false)
                .await
                .status,
            403
        );
    }
}

#[tokio::test]
async fn native_calls_are_passed_on_with_streams_both_ways() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(
        json!([backend.entry("shop"), {"name": "twin", "grpc": {"port": backend.address.port()}}]),
        &[],
    )
    .await;
    let (asks, stream) = tokio::sync::mpsc::channel(4);
    let mut grpc = Grpc::new(gateway.channel.clone());
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(stream));
    request.metadata_mut().insert("x-say", "hello".parse().unwrap());
    let path = PathAndQuery::from_static("/shop.v1.Shop/Chat");
    let answer = grpc.streaming(request, path, Raw).await.unwrap();
    assert_eq!(answer.metadata().get("x-said").unwrap(), "hello");
    let mut answers = answer.into_inner();
    for number in 0..5_u8 {
        let message = Bytes::from(vec![8, number]);
        asks.send(message.clone()).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), message);
    }
    drop(asks);
    assert!(answers.message().await.unwrap().is_none());

    // Errors pass with their details; a backend can be named.
    for named in [None, Some("twin")] {
        let mut grpc = Grpc::new(gateway.channel.clone());
        grpc.ready().await.unwrap();
        let mut request = tonic::Request::new(Bytes::from_static(&[8, 9]));
        if let Some(name) = named {
            request
                .metadata_mut()
                .insert("x-virtufin-service", name.parse().unwrap());
        }
        let path = PathAndQuery::from_static("/shop.v1.Shop/Fail");
        let status = grpc.unary(request, path, Raw).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert!(!status.details().is_empty());
    }
    let mut grpc = Grpc::new(gateway.channel.clone());
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(Bytes::new());
    request
        .metadata_mut()
        .insert("x-virtufin-service", "nobody".parse().unwrap());
    let path = PathAndQuery::from_static("/shop.v1.Shop/Echo");
    let status = grpc.unary(request, path, Raw).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}
