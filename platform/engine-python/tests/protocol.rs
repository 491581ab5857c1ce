//! The frames between engine and worker, against a stub (R7, H2.1).

mod support;

use std::time::{Duration, Instant};

use outrigger_platform_engine::EngineError;
use outrigger_platform_engine_python::PythonSettings;
use outrigger_platform_sandbox::Support;
use serde_json::{Value, json};
use support::{ask, event, load_with, settings};

fn stub() -> PythonSettings {
    PythonSettings {
        python: env!("CARGO_BIN_EXE_outrigger-python-stub").into(),
        ..settings()
    }
}

#[expect(clippy::print_stderr, reason = "why tests are skipped is said there")]
fn confines() -> bool {
    let support = Support::of_this_kernel();
    if !support.is_enough() {
        eprintln!("skipped: {support}");
    }
    support.is_enough()
}

#[tokio::test]
async fn the_first_frame_holds_the_code_and_its_rights() {
    if !confines() {
        return;
    }
    let engine = load_with(stub(), "{}").await.unwrap();
    let load = ask(&engine, json!("load")).await.unwrap();
    assert_eq!(load["type"], "load");
    assert_eq!(
        (&load["name"], &load["code"]),
        (&json!("worker.py"), &json!("{}"))
    );
    assert_eq!(
        (&load["concurrency"], &load["limit"]),
        (&json!(4), &json!(8 << 20))
    );
    assert_eq!(load["imports"]["enforced"], json!(true));
    assert!(
        load["imports"]["blocked"]
            .as_array()
            .unwrap()
            .contains(&json!("os"))
    );
}

#[tokio::test]
async fn an_event_is_sent_as_a_cloud_event() {
    if !confines() {
        return;
    }
    let engine = load_with(stub(), "{}").await.unwrap();
    let mut event = event(json!("event"));
    event.extensions.insert("correlationid".to_owned(), json!("c1"));
    let sent = engine.process(event.clone()).await.unwrap().unwrap().data;
    let mut expected = json!({
        "id": event.id, "source": "exchange", "type": "tick", "specversion": "1.0", "data": "event",
        "datacontenttype": "application/json", "correlationid": "c1",
    });
    expected["time"] = sent["time"].clone();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn answers_are_told_apart_by_their_ids() {
    if !confines() {
        return;
    }
    let engine = load_with(stub(), "{}").await.unwrap();
    let (one, two) = (event(json!("backwards")), event(json!("backwards")));
    let ids = (one.id.clone(), two.id.clone());
    let (one, two) = tokio::join!(engine.process(one), engine.process(two));
    let data =
        |answer: Result<Option<outrigger_kit::Event<Value>>, EngineError>| answer.unwrap().unwrap().data;
    assert_eq!((data(one), data(two)), (json!(ids.0), json!(ids.1)));
}

#[tokio::test]
async fn a_frame_may_come_in_pieces() {
    if !confines() {
        return;
    }
    let engine = load_with(stub(), "{}").await.unwrap();
    assert_eq!(ask(&engine, json!("in pieces")).await, Ok(json!("whole")));
}

#[tokio::test]
async fn no_event_in_an_answer_is_none() {
    if !confines() {
        return;
    }
    let engine = load_with(stub(), "{}").await.unwrap();
    assert_eq!(engine.process(event(json!("nothing"))).await, Ok(None));
    assert_eq!(engine.process(event(json!("null"))).await, Ok(None));
}

#[tokio::test]
async fn an_error_frame_fails_its_event_alone() {
    if !confines() {
        return;
    }
    let engine = load_with(stub(), "{}").await.unwrap();
    let failed = EngineError::Failed("no luck".to_owned());
    let before = ask(&engine, json!("process")).await;
    assert_eq!(ask(&engine, json!("fail")).await, Err(failed));
    assert_eq!(ask(&engine, json!("process")).await, before);
}

#[tokio::test]
async fn nothing_counts_before_ready() {
    if !confines() {
        return;
    }
    for (first, kind) in [
        (json!({"type": "error", "message": "bad code"}), "load"),
        (json!({"type": "pong"}), "crashed"),
        (json!({"type": "result", "id": "1"}), "crashed"),
        (json!({"type": "process"}), "crashed"),
    ] {
        let orders = json!({"instead of ready": first}).to_string();
        let error = load_with(stub(), &orders).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{first}: {error}");
    }
}

#[tokio::test]
async fn one_that_answers_pings_is_kept_and_one_that_does_not_is_replaced() {
    if !confines() {
        return;
    }
    let settings = PythonSettings {
        ping_every: Duration::from_millis(50),
        ping_timeout: Duration::from_millis(500),
        ..stub()
    };
    let patient = PythonSettings {
        ping_timeout: Duration::from_secs(20),
        ..settings.clone()
    };
    let silent = load_with(settings, r#"{"silent": 1}"#).await.unwrap();
    let lively = load_with(patient, "{}").await.unwrap();
    let process = async |engine| ask(engine, json!("process")).await.unwrap();
    let (first_silent, first_lively) = (process(&silent).await, process(&lively).await);
    let begin = Instant::now();
    while std::path::Path::new(&format!("/proc/{first_silent}")).exists() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(process(&silent).await, first_silent);
    assert_eq!(process(&lively).await, first_lively);
}

#[tokio::test]
async fn the_end_is_asked_for_before_it_is_made() {
    if !confines() {
        return;
    }
    let obedient = load_with(stub(), "{}").await.unwrap();
    let stubborn = load_with(stub(), r#"{"stubborn": 1}"#).await.unwrap();
    let mut ends = Vec::new();
    for engine in [obedient, stubborn] {
        let process = ask(&engine, json!("process")).await.unwrap();
        let begin = Instant::now();
        engine.close().await;
        ends.push(begin.elapsed());
        assert!(!std::path::Path::new(&format!("/proc/{process}")).exists());
    }
    // The socket stays open meanwhile, so the quick end was the frame's doing.
    assert!(
        ends[0] < Duration::from_secs(2) && ends[1] >= Duration::from_secs(2),
        "{ends:?}"
    );
}
