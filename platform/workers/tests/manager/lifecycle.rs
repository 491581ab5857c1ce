//! Making, starting, stopping, ending workers (H1, H7).

use std::collections::BTreeMap;

use outrigger_platform_wire::virtufin as proto;
use outrigger_platform_workers::names::{INDEX_KEY, code_key, worker_key};
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

#[tokio::test]
async fn h1_1_stopping_finishes_what_has_begun_and_gives_back_what_has_not() {
    let cluster = Platform::new();
    let variables = [
        ("WORKER_MAX_CONCURRENCY", "1"),
        ("WORKER_RETRY_BASE_DELAY_MS", "1000"),
    ];
    let manager = ready(&cluster, "one", &variables).await;
    // Each event fails once: the first one waits for its second try when the worker is stopped.
    let recipe = json!({"type": "priced", "fail": 1});
    for group in ["", "pricing"] {
        let topic = format!("orders{group}");
        let calls = || manager.observed.calls.load(std::sync::atomic::Ordering::SeqCst);
        let before = (calls(), answered(&cluster, "priced").len());
        let mut request = worker(&topic, &recipe);
        request.group = group.to_owned();
        let worker_id = manager.create(request).await.unwrap();
        for number in 0..4 {
            manager.publish(&topic, &event(format!("{group}{number}"))).await;
        }
        until("an event has failed once", async || {
            (calls() > before.0 && manager.observed.running.load(std::sync::atomic::Ordering::SeqCst) == 0)
                .then_some(())
        })
        .await;
        stop(&manager, &worker_id).await.unwrap();
        until("what had begun is answered", async || {
            (answered(&cluster, "priced").len() > before.1).then_some(())
        })
        .await;
        // The gateway's streams are live: what had not begun is lost to a worker that is stopped.
        if !GATEWAY {
            start(&manager, &worker_id).await.unwrap();
            until("all events are answered", async || {
                (answered(&cluster, "priced").len() >= before.1 + 4).then_some(())
            })
            .await;
        }
        assert!(cluster.published(&format!("{topic}-dead")).is_empty());
        delete(&manager, &worker_id).await.unwrap();
    }
}

/// Ids that are listed, and of those the ones that have a record.
async fn listed(manager: &Instance) -> (Vec<String>, Vec<String>) {
    let index = manager.backend.get(INDEX_KEY).await.unwrap();
    let workers = index.map(|index| index.value["workers"].as_object().unwrap().clone());
    let ids: Vec<_> = workers.unwrap_or_default().keys().cloned().collect();
    let mut whole = Vec::new();
    for id in &ids {
        if manager.backend.get(&worker_key(id)).await.unwrap().is_some() {
            whole.push(id.clone());
        }
    }
    (ids, whole)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_caller_goes_away_is_made_whole_or_not_at_all() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let recipe = json!({"type": "priced"});
    for step in 0..30 {
        let patience = std::time::Duration::from_micros(200 * step);
        let id = manager.create(worker("orders", &recipe)).await.unwrap();
        let _ = tokio::time::timeout(patience, delete(&manager, &id)).await;
        let _ = tokio::time::timeout(patience, manager.create(worker("orders", &recipe))).await;
    }
    until("what is listed is there", async || {
        let (ids, whole) = listed(&manager).await;
        (ids == whole).then_some(())
    })
    .await;
    for id in listed(&manager).await.0 {
        delete(&manager, &id).await.unwrap();
    }
    assert!(manager.list().await.is_empty());
}

