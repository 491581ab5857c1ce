//! Making, starting, stopping, ending workers (H1, H7).

use std::collections::BTreeMap;

use outrigger_platform_wire::virtufin as proto;
use outrigger_platform_workers::names::{code_key, worker_key};
use serde_json::json;
use tonic::Code;

use super::GATEWAY;
use super::support::{Instance, Platform, answered, event, http, inline, ready, transitions, until, worker};

fn id(id: &str) -> proto::StartWorkerRequest {
    proto::StartWorkerRequest { id: id.to_owned() }
}

async fn start(manager: &Instance, worker: &str) -> Result<(), tonic::Status> {
    manager.client.clone().start_worker(id(worker)).await.map(drop)
}

async fn stop(manager: &Instance, worker: &str) -> Result<(), tonic::Status> {
    let ask = proto::StopWorkerRequest {
        id: worker.to_owned(),
    };
    manager.client.clone().stop_worker(ask).await.map(drop)
}

async fn delete(manager: &Instance, worker: &str) -> Result<(), tonic::Status> {
    let ask = proto::DeleteWorkerRequest {
        id: worker.to_owned(),
    };
    manager.client.clone().delete_worker(ask).await.map(drop)
}

#[tokio::test]
async fn h1_1_a_worker_is_kept_runs_stops_and_goes_without_a_trace() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let worker_id = manager
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    let listed = manager.list().await;
    assert_eq!(listed.len(), 1);
    let info = &listed[0];
    assert_eq!(
        (info.id.as_str(), info.topic.as_str()),
        (worker_id.as_str(), "orders")
    );
    assert_eq!(info.status(), proto::WorkerStatus::Running);
    assert_eq!(
        (info.mime_type.as_str(), info.language.as_str()),
        ("text/x-recipe", "recipe")
    );
    let source = info.code_source.as_ref().unwrap();
    assert!(source.source.is_none(), "content is not told");
    assert_eq!(source.content_sha256.len(), 64);
    assert!(
        manager
            .backend
            .get(&worker_key(&worker_id))
            .await
            .unwrap()
            .is_some()
    );

    manager.publish("orders", &event(1)).await;
    until("the first event is answered", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;

    // Idempotent both ways; a stopped worker gets nothing, and what came meanwhile waits for it.
    start(&manager, &worker_id).await.unwrap();
    stop(&manager, &worker_id).await.unwrap();
    stop(&manager, &worker_id).await.unwrap();
    assert_eq!(manager.list().await[0].status(), proto::WorkerStatus::Stopped);
    // The gateway's streams are live.
    if !GATEWAY {
        manager.publish("orders", &event(2)).await;
    }
    start(&manager, &worker_id).await.unwrap();
    start(&manager, &worker_id).await.unwrap();
    if GATEWAY {
        manager.publish("orders", &event(2)).await;
    }
    until("the second event is answered", async || {
        (answered(&cluster, "priced") == ["1", "2"]).then_some(())
    })
    .await;

    let record = manager
        .backend
        .get(&worker_key(&worker_id))
        .await
        .unwrap()
        .unwrap();
    let version = record.value["history"][0]["version"].as_str().unwrap().to_owned();
    delete(&manager, &worker_id).await.unwrap();
    assert!(manager.list().await.is_empty());
    for key in [worker_key(&worker_id), code_key(&worker_id, &version)] {
        assert!(manager.backend.get(&key).await.unwrap().is_none(), "{key}");
    }
    manager.publish("orders", &event(3)).await;
    // Its engines are gone: that of the first start, that of the second.
    until("both engines are closed", async || {
        let closed = manager.observed.closed.load(std::sync::atomic::Ordering::SeqCst);
        (closed == 2).then_some(())
    })
    .await;
    assert_eq!(answered(&cluster, "priced"), ["1", "2"]);
}

