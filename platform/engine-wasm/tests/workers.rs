//! What workers in WebAssembly do (H2.3): answers, separation, limits, ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outrigger_kit::Event;
use outrigger_platform_engine::{Engine, EngineError, EngineFactory as _, WorkerContext};
use outrigger_platform_engine_wasm::{WasmEngine, WasmSettings};
use serde_json::{Value, json};

fn settings() -> WasmSettings {
    WasmSettings {
        timeout: Duration::from_secs(20),
        ..WasmSettings::default()
    }
}

/// A module with room for one event, and this body of `process`. The global `$n` is its own.
fn module(rest: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "(module (memory (export \"memory\") 2) (global $n (mut i32) (i32.const 0)) {rest}
           (func (export \"alloc\") (param $len i32) (result i32) (i32.const 65536))
           (func $process (export \"process\") (param $ptr i32) (param $len i32) (result i64) {body}))"
    );
    wat::parse_str(text).unwrap()
}

/// Answers an event whose data is how many events it has seen.
fn counter() -> Vec<u8> {
    module(
        "(data (i32.const 16) \"{\\22type\\22:\\22seen\\22,\\22data\\22:0}\")",
        "(global.set $n (i32.add (global.get $n) (i32.const 1)))
         (i32.store8 (i32.const 38) (i32.add (i32.const 48) (global.get $n)))
         (i64.or (i64.shl (i64.const 16) (i64.const 32)) (i64.const 24))",
    )
}

const FOR_EVER: &str = "(loop $again (br $again)) (i64.const 0)";

async fn load_with(settings: WasmSettings, wasm: Vec<u8>) -> Result<Arc<dyn Engine>, EngineError> {
    load(&WasmEngine::new(settings), wasm).await
}

async fn load(engine: &WasmEngine, wasm: Vec<u8>) -> Result<Arc<dyn Engine>, EngineError> {
    let context = WorkerContext {
        id: "w1".to_owned(),
        group: None,
        topic: "ticks".to_owned(),
    };
    engine.load(context, Bytes::from(wasm)).await
}

async fn ask(engine: &Arc<dyn Engine>, data: Value) -> Result<Option<Event<Value>>, EngineError> {
    engine.process(Event::new("tick", "exchange", data)).await
}

#[tokio::test]
async fn an_event_goes_in_and_an_answer_comes_out() {
    // The event itself is the answer.
    let echo = module(
        "",
        "(i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len)))",
    );
    let engine = load_with(settings(), echo).await.unwrap();
    let event = Event::new("tick", "exchange", json!({"price": [1, 2, 3]}));
    assert_eq!(engine.process(event.clone()).await, Ok(Some(event)));
}

#[tokio::test]
async fn nought_is_no_answer() {
    let engine = load_with(settings(), module("", "(i64.const 0)")).await.unwrap();
    assert_eq!(ask(&engine, json!(1)).await, Ok(None));
}

#[tokio::test]
async fn two_workers_with_the_same_globals_stay_apart() {
    let factory = WasmEngine::new(settings());
    let one = load(&factory, counter()).await.unwrap();
    let two = load(&factory, counter()).await.unwrap();
    for expected in 1..=3 {
        assert_eq!(ask(&one, json!(0)).await.unwrap().unwrap().data, json!(expected));
    }
    let answer = ask(&two, json!(0)).await.unwrap().unwrap();
    assert_eq!((answer.kind.as_str(), answer.source.as_str()), ("seen", "w1"));
    assert_eq!(answer.data, json!(1));
    assert_eq!(ask(&one, json!(0)).await.unwrap().unwrap().data, json!(4));
}

#[tokio::test]
async fn what_is_no_worker_is_refused_with_the_reason() {
    let rest = "(func (export \"alloc\") (param i32) (result i32) (i32.const 0))";
    for (text, words) in [
        (
            "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)))".to_owned(),
            "it imports wasi_snapshot_preview1.fd_write",
        ),
        ("(module)".to_owned(), "no memory named memory"),
        (
            "(module (memory (export \"memory\") 1))".to_owned(),
            "no function alloc",
        ),
        (
            format!("(module (memory (export \"memory\") 1) {rest})"),
            "no function process",
        ),
        (
            format!("(module (memory (export \"memory\") 1) {rest} (func (export \"process\")))"),
            "its process is no function of [I32, I32] to [I64]",
        ),
        (
            format!(
                "(module (memory (export \"memory\") 4000) {rest} (func (export \"process\") (param i32 i32) (result i64) (i64.const 0)))"
            ),
            "memory",
        ),
        (
            format!(
                "(module (memory (export \"memory\") 1) {rest} (func (export \"process\") (param i32 i32) (result i64) (i64.const 0)) (func $start (loop (br 0))) (start $start))"
            ),
            "fuel",
        ),
    ] {
        let brief = WasmSettings {
            fuel: 100_000,
            ..settings()
        };
        let error = load_with(brief, wat::parse_str(&text).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), "load", "{text}: {error}");
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
    let error = load_with(settings(), b"no module".to_vec()).await.unwrap_err();
    assert_eq!(error.kind(), "load", "{error}");
    let small = WasmSettings {
        module_limit: 64,
        ..settings()
    };
    let error = load_with(small, counter()).await.unwrap_err();
    assert!(error.to_string().contains("64 are allowed"), "{error}");
}

#[tokio::test]
async fn a_trap_fails_the_event_and_the_next_instance_begins_anew() {
    let wasm = module(
        "(data (i32.const 16) \"{\\22type\\22:\\22seen\\22,\\22data\\22:0}\")",
        "(global.set $n (i32.add (global.get $n) (i32.const 1)))
         (if (i32.eq (global.get $n) (i32.const 2)) (then unreachable))
         (i32.store8 (i32.const 38) (i32.add (i32.const 48) (global.get $n)))
         (i64.or (i64.shl (i64.const 16) (i64.const 32)) (i64.const 24))",
    );
    let engine = load_with(settings(), wasm).await.unwrap();
    assert_eq!(ask(&engine, json!(0)).await.unwrap().unwrap().data, json!(1));
    let error = ask(&engine, json!(0)).await.unwrap_err();
    assert_eq!(error.kind(), "failed");
    assert!(error.to_string().contains("a trap"), "{error}");
    assert_eq!(ask(&engine, json!(0)).await.unwrap().unwrap().data, json!(1));
}

#[tokio::test]
async fn nonsense_is_the_codes_fault() {
    for (body, words) in [
        ("(i64.const -1)", "are allowed"),
        ("(i64.const 0x7fffffff00000010)", "outside of its memory"),
        ("(i64.const 0x0000001000000004)", "no JSON"),
        (
            "(i64.store8 (i32.const 16) (i64.const 51)) (i64.const 0x0000001000000001)",
            "no event",
        ),
        (
            "(drop (memory.grow (i32.const -1))) (i64.load (i32.const -8))",
            "a trap",
        ),
        ("(call $process (local.get 0) (local.get 1))", "a trap"),
    ] {
        let engine = load_with(settings(), module("", body)).await.unwrap();
        let error = ask(&engine, json!(0)).await.unwrap_err();
        assert_eq!(error.kind(), "failed", "{body}: {error}");
        assert!(error.to_string().contains(words), "{body}: {error}");
    }
}

#[tokio::test]
async fn memory_beyond_the_limit_is_not_given() {
    // Grows page by page until it is refused, and answers if that came in time.
    let wasm = module(
        "",
        "(loop $more
           (if (i32.gt_u (memory.size) (i32.const 64)) (then unreachable))
           (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0))))
         (i64.const 0)",
    );
    let small = WasmSettings {
        memory: 64 * 65536,
        ..settings()
    };
    let engine = load_with(small, wasm).await.unwrap();
    assert_eq!(ask(&engine, json!(0)).await, Ok(None));
}

