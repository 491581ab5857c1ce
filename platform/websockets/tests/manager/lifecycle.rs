//! I3 and I7: drops, what follows, and what is told of it.

use tokio_tungstenite::tungstenite::Message;

use crate::instance::{Instance, payloads, story};
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
        story(&cluster, &id) == ["connected", "failed", "reconnecting 1", "connected"]
    })
    .await;
    let events = cluster.published("websocketmanager.lifecycle");
    let failed = &events[1];
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
        story(&cluster, &id) == ["connected", "reconnecting 1", "connected"]
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
        story(&cluster, &id) == ["connected", "closed"]
    })
    .await;
    let events = cluster.published("websocketmanager.lifecycle");
    assert_eq!(events[1]["data"]["reason"], "by the server: 1000 done");
    instance.disconnect(&id).await.unwrap();
    assert!(instance.list().await.is_empty());
    assert_eq!(story(&cluster, &id), ["connected", "closed"], "told once");
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
            == [
                "connected",
                "failed",
                "reconnecting 1",
                "reconnecting 2",
                "reconnecting 3",
                "closed",
            ]
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
        story(&cluster, &id) == ["connected", "failed", "reconnecting 1", "closed"]
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
