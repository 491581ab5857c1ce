//! Subscriptions of a stream: the client asks, gets events and says what became of them.

use std::time::Duration;

use futures::StreamExt as _;
use outrigger_sidecar_app_channel::AppHealth;
use outrigger_sidecar_pubsub::SubscriptionKind;
use outrigger_wire::dapr::proto::runtime::v1::{
    SubscribeTopicEventsRequestAlpha1, SubscribeTopicEventsRequestInitialAlpha1,
    SubscribeTopicEventsRequestProcessedAlpha1, TopicEventRequest, TopicEventResponse,
    subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as ToServer,
    subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as ToClient,
};
use tokio::sync::mpsc;
use tonic::Status;

use crate::support::{Bench, LONG};

type Incoming = mpsc::UnboundedSender<Result<SubscribeTopicEventsRequestAlpha1, Status>>;

fn open(bench: &Bench) -> (Incoming, outrigger_sidecar_pubsub::TopicEventStream) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    (sender, bench.service.subscribe_topic_events(incoming))
}

fn initial(pubsub: &str, topic: &str) -> Result<SubscribeTopicEventsRequestAlpha1, Status> {
    let initial = SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: pubsub.to_owned(),
        topic: topic.to_owned(),
        ..Default::default()
    };
    Ok(SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(ToServer::InitialRequest(initial)),
    })
}

fn processed(id: &str, status: i32) -> Result<SubscribeTopicEventsRequestAlpha1, Status> {
    let event = SubscribeTopicEventsRequestProcessedAlpha1 {
        id: id.to_owned(),
        status: Some(TopicEventResponse { status }),
    };
    Ok(SubscribeTopicEventsRequestAlpha1 {
        subscribe_topic_events_request_type: Some(ToServer::EventProcessed(event)),
    })
}

async fn receive(stream: &mut outrigger_sidecar_pubsub::TopicEventStream) -> Result<ToClient, Status> {
    let message = tokio::time::timeout(LONG, stream.next())
        .await
        .unwrap()
        .unwrap()?;
    Ok(message.subscribe_topic_events_response_type.unwrap())
}

async fn event(stream: &mut outrigger_sidecar_pubsub::TopicEventStream) -> TopicEventRequest {
    match receive(stream).await.unwrap() {
        ToClient::EventMessage(event) => event,
        ToClient::InitialResponse(_) => panic!("an event"),
    }
}

#[tokio::test]
async fn streams() {
    let bench = Bench::new().await;
    bench.retry_inbound(5);
    // Health is the app's; streams prove themselves.
    bench.health.send_replace(AppHealth::Unknown);
    let (app, mut stream) = open(&bench);
    app.send(initial("ps", "t")).unwrap();
    assert!(matches!(
        receive(&mut stream).await.unwrap(),
        ToClient::InitialResponse(_)
    ));
    assert_eq!(bench.service.subscriptions()[0].kind, SubscriptionKind::Streaming);
    bench.publish("t", "1").await;
    let first = event(&mut stream).await;
    assert_eq!((&first.data[..], first.path.as_str()), (&b"1"[..], "/"));
    app.send(processed(&first.id, 1)).unwrap();
    let again = event(&mut stream).await;
    assert_eq!(again.id, first.id);
    app.send(processed(&again.id, 0)).unwrap();

    // The client goes away with an event in its hands: the next one gets it.
    bench.publish("t", "2").await;
    assert_eq!(&event(&mut stream).await.data[..], b"2");
    drop((app, stream));
    while !bench.service.subscriptions().is_empty() {
        tokio::task::yield_now().await;
    }
    let (app, mut stream) = open(&bench);
    app.send(initial("ps", "t")).unwrap();
    assert!(matches!(
        receive(&mut stream).await.unwrap(),
        ToClient::InitialResponse(_)
    ));
    let second = event(&mut stream).await;
    assert_eq!(&second.data[..], b"2");
    app.send(processed(&second.id, 0)).unwrap();

    bench.service.stop_forever().await;
    assert_eq!(receive(&mut stream).await.unwrap_err().message(), "stream closed");
}

#[tokio::test]
async fn a_client_that_leaves_during_the_shutdown_does_not_hold_it_up() {
    let bench = Bench::new().await;
    let (app, mut stream) = open(&bench);
    app.send(initial("ps", "t")).unwrap();
    assert!(receive(&mut stream).await.is_ok());
    bench.publish("t", "1").await;
    event(&mut stream).await;
    let stopping = bench.service.stop_forever();
    tokio::pin!(stopping);
    assert!(
        futures::poll!(&mut stopping).is_pending(),
        "the event is in flight"
    );
    drop((app, stream));
    // Far less than the deliveries in flight may take.
    tokio::time::timeout(Duration::from_secs(30), stopping)
        .await
        .expect("nothing is waited for");
}

#[tokio::test]
async fn stream_errors() {
    let bench = Bench::new().await;
    for (first, text) in [
        (initial("", "t"), "pubsubName is required"),
        (initial("ps", ""), "topic is required"),
        (initial("no", "t"), "pubsub no is not found"),
        (processed("x", 0), "initial request is required"),
    ] {
        let (app, mut stream) = open(&bench);
        app.send(first).unwrap();
        assert_eq!(receive(&mut stream).await.unwrap_err().message(), text);
    }
    let (app, mut stream) = open(&bench);
    app.send(initial("ps", "t")).unwrap();
    app.send(initial("ps", "t")).unwrap();
    assert!(receive(&mut stream).await.is_ok());
    assert_eq!(
        receive(&mut stream).await.unwrap_err().message(),
        "duplicate initial request received"
    );
    // A stream that never said what it wants does not keep the sidecar up.
    let (_app, mut silent) = open(&bench);
    bench.service.stop_forever().await;
    assert_eq!(
        receive(&mut silent).await.unwrap_err().message(),
        "api server closed"
    );
}
