use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use http::Request;
use outrigger_component::Properties;
use outrigger_middleware::{Body, Middleware};

use super::{OPA, Opa, OpaConfig, evaluation::Limits};
use crate::testing::{Seen, call, get, open, post};

async fn ask(rego: &str, more: &[(&str, &str)], request: Request<Body>) -> Seen {
    let mut pairs = vec![("rego", rego)];
    pairs.extend_from_slice(more);
    call(&open(OPA, &pairs).await.unwrap(), request).await
}

/// Status and whether the policy failed.
fn outcome(seen: &Seen) -> (u16, bool) {
    (
        seen.status,
        seen.headers
            .get("x-dapr-opa-error")
            .is_some_and(|value| value == "true"),
    )
}

#[tokio::test]
async fn truth_values_allow_and_refuse() {
    let seen = ask("package http\nallow = true", &[], get("/")).await;
    assert_eq!((outcome(&seen), seen.body.as_str()), ((200, false), "inner"));
    let seen = ask("package http\nallow = false", &[], get("/")).await;
    assert_eq!((outcome(&seen), seen.body.as_str()), ((403, false), "Forbidden"));
    assert!(seen.passed.is_none());
    let seen = ask(
        "package http\nallow = false",
        &[("defaultStatus", "500")],
        get("/"),
    )
    .await;
    assert_eq!(outcome(&seen), (500, false));
}

#[tokio::test]
async fn an_object_brings_status_and_headers() {
    let refused = r#"package http
        allow = {"allow": false, "status_code": 301, "additional_headers": {"location": "https://my.site/login", "Content-Type": "x/y"}}"#;
    let seen = ask(refused, &[], get("/")).await;
    assert_eq!(
        (outcome(&seen), seen.body.as_str()),
        ((301, false), "Moved Permanently")
    );
    assert_eq!(seen.headers["location"], "https://my.site/login");
    assert_eq!(seen.headers["content-type"], "text/plain; charset=utf-8");

    let allowed = r#"package http
        allow = {"allow": true, "additional_headers": {"X-User": "anna"}}"#;
    let mut request = get("/");
    request.headers_mut().insert("x-user", "forged".parse().unwrap());
    let seen = ask(allowed, &[], request).await;
    assert_eq!(seen.passed.unwrap().headers()["x-user"], "anna");

    let seen = ask(
        r#"package http
        allow = {"status_code": 999}"#,
        &[],
        get("/"),
    )
    .await;
    assert_eq!(
        (outcome(&seen), seen.body.as_str()),
        ((500, false), "Internal Server Error")
    );
    let seen = ask(
        r#"package http
        allow = {"additional_headers": {}}"#,
        &[],
        get("/"),
    )
    .await;
    assert_eq!(
        outcome(&seen),
        (403, false),
        "an object without a verdict refuses"
    );
}

#[tokio::test]
async fn no_verdict_is_a_refusal() {
    for rego in [
        "package http\nallow = 1",
        "package http\nallow = \"yes\"",
        "package http\nallow = [true]",
        "package http\nallow { input.request.method == \"NONE\" }",
        "package other\nallow = true",
        "package http\nallow = {\"allow\": \"true\"}",
        "package http\nallow = {\"allow\": true, \"additional_headers\": {\"a\": 1}}",
        "package http\nallow = {\"allow\": true, \"additional_headers\": {\"a\": \"b\\nc\"}}",
        "package http\nallow = {\"allow\": true, \"status_code\": \"200\"}",
    ] {
        let seen = ask(rego, &[("defaultStatus", "401")], get("/")).await;
        assert_eq!(
            (outcome(&seen), seen.body.as_str()),
            ((401, true), "Unauthorized"),
            "{rego}"
        );
        assert!(seen.passed.is_none());
    }
}

