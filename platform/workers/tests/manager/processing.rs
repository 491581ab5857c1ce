//! Events in, events out (H3, H1.6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;

use http::StatusCode;
use serde_json::json;

use super::support::{Platform, answered, event, ready, until, worker};

#[tokio::test]
async fn h3_1_outputs_go_where_their_type_or_the_input_says() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let mut request = worker("orders", &json!({"type": "order.priced"}));
    request.config = BTreeMap::from([
        ("api_host".to_owned(), "gateway".to_owned()),
        ("n".to_owned(), "7".to_owned()),
    ]);
    manager.create(request).await.unwrap();
    // Two more workers of the same topic: one that says nothing, one that says something else.
    manager.create(worker("orders", &json!({}))).await.unwrap();
    manager
        .create(worker("orders", &json!({"type": "order.seen"})))
        .await
        .unwrap();

    let mut asked = event("asked");
    asked.extensions.insert("replytopic".to_owned(), json!("answers"));
    asked.extensions.insert("correlationid".to_owned(), json!("c-1"));
    manager.publish("orders", &event("plain")).await;
    manager.publish("orders", &asked).await;
    until("both events are answered by both workers", async || {
        (answered(&cluster, "order.priced") == ["plain"]
            && answered(&cluster, "order.seen") == ["plain"]
            && answered(&cluster, "answers") == ["asked", "asked"])
        .then_some(())
    })
    .await;
    let plain = &cluster.published("order.priced")[0];
    assert_eq!(plain["type"], "order.priced");
    assert_eq!(plain.get("correlationid"), None);
    let seen = &plain["data"]["attributes"];
    assert_eq!(seen["api_host"], "gateway");
    assert_eq!(seen.get("n"), None, "the payload says it");
    let answers = cluster.published("answers");
    assert!(answers.iter().all(|answer| answer["correlationid"] == "c-1"));
    let ids: BTreeSet<_> = answers.iter().map(|answer| answer["id"].to_string()).collect();
    assert_eq!(ids.len(), 2, "each worker's answer has an id of its own");
}

#[tokio::test]
async fn h3_2_events_run_side_by_side_within_a_bound() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("WORKER_MAX_CONCURRENCY", "4")]).await;
    manager
        .create(worker("orders", &json!({"type": "priced", "sleep_ms": 50})))
        .await
        .unwrap();
    for number in 0..24 {
        manager.publish("orders", &event(number)).await;
    }
    until("every event is answered", async || {
        (answered(&cluster, "priced").len() == 24).then_some(())
    })
    .await;
    assert_eq!(manager.observed.most.load(SeqCst), 4);
}

#[tokio::test]
async fn h3_3_failures_are_tried_again_then_given_up() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    // Three failures are one less than there are tries.
    manager
        .create(worker("orders", &json!({"type": "priced", "fail": 3})))
        .await
        .unwrap();
    let hopeless = manager
        .create(worker("orders", &json!({"type": "never", "fail": 4})))
        .await
        .unwrap();
    manager.publish("orders", &event(1)).await;
    until("one worker answers, one gives up", async || {
        (answered(&cluster, "priced") == ["1"] && cluster.published("orders-dead").len() == 1).then_some(())
    })
    .await;
    let letter = &cluster.published("orders-dead")[0];
    assert_eq!(letter["id"], "1");
    assert_eq!(letter["data"], json!({"n": 1}));
    assert_eq!(letter["deadletterworkerid"], hopeless.as_str());
    assert_eq!(letter["deadletterattempts"], "4");
    assert!(
        letter["deadletterreason"]
            .as_str()
            .unwrap()
            .contains("burnt for the 4. time")
    );
    assert!(cluster.published("never").is_empty());
    // Acknowledged: the next event comes, and the first one does not come again.
    let calls = manager.observed.calls.load(SeqCst);
    assert_eq!(calls, 8);
}

#[tokio::test]
async fn h3_3_a_call_has_a_bound() {
    let cluster = Platform::new();
    let variables = [
        ("MESSAGE_HANDLING_TIMEOUT_SECONDS", "1"),
        ("WORKER_RETRY_ATTEMPTS", "0"),
    ];
    let manager = ready(&cluster, "one", &variables).await;
    manager
        .create(worker("orders", &json!({"type": "priced", "sleep_ms": 60_000})))
        .await
        .unwrap();
    manager.publish("orders", &event(1)).await;
    let letter = until("the event is given up", async || {
        cluster.published("orders-dead").pop()
    })
    .await;
    let reason = letter["deadletterreason"].as_str().unwrap();
    assert!(reason.contains("did not answer within 1s"), "{reason}");
}

#[tokio::test]
async fn an_output_waits_for_a_broker_that_is_away() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("go");
    manager
        .create(worker("orders", &json!({"type": "priced", "until": file})))
        .await
        .unwrap();
    manager.publish("orders", &event(1)).await;
    until("the event is under way", async || {
        (manager.observed.running.load(SeqCst) == 1).then_some(())
    })
    .await;
    cluster.set_broker_down(true);
    std::fs::write(&file, "").unwrap();
    // The output is not published, the event comes again, and again.
    until("the event comes again", async || {
        (manager.observed.calls.load(SeqCst) > 8).then_some(())
    })
    .await;
    cluster.set_broker_down(false);
    until("the output is published", async || {
        cluster.published("priced").first().cloned()
    })
    .await;
    let ids: BTreeSet<_> = cluster
        .published("priced")
        .iter()
        .map(|output| output["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn h3_3_an_output_that_is_never_taken_becomes_a_dead_letter() {
    for status in [StatusCode::FORBIDDEN, StatusCode::INTERNAL_SERVER_ERROR] {
        let cluster = Platform::new();
        let manager = ready(&cluster, "one", &[("GROUP_LOCK_MAX_REDELIVERIES", "1")]).await;
        cluster.refuse_topic("secret", Some(status));
        manager
            .create(worker("orders", &json!({"type": "secret"})))
            .await
            .unwrap();
        manager
            .create(worker("orders", &json!({"type": "priced"})))
            .await
            .unwrap();
        manager.publish("orders", &event(1)).await;
        let letter = until("the event becomes a dead letter", async || {
            cluster.published("orders-dead").pop()
        })
        .await;
        assert_eq!(letter["id"], "1");
        let reason = letter["deadletterreason"].as_str().unwrap();
        assert!(reason.contains("topic secret"), "{reason}");
        until("the other worker has answered, once", async || {
            (answered(&cluster, "priced") == ["1"]).then_some(())
        })
        .await;
        let tries = if status == StatusCode::FORBIDDEN { "1" } else { "2" };
        assert_eq!(letter["deadletterattempts"], tries);
        assert_eq!(cluster.published("orders-dead").len(), 1);
    }
}

#[tokio::test]
async fn an_event_whose_dead_letter_is_not_taken_is_abandoned_and_told() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("GROUP_LOCK_MAX_REDELIVERIES", "1")]).await;
    cluster.refuse_topic("orders-dead", Some(StatusCode::FORBIDDEN));
    manager
        .create(worker("orders", &json!({"type": "priced", "fail": 100})))
        .await
        .unwrap();
    manager.publish("orders", &event(1)).await;
    until("it is told that the event is lost", async || {
        let told = cluster.published("workmanager.lifecycle");
        told.iter()
            .any(|event| event["data"]["error_type"] == "abandoned")
            .then_some(())
    })
    .await;
}
