//! What workers in Python do (H2.1, R7, H6.2): events, errors, time, ends, replacements. The escape corpus is apart.

#![expect(clippy::print_stdout, reason = "a figure")]

mod support;

use std::time::{Duration, Instant};

use outrigger_platform_engine::EngineError;
use outrigger_platform_engine_python::{Imports, PythonEngine, PythonSettings};
use serde_json::json;
use support::{DOUBLE, ask, bare, confines, event, load, load_with, settings};

#[tokio::test]
async fn an_event_becomes_an_answer() {
    if !confines() {
        return;
    }
    let engine = load(
        "def Process(event):\n    assert event['specversion'] == '1.0'\n    return {'type': event['type'] + '.seen', \
         'data': [event['id'], event['source'], event['datacontenttype'], event['data'], event['speed']], \
         'correlationid': event['id']}",
    )
    .await;
    let mut event = event(json!({"price": 3}));
    event.extensions.insert("speed".to_owned(), json!("fast"));
    let id = event.id.clone();
    let answer = engine.process(event).await.unwrap().unwrap();
    assert_eq!(answer.kind, "tick.seen");
    assert_eq!(answer.source, "worker");
    assert_eq!(
        answer.data,
        json!([id, "exchange", "application/json", {"price": 3}, "fast"])
    );
    assert_eq!(answer.extension("correlationid"), Some(id.as_str()));
    engine.close().await;
    assert_eq!(ask(&engine, json!(1)).await, Err(EngineError::Closed));
}

#[tokio::test]
async fn none_is_no_answer() {
    if !confines() {
        return;
    }
    let engine = load("def Process(event):\n    pass").await;
    assert_eq!(engine.process(event(json!(1))).await, Ok(None));
}

#[tokio::test]
async fn globals_live_from_event_to_event() {
    if !confines() {
        return;
    }
    let engine = load(
        "seen = []\ndef Process(event):\n    seen.append(event['data'])\n    return {'type': 'n', 'data': len(seen)}",
    )
    .await;
    for count in 1..=5 {
        assert_eq!(ask(&engine, json!(7)).await, Ok(json!(count)));
    }
}

#[tokio::test]
async fn code_that_cannot_be_loaded_says_where() {
    if !confines() {
        return;
    }
    for (code, words) in [
        (
            "x = 1\ndef Process(event)\n    return None",
            "(worker.py, line 2)",
        ),
        (
            "x = 1\ny = nothing\n",
            "NameError: name 'nothing' is not defined (worker.py, line 2",
        ),
        ("x = 1", "there is no function Process(event)"),
        ("import requests", "'requests' is blocked"),
        ("import numpy", "'numpy' is not among those allowed"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ] {
        let error = load_with(settings(), code).await.unwrap_err();
        assert_eq!(error.kind(), "load", "{code}: {error}");
        assert!(error.to_string().contains(words), "{code}: {error}");
    }
}

#[tokio::test]
async fn an_error_of_the_code_says_where_and_costs_nothing_else() {
    if !confines() {
        return;
    }
    let engine = load("def Process(event):\n    return {'type': 'a', 'data': 1 / event['data']}").await;
    let error = ask(&engine, json!(0)).await.unwrap_err();
    assert_eq!(
        error,
        EngineError::Failed("ZeroDivisionError: division by zero (worker.py, line 2, in Process)".to_owned())
    );
    assert_eq!(ask(&engine, json!(1)).await, Ok(json!(1.0)));
    for code in [
        "def Process(event):\n    return 7",
        "def Process(event):\n    return {'data': 7}",
        "def Process(event):\n    return {'type': 'a', 'data': float('nan')}",
        "def Process(event):\n    return {'type': 'a', 'data': object()}",
    ] {
        let engine = load(code).await;
        let error = ask(&engine, json!(0)).await.unwrap_err();
        assert_eq!(error.kind(), "failed", "{code}: {error}");
    }
}

#[tokio::test]
async fn events_run_beside_one_another() {
    if !confines() {
        return;
    }
    // Each waits until all four are there.
    let engine = load(
        "import threading\nall = threading.Barrier(4)\ndef Process(event):\n    all.wait()\n    return {'type': 'a', \
         'data': event['data']}",
    )
    .await;
    let answers = futures::future::join_all((0..8).map(|n| ask(&engine, json!(n)))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, Ok(json!(n)));
    }
}

