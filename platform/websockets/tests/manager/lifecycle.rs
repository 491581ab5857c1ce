//! I3 and I7: drops, what follows, and what is told of it.

use tokio_tungstenite::tungstenite::Message;

use crate::instance::{BACK, Instance, made_and, payloads, story};
use crate::peer::Peer;
use crate::until;
use crate::world::World;

pub(crate) async fn a_broken_connection_comes_back_and_publishes_on(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    instance.publish(&id, "ticks").await.unwrap();
    peer.say(Message::text("before"));
    until("it came", || async { payloads(&cluster, "ticks") == ["before"] }).await;
    peer.cut();
    until("it is back", || async {
        peer.opened() == 2 && instance.status(&id).await == "Connected"
    })
    .await;
    peer.say(Message::text("after"));
    until("it came", || async {
        payloads(&cluster, "ticks") == ["before", "after"]
    })
    .await;
    until("it was told", || async {
        story(&cluster, &id) == made_and(&[&["failed"], &BACK[..]].concat())
    })
    .await;
    let events = cluster.published("websocketmanager.lifecycle");
    let failed = &events[3];
    assert_eq!(failed["type"], "com.virtufin.websocketmanager.lifecycle.failed");
    assert_eq!(failed["source"], "urn:com.virtufin.websocketmanager");
    assert_eq!(failed["data"]["error_type"], "reset");
    assert!(
        failed["data"]["error_message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    );
    assert_eq!(failed["data"]["instance_id"], "one");
    assert_eq!(failed["data"]["url"], peer.url());
    let ids: std::collections::BTreeSet<_> = cluster
        .published("ticks")
        .iter()
        .map(|event| event["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 2, "two openings do not share ids");
}

pub(crate) async fn a_server_that_closes_is_called_again(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect(&peer).await;
    peer.close(1012, "restarting");
    until("it is back", || async {
        peer.opened() == 2 && instance.status(&id).await == "Connected"
    })
    .await;
    until("it was told", || async {
        story(&cluster, &id) == made_and(&BACK)
    })
    .await;
}

pub(crate) async fn without_reconnecting_a_close_is_the_end(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    let id = instance.connect_to(&peer.url(), false).await.unwrap();
    peer.close(1000, "done");
    until("it is over", || async {
        instance.status(&id).await == "Disconnected"
    })
    .await;
    until("it was told", || async {
        story(&cluster, &id) == made_and(&["closed"])
    })
    .await;
    let events = cluster.published("websocketmanager.lifecycle");
    assert_eq!(events[3]["data"]["reason"], "by the server: 1000 done");
    instance.disconnect(&id).await.unwrap();
    assert!(instance.list().await.is_empty());
    assert_eq!(story(&cluster, &id), made_and(&["closed"]), "told once");
}

pub(crate) async fn attempts_are_used_up(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start_with(&cluster, "one", &["--reconnect-attempts=3"]).await;
    let id = instance.connect(&peer).await;
    peer.refuse(true);
    peer.cut();
    until("it is given up", || async {
        instance.status(&id).await == "Disconnected"
    })
    .await;
    until("it was told", || async {
        story(&cluster, &id)
            == made_and(&[
                "failed",
                "reconnecting 1",
                "connecting 1",
                "reconnecting 2",
                "connecting 2",
                "reconnecting 3",
                "connecting 3",
                "closed",
            ])
    })
    .await;
    assert_eq!(peer.opened(), 1);
}

pub(crate) async fn a_user_can_leave_between_attempts(cluster: World) {
    let peer = Peer::start().await;
    let flags = ["--reconnect-delay-ms=60000", "--reconnect-max-delay-ms=60000"];
    let instance = Instance::start_with(&cluster, "one", &flags).await;
    let id = instance.connect(&peer).await;
    peer.cut();
    until("it waits", || async {
        instance.status(&id).await == "Reconnecting"
    })
    .await;
    let error = instance.say(&id, b"x", "").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    instance.disconnect(&id).await.unwrap();
    until("it was told", || async {
        story(&cluster, &id) == made_and(&["failed", "reconnecting 1", "closed"])
    })
    .await;
}

pub(crate) async fn without_a_broker_connections_go_on(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    cluster.set_broker_down(true);
    let id = instance.connect(&peer).await;
    peer.cut();
    until("it is back", || async {
        peer.opened() == 2 && instance.status(&id).await == "Connected"
    })
    .await;
    instance.disconnect(&id).await.unwrap();
    assert!(instance.list().await.is_empty());
}

pub(crate) async fn connections_tell_that_they_live(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start_with(
        &cluster,
        "one",
        &["--heartbeat-events=true", "--heartbeat-ms=100"],
    )
    .await;
    let id = instance.connect(&peer).await;
    instance.say(&id, b"x", "").await.unwrap();
    let topic = "websocketmanager.infra.connection.heartbeat";
    until("a heartbeat counts the message", || async {
        let beats = cluster.published(topic);
        beats
            .last()
            .is_some_and(|beat| beat["data"]["counts"]["received"] == 1)
    })
    .await;
    let beat = cluster.published(topic).pop().unwrap();
    assert_eq!(
        beat["type"],
        "com.virtufin.websocketmanager.infra.connection.heartbeat"
    );
    assert_eq!(
        (&beat["data"]["connection_id"], &beat["data"]["status"]),
        (&id.into(), &"Connected".into())
    );
}

pub(crate) async fn a_connection_that_never_opens_is_told_and_forgotten(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start(&cluster, "one").await;
    peer.refuse(true);
    let error = instance.connect_to(&peer.url(), true).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    let topic = "websocketmanager.lifecycle";
    until("it was told", || async { cluster.published_count(topic) == 4 }).await;
    let events = cluster.published(topic);
    let id = events[0]["data"]["connection_id"].as_str().unwrap();
    assert_eq!(
        story(&cluster, id),
        ["registered", "connecting 1", "failed", "closed"],
        "one attempt, whatever it is to do after drops"
    );
    assert_eq!(events[2]["data"]["error_type"], "handshake");
    assert!(instance.list().await.is_empty());
    let key = format!("websocketmanager.connection.{id}");
    assert_eq!(instance.backend.get(&key).await.unwrap(), None);
    let own = instance
        .backend
        .get("websocketmanager.connection.instance.one")
        .await
        .unwrap();
    assert_eq!(own.unwrap().value["connections"], serde_json::json!([]));
}

pub(crate) async fn a_connection_is_there_while_it_is_made_and_can_be_left(cluster: World) {
    // Takes connections, and says nothing.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", mute.local_addr().unwrap());
    let flags = [
        "--connect-timeout-ms=600000",
        "--max-connections=1",
        // A slow machine must not make one think that the other is lost.
        "--owner-grace-ms=600000",
    ];
    let one = Instance::start_with(&cluster, "one", &flags).await;
    let two = Instance::start_with(&cluster, "two", &flags).await;
    let (client, asked) = (one.client.clone(), url.clone());
    let connecting = tokio::spawn(async move {
        let request = outrigger_platform_wire::virtufin::ConnectRequest {
            url: asked,
            auto_reconnect: true,
            tags: Default::default(),
        };
        client.clone().connect(request).await
    });
    until("everybody sees it", || async {
        let seen = [one.list().await, two.list().await].concat();
        seen.len() == 2 && seen.iter().all(|connection| connection.status == "Connecting")
    })
    .await;
    let id = one.list().await[0].id.clone();
    let error = one.connect_to(&url, true).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted, "it has its place");
    let error = one.say(&id, b"x", "").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    one.disconnect(&id).await.unwrap();
    let error = connecting.await.unwrap().unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    assert!(two.list().await.is_empty());
    until("it was told", || async {
        story(&cluster, &id) == ["registered", "connecting 1", "closed"]
    })
    .await;
}

pub(crate) async fn while_messages_cannot_be_published_a_connection_is_degraded(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start_with(&cluster, "one", &["--publish-patience-ms=50"]).await;
    let id = instance.connect(&peer).await;
    instance.publish(&id, "ticks").await.unwrap();
    cluster.refuse_topic("ticks", Some(http::StatusCode::INTERNAL_SERVER_ERROR));
    peer.say(Message::text("waits"));
    until("it is degraded", || async {
        story(&cluster, &id) == made_and(&["degraded unpublished"])
    })
    .await;
    let event = cluster.published("websocketmanager.lifecycle").pop().unwrap();
    assert_eq!(event["data"]["reason"], "its messages cannot be published");
    assert_eq!(instance.status(&id).await, "Connected", "it is open all the same");
    cluster.refuse_topic("ticks", None);
    until("it is well again", || async {
        story(&cluster, &id) == made_and(&["degraded unpublished", "connected again"])
    })
    .await;
    assert_eq!(payloads(&cluster, "ticks"), ["waits"]);
    // What will never be taken is told at once, and over with the next message that is.
    cluster.refuse_topic("ticks", Some(http::StatusCode::FORBIDDEN));
    peer.say(Message::text("refused"));
    until("it is degraded again", || async {
        story(&cluster, &id)
            .last()
            .is_some_and(|last| last == "degraded unpublished")
    })
    .await;
    cluster.refuse_topic("ticks", None);
    peer.say(Message::text("taken"));
    until("it is well again", || async {
        story(&cluster, &id)
            .last()
            .is_some_and(|last| last == "connected again")
    })
    .await;
    assert_eq!(payloads(&cluster, "ticks"), ["waits", "taken"]);
}

pub(crate) async fn a_silent_server_degrades_its_connection(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start_with(&cluster, "one", &["--ping-interval-ms=3000"]).await;
    let id = instance.connect(&peer).await;
    until("it was told", || async { story(&cluster, &id) == made_and(&[]) }).await;
    // A silent server is given up with the next ping; a machine that is slow just then gets another try.
    for _ in 0..3 {
        let before = story(&cluster, &id).len();
        let news = || story(&cluster, &id).split_off(before);
        peer.sleep();
        until("it is degraded", || async {
            news().starts_with(&["degraded silent".to_owned()])
        })
        .await;
        peer.wake();
        until("it is well again, or given up", || async { news().len() > 1 }).await;
        if news()[1] == "connected again" {
            return;
        }
        until("it is back", || async {
            news().last().is_some_and(|last| last == "connected")
        })
        .await;
    }
    panic!("it is never well again: {:?}", story(&cluster, &id));
}

pub(crate) async fn a_server_that_stays_silent_is_given_up(cluster: World) {
    let peer = Peer::start().await;
    let instance = Instance::start_with(&cluster, "one", &["--ping-interval-ms=500"]).await;
    let id = instance.connect(&peer).await;
    peer.sleep();
    let end = [&["degraded silent", "failed"], &BACK[..]].concat();
    until("it is back", || async {
        let story = story(&cluster, &id);
        story.windows(end.len()).any(|part| part == end)
    })
    .await;
    let events = cluster.published("websocketmanager.lifecycle");
    assert!(
        events
            .iter()
            .any(|event| event["data"]["error_type"] == "timeout")
    );
}

pub(crate) async fn a_connection_that_keeps_dropping_is_unsteady(cluster: World) {
    let peer = Peer::start().await;
    // The longest wait is also what makes a connection steady.
    let instance = Instance::start_with(&cluster, "one", &["--reconnect-max-delay-ms=600000"]).await;
    let id = instance.connect(&peer).await;
    for drops in 1..=3 {
        peer.cut();
        until("it is back", || async {
            peer.opened() == drops + 1 && peer.open() == 1
        })
        .await;
    }
    let drop = [&["failed"], &BACK[..]].concat();
    let expected = [&drop[..], &drop, &drop, &["degraded unsteady"]].concat();
    until("it is unsteady", || async {
        story(&cluster, &id) == made_and(&expected)
    })
    .await;
}
