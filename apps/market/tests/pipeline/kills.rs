//! Every process of the pipeline is killed in turn, under load.

use std::time::{Duration, Instant};

use super::auditor::{Auditor, now_ns};
use super::client::Visitor;
use super::running::{Pipeline, optimised, programs, signal};
use super::{ALONE, until};

/// The longest time without results after a kill. Programs that are not optimised, beside other tests, only have to
/// come back.
const RESUMES: Duration = Duration::from_secs(5);
const RESUMES_UNOPTIMISED: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_is_killed_and_no_result_is_lost() {
    let _alone = ALONE.lock().await;
    let Some(programs) = programs() else { return };
    // More of both for a longer look: `MARKET_TEST_RATE`, trades per second of each exchange, and `MARKET_TEST_ROUNDS`.
    let number = |name: &str, default: u32| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (rate, rounds) = (number("MARKET_TEST_RATE", 50), number("MARKET_TEST_ROUNDS", 1));
    let pipeline = Pipeline::start(&programs, rate);
    let auditor = Auditor::start(&pipeline).await;
    let limit = if optimised() { RESUMES } else { RESUMES_UNOPTIMISED };
    until("results of both exchanges come", async || {
        auditor.has_news_since(0).then_some(())
    })
    .await;
    let apps = [
        "binance",
        "alpaca",
        "websocketmanager",
        "workmanager",
        "gateway",
        "market",
    ];
    for app in apps.repeat(rounds as usize) {
        for sidecar in [false, true] {
            let role = (app.to_owned(), sidecar);
            let pid = until("the process is there", async || {
                pipeline.processes().get(&role).copied()
            })
            .await;
            let killed = now_ns();
            let began = Instant::now();
            signal("-KILL", pid);
            until("the process is gone", async || {
                (pipeline.processes().get(&role) != Some(&pid)).then_some(())
            })
            .await;
            if role == ("workmanager".to_owned(), false) {
                recovered_before_ready(&pipeline).await;
            }
            // Trades of after the kill, so that what was under way does not count.
            until("results come again", async || {
                auditor.has_news_since(killed + 1_000_000).then_some(())
            })
            .await;
            let pause = began.elapsed();
            println!(
                "{app}{} killed: results again after {:.1} s",
                if sidecar { "'s sidecar" } else { "" },
                pause.as_secs_f64()
            );
            assert!(pause < limit, "{app}, sidecar {sidecar}: {pause:?}");
            until("the process is back", async || {
                pipeline.processes().get(&role).map(drop)
            })
            .await;
        }
    }
    auditor.settled().await;
    let (messages, without, repeats) = auditor.sums();
    let (median, p99) = auditor.ages();
    println!(
        "{messages} trades told, {without} without a result, {repeats} results again; age p50 {median:.1} ms, p99 {p99:.1} ms"
    );
    assert!(messages > 100, "{messages} trades are no load");
    pipeline.stop().await;
}

/// Health passes only once the workers are back (H1.3).
async fn recovered_before_ready(pipeline: &Pipeline) {
    let manager = Visitor::new(&format!("http://127.0.0.1:{}", pipeline.port("5101")));
    let workers = until("the worker manager is ready", async || {
        let health = manager.send("GET", "/health/ready", None, &[]).await?;
        if health.status != 200 {
            return None;
        }
        manager.send("GET", "/v1/workers", None, &[]).await
    })
    .await;
    let workers = workers.body["workers"].as_array().expect("workers").clone();
    assert_eq!(workers.len(), 2, "{workers:?}");
    for worker in workers {
        assert_eq!(worker["status"], "WORKER_STATUS_RUNNING", "{worker}");
    }
}
