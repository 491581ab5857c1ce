//! Coming back (H1.3, H1.5, H5.2, Z9).

use std::collections::BTreeSet;

use outrigger_platform_service::Expect;
use outrigger_platform_wire::virtufin as proto;
use outrigger_platform_workers::names::{INDEX_KEY, LEADER_KEY, code_key, worker_key};
use outrigger_platform_workers::recovery::LeaderRecord;
use serde_json::{Value, json};

use super::GATEWAY;
use super::support::{Instance, Platform, answered, event, http, ready, start, until, worker};

async fn recover(instance: &Instance) -> i32 {
    let ask = proto::RecoverWorkersRequest {};
    let answer = instance.client.clone().recover_workers(ask).await.unwrap();
    answer.into_inner().recovered_count
}

async fn leader(instance: &Instance) -> LeaderRecord {
    let stored = instance.backend.get(LEADER_KEY).await.unwrap().unwrap();
    stored.read().unwrap()
}

/// Spoils the stored code of a worker.
async fn spoil(instance: &Instance, id: &str) -> String {
    let record = instance
        .backend
        .get(&worker_key(id))
        .await
        .unwrap()
        .unwrap()
        .value;
    let key = code_key(id, record["history"][0]["version"].as_str().unwrap());
    let other = json!({"content": "e30="});
    instance.backend.save(&key, &other, Expect::Any).await.unwrap();
    key
}

#[tokio::test]
async fn h1_3_workers_are_back_before_health_passes() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    let running = first
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    let mut request = worker("orders", &json!({"type": "never"}));
    request.create_stopped = true;
    let stopped = first.create(request).await.unwrap();
    let bad = first
        .create(worker("orders", &json!({"type": "bad"})))
        .await
        .unwrap();
    spoil(&first, &bad).await;
    // Its end leaves all as it is; that a crash does too is shown in `processes.rs`.
    first.stop().await;

    let second = start(&cluster, "two", &[]).await;
    until("health passes", async || {
        let (status, _) = http(second.http, "GET", "/health/ready", None).await;
        (status == 200).then_some(())
    })
    .await;
    // At this moment everything is as it was; one bad worker does not hold up the rest.
    let online: BTreeSet<String> = cluster
        .published("workmanager.lifecycle")
        .iter()
        .filter(|told| told["data"]["instance_id"] == "two")
        .map(|told| format!("{} {}", told["type"], told["data"]["worker_id"]))
        .collect();
    let kind = |state: &str, id: &str| {
        format!(
            "{} {}",
            json!(format!("com.virtufin.workmanager.lifecycle.{state}")),
            json!(id)
        )
    };
    assert_eq!(
        online,
        BTreeSet::from([kind("online", &running), kind("failed", &bad)])
    );
    let (status, description) = second.recovery().await;
    assert_eq!(status, "Degraded", "{description}");
    assert!(description.contains(&bad), "{description}");
    second.publish("orders", &event(1)).await;
    until("the event is answered", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;
    let statuses: Vec<_> = second
        .list()
        .await
        .iter()
        .map(|info| (info.id.clone(), info.status()))
        .collect();
    assert!(statuses.contains(&(stopped, proto::WorkerStatus::Stopped)));

    // Deleting the bad one is all it takes.
    let ask = proto::DeleteWorkerRequest { id: bad };
    second.client.clone().delete_worker(ask).await.unwrap();
    assert_eq!(recover(&second).await, 0);
    assert_eq!(second.recovery().await.0, "Healthy");
}

#[tokio::test]
async fn h1_3_a_recovery_that_cannot_be_done_keeps_health_from_passing() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    // What lies there is no list.
    first
        .backend
        .save(INDEX_KEY, &json!({"workers": 7}), Expect::Any)
        .await
        .unwrap();
    first.stop().await;
    let second = start(&cluster, "two", &[]).await;
    until("recovery is unhealthy", async || {
        (second.recovery().await.0 == "Unhealthy").then_some(())
    })
    .await;
    assert_eq!(http(second.http, "GET", "/health/ready", None).await.0, 503);
    let (status, _) = http(second.http, "GET", "/v1/workers", None).await;
    assert_eq!(status, 503, "calls are not taken yet");
    second
        .backend
        .save(INDEX_KEY, &json!({"workers": {}}), Expect::Any)
        .await
        .unwrap();
    second.wait_until_ready().await;
    assert_eq!(second.recovery().await.0, "Healthy");
}