#[tokio::test]
async fn the_policy_sees_the_request() {
    let policy = r#"package http
        default allow = false
        allow {
            input.request.method == "POST"
            input.request.path == "/v1.0/invoke/a b/method/m"
            input.request.path_parts == ["v1.0", "invoke", "a b", "method", "m"]
            input.request.raw_query == "x=1&x=2&y"
            input.request.query == {"x": ["1", "2"], "y": [""]}
            input.request.headers == {"X-Jwt-Token": "one, two", "Content-Type": "text/x"}
            input.request.scheme == ""
            input.request.body == "hello"
        }"#;
    let request = || {
        let mut request = post("/v1.0/invoke/a%20b/method/m?x=1&x=2&y", "text/x", "hello");
        request
            .headers_mut()
            .append("x-jwt-token", "one".parse().unwrap());
        request
            .headers_mut()
            .append("x-jwt-token", "two".parse().unwrap());
        request.headers_mut().append("x-hidden", "h".parse().unwrap());
        request
    };
    let all = [
        ("includedHeaders", "x-jwt-token, Content-type,no header,absent"),
        ("readBody", "true"),
    ];
    let seen = ask(policy, &all, request()).await;
    assert_eq!(outcome(&seen), (200, false));
    assert_eq!(seen.passed.unwrap().body(), "hello", "the body goes on");
    let no_body = ask(
        "package http\nallow { input.request.body == \"\" }",
        &all[..1],
        request(),
    )
    .await;
    assert_eq!(outcome(&no_body), (200, false));
    assert_eq!(no_body.passed.unwrap().body(), "hello");
}

