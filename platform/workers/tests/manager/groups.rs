//! Turns of groups over several instances (H4). A holder that sleeps is in `processes.rs`, as it takes a process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;

use http::StatusCode;
use outrigger_platform_service::Expect;
use outrigger_platform_workers::lock::LockRecord;
use outrigger_platform_workers::names::group_lock_key;
use outrigger_platform_workers::outlet::Subject;
use serde_json::{Value, json};

use super::GATEWAY;
use super::support::{Instance, Platform, answered, event, ready, until, worker};

/// More than one instance takes at once, so that several have some.
/// By the gateway every instance has all.
const EVENTS: usize = if GATEWAY { 20 } else { 200 };

async fn record(instance: &Instance, group: &str) -> Option<LockRecord> {
    let stored = instance.backend.get(&group_lock_key(group)).await.unwrap();
    stored.map(|stored| stored.read().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h4_1_five_instances_never_overlap() {
    let cluster = Platform::new();
    let variables = [
        ("GROUP_LOCK_MAX_RETRIES", "8"),
        ("GROUP_LOCK_MAX_REDELIVERIES", "1000"),
    ];
    let mut instances = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        instances.push(ready(&cluster, name, &variables).await);
    }
    // Two workers of one group on two topics.
    for topic in ["orders", "trades"] {
        let mut request = worker(topic, &json!({"type": "priced", "sleep_ms": 1}));
        request.group = "pricing".to_owned();
        instances[0].create(request).await.unwrap();
    }
    until("every instance runs both", async || {
        let told = cluster.published("workmanager.lifecycle");
        let online = told
            .iter()
            .filter(|event| event["type"].as_str().unwrap().ends_with(".online"));
        (online.count() == 10).then_some(())
    })
    .await;
    for number in 0..EVENTS {
        let topic = ["orders", "trades"][number % 2];
        instances[number % 5].publish(topic, &event(number)).await;
    }
    until("every event is answered", async || {
        let answered: BTreeSet<_> = answered(&cluster, "priced").into_iter().collect();
        (answered.len() == EVENTS).then_some(())
    })
    .await;
    let outputs = cluster.published("priced");
    // Each turn's output has the token that the worker was given, and tokens only grow.
    let tokens: Vec<u64> = outputs
        .iter()
        .map(|output| {
            assert_eq!(
                output["fencingtoken"],
                output["data"]["attributes"]["fencingtoken"]
            );
            output["fencingtoken"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    let mut overlaps = 0;
    for pair in tokens.windows(2) {
        overlaps += usize::from(pair[1] <= pair[0]);
    }
    assert_eq!(overlaps, 0, "{tokens:?}");
    // Nor does the code run side by side, as nobody slept.
    assert!(
        instances
            .iter()
            .all(|instance| instance.observed.most.load(SeqCst) <= 1)
    );
    assert!(
        instances
            .iter()
            .filter(|instance| instance.observed.calls.load(SeqCst) > 0)
            .count()
            > 1
    );
    let last = until("the last turn is released", async || {
        record(&instances[0], "pricing")
            .await
            .filter(|record| record.owner_instance_id.is_empty())
    })
    .await;
    assert!(
        last.fencing_token >= *tokens.last().unwrap() && last.committed.is_none(),
        "{last:?}"
    );
    assert!(cluster.published("orders-dead").is_empty() && cluster.published("trades-dead").is_empty());
}

/// A record of a holder who is somewhere else.
fn held(token: u64, until: &str) -> LockRecord {
    LockRecord {
        owner_instance_id: "elsewhere".to_owned(),
        acquired_at: "2026-01-01T00:00:00Z".to_owned(),
        lease_until: until.to_owned(),
        fencing_token: token,
        turn: "theirs".to_owned(),
        committed: None,
        strikes: 0,
        last_key: None,
    }
}

async fn hold(instance: &Instance, group: &str, record: &LockRecord) {
    let key = group_lock_key(group);
    instance.backend.save(&key, record, Expect::Any).await.unwrap();
}

async fn grouped(instance: &Instance, recipe: Value) {
    let mut request = worker("orders", &recipe);
    request.group = "pricing".to_owned();
    instance.create(request).await.unwrap();
}

#[tokio::test]
async fn h4_2_an_event_that_finds_no_turn_comes_again() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("GROUP_LOCK_MAX_REDELIVERIES", "1000")]).await;
    hold(&manager, "pricing", &held(7, "2100-01-01T00:00:00Z")).await;
    grouped(&manager, json!({"type": "priced"})).await;
    manager.publish("orders", &event(1)).await;
    // 20, 40 and 80 ms of waits, then the broker: the holder ends long after that.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(manager.observed.calls.load(SeqCst), 0);
    hold(
        &manager,
        "pricing",
        &LockRecord {
            owner_instance_id: String::new(),
            ..held(7, "2026-01-01T00:00:00Z")
        },
    )
    .await;
    until("the event has its turn", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;
    assert_eq!(cluster.published("priced")[0]["fencingtoken"], "8");
    assert!(cluster.published("orders-dead").is_empty());
}

#[tokio::test]
async fn h4_3_an_event_that_never_finds_a_turn_is_given_up() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("GROUP_LOCK_MAX_REDELIVERIES", "2")]).await;
    hold(&manager, "pricing", &held(7, "2100-01-01T00:00:00Z")).await;
    grouped(&manager, json!({"type": "priced"})).await;
    // A worker without a group has its say once, however often the event comes.
    manager
        .create(worker("orders", &json!({"type": "seen"})))
        .await
        .unwrap();
    manager.publish("orders", &event(1)).await;
    let letter = until("the event is given up", async || {
        cluster.published("orders-dead").pop()
    })
    .await;
    assert_eq!(letter["id"], "1");
    assert_eq!(letter["deadletterattempts"], "3");
    assert_eq!(answered(&cluster, "seen"), ["1"]);
    assert!(cluster.published("priced").is_empty());
    let failed = cluster.published("workmanager.lifecycle").pop().unwrap();
    assert_eq!(failed["data"]["error_type"], "redeliveries-spent");
}

