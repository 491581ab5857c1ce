//! Brokers over the socket.

use super::*;

impl Handler for Notes {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            self.note(&delivery.data);
            assert_eq!(delivery.metadata.get("colour").map(String::as_str), Some("red"));
            Verdict::Ack
        })
    }
}

fn message(topic: &str, text: &str) -> Outgoing {
    Outgoing {
        topic: Topic::from(topic),
        data: Bytes::copy_from_slice(text.as_bytes()),
        content_type: Some("text/plain".to_owned()),
        metadata: Metadata::from([("colour".to_owned(), "red".to_owned())]),
    }
}

fn request(topic: &str) -> SubscribeRequest {
    SubscribeRequest {
        topic: Topic::from(topic),
        group: "app".to_owned(),
        metadata: Metadata::new(),
        bulk: None,
    }
}

async fn open_pubsub(folder: &Folder) -> SharedPubSub {
    let found = discover(folder.0.path()).await;
    let open = found.pubsub(&spec("pubsub.bus", &[])).expect("the type is found");
    open.run(host()).await.unwrap()
}

#[tokio::test]
async fn a_broker_works_over_the_socket() {
    let folder = Folder::new();
    let _process = Process::start(
        &folder.socket("bus"),
        Offer::PubSub(outrigger_pubsub::memory_registration()),
    );
    let broker = open_pubsub(&folder).await;
    let notes = Arc::new(Notes::default());
    let subscription = broker
        .subscribe(request("t"), Arc::clone(&notes) as _)
        .await
        .unwrap();
    broker.publish(message("t", "one")).await.unwrap();
    notes.wait_for("one").await;
    let Outgoing {
        data,
        content_type,
        metadata,
        ..
    } = message("t", "two");
    let entry = OutgoingEntry {
        id: EntryId::from("1"),
        data,
        content_type,
        metadata,
    };
    let failures = broker
        .publish_bulk(&Topic::from("t"), vec![entry], &Metadata::new())
        .await;
    assert!(failures.is_empty());
    notes.wait_for("two").await;

    // The end of the last subscription pauses the component, the next one resumes it.
    subscription.pause().await;
    subscription.close().await;
    broker.publish(message("t", "unheard")).await.unwrap();
    let other = broker
        .subscribe(request("u"), Arc::clone(&notes) as _)
        .await
        .unwrap();
    broker.publish(message("u", "three")).await.unwrap();
    notes.wait_for("three").await;
    assert_eq!(notes.seen(), ["one", "two", "three"]);
    other.close().await;
    broker.close().await.unwrap();
    let refused = broker.publish(message("t", "late")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
}

/// A broker whose subscriptions are in force when they are let through, and that takes nothing before.
#[derive(Debug)]
struct Gated;

/// Rings when a subscription is being made.
static ASKED: Notify = Notify::const_new();
/// Lets it through.
static GATE: Notify = Notify::const_new();
static IN_FORCE: AtomicBool = AtomicBool::new(false);

impl PubSub for Gated {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn publish(&self, _message: Outgoing) -> Result<(), Error> {
        if IN_FORCE.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Error::internal("nobody would get it"))
    }

    async fn subscribe(
        &self,
        _request: SubscribeRequest,
        _handler: Arc<dyn Handler>,
    ) -> Result<Subscription, Error> {
        ASKED.notify_one();
        GATE.notified().await;
        IN_FORCE.store(true, Ordering::SeqCst);
        Ok(Subscription::new(Gated))
    }
}

impl SubscriptionControl for Gated {
    fn pause(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn gated(_spec: &Spec) -> Result<Open<dyn DynPubSub>, Error> {
    Ok(open_with(async |_host| Ok(Arc::new(Gated) as Arc<dyn DynPubSub>)))
}

/// Go's client counts a subscription as made when it has asked for it, and publishes.
#[tokio::test]
async fn what_is_published_behind_a_subscription_finds_it_in_force() {
    let folder = Folder::new();
    let offer = Offer::PubSub(Registration {
        type_names: &["pubsub.gated"],
        versions: &["v1"],
        validate: gated,
    });
    let _process = Process::start(&folder.socket("bus"), offer);
    let broker = open_pubsub(&folder).await;
    let subscribing = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.subscribe(request("t"), Arc::new(Notes::default())).await })
    };
    ASKED.notified().await;
    assert!(broker.publish(message("other", "one")).await.is_err());
    let mut publishing = std::pin::pin!(broker.publish(message("t", "one")));
    let moment = Duration::from_millis(100);
    assert!(tokio::time::timeout(moment, &mut publishing).await.is_err());
    GATE.notify_one();
    publishing.await.unwrap();
    subscribing.await.unwrap().unwrap().close().await;
}

#[tokio::test]
async fn a_subscription_goes_on_after_the_component_died() {
    let folder = Folder::new();
    let socket = folder.socket("bus");
    let offer = Offer::PubSub(outrigger_pubsub::memory_registration());
    let process = Process::start(&socket, offer);
    let broker = open_pubsub(&folder).await;
    let notes = Arc::new(Notes::default());
    let subscription = broker
        .subscribe(request("t"), Arc::clone(&notes) as _)
        .await
        .unwrap();
    broker.publish(message("t", "before")).await.unwrap();
    notes.wait_for("before").await;
    process.kill();

    let _again = Process::start(&socket, offer);
    // In memory nothing waits for the subscription to come back, so ask until it is there.
    eventually(|| async {
        let _ = broker.publish(message("t", "after")).await;
        notes.seen().iter().any(|text| text == "after").then_some(())
    })
    .await;
    subscription.close().await;
}