#[tokio::test]
async fn a_loop_ends_with_its_time_and_blocks_nobody() {
    let timeout = Duration::from_secs(2);
    let factory = WasmEngine::new(WasmSettings {
        timeout,
        ..settings()
    });
    let hostile = load(&factory, module("", FOR_EVER)).await.unwrap();
    let calm = load(&factory, counter()).await.unwrap();
    let hostile = tokio::spawn(async move { ask(&hostile, json!(0)).await });
    // On the one thread of this executor, beside the loop.
    let mut served = 0;
    while !hostile.is_finished() {
        // It counts with one digit.
        assert!(served >= 9 || ask(&calm, json!(0)).await.is_ok_and(|answer| answer.is_some()));
        served += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(served > 3, "the loop kept the executor: {served}");
    assert_eq!(hostile.await.unwrap(), Err(EngineError::Timeout(timeout)));
}

#[tokio::test]
async fn instructions_are_counted() {
    let settings = WasmSettings {
        fuel: 50_000,
        ..settings()
    };
    let engine = load_with(settings, module("", FOR_EVER)).await.unwrap();
    let error = ask(&engine, json!(0)).await.unwrap_err();
    assert!(error.to_string().contains("50000 instructions"), "{error}");
}

#[tokio::test]
async fn a_call_that_was_given_up_gives_its_thread_back() {
    let factory = WasmEngine::new(WasmSettings {
        threads: 1,
        ..settings()
    });
    let hostile = load(&factory, module("", FOR_EVER)).await.unwrap();
    let calm = load(&factory, counter()).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(100), ask(&hostile, json!(0))).await;
    assert!(given_up.is_err());
    let answer = tokio::time::timeout(Duration::from_secs(10), ask(&calm, json!(0))).await;
    assert_eq!(answer.unwrap().unwrap().unwrap().data, json!(1));
}

#[tokio::test]
async fn closing_waits_for_events_under_way() {
    let engine = load_with(settings(), counter()).await.unwrap();
    let events = (0..4).map(|_| ask(&engine, json!(0)));
    let (answers, ()) = tokio::join!(futures::future::join_all(events), engine.close());
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(ask(&engine, json!(0)).await, Err(EngineError::Closed));
}