/// What was told of events that were given up.
fn failures(cluster: &Platform) -> Vec<String> {
    let told = cluster.published("workmanager.lifecycle");
    let failed = told
        .iter()
        .filter(|event| event["type"].as_str().unwrap().ends_with(".failed"));
    failed
        .map(|event| event["data"]["error_type"].as_str().unwrap().to_owned())
        .collect()
}

/// A worker of the group whose output goes to `secret`, and one whose output goes to `priced`.
async fn a_hopeless_worker_and_its_neighbour(manager: &Instance) -> String {
    let mut ids = Vec::new();
    for (topic, kind) in [("orders", "secret"), ("trades", "priced")] {
        let mut request = worker(topic, &json!({"type": kind}));
        request.group = "pricing".to_owned();
        ids.push(manager.create(request).await.unwrap());
    }
    ids.remove(0)
}

#[tokio::test]
async fn h4_3_an_output_that_is_never_taken_becomes_a_dead_letter_and_holds_up_nobody() {
    for status in [StatusCode::FORBIDDEN, StatusCode::INTERNAL_SERVER_ERROR] {
        let cluster = Platform::new();
        let manager = ready(&cluster, "one", &[("GROUP_LOCK_MAX_REDELIVERIES", "2")]).await;
        cluster.refuse_topic("secret", Some(status));
        let hopeless = a_hopeless_worker_and_its_neighbour(&manager).await;
        manager.publish("orders", &event(1)).await;
        let letter = until("the event becomes a dead letter", async || {
            cluster.published("orders-dead").pop()
        })
        .await;
        assert_eq!(letter["id"], "1");
        assert_eq!(letter["data"], json!({"n": 1}));
        assert_eq!(letter["deadletterworkerid"], hopeless.as_str());
        let reason = letter["deadletterreason"].as_str().unwrap();
        assert!(
            reason.contains("\"secret\"") && reason.contains("topic secret"),
            "{reason}"
        );
        // What a broker that works does not take is tried in three turns; what is forbidden, once.
        let (attempts, told) = match status {
            StatusCode::FORBIDDEN => ("1", vec!["output-refused"]),
            _ => (
                "3",
                vec![
                    "not-published",
                    "not-published",
                    "not-published",
                    "output-refused",
                ],
            ),
        };
        assert_eq!(letter["deadletterattempts"], attempts);
        assert_eq!(failures(&cluster), told);
        // The group goes on, and the event is done with.
        manager.publish("trades", &event(2)).await;
        until("the neighbour has its turn", async || {
            (answered(&cluster, "priced") == ["2"]).then_some(())
        })
        .await;
        let record = until("the turn is released", async || {
            record(&manager, "pricing")
                .await
                .filter(|record| record.owner_instance_id.is_empty())
        })
        .await;
        assert_eq!((record.committed, record.strikes), (None, 0));
        assert_eq!(cluster.published("orders-dead").len(), 1);
    }
}

