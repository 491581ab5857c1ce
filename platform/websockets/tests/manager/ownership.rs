//! I5 and I6: who holds what, through deaths and restarts.

use std::collections::BTreeMap;

use outrigger_platform_service::Expect;
use outrigger_platform_service::status::reason;
use tokio_tungstenite::tungstenite::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::instance::{BACK, Instance, made_and, payloads, story};
use crate::peer::Peer;
use crate::until;
use crate::world::World;

fn assert_not_owner(error: &Status, owner: &str) {
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert_eq!(reason(error).as_deref(), Some("NOT_OWNER"));
    let info = error.get_details_error_info().unwrap();
    assert_eq!(info.metadata["owner"], owner);
}

pub(crate) async fn only_the_owner_may_do_things(cluster: World) {
    let peer = Peer::start().await;
    // A machine that is slow must not make one think that the other is lost.
    let flags = ["--owner-grace-ms=600000"];
    let (one, two) = (
        Instance::start_with(&cluster, "one", &flags).await,
        Instance::start_with(&cluster, "two", &flags).await,
    );
    let id = one.connect(&peer).await;
    let seen = two.list().await;
    assert_eq!((seen.len(), seen[0].instance_id.as_str()), (1, "one"));
    assert_not_owner(&two.disconnect(&id).await.unwrap_err(), "one");
    assert_not_owner(&two.say(&id, b"x", "").await.unwrap_err(), "one");
    assert_not_owner(&two.ask(&id, b"x", "", 0).await.unwrap_err(), "one");
    assert_not_owner(&two.publish(&id, "ticks").await.unwrap_err(), "one");
    assert_not_owner(&two.stop_publish(&id).await.unwrap_err(), "one");
    one.say(&id, b"x", "").await.unwrap();
}

pub(crate) async fn connections_of_a_dead_instance_are_taken_over_once(cluster: World) {
    const CONNECTIONS: usize = 12;
    let peer = Peer::start().await;
    // Long enough that a slow machine loses nobody else.
    let flags = ["--heartbeat-ms=1000", "--owner-grace-ms=5000"];
    let mut dying = Instance::start_with(&cluster, "dying", &flags).await;
    let survivors = [
        Instance::start_with(&cluster, "one", &flags).await,
        Instance::start_with(&cluster, "two", &flags).await,
        Instance::start_with(&cluster, "three", &flags).await,
    ];
    let mut ids = Vec::new();
    for _ in 0..CONNECTIONS {
        let id = dying.connect(&peer).await;
        dying.publish(&id, "ticks").await.unwrap();
        ids.push(id);
    }
    let own = survivors[0].connect(&peer).await;
    for id in &ids {
        until("it was told", || async { story(&cluster, id) == made_and(&[]) }).await;
    }
    dying.kill();
    until("the peer noticed", || async { peer.open() == 1 }).await;
    until("all are held by survivors", || async {
        let all = survivors[1].list().await;
        all.len() == CONNECTIONS + 1
            && all
                .iter()
                .all(|connection| connection.instance_id != "dying" && connection.status == "Connected")
    })
    .await;
    until("the dead one is forgotten", || async {
        let index = survivors[0]
            .backend
            .get("websocketmanager.connection.index")
            .await
            .unwrap();
        index.unwrap().value == serde_json::json!(["one", "three", "two"])
    })
    .await;
    assert_eq!(peer.open(), CONNECTIONS + 1, "each is held once");
    assert_eq!(peer.opened(), 2 * CONNECTIONS + 1, "and was taken once");
    // Whoever has it may use it, nobody else.
    let owners: BTreeMap<_, _> = survivors[2]
        .list()
        .await
        .into_iter()
        .map(|connection| (connection.id, connection.instance_id))
        .collect();
    assert_eq!(owners[&own], "one");
    for id in &ids {
        for (instance, name) in survivors.iter().zip(["one", "two", "three"]) {
            let outcome = instance.say(id, b"silence", "text/plain").await;
            if owners[id] == name {
                outcome.unwrap();
            } else {
                assert_not_owner(&outcome.unwrap_err(), &owners[id]);
            }
        }
        until("it was told", || async { story(&cluster, id) == made_and(&BACK) }).await;
    }
    // Publishing goes on where it went before.
    peer.say(Message::text("tick"));
    until("all publish", || async {
        payloads(&cluster, "ticks").len() == CONNECTIONS
    })
    .await;
}