#[tokio::test]
async fn go_2026_5242_the_policy_judges_what_is_dispatched() {
    let policy = r#"package http
        default allow = false
        allow { startswith(input.request.path, "/v1.0/invoke/shop/method/public/") }"#;
    for (path, status) in [
        ("/v1.0/invoke/shop/method/public/x", 200),
        ("/v1.0/invoke/shop/method/public/../admin", 403),
        ("/v1.0/invoke/shop/method/public/%2e%2e/admin", 403),
        ("/v1.0/invoke/shop/method/public/..%2Fadmin", 403),
    ] {
        assert_eq!(ask(policy, &[], get(path)).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn tokens_can_be_read_and_rego_v1_is_understood() {
    // The example of the field's documentation.
    let policy = r#"package http
        default allow = true
        allow = {"status_code": 301, "additional_headers": {"location": "https://my.site/authorize"}} {
            not jwt.payload["my-claim"]
        }
        jwt = {"payload": payload} {
            auth_header := input.request.headers["Authorization"]
            [_, jwt] := split(auth_header, " ")
            [_, payload, _] := io.jwt.decode(jwt)
        }"#;
    let handler = open(OPA, &[("rego", policy), ("includedHeaders", "authorization")])
        .await
        .unwrap();
    // {"alg":"none"}.{"my-claim":"x"} and a payload without the claim.
    for (token, status) in [
        ("eyJhbGciOiJub25lIn0.eyJteS1jbGFpbSI6IngifQ.AA", 200),
        ("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.AA", 301),
        ("no.token", 301),
        ("%.%.%", 301),
    ] {
        let mut request = get("/");
        let value = format!("Bearer {token}");
        request
            .headers_mut()
            .insert("authorization", value.parse().unwrap());
        assert_eq!(call(&handler, request).await.status, status, "{token}");
    }
    assert_eq!(call(&handler, get("/")).await.status, 301);
    let seen = ask(
        "package http\nimport rego.v1\ndefault allow := false\nallow if input.request.method == \"GET\"",
        &[],
        get("/"),
    )
    .await;
    assert_eq!(outcome(&seen), (200, false));
}

#[tokio::test]
async fn a_policy_that_thinks_for_ever_is_stopped() {
    let endless = r#"package http
        allow {
            a := numbers.range(1, 3000)
            count([1 | some i, j, k; a[i] + a[j] + a[k] == 0]) == 0
        }"#;
    match open(OPA, &[("rego", endless)]).await {
        Err(error) => assert!(error.to_string().contains("cannot compile"), "{error}"),
        Ok(handler) => assert_eq!(outcome(&call(&handler, get("/")).await), (403, true)),
    }
}

#[tokio::test]
async fn wrong_metadata_is_said_at_the_start() {
    for (pairs, said) in [
        (vec![], "rego"),
        (vec![("rego", "no policy {")], "cannot compile the policy"),
        (
            vec![("rego", "package http"), ("defaultStatus", "99")],
            "expected in range",
        ),
        (
            vec![("rego", "package http"), ("defaultStatus", "x")],
            "defaultStatus",
        ),
    ] {
        let error = open(OPA, &pairs).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_policy_cannot_reach_outside() {
    let policy = r#"package http
        allow { http.send({"method": "get", "url": "http://127.0.0.1:1"}) }"#;
    let error = open(OPA, &[("rego", policy)]).await.unwrap_err();
    assert!(
        error.to_string().contains("could not find function http.send"),
        "{error}"
    );
}

/// Thinks for longer than anybody waits about a POST, and allows all else.
const SLOW: &str = r#"package http
    default allow = true
    allow = false {
        input.request.method == "POST"
        a := numbers.range(1, 3000)
        count([1 | some i, j, k; a[i] + a[j] + a[k] == 0]) == 0
    }"#;

async fn slow(limits: Limits) -> Arc<dyn Middleware> {
    let config = OpaConfig::parse(&Properties::from_pairs([("rego", SLOW)])).unwrap();
    Arc::new(Opa::within(config, limits).unwrap().open().await.unwrap())
}

fn waiting(thinking: u64) -> Limits {
    Limits {
        thinking: Duration::from_secs(thinking),
        // A loaded machine must not make a quick evaluation look slow.
        at_once: Duration::from_millis(100),
        ..Limits::default()
    }
}

/// One thread runs everything here: what keeps it keeps all.
#[tokio::test]
async fn a_slow_policy_does_not_delay_other_calls() {
    let handler = slow(Limits {
        at_once: Duration::from_millis(500),
        ..waiting(5)
    })
    .await;
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let handler = Arc::clone(&handler);
            tokio::spawn(async move { outcome(&call(&handler, post("/", "text/x", "")).await) })
        })
        .collect();
    tokio::task::yield_now().await;
    for _ in 0..100 {
        assert_eq!(outcome(&call(&handler, get("/")).await), (200, false));
    }
    assert!(slow.iter().all(|call| !call.is_finished()), "they still think");
    for call in slow {
        assert_eq!(
            call.await.unwrap(),
            (403, true),
            "a rule that was cut off leaves no default"
        );
    }
}

#[tokio::test]
async fn too_many_slow_evaluations_are_refused() {
    let handler = slow(Limits {
        places: 1,
        waiting: 1,
        patience: Duration::from_secs(60),
        ..waiting(3)
    })
    .await;
    let mut calls: futures::stream::FuturesUnordered<_> = (0..3)
        .map(|_| async { outcome(&call(&handler, post("/", "text/x", "")).await) })
        .collect();
    let mut seen = Vec::new();
    while let Some(outcome) = calls.next().await {
        seen.push(outcome);
    }
    // One does not wait: the place is taken, and so is the only one in the queue.
    assert_eq!(seen, [(503, true), (403, true), (403, true)]);
}

#[tokio::test]
async fn patience_ends() {
    let handler = slow(Limits {
        places: 1,
        patience: Duration::from_millis(20),
        ..waiting(2)
    })
    .await;
    let ask = async || outcome(&call(&handler, post("/", "text/x", "")).await);
    assert_eq!(tokio::join!(ask(), ask()), ((403, true), (503, true)));
}

#[tokio::test]
async fn a_large_body_is_read_aside() {
    let policy = "package http\nallow { endswith(input.request.body, \"end\") }";
    let body = format!("{}end", "x".repeat(1 << 20));
    let seen = ask(policy, &[("readBody", "true")], post("/", "text/x", &body)).await;
    assert_eq!(outcome(&seen), (200, false));
}
