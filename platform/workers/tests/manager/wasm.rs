//! Workers in WebAssembly, on the manager (H2.3). What their engine does is in `platform/engine-wasm/tests`.

use outrigger_platform_wire::virtufin as proto;
use outrigger_platform_workers::names::worker_key;
use serde_json::{Value, json};
use tonic::Code;

use super::support::{Instance, Platform, event, ready, start, until, worker};

/// A module whose `process` has this body; the global `$n` is its own, and `$room` stands behind the answers.
fn module(answers: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "(module (memory (export \"memory\") 2) (global $n (mut i32) (i32.const 0)) {answers}
           (func (export \"alloc\") (param i32) (result i32) (i32.const 65536))
           (func (export \"process\") (param i32 i32) (result i64) {body}))"
    );
    wat::parse_str(text).unwrap()
}

/// Answers events of this type whose data is how many it has seen, in one digit.
fn counter(kind: &str) -> Vec<u8> {
    let answer = json!({"data": 0, "type": kind}).to_string();
    let text = answer.replace('"', "\\22");
    let digit = 16 + answer.find('0').unwrap();
    module(
        &format!("(data (i32.const 16) \"{text}\")"),
        &format!(
            "(global.set $n (i32.add (global.get $n) (i32.const 1)))
             (i32.store8 (i32.const {digit}) (i32.add (i32.const 48) (global.get $n)))
             (i64.or (i64.shl (i64.const 16) (i64.const 32)) (i64.const {}))",
            answer.len()
        ),
    )
}

fn source(wasm: Vec<u8>) -> Option<proto::CodeSource> {
    Some(proto::CodeSource {
        source: Some(proto::code_source::Source::Content(wasm.into())),
        ..proto::CodeSource::default()
    })
}

fn guest(topic: &str, wasm: Vec<u8>) -> proto::CreateWorkerRequest {
    proto::CreateWorkerRequest {
        code_source: source(wasm),
        mime_type: "application/wasm".to_owned(),
        ..worker(topic, &json!({}))
    }
}

/// Publishes events one after the other; answers what the worker said to each.
async fn count(manager: &Instance, cluster: &Platform, to: &str, from: &str, events: usize) -> Vec<Value> {
    let before = cluster.published_count(from);
    for number in 1..=events {
        manager
            .publish(to, &event(format!("{to}-{before}-{number}")))
            .await;
        until("the event is answered", async || {
            (cluster.published_count(from) == before + number).then_some(())
        })
        .await;
    }
    let answers = cluster.published(from);
    answers[before..]
        .iter()
        .map(|answer| answer["data"].clone())
        .collect()
}

#[tokio::test]
async fn h2_3_two_modules_with_the_same_globals_stay_apart_and_new_code_begins_anew() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let first = manager
        .create(guest("orders", counter("order.counted")))
        .await
        .unwrap();
    manager
        .create(guest("trades", counter("trade.counted")))
        .await
        .unwrap();
    let listed = manager.list().await;
    assert!(listed.iter().all(|worker| worker.language == "wasm"));
    assert_eq!(
        count(&manager, &cluster, "orders", "order.counted", 3).await,
        [1, 2, 3]
    );
    assert_eq!(count(&manager, &cluster, "trades", "trade.counted", 1).await, [1]);
    assert_eq!(count(&manager, &cluster, "orders", "order.counted", 1).await, [4]);
    let answer = cluster.published("trade.counted").pop().unwrap();
    assert!(
        answer["id"].is_string() && answer["source"].is_string(),
        "{answer}"
    );

    let load = proto::LoadCodeRequest {
        id: first,
        code_source: source(counter("order.recounted")),
    };
    manager.client.clone().load_code(load).await.unwrap();
    assert_eq!(
        count(&manager, &cluster, "orders", "order.recounted", 2).await,
        [1, 2]
    );
    assert_eq!(count(&manager, &cluster, "trades", "trade.counted", 1).await, [2]);
}

#[tokio::test]
async fn h2_3_a_trap_and_a_loop_become_dead_letters_and_disturb_nobody() {
    let cluster = Platform::new();
    let variables = [
        ("MESSAGE_HANDLING_TIMEOUT_SECONDS", "1"),
        ("WORKER_RETRY_ATTEMPTS", "1"),
    ];
    let manager = ready(&cluster, "one", &variables).await;
    for (topic, body) in [
        ("traps", "unreachable"),
        ("loops", "(loop $again (br $again)) (i64.const 0)"),
    ] {
        manager.create(guest(topic, module("", body))).await.unwrap();
        manager.publish(topic, &event(topic)).await;
    }
    manager
        .create(guest("orders", counter("order.counted")))
        .await
        .unwrap();
    assert_eq!(
        count(&manager, &cluster, "orders", "order.counted", 3).await,
        [1, 2, 3]
    );
    for (topic, words) in [("traps", "a trap"), ("loops", "did not answer within 1s")] {
        let letter = until("the event is given up", async || {
            cluster.published(&format!("{topic}-dead")).pop()
        })
        .await;
        let reason = letter["deadletterreason"].as_str().unwrap();
        assert!(reason.contains(words), "{reason}");
        assert_eq!(letter["deadletterattempts"], "2");
    }
}

#[tokio::test]
async fn h2_3_what_is_no_worker_is_refused_and_what_is_one_comes_back() {
    let cluster = Platform::new();
    let manager = ready(&cluster, "one", &[]).await;
    let outside = wat::parse_str("(module (import \"env\" \"open\" (func)))").unwrap();
    for (wasm, words) in [(b"no module".to_vec(), "cannot be loaded"), (outside, "env.open")] {
        let refused = manager.create(guest("orders", wasm)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{refused}");
    }
    assert!(manager.list().await.is_empty());
    let id = manager
        .create(guest("orders", counter("order.counted")))
        .await
        .unwrap();
    assert!(manager.backend.get(&worker_key(&id)).await.unwrap().is_some());
    manager.stop().await;
    let next = start(&cluster, "two", &[]).await;
    next.wait_until_ready().await;
    assert_eq!(count(&next, &cluster, "orders", "order.counted", 2).await, [1, 2]);
}
