//! Bad requests to every route of the public HTTP API: each gets an answer of Dapr's shape in bounded time, and the
//! sidecar goes on as if nothing had been.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::bad_requests::{ROUTES, request};
use crate::support::{
    app::App,
    client::{Answer, Raw, send_raw},
    random::{Random, seed},
    sidecar::{Launch, sidecar_with_everything},
};

/// Requests to each route.
const ROUNDS: usize = 40;
const AT_ONCE: usize = 16;
/// Longest time to an answer. Resolving an app that does not exist takes longest: a few tries of mDNS.
const WITHIN: Duration = Duration::from_secs(30);
/// What a sidecar under fuzz may hold at most, in KiB: sixteen requests of the largest body, several times over.
const MEMORY: u64 = 400 << 10;

/// What is wrong with an answer, if anything is.
fn judge(answer: &Answer, head: bool) -> Result<(), String> {
    if answer.status < 400 || head {
        return Ok(());
    }
    let text = answer.text();
    let plain = text.trim_end();
    let documented = match answer.status {
        // What is no HTTP, as hyper and Go's server answer it; escapes; a trace context upstream refuses too.
        400 => {
            plain.is_empty()
                || plain.starts_with("failed to unescape request parameter")
                || plain.starts_with("invalid baggage header: ")
        }
        404 => plain == "404 page not found",
        405 => plain.is_empty(),
        414 | 431 => plain.is_empty() || plain == "431 Request Header Fields Too Large",
        _ => false,
    };
    // What the app itself answers.
    if documented || answer.header("x-app") == "yes" {
        return Ok(());
    }
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("{error}"))?;
    let text_at = |name: &str| {
        body.get(name)
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    let failed_entries = body.get("failedEntries").is_some_and(Value::is_array);
    let unsubscribe = body.get("ok").is_some() || answer.status == 500 && text_at("message");
    if !(text_at("errorCode") && text_at("message") || failed_entries && text_at("errorCode") || unsubscribe)
    {
        return Err("neither errorCode and message nor a documented text".to_owned());
    }
    let kind = answer.header("content-type");
    if !kind.starts_with("application/json") {
        return Err(format!("JSON that calls itself {kind:?}"));
    }
    Ok(())
}

/// The code of an error, or the text that stands for one.
fn code(answer: &Answer) -> String {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let code = body.as_ref().and_then(|body| body["errorCode"].as_str());
    code.map_or_else(|| answer.text().chars().take(20).collect(), str::to_owned)
}

#[tokio::test]
async fn every_route_answers_bad_requests_in_daprs_shape() {
    let app = App::start(|request| async move {
        let status = if request.uri().path().starts_with("/dapr/") {
            404
        } else {
            200
        };
        Response::builder()
            .status(status)
            .header("x-app", "yes")
            .body(Bytes::new())
            .unwrap()
    })
    .await;
    let files = tempfile::tempdir().unwrap();
    let mut sidecar = sidecar_with_everything(files.path(), app.port).await;
    let at_once = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut statuses: BTreeMap<(u16, String), usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, route) in ROUTES.iter().enumerate() {
        let mut random = Random::new(seed(), number as u64);
        let mut batch = tokio::task::JoinSet::new();
        for _ in 0..ROUNDS {
            let bad = request(&mut random, *route);
            let (port, permit) = (sidecar.http, Arc::clone(&at_once).acquire_owned().await.unwrap());
            batch.spawn(async move {
                // What ends in the middle need not be answered; a server waits for the rest.
                let within = if bad.well_formed {
                    WITHIN
                } else {
                    Duration::from_millis(300)
                };
                let raw = send_raw(port, &bad.bytes, within).await;
                drop(permit);
                (bad, raw)
            });
        }
        while let Some(done) = batch.join_next().await {
            let (bad, raw) = done.unwrap();
            let head = bad.bytes.starts_with(b"HEAD ");
            let problem = match &raw {
                Raw::Silent if bad.well_formed => Some("no answer in time".to_owned()),
                Raw::Closed if bad.well_formed => Some("closed without an answer".to_owned()),
                Raw::Silent | Raw::Closed => None,
                Raw::Answered(answer) => {
                    let seen = if answer.status < 400 {
                        "answered".to_owned()
                    } else {
                        code(answer)
                    };
                    *statuses.entry((answer.status, seen)).or_default() += 1;
                    judge(answer, head).err()
                }
            };
            if let Some(problem) = problem {
                let sent = bad.bytes[..bad.bytes.len().min(900)].escape_ascii();
                let got = match raw {
                    Raw::Answered(answer) => format!("{} {:?}", answer.status, answer.text()),
                    other => format!("{other:?}"),
                };
                wrong.push(format!("{problem}\n  sent {sent}\n  got {got}"));
            }
        }
        sidecar.assert_alive().await;
    }
    let (now, most) = sidecar.memory();
    eprintln!(
        "seed {}: {statuses:?}; memory {now} KiB, at most {most} KiB",
        seed()
    );
    assert!(
        wrong.is_empty(),
        "seed {}: {} wrong answers\n{}",
        seed(),
        wrong.len(),
        wrong.join("\n")
    );
    assert!(most < MEMORY, "{most} KiB");
    assert!(statuses.len() > 30, "the requests do not reach far: {statuses:?}");
}

#[tokio::test]
async fn what_is_no_http_at_all_does_no_harm() {
    let mut sidecar = Launch::new("garbled").start().await;
    let mut random = Random::new(seed(), 1000);
    for port in [sidecar.http, sidecar.grpc, sidecar.internal, sidecar.metrics] {
        let mut batch = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let length = random.below(5000);
            let mut bytes = match random.below(4) {
                0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                1 => b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
                2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\xff\xff\x01\x05\0\0\0\x01"
                    .to_vec(),
                _ => Vec::new(),
            };
            bytes.extend(random.bytes(length));
            // Not answered, perhaps never closed (the rest of a header may still come); a second is enough.
            batch.spawn(async move {
                let exchange = async {
                    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                };
                let _ = tokio::time::timeout(Duration::from_secs(1), exchange).await;
            });
        }
        batch.join_all().await;
        sidecar.assert_alive().await;
    }
}
