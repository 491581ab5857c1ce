//! Messages by the batch.

use http::StatusCode;

use crate::support::{Bench, subscription};

#[tokio::test]
async fn batches() {
    let mut bench = Bench::new().await;
    let mut sub = subscription("t", "/bulk");
    sub.spec.bulk_subscribe.enabled = true;
    sub.spec.bulk_subscribe.max_messages_count = 3;
    sub.spec.bulk_subscribe.max_await_duration_ms = 60_000;
    sub.spec.dead_letter_topic = "dead".to_owned();
    bench.subscribe(vec![sub, subscription("dead", "/dead")]).await;
    bench.respond(|seen| {
        if seen.path == "/dead" {
            return (200, String::new());
        }
        let statuses: Vec<_> = seen.json()["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let status = match entry["event"]["data"].as_str().unwrap() {
                    "a" => "SUCCESS",
                    "b" => "DROP",
                    _ => "RETRY",
                };
                serde_json::json!({"entryId": entry["entryId"], "status": status})
            })
            .collect();
        (200, serde_json::json!({"statuses": statuses}).to_string())
    });
    let entries: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|data| serde_json::json!({"entryId": data, "event": data, "contentType": "text/plain"}))
        .collect();
    let response = bench
        .call(
            "BulkPublishEvent",
            "v1.0",
            "ps/t",
            "",
            "application/json",
            &serde_json::json!(entries).to_string(),
        )
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let seen = bench.next().await;
    assert_eq!(seen.path, "/bulk");
    let batch = seen.json();
    assert_eq!(batch["type"], "com.dapr.event.sent.bulk");
    assert_eq!(batch["pubsubname"], "ps");
    assert_eq!(batch["entries"].as_array().unwrap().len(), 3);
    assert_eq!(batch["entries"][0]["contentType"], "application/cloudevents+json");
    bench.next_is("/dead", "b").await;
    bench.next_is("/dead", "c").await;
}

#[tokio::test]
async fn retries_of_a_batch_carry_what_failed() {
    let mut bench = Bench::new().await;
    bench.retry_inbound(1);
    let mut sub = subscription("t", "/bulk");
    sub.spec.bulk_subscribe.enabled = true;
    sub.spec.bulk_subscribe.max_messages_count = 2;
    sub.spec.bulk_subscribe.max_await_duration_ms = 60_000;
    bench.subscribe(vec![sub]).await;
    bench.respond(|seen| {
        let first = seen.json()["entries"][0]["entryId"].clone();
        (
            200,
            serde_json::json!({"statuses": [{"entryId": first, "status": "SUCCESS"}]}).to_string(),
        )
    });
    bench.publish("t", "1").await;
    bench.publish("t", "2").await;
    assert_eq!(bench.next().await.json()["entries"].as_array().unwrap().len(), 2);
    let second = bench.next().await.json();
    assert_eq!(second["entries"].as_array().unwrap().len(), 1);
    assert_eq!(second["entries"][0]["event"]["data"], "2");
}

/// How fast messages go through, on request: `cargo test --profile fast -- --ignored --nocapture bulk_rate`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn bulk_rate() {
    const BATCHES: usize = 2000;
    let mut bench = Bench::new().await;
    let mut sub = subscription("t", "/bulk");
    sub.spec.bulk_subscribe.enabled = true;
    bench.subscribe(vec![sub]).await;
    #[derive(serde::Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        entries: Vec<Entry<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Entry<'a> {
        #[serde(rename = "entryId")]
        id: &'a str,
    }
    bench.respond(|seen| {
        let batch: Batch<'_> = serde_json::from_slice(&seen.body).unwrap();
        let mut text = String::from("{\"statuses\":[");
        for (at, entry) in batch.entries.iter().enumerate() {
            text.push_str(if at == 0 {
                "{\"entryId\":\""
            } else {
                ",{\"entryId\":\""
            });
            text.push_str(entry.id);
            text.push_str("\",\"status\":\"SUCCESS\"}");
        }
        text.push_str("]}");
        (200, text)
    });
    let entries: Vec<_> = (0..100)
        .map(|id| {
            serde_json::json!({"entryId": id.to_string(), "contentType": "application/json",
            "event": {"order": id, "text": "x".repeat(75)}})
        })
        .collect();
    let sent = serde_json::json!(entries).to_string();
    let start = std::time::Instant::now();
    for _ in 0..BATCHES {
        bench
            .call("BulkPublishEvent", "v1.0", "ps/t", "", "application/json", &sent)
            .await;
    }
    let published = start.elapsed();
    let mut bytes = 0;
    for _ in 0..BATCHES {
        bytes += bench.next().await.body.len();
    }
    let rate = (BATCHES * 100) as f64 / start.elapsed().as_secs_f64();
    assert!(bytes > 0);
    std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("{rate:.0} messages/s delivered, published in {published:?}\n"),
    )
    .unwrap();
}