pub(crate) async fn connections_come_back_after_a_kill_before_the_service_is_ready(cluster: World) {
    let peer = Peer::start().await;
    let mut first = Instance::start(&cluster, "one").await;
    let id = first.connect(&peer).await;
    first.publish(&id, "ticks").await.unwrap();
    first.kill();
    until("the peer noticed", || async { peer.open() == 0 }).await;
    let second = Instance::start(&cluster, "one").await;
    assert_eq!(second.status(&id).await, "Connected", "as soon as it is ready");
    peer.say(Message::text("tick"));
    until("it is published", || async {
        payloads(&cluster, "ticks") == ["tick"]
    })
    .await;
    second.disconnect(&id).await.unwrap();
}

pub(crate) async fn a_graceful_end_says_goodbye_and_keeps_connections_for_the_next_life(cluster: World) {
    let peer = Peer::start().await;
    let mut first = Instance::start(&cluster, "one").await;
    let id = first.connect(&peer).await;
    let over = first.connect_to(&peer.url(), false).await.unwrap();
    first.publish(&id, "ticks").await.unwrap();
    let count = cluster.scaled(1000);
    let flood = format!("flood {count}");
    first.say(&id, flood.as_bytes(), "text/plain").await.unwrap();
    let _ = first.ask(&id, b"read", "text/plain", 20_000).await.unwrap();
    first.stop().await;
    until("the peer heard", || async { peer.open() == 0 }).await;
    assert!(peer.heard().iter().filter(|message| message.is_close()).count() >= 2);
    assert_eq!(
        cluster.published_count("ticks"),
        count,
        "what was received is published before the end"
    );
    let second = Instance::start(&cluster, "one").await;
    assert_eq!(second.status(&id).await, "Connected");
    assert_eq!(
        second.status(&over).await,
        "Connected",
        "it was not the server that closed it"
    );
    assert_eq!(story(&cluster, &id)[..3], made_and(&[]));
}

pub(crate) async fn one_that_is_over_stays_over_through_a_restart(cluster: World) {
    let peer = Peer::start().await;
    let mut first = Instance::start(&cluster, "one").await;
    let id = first.connect_to(&peer.url(), false).await.unwrap();
    peer.close(1000, "");
    until("it was written down", || async {
        story(&cluster, &id) == made_and(&["closed"])
    })
    .await;
    first.kill();
    let second = Instance::start(&cluster, "one").await;
    assert_eq!(second.status(&id).await, "Disconnected");
    assert_eq!(peer.opened(), 1);
    second.disconnect(&id).await.unwrap();
    assert!(second.list().await.is_empty());
}

pub(crate) async fn everything_is_removed_where_that_is_set(cluster: World) {
    let peer = Peer::start().await;
    let mut first = Instance::start(&cluster, "one").await;
    first.connect(&peer).await;
    first.kill();
    let second = Instance::start_with(&cluster, "two", &["--clear-all-on-start=true"]).await;
    assert!(second.list().await.is_empty());
    second.connect(&peer).await;
    assert_eq!(second.list().await.len(), 1);
}

pub(crate) async fn a_second_process_of_the_same_name_takes_everything(cluster: World) {
    let peer = Peer::start().await;
    let first = Instance::start(&cluster, "one").await;
    let id = first.connect(&peer).await;
    let second = Instance::start(&cluster, "one").await;
    until("the first lets go", || async {
        first.connect_to(&peer.url(), true).await.is_err()
    })
    .await;
    until("one connection is open", || async { peer.open() == 1 }).await;
    assert_eq!(second.status(&id).await, "Connected");
    let error = first.say(&id, b"x", "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}

pub(crate) async fn a_connection_whose_maker_died_is_forgotten(cluster: World) {
    let peer = Peer::start().await;
    let mut first = Instance::start(&cluster, "one").await;
    let kept = first.connect(&peer).await;
    first.kill();
    let (record_key, list_key) = (
        "websocketmanager.connection.half",
        "websocketmanager.connection.instance.one",
    );
    let record = serde_json::json!({
        "id": "half", "url": peer.url(), "auto_reconnect": true, "status": "Connecting",
        "instance_id": "one", "created_at": "2026-01-01T00:00:00Z",
    });
    let backend = first.backend.clone();
    backend.save(record_key, &record, Expect::Any).await.unwrap();
    let mut own = backend.get(list_key).await.unwrap().unwrap().value;
    own["connections"] = serde_json::json!([kept, "half"]);
    backend.save(list_key, &own, Expect::Any).await.unwrap();
    let second = Instance::start(&cluster, "one").await;
    let held = second.list().await;
    assert_eq!(
        held.iter().map(|connection| &connection.id).collect::<Vec<_>>(),
        [&kept]
    );
    assert_eq!(backend.get(record_key).await.unwrap(), None);
}