#[tokio::test]
async fn the_standard_librarys_safe_part_is_there() {
    if !confines() {
        return;
    }
    let imports: String = Imports::SAFE
        .iter()
        .filter(|name| **name != "__future__")
        .fold(String::new(), |code, name| format!("{code}import {name}\n"));
    let code = format!(
        "{imports}from urllib import parse\nfrom collections.abc import Mapping\nfrom dataclasses import dataclass\n\
         @dataclass\nclass Point:\n    x: int\n\
         Pair = collections.namedtuple('Pair', 'a b')\n\
         def Process(event):\n\
         \x20   zone = zoneinfo.ZoneInfo('Europe/Berlin')\n\
         \x20   return {{'type': 'a', 'data': [Point(1).x, Pair(1, 2).b, statistics.mean([1, 3]),\n\
         \x20       str(decimal.Decimal('1.10')), hashlib.sha256(b'').hexdigest()[:4], uuid.uuid4().version,\n\
         \x20       str(datetime.datetime(2026, 7, 1, tzinfo=zone).utcoffset()), getattr(Point(2), 'x')]}}\n"
    );
    let engine = load(&code).await;
    let answer = ask(&engine, json!(0)).await;
    assert_eq!(answer, Ok(json!([1, 2, 2, "1.10", "e3b0", 4, "2:00:00", 2])));
}

#[tokio::test]
async fn the_lists_of_modules_can_be_set() {
    if !confines() {
        return;
    }
    let with = |imports| PythonSettings {
        imports,
        ..settings()
    };
    let error = load_with(with(Imports::from_lists("", Some("json"))), "import json")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("'json' is blocked"), "{error}");
    let code = "import ast\ndef Process(event):\n    return {'type': 'a', 'data': ast.literal_eval('[1]')}";
    assert!(load_with(settings(), code).await.is_err());
    let imports = Imports::from_lists("ast", None);
    let engine = load_with(with(imports), code).await.unwrap();
    assert_eq!(ask(&engine, json!(0)).await, Ok(json!([1])));
}

#[tokio::test]
async fn a_package_that_is_allowed_is_found() {
    if !confines() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("greetings.py"), "import os\nWORD = 'hello'\n").unwrap();
    // As the interpreter may run as another user.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let code = "import greetings\ndef Process(event):\n    return {'type': 'a', 'data': greetings.WORD}";
    let settings = PythonSettings {
        imports: Imports::from_lists("greetings", None),
        site_packages: vec![folder.path().to_owned()],
        ..settings()
    };
    let engine = load_with(settings, code).await.unwrap();
    assert_eq!(ask(&engine, json!(0)).await, Ok(json!("hello")));
}

#[tokio::test]
async fn a_package_with_native_parts_runs() {
    if !confines() {
        return;
    }
    let settings = PythonSettings {
        imports: Imports::from_lists("numpy", None),
        ..settings()
    };
    let code = "import numpy\nfrom numpy import linalg\ndef Process(event):\n    \
                a = numpy.array(event['data'], dtype=float)\n    \
                return {'type': 'a', 'data': [float(a.mean()), float(linalg.det(a)), float(a.std())]}";
    let engine = match load_with(settings, code).await {
        Err(EngineError::Load(why)) if why.contains("No module named 'numpy'") => {
            println!("skipped: {why}");
            return;
        }
        loaded => loaded.unwrap(),
    };
    let answer = ask(&engine, json!([[1, 2], [3, 5]])).await.unwrap();
    assert_eq!(answer[0], json!(2.75));
    assert!((answer[1].as_f64().unwrap() + 1.0).abs() < 1e-9, "{answer}");
}

#[tokio::test]
async fn an_event_that_takes_too_long_ends_the_process_and_spares_its_neighbour() {
    if !confines() {
        return;
    }
    let settings = PythonSettings {
        timeout: Duration::from_secs(2),
        ..settings()
    };
    let code = "import time\ndef Process(event):\n    time.sleep(event['data'])\n    return {'type': 'a', 'data': 'done'}";
    let engine = load_with(settings, code).await.unwrap();
    let slow = ask(&engine, json!(60));
    // Given later, under way when the other's time is up, and answered by the next process.
    let neighbour = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ask(&engine, json!(1.2)).await
    };
    let (slow, neighbour) = tokio::join!(slow, neighbour);
    assert_eq!(slow, Err(EngineError::Timeout(Duration::from_secs(2))));
    assert_eq!(neighbour, Ok(json!("done")));
}

#[tokio::test]
async fn a_process_that_ends_is_replaced() {
    if !confines() {
        return;
    }
    let code = "def Process(event):\n    import os, sys\n    if event['data'] == 'end':\n        \
                print('farewell', file=sys.stderr)\n        sys.stderr.flush()\n        os._exit(7)\n    \
                return {'type': 'a', 'data': event['data']}";
    let engine = load_with(bare(), code).await.unwrap();
    for _ in 0..2 {
        let error = ask(&engine, json!("end")).await.unwrap_err();
        assert_eq!(
            error,
            EngineError::Crashed("exit code 7; its last words: farewell".to_owned())
        );
        support::assert_serves(&engine).await;
    }
}