#[tokio::test]
async fn a_stop_whose_answer_got_lost_reaches_the_other_instances_when_it_is_asked_for_again() {
    let cluster = Platform::new();
    // No other write may take the place of the one whose answer gets lost.
    let quiet = [("WORKER_HEARTBEAT_SECONDS", "3600")];
    let manager = ready(&cluster, "one", &quiet).await;
    let other = ready(&cluster, "two", &quiet).await;
    let id = manager
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    until("both run it", async || {
        let online = transitions(&cluster, &id);
        (online.iter().filter(|state| *state == "online").count() == 2).then_some(())
    })
    .await;
    cluster.lose_state_answers(1);
    let lost = stop(&manager, &id).await.unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost}");
    stop(&manager, &id).await.unwrap();
    until("the other has stopped it", async || {
        let closed = other.observed.closed.load(std::sync::atomic::Ordering::SeqCst);
        (closed == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_was_deleted_by_half_can_be_deleted() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let id = manager
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    // As after a crash of another instance, between the record and the list.
    manager.backend.delete(&worker_key(&id), None).await.unwrap();
    delete(&manager, &id).await.unwrap();
    assert_eq!(listed(&manager).await.0, Vec::<String>::new());
    until("its engine is closed", async || {
        let closed = manager.observed.closed.load(std::sync::atomic::Ordering::SeqCst);
        (closed == 1).then_some(())
    })
    .await;
    assert_eq!(delete(&manager, &id).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_worker_that_was_deleted_by_half_elsewhere_ends_with_its_next_sign_of_life() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("WORKER_HEARTBEAT_SECONDS", "1")]).await;
    let id = manager
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    manager.backend.delete(&worker_key(&id), None).await.unwrap();
    until("its engine is closed", async || {
        let closed = manager.observed.closed.load(std::sync::atomic::Ordering::SeqCst);
        (closed == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_deleted_while_it_gets_new_code_leaves_nothing_behind() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    for round in 0..10 {
        let recipe = |version: String| json!({"type": "priced", "version": version});
        let id = manager
            .create(worker("orders", &recipe(String::new())))
            .await
            .unwrap();
        let loads = (0..4).map(|number| {
            let mut client = manager.client.clone();
            let ask = proto::LoadCodeRequest {
                id: id.clone(),
                code_source: inline(&recipe(format!("{round}-{number}"))),
            };
            async move { client.load_code(ask).await }
        });
        let (deleted, loaded) = tokio::join!(delete(&manager, &id), futures::future::join_all(loads));
        deleted.unwrap();
        let refused = loaded.iter().filter_map(|loaded| loaded.as_ref().err());
        for error in refused {
            assert_eq!(error.code(), Code::NotFound, "{error}");
        }
    }
    let left: Vec<_> = cluster
        .state_keys(super::support::STORE)
        .into_iter()
        .filter(|key| key.contains("workmanager.worker.") && !key.ends_with(".index"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_an_id_is_the_id_of_nobody() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    manager
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    let long = "a".repeat(10_000);
    for id in ["index", "", "a.b", "a||b", "a/b", long.as_str()] {
        for refused in [
            start(&manager, id).await,
            stop(&manager, id).await,
            delete(&manager, id).await,
        ] {
            let status = refused.unwrap_err();
            assert_eq!(status.code(), Code::NotFound, "{id:?}: {status}");
            assert!(status.message().len() < 200);
        }
    }
    assert_eq!(manager.list().await.len(), 1);
}

#[tokio::test]
async fn a_worker_that_reads_of_failures_does_not_feed_itself() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[("WORKER_RETRY_ATTEMPTS", "0")]).await;
    manager
        .create(worker("workmanager.lifecycle", &json!({"fail": 1_000_000})))
        .await
        .unwrap();
    // Its own creation is an event of the topic, and so is each transition of others.
    let other = manager
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    until("it has failed on something", async || {
        (cluster.published_count("workmanager.lifecycle-dead") > 0).then_some(())
    })
    .await;
    delete(&manager, &other).await.unwrap();
    until("the other's end is given up, too", async || {
        let dead = cluster.published("workmanager.lifecycle-dead");
        dead.iter()
            .any(|letter| {
                letter["type"].as_str().unwrap().ends_with(".stopped")
                    && letter["data"]["worker_id"] == other.as_str()
            })
            .then_some(())
    })
    .await;
    let told = cluster.published("workmanager.lifecycle");
    assert!(
        told.iter()
            .all(|event| !event["type"].as_str().unwrap().ends_with(".failed"))
    );
}

#[tokio::test]
async fn starting_a_worker_that_should_run_and_does_not_tries_at_once() {
    let cluster = Platform::new();
    let first = ready(&cluster, "one", &[]).await;
    let id = first
        .create(worker("orders", &json!({"type": "priced"})))
        .await
        .unwrap();
    first.stop().await;
    let second = ready(&cluster, "two", &[("WORKER_RECOVERY_ON_START", "false")]).await;
    // It is to run, by its record, and passed over.
    start(&second, &id).await.unwrap();
    second.publish("orders", &event(1)).await;
    until("the event is answered", async || {
        (answered(&cluster, "priced") == ["1"]).then_some(())
    })
    .await;
}