#[tokio::test]
async fn h4_3_an_output_whose_dead_letter_is_not_taken_either_is_abandoned_and_told() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("GROUP_LOCK_MAX_REDELIVERIES", "1")]).await;
    for topic in ["secret", "orders-dead"] {
        cluster.refuse_topic(topic, Some(StatusCode::FORBIDDEN));
    }
    a_hopeless_worker_and_its_neighbour(&manager).await;
    manager.publish("orders", &event(1)).await;
    until("it is told that the event is lost", async || {
        failures(&cluster).contains(&"abandoned".to_owned()).then_some(())
    })
    .await;
    manager.publish("trades", &event(2)).await;
    until("the neighbour has its turn", async || {
        (answered(&cluster, "priced") == ["2"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_output_of_a_group_waits_for_a_broker_that_is_away_for_longer_than_there_are_redeliveries() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("GROUP_LOCK_MAX_REDELIVERIES", "1")]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("go");
    grouped(&manager, json!({"type": "priced", "until": file})).await;
    manager.publish("orders", &event(1)).await;
    until("the event is under way", async || {
        (manager.observed.running.load(SeqCst) == 1).then_some(())
    })
    .await;
    cluster.set_broker_down(true);
    std::fs::write(&file, "").unwrap();
    // Each turn takes the next token: many more than an output has that others are preferred to.
    let last = until("the output was tried in many turns", async || {
        record(&manager, "pricing")
            .await
            .filter(|record| record.fencing_token > 4)
    })
    .await;
    assert_eq!(last.strikes, 0);
    cluster.set_broker_down(false);
    until("the output is published", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;
    assert!(cluster.published("orders-dead").is_empty());
}

#[tokio::test]
async fn h4_4_a_silent_holder_is_robbed_and_what_it_had_committed_comes_first() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let mut silent = held(7, "2026-01-01T00:00:00Z");
    let late = event("committed");
    silent.committed = Some(outrigger_platform_workers::lock::Output {
        key: "theirs".to_owned(),
        topic: "priced".to_owned(),
        event: serde_json::to_value({
            let mut output = late.clone();
            output.data = json!({"of": "committed"});
            output
        })
        .unwrap(),
        subject: Subject::default(),
        letter: None,
    });
    hold(&manager, "pricing", &silent).await;
    grouped(&manager, json!({"type": "priced"})).await;
    manager.publish("orders", &event(1)).await;
    until("both outputs are there", async || {
        (answered(&cluster, "priced") == ["committed", "1"]).then_some(())
    })
    .await;
    let told = cluster.published("workmanager.infra.grouplock");
    assert_eq!(told[0]["data"]["event"], "robbed");
    assert_eq!(told[0]["data"]["holder"], "elsewhere");
    let record = until("the turn is released", async || {
        record(&manager, "pricing")
            .await
            .filter(|record| record.owner_instance_id.is_empty())
    })
    .await;
    assert_eq!((record.fencing_token, record.committed), (8, None));
}

#[tokio::test]
async fn an_event_that_comes_again_after_its_output_is_not_worked_on_again() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    grouped(&manager, json!({"type": "priced"})).await;
    for _ in 0..2 {
        manager.publish("orders", &event(1)).await;
    }
    manager.publish("orders", &event(2)).await;
    until("the second event is answered", async || {
        answered(&cluster, "priced")
            .contains(&"2".to_owned())
            .then_some(())
    })
    .await;
    let mut counts = BTreeMap::new();
    for of in answered(&cluster, "priced") {
        *counts.entry(of).or_insert(0) += 1;
    }
    assert!(counts["1"] <= 2 && counts["2"] == 1, "{counts:?}");
}