#[tokio::test]
async fn a_worker_that_always_ends_is_started_ever_less_often() {
    if !confines() {
        return;
    }
    let settings = PythonSettings {
        first_pause: Duration::from_millis(200),
        ..bare()
    };
    let engine = load_with(settings, "import os\ndef Process(event):\n    os._exit(1)")
        .await
        .unwrap();
    let begin = Instant::now();
    for _ in 0..4 {
        assert_eq!(ask(&engine, json!(0)).await.unwrap_err().kind(), "crashed");
    }
    // No pause before the second process, 200 ms before the third, 400 ms before the fourth.
    assert!(
        begin.elapsed() >= Duration::from_millis(600),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_silent_process_is_replaced() {
    if !confines() {
        return;
    }
    let settings = PythonSettings {
        ping_every: Duration::from_millis(100),
        ping_timeout: Duration::from_millis(200),
        ..bare()
    };
    // After its first answer a thread holds the interpreter's lock for ever: nobody answers pings.
    let code = "import os, threading, time, re\n\
                def hold():\n    time.sleep(0.05)\n    re.match('(a+)+b', 'a' * 60)\n\
                def Process(event):\n    if event['data'] == 'hold':\n        threading.Thread(target=hold).start()\n    \
                return {'type': 'a', 'data': os.getpid()}";
    let engine = load_with(settings, code).await.unwrap();
    let first = ask(&engine, json!("hold")).await.unwrap();
    let begin = Instant::now();
    while std::path::Path::new(&format!("/proc/{first}")).exists() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(ask(&engine, json!("who")).await.unwrap(), first);
}

#[tokio::test]
async fn answers_that_take_long_to_read_arrive() {
    if !confines() {
        return;
    }
    let code = "def Process(event):\n    return {'type': 'a', 'data': list(range(event['data']))}";
    let settings = PythonSettings {
        timeout: Duration::from_secs(60),
        ..settings()
    };
    let engine = load_with(settings, code).await.unwrap();
    let answers = futures::future::join_all((0..4).map(|_| ask(&engine, json!(300_000)))).await;
    for answer in answers {
        assert_eq!(answer.unwrap().as_array().unwrap().len(), 300_000);
    }
}

#[tokio::test]
async fn a_process_is_replaced_before_its_processor_time_is_up() {
    if !confines() {
        return;
    }
    let mut settings = PythonSettings {
        ping_every: Duration::from_millis(200),
        ..bare()
    };
    settings.limits.cpu = Duration::from_secs(2);
    let code = "import os, time\ndef Process(event):\n    \
                while time.process_time() < event['data']: pass\n    return {'type': 'a', 'data': os.getpid()}";
    let engine = load_with(settings, code).await.unwrap();
    let first = ask(&engine, json!(1.1)).await.unwrap();
    let begin = Instant::now();
    while std::path::Path::new(&format!("/proc/{first}")).exists() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(ask(&engine, json!(0)).await.unwrap(), first);
}

#[tokio::test]
async fn closing_waits_for_events_under_way() {
    if !confines() {
        return;
    }
    let code = "import time\ndef Process(event):\n    time.sleep(0.2)\n    return {'type': 'a', 'data': 1}";
    let engine = load(code).await;
    let under_way = tokio::spawn({
        let engine = engine.clone();
        async move { futures::future::join_all((0..6).map(|_| ask(&engine, json!(0)))).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    engine.close().await;
    for answer in under_way.await.unwrap() {
        assert_eq!(answer, Ok(json!(1)));
    }
    assert_eq!(ask(&engine, json!(0)).await, Err(EngineError::Closed));
}

#[tokio::test]
async fn a_call_that_was_given_up_harms_nobody() {
    if !confines() {
        return;
    }
    let engine = load(DOUBLE).await;
    for _ in 0..50 {
        drop(futures::poll!(Box::pin(ask(&engine, json!(1)))));
    }
    assert_eq!(ask(&engine, json!(4)).await, Ok(json!(8)));
}

#[tokio::test]
async fn a_missing_interpreter_is_named() {
    let mut settings = settings();
    settings.python = "python99".into();
    let error = load_with(settings.clone(), DOUBLE).await.unwrap_err();
    assert_eq!(error.kind(), "unavailable");
    assert!(error.to_string().contains("/usr/bin/python99"), "{error}");
    settings.python = "/nowhere/python3".into();
    let error = load_with(settings, DOUBLE).await.unwrap_err();
    assert!(
        error.to_string().contains("no Python at /nowhere/python3"),
        "{error}"
    );
}

#[tokio::test]
async fn health_says_confined() {
    if !confines() {
        return;
    }
    assert_eq!(PythonEngine::new(settings()).health_word().await, "confined");
}

#[tokio::test]
async fn an_event_takes_milliseconds() {
    if !confines() {
        return;
    }
    let begin = Instant::now();
    let engine = load(DOUBLE).await;
    let start = begin.elapsed();
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..300 {
        let begin = Instant::now();
        assert_eq!(ask(&engine, json!(n)).await, Ok(json!(n * 2)));
        times.push(begin.elapsed());
    }
    times.sort();
    println!(
        "start {start:?}, event p50 {:?}, p99 {:?}",
        times[150], times[297]
    );
    // A busy machine may take its time; what must not be is a process per event, or a poll.
    assert!(times[150] < Duration::from_millis(200));
}