#[tokio::test]
async fn h1_3_recovery_can_be_turned_off() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    first
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    first.stop().await;
    let second = ready(&cluster, "two", &[("WORKER_RECOVERY_ON_START", "false")]).await;
    assert_eq!(second.recovery().await.0, "Healthy");
    assert!(second.recovery().await.1.contains("disabled"));
    // What is made from now on runs.
    second
        .create(worker("trades", &json!({"type": "cleared"})))
        .await
        .unwrap();
    second.publish("orders", &event("o")).await;
    second.publish("trades", &event("t")).await;
    until("the new worker answers", async || {
        (answered(&cluster, "cleared") == ["t"]).then_some(())
    })
    .await;
    assert!(cluster.published("priced").is_empty());
    assert_eq!(recover(&second).await, 1);
    if GATEWAY {
        // Its streams are live.
        second.publish("orders", &event("o")).await;
    }
    until("the old one answers when it is asked for", async || {
        (answered(&cluster, "priced") == ["o"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn h1_5_of_three_instances_one_leads_at_a_time_and_lets_go() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    for _ in 0..5 {
        first
            .create(worker("orders", &json!({"type": "priced"})))
            .await
            .unwrap();
    }
    let before = leader(&first).await;
    assert!(before.owner_instance_id.is_empty(), "released: {before:?}");
    first.stop().await;
    let names = ["a", "b", "c"];
    let mut instances = Vec::new();
    for name in names {
        instances.push(start(&cluster, name, &[]).await);
    }
    for instance in &instances {
        instance.wait_until_ready().await;
        assert_eq!(instance.recovery().await.0, "Healthy");
    }
    let after = leader(&instances[0]).await;
    assert!(after.owner_instance_id.is_empty(), "released: {after:?}");
    assert!(
        (before.terms + 1..=before.terms + 3).contains(&after.terms),
        "{after:?}"
    );
    let online = cluster
        .published("workmanager.lifecycle")
        .iter()
        .filter(|told| told["type"].as_str().unwrap().ends_with("online"))
        .filter(|told| names.contains(&told["data"]["instance_id"].as_str().unwrap()))
        .count();
    assert_eq!(online, 15, "every instance runs every worker");
}

#[tokio::test]
async fn h1_5_who_does_not_lead_does_not_wait() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    first
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    let mut held = leader(&first).await;
    held.owner_instance_id = "elsewhere".to_owned();
    held.lease_until = "2100-01-01T00:00:00Z".to_owned();
    held.turn = "theirs".to_owned();
    first.backend.save(LEADER_KEY, &held, Expect::Any).await.unwrap();
    first.stop().await;
    let second = ready(&cluster, "two", &[]).await;
    let (status, description) = second.recovery().await;
    assert_eq!(status, "Healthy");
    assert!(description.contains("another instance leads"), "{description}");
    second.publish("orders", &event(1)).await;
    until("the worker runs here all the same", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;
    assert_eq!(leader(&second).await, held, "the lease is left alone");
}

#[tokio::test]
async fn h5_2_lost_code_is_fetched_again_if_it_is_still_the_same() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    let code = json!({"type": "priced"}).to_string();
    let (address, _asked) = super::support::server(code).await;
    let mut request = worker("orders", &json!({}));
    request.code_source = Some(proto::CodeSource {
        source: Some(proto::code_source::Source::Url(format!("http://{address}/a"))),
        ..proto::CodeSource::default()
    });
    let id = first.create(request).await.unwrap();
    spoil(&first, &id).await;
    first.stop().await;
    let second = ready(&cluster, "two", &[]).await;
    assert_eq!(second.recovery().await.0, "Healthy");
    second.publish("orders", &event(1)).await;
    until("the event is answered", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn z9_workers_of_earlier_key_forms_are_moved_once() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    let mut moved = Vec::new();
    for separator in ["/", "-"] {
        let id = first
            .create(worker("orders", &json!({"type": "priced"})))
            .await
            .unwrap();
        let record = first.backend.get(&worker_key(&id)).await.unwrap().unwrap().value;
        let version = record["history"][0]["version"].as_str().unwrap().to_owned();
        let code = first
            .backend
            .get(&code_key(&id, &version))
            .await
            .unwrap()
            .unwrap()
            .value;
        let ask = proto::DeleteWorkerRequest { id: id.clone() };
        first.client.clone().delete_worker(ask).await.unwrap();
        let former = |parts: &[&str]| parts.join(separator);
        let list: Value = json!([id]);
        for (key, value) in [
            (former(&["workmanager", "worker", "index"]), &list),
            (former(&["workmanager", "worker", &id]), &record),
            (former(&["workmanager", "worker", &id, "code", &version]), &code),
        ] {
            first.backend.save(&key, value, Expect::Any).await.unwrap();
        }
        moved.push((id, former(&["workmanager", "worker", "index"])));
    }
    first.stop().await;
    let second = ready(&cluster, "two", &[]).await;
    let listed: Vec<_> = second.list().await.into_iter().map(|info| info.id).collect();
    for (id, former_list) in moved {
        assert!(listed.contains(&id), "{id} in {listed:?}");
        assert!(
            second.backend.get(&former_list).await.unwrap().is_none(),
            "{former_list}"
        );
    }
    second.publish("orders", &event(1)).await;
    until("both run", async || {
        (answered(&cluster, "priced") == ["1", "1"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn others_follow_what_one_instance_changes() {
    let cluster = Platform::new();
    let one = ready(&cluster, "one", &[]).await;
    let two = ready(&cluster, "two", &[]).await;
    let id = one
        .create(worker("orders", &json!({"type": "priced", "version": "1"})))
        .await
        .unwrap();
    let told = async |instance: &str, state: &str, count: usize| {
        until(&format!("{instance} {state} {count}"), async || {
            let told = cluster.published("workmanager.lifecycle");
            let mut matching = told.iter().filter(|told| {
                told["data"]["instance_id"] == instance && told["type"].as_str().unwrap().ends_with(state)
            });
            matching.by_ref().nth(count - 1).map(drop)
        })
        .await;
    };
    told("two", "online", 1).await;
    let closed = || one.observed.closed.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(closed(), 0);
    let ask = proto::StopWorkerRequest { id: id.clone() };
    two.client.clone().stop_worker(ask).await.unwrap();
    until("the other one's engine is closed", async || {
        (closed() == 1).then_some(())
    })
    .await;
    let ask = proto::StartWorkerRequest { id: id.clone() };
    two.client.clone().start_worker(ask).await.unwrap();
    told("one", "online", 2).await;
    let ask = proto::LoadCodeRequest {
        id: id.clone(),
        code_source: super::support::inline(&json!({"type": "priced", "version": "2"})),
    };
    one.client.clone().load_code(ask).await.unwrap();
    one.stop().await;
    until("the one that is left has the new code", async || {
        two.publish("orders", &event(uuid::Uuid::new_v4())).await;
        let outputs = cluster.published("priced");
        outputs
            .iter()
            .any(|output| output["data"]["version"] == "2")
            .then_some(())
    })
    .await;
    let ask = proto::DeleteWorkerRequest { id };
    two.client.clone().delete_worker(ask).await.unwrap();
    two.stop().await;
}

#[tokio::test]
async fn h1_3_health_follows_a_worker_that_runs_again() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    let id = first
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    let key = spoil(&first, &id).await;
    let whole = json!({"content": base64(&json!({"type": "priced"}).to_string())});
    first.stop().await;
    let second = ready(&cluster, "two", &[]).await;
    let (status, description) = second.recovery().await;
    assert_eq!(status, "Degraded");
    assert!(description.contains(&id), "{description}");
    second.backend.save(&key, &whole, Expect::Any).await.unwrap();
    let ask = proto::StartWorkerRequest { id };
    second.client.clone().start_worker(ask).await.unwrap();
    assert_eq!(second.recovery().await.0, "Healthy");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