#[tokio::test]
async fn h1_1_mistakes_have_their_codes() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("WORKER_MAX_COUNT", "1")]).await;
    let recipe = json!({"type": "priced"});
    for outcome in [
        start(&manager, "nobody").await,
        stop(&manager, "nobody").await,
        delete(&manager, "nobody").await,
        delete(&manager, "").await,
    ] {
        assert_eq!(outcome.unwrap_err().code(), Code::NotFound);
    }
    let mut unknown = worker("orders", &recipe);
    unknown.mime_type = "text/x-cobol".to_owned();
    let mut nothing = worker("orders", &recipe);
    nothing.code_source = None;
    let mut tagged = worker("orders", &recipe);
    tagged.tags = (0..51).map(|n| (n.to_string(), String::new())).collect();
    let mut grouped = worker("orders", &recipe);
    grouped.group = "a/b".to_owned();
    let mut configured = worker("orders", &recipe);
    configured.config = BTreeMap::from([("type".to_owned(), "x".to_owned())]);
    for request in [
        unknown,
        nothing,
        tagged,
        grouped,
        configured,
        worker("", &recipe),
        worker("a b", &recipe),
        worker("orders", &json!({"no": "recipe"})),
    ] {
        let error = manager.create(request.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{request:?}: {error}");
    }
    assert!(
        manager.list().await.is_empty(),
        "nothing is kept of what was refused"
    );

    manager.create(worker("orders", &recipe)).await.unwrap();
    let error = manager.create(worker("orders", &recipe)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn h1_1_z5_a_worker_can_be_made_stopped() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let mut request = worker("orders", &json!({"type": "priced"}));
    request.create_stopped = true;
    let worker_id = manager.create(request).await.unwrap();
    assert_eq!(manager.list().await[0].status(), proto::WorkerStatus::Stopped);
    assert_eq!(transitions(&cluster, &worker_id), ["created"]);
    start(&manager, &worker_id).await.unwrap();
    manager.publish("orders", &event(1)).await;
    until("the event is answered", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn h1_2_new_code_under_load_loses_no_event() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let recipe = |version: usize| json!({"type": "priced", "version": version.to_string(), "sleep_ms": 5});
    let worker_id = manager.create(worker("orders", &recipe(0))).await.unwrap();
    let load = async {
        for number in 0..300 {
            manager.publish("orders", &event(number)).await;
        }
    };
    let swaps = async {
        for version in 1..=6 {
            let ask = proto::LoadCodeRequest {
                id: worker_id.clone(),
                code_source: inline(&recipe(version)),
            };
            manager.client.clone().load_code(ask).await.unwrap();
        }
    };
    tokio::join!(load, swaps);
    manager.publish("orders", &event("last")).await;
    until("every event is answered", async || {
        (answered(&cluster, "priced").len() >= 301).then_some(())
    })
    .await;
    let outputs = cluster.published("priced");
    let ids: std::collections::BTreeSet<_> = outputs.iter().map(|output| output["id"].to_string()).collect();
    assert_eq!((ids.len(), outputs.len()), (301, 301), "each once");
    let last = outputs
        .iter()
        .find(|output| output["data"]["of"] == "last")
        .unwrap();
    assert_eq!(last["data"]["version"], "6");
    assert!(!cluster.published("orders-dead").iter().any(|_| true));
}

#[tokio::test]
async fn h1_2_events_under_way_finish_on_the_code_they_began_with() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("go");
    let slow = json!({"type": "priced", "version": "old", "until": file});
    let worker_id = manager.create(worker("orders", &slow)).await.unwrap();
    manager.publish("orders", &event("slow")).await;
    until("the slow event is under way", async || {
        (manager.observed.running.load(std::sync::atomic::Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    let ask = proto::LoadCodeFromContentRequest {
        id: worker_id,
        content: json!({"type": "priced", "version": "new"}).to_string().into(),
        content_sha256: String::new(),
    };
    manager.client.clone().load_code_from_content(ask).await.unwrap();
    manager.publish("orders", &event("quick")).await;
    until("the quick event overtakes", async || {
        (answered(&cluster, "priced") == ["quick"]).then_some(())
    })
    .await;
    let closed = || manager.observed.closed.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(closed(), 0, "the old code has an event under way");
    std::fs::write(&file, "").unwrap();
    until("the slow event is answered", async || {
        (answered(&cluster, "priced") == ["quick", "slow"]).then_some(())
    })
    .await;
    let outputs = cluster.published("priced");
    assert_eq!(outputs[0]["data"]["version"], "new");
    assert_eq!(outputs[1]["data"]["version"], "old");
    until("the old engine is closed", async || (closed() == 1).then_some(())).await;
}

#[tokio::test]
async fn h1_4_history_is_oldest_first() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let worker_id = manager
        .create(worker("orders", &json!({"version": "0"})))
        .await
        .unwrap();
    for version in ["1", "2"] {
        let ask = proto::LoadCodeRequest {
            id: worker_id.clone(),
            code_source: inline(&json!({"version": version})),
        };
        manager.client.clone().load_code(ask).await.unwrap();
    }
    // Code that cannot be loaded changes nothing.
    let ask = proto::LoadCodeRequest {
        id: worker_id.clone(),
        code_source: inline(&json!({"no": "recipe"})),
    };
    let error = manager.client.clone().load_code(ask).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let (status, history) = http(
        manager.http,
        "GET",
        &format!("/v1/workers/{worker_id}/history"),
        None,
    )
    .await;
    assert_eq!(status, 200);
    let entries = history["entries"].as_array().unwrap();
    let hashes: Vec<_> = entries
        .iter()
        .map(|entry| entry["sha256"].as_str().unwrap())
        .collect();
    let expected: Vec<_> = ["0", "1", "2"]
        .iter()
        .map(|version| {
            outrigger_platform_workers::store::sha256(json!({"version": version}).to_string().as_bytes())
        })
        .collect();
    assert_eq!(hashes, expected);
    let times: Vec<_> = entries
        .iter()
        .map(|entry| entry["createdAt"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted());
}

#[tokio::test]
async fn h1_6_tags_filter_and_change() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let mut request = worker("orders", &json!({}));
    request.tags = BTreeMap::from([("team".to_owned(), "risk".to_owned())]);
    let tagged = manager.create(request).await.unwrap();
    manager.create(worker("orders", &json!({}))).await.unwrap();
    let found = async |key: &str, value: &str| {
        let filter = proto::TagFilter {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let ask = proto::ListWorkersRequest {
            filters: vec![filter],
        };
        let answer = manager.client.clone().list_workers(ask).await.unwrap();
        let workers = answer.into_inner().workers;
        workers.into_iter().map(|worker| worker.id).collect::<Vec<_>>()
    };
    assert_eq!(found("team", "risk").await, std::slice::from_ref(&tagged));
    assert_eq!(found("team", "").await, std::slice::from_ref(&tagged));
    assert!(found("team", "sales").await.is_empty());

    let set = async |key: &str, value: &str| {
        let ask = proto::SetTagRequest {
            id: tagged.clone(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        manager.client.clone().set_tag(ask).await
    };
    set("lane", "act").await.unwrap();
    set("team", "").await.unwrap();
    assert_eq!(found("lane", "act").await, std::slice::from_ref(&tagged));
    assert!(found("team", "").await.is_empty());
    assert_eq!(
        set("lane", &"x".repeat(1025)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(
        set(&"x".repeat(129), "y").await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let ask = proto::SetTagsRequest {
        id: tagged.clone(),
        tags: BTreeMap::from([("only".to_owned(), "this".to_owned())]),
    };
    manager.client.clone().set_tags(ask).await.unwrap();
    let ask = proto::GetTagsRequest { id: tagged.clone() };
    let tags = manager
        .client
        .clone()
        .get_tags(ask)
        .await
        .unwrap()
        .into_inner()
        .tags;
    assert_eq!(tags, BTreeMap::from([("only".to_owned(), "this".to_owned())]));
    let ask = proto::GetTagRequest {
        id: tagged,
        key: "lane".to_owned(),
    };
    assert!(
        !manager
            .client
            .clone()
            .get_tag(ask)
            .await
            .unwrap()
            .into_inner()
            .found
    );
}

#[tokio::test]
async fn h7_every_transition_is_told_in_order() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("WORKER_RETRY_ATTEMPTS", "0")]).await;
    let mut request = worker("orders", &json!({"fail": 9}));
    request.group = "pricing".to_owned();
    let worker_id = manager.create(request).await.unwrap();
    manager.publish("orders", &event(1)).await;
    until("the failure is told", async || {
        transitions(&cluster, &worker_id)
            .contains(&"failed".to_owned())
            .then_some(())
    })
    .await;
    stop(&manager, &worker_id).await.unwrap();
    stop(&manager, &worker_id).await.unwrap();
    start(&manager, &worker_id).await.unwrap();
    start(&manager, &worker_id).await.unwrap();
    delete(&manager, &worker_id).await.unwrap();
    assert_eq!(
        transitions(&cluster, &worker_id),
        [
            "created", "started", "online", "failed", "stopping", "stopped", "started", "online", "stopping",
            "stopped"
        ]
    );
    let events = cluster.published("workmanager.lifecycle");
    for told in &events {
        assert_eq!(told["specversion"], "1.0");
        assert_eq!(told["source"], "urn:com.virtufin.workmanager");
        assert_eq!(told["subject"], format!("worker/{worker_id}"));
        assert_eq!(told["data"]["group"], "pricing");
        assert_eq!(told["data"]["topic"], "orders");
        assert!(told["time"].is_string() && told["id"].is_string());
    }
    let failed = events
        .iter()
        .find(|told| told["data"].get("error_type").is_some())
        .unwrap();
    assert_eq!(failed["type"], "com.virtufin.workmanager.lifecycle.failed");
    assert_eq!(failed["data"]["error_type"], "failed");
    assert!(
        failed["data"]["error_message"]
            .as_str()
            .unwrap()
            .contains("burnt")
    );
}

#[tokio::test]
async fn z21_a_running_worker_gives_signs_of_life() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("WORKER_HEARTBEAT_SECONDS", "1")]).await;
    let running = manager.create(worker("orders", &json!({}))).await.unwrap();
    let mut request = worker("orders", &json!({}));
    request.create_stopped = true;
    let stopped = manager.create(request).await.unwrap();
    let beats = until("two beats", async || {
        let beats = cluster.published("workmanager.infra.worker.heartbeat");
        (beats.len() >= 2).then_some(beats)
    })
    .await;
    assert!(
        beats
            .iter()
            .all(|beat| beat["data"]["worker_id"] == running.as_str())
    );
    assert_eq!(
        beats[0]["type"],
        "com.virtufin.workmanager.infra.worker.heartbeat"
    );
    let record = async |id: &str| manager.backend.get(&worker_key(id)).await.unwrap().unwrap().value;
    assert!(record(&running).await["last_heartbeat"].is_string());
    assert!(record(&stopped).await["last_heartbeat"].is_null());
}
