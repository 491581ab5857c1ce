//! I2: messages to the other end, and answers.

use tokio_tungstenite::tungstenite::Message;
use tonic::Code;

use crate::instance::{Instance, payloads};
use crate::peer::Peer;
use crate::until;
use crate::world::World;

pub(crate) async fn raw_messages_go_as_they_are_in_the_frame_of_their_type(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    instance.say(&id, b"one", "text/plain").await.unwrap();
    instance
        .say(&id, br#"{"two":2}"#, "application/json")
        .await
        .unwrap();
    instance
        .say(&id, b"three", "application/octet-stream")
        .await
        .unwrap();
    instance.say(&id, &[0xff, 0x00], "").await.unwrap();
    until("all arrived", || async { peer.heard().len() == 4 }).await;
    assert_eq!(
        peer.heard(),
        [
            Message::text("one"),
            Message::text(r#"{"two":2}"#),
            Message::binary(&b"three"[..]),
            Message::binary(&[0xff_u8, 0x00][..])
        ]
    );
    let error = instance.say(&id, &[0xff], "text/plain").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = instance.say("x", b"", "").await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

pub(crate) async fn many_requests_are_answered_in_any_order_while_other_messages_flow(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    instance.publish(&id, "others").await.unwrap();
    let asks = (0..50).map(|number| {
        let (instance, id) = (&instance, &id);
        async move {
            // Half of them in text frames, which the UUID in front must not spoil (Z14).
            let (message, kind) = (
                format!("{number} hold"),
                if number % 2 == 0 { "text/plain" } else { "" },
            );
            let answer = instance.ask(id, message.as_bytes(), kind, 20_000).await.unwrap();
            assert_eq!(String::from_utf8(answer).unwrap(), message);
        }
    });
    let release = async {
        until("all are held", || async { peer.heard().len() == 50 }).await;
        peer.say(Message::text("between"));
        instance.say(&id, b"release", "text/plain").await.unwrap();
    };
    futures::join!(futures::future::join_all(asks), release);
    until("the other message came", || async {
        !payloads(&cluster, "others").is_empty()
    })
    .await;
    assert_eq!(
        payloads(&cluster, "others"),
        ["between"],
        "answers are nobody else's"
    );
}

pub(crate) async fn without_an_answer_a_request_ends_in_time(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    let error = instance.ask(&id, b"silence", "text/plain", 50).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    let error = instance.ask(&id, b"x", "", -1).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    // Nothing is left behind: a late answer is a message like any other.
    instance.publish(&id, "late").await.unwrap();
    let late = peer.heard()[0].clone();
    peer.say(late.clone());
    until("it was published", || async {
        payloads(&cluster, "late").len() == 1
    })
    .await;
    assert_eq!(payloads(&cluster, "late"), [late.to_text().unwrap()]);
}

pub(crate) async fn a_request_ends_when_the_connection_does(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect_to(&peer.url(), false).await.unwrap();
    let (answer, ()) = futures::join!(instance.ask(&id, b"silence", "text/plain", 30_000), async {
        until("it arrived", || async { peer.heard().len() == 1 }).await;
        peer.cut();
    });
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
    until("it is over", || async {
        instance.status(&id).await == "Disconnected"
    })
    .await;
    let error = instance.ask(&id, b"x", "", 0).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let error = instance.publish(&id, "ticks").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}

pub(crate) async fn a_server_that_answers_before_it_reads_on_is_read_meanwhile(cluster: World) {
    const MESSAGES: usize = 48;
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    // More than all buffers between two ends hold: the server echoes each before it reads the next.
    let large = vec![b'x'; 1 << 20];
    let said = (0..MESSAGES).map(|_| instance.say(&id, &large, "application/octet-stream"));
    for outcome in futures::future::join_all(said).await {
        outcome.unwrap();
    }
    until("all came", || async { peer.heard().len() == MESSAGES }).await;
    assert_eq!(peer.opened(), 1, "it did not break");
}
