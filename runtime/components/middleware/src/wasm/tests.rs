use std::{path::PathBuf, sync::Arc};

use axum::{Router, routing};
use outrigger_component::Error;
use outrigger_middleware::{Middleware, PeerAddress};

use super::WASM;
use crate::testing::{call, get, open, post, serve};

/// Imports of all functions, some memory with texts, and the two exports around these bodies.
fn guest(data: &str, request: &str, response: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "http_handler" "enable_features" (func $enable_features (param i32) (result i32)))
        (import "http_handler" "get_config" (func $get_config (param i32 i32) (result i32)))
        (import "http_handler" "log_enabled" (func $log_enabled (param i32) (result i32)))
        (import "http_handler" "log" (func $log (param i32 i32 i32)))
        (import "http_handler" "get_method" (func $get_method (param i32 i32) (result i32)))
        (import "http_handler" "set_method" (func $set_method (param i32 i32)))
        (import "http_handler" "get_uri" (func $get_uri (param i32 i32) (result i32)))
        (import "http_handler" "set_uri" (func $set_uri (param i32 i32)))
        (import "http_handler" "get_protocol_version" (func $get_protocol_version (param i32 i32) (result i32)))
        (import "http_handler" "get_source_addr" (func $get_source_addr (param i32 i32) (result i32)))
        (import "http_handler" "get_header_names" (func $get_header_names (param i32 i32 i32) (result i64)))
        (import "http_handler" "get_header_values" (func $get_header_values (param i32 i32 i32 i32 i32) (result i64)))
        (import "http_handler" "set_header_value" (func $set_header_value (param i32 i32 i32 i32 i32)))
        (import "http_handler" "add_header_value" (func $add_header_value (param i32 i32 i32 i32 i32)))
        (import "http_handler" "remove_header" (func $remove_header (param i32 i32 i32)))
        (import "http_handler" "read_body" (func $read_body (param i32 i32 i32) (result i64)))
        (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))
        (import "http_handler" "get_status_code" (func $get_status_code (result i32)))
        (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{data}")
        (global $calls (mut i32) (i32.const 0))
        (func (export "handle_request") (result i64) {request})
        (func (export "handle_response") (param $context i32) (param $error i32) {response}))"#
    );
    wat::parse_str(text).unwrap()
}

/// Goes on to the next handler, with 7 as the context.
const GO_ON: &str = "(i64.const 0x700000001)";

async fn handler(wasm: &[u8], more: &[(&str, &str)]) -> Result<Arc<dyn Middleware>, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), wasm).unwrap();
    let url = format!("file://{}", file.path().display());
    let mut pairs = vec![("url", url.as_str())];
    pairs.extend_from_slice(more);
    open(WASM, &pairs).await
}

#[tokio::test]
async fn a_guest_changes_the_request() {
    let wasm = guest(
        "PUT/v1.0/hi?x=1x-nameguestx-oldbody",
        &format!(
            "(call $set_method (i32.const 0) (i32.const 3))
             (call $set_uri (i32.const 3) (i32.const 12))
             (call $set_header_value (i32.const 0) (i32.const 15) (i32.const 6) (i32.const 21) (i32.const 5))
             (call $add_header_value (i32.const 0) (i32.const 15) (i32.const 6) (i32.const 21) (i32.const 5))
             (call $remove_header (i32.const 0) (i32.const 26) (i32.const 5))
             (call $write_body (i32.const 0) (i32.const 31) (i32.const 4))
             (call $write_body (i32.const 0) (i32.const 31) (i32.const 4))
             {GO_ON}"
        ),
        "",
    );
    let handler = handler(&wasm, &[]).await.unwrap();
    let mut request = post("/old", "text/plain", "a long old body");
    request.headers_mut().insert("x-old", "1".parse().unwrap());
    request
        .headers_mut()
        .insert("content-length", "15".parse().unwrap());
    let seen = call(&handler, request).await;
    assert_eq!((seen.status, seen.body.as_str()), (200, "inner"));
    let passed = seen.passed.unwrap();
    assert_eq!(
        (passed.method().as_str(), passed.uri().to_string().as_str()),
        ("PUT", "/v1.0/hi?x=1")
    );
    assert_eq!(
        passed.headers().get_all("x-name").iter().collect::<Vec<_>>(),
        ["guest", "guest"]
    );
    assert!(!passed.headers().contains_key("x-old"));
    assert_eq!(passed.body(), "bodybody");
    assert_eq!(passed.headers()["content-length"], "8");
}

#[tokio::test]
async fn a_guest_answers_itself_with_what_it_sees() {
    // Method, URI, version, source, config and the names and values of headers, one after the other.
    let wasm = guest(
        "x-seen",
        "(local $at i32)
         (local.set $at (i32.const 1024))
         (local.set $at (i32.add (local.get $at) (call $get_method (local.get $at) (i32.const 99))))
         (local.set $at (i32.add (local.get $at) (call $get_uri (local.get $at) (i32.const 99))))
         (local.set $at (i32.add (local.get $at) (call $get_protocol_version (local.get $at) (i32.const 99))))
         (local.set $at (i32.add (local.get $at) (call $get_source_addr (local.get $at) (i32.const 99))))
         (local.set $at (i32.add (local.get $at) (call $get_config (local.get $at) (i32.const 99))))
         (local.set $at (i32.add (local.get $at)
            (i32.wrap_i64 (call $get_header_names (i32.const 0) (local.get $at) (i32.const 99)))))
         (local.set $at (i32.add (local.get $at)
            (i32.wrap_i64 (call $get_header_values (i32.const 0) (i32.const 0) (i32.const 6) (local.get $at) (i32.const 99)))))
         (local.set $at (i32.add (local.get $at)
            (i32.wrap_i64 (call $read_body (i32.const 0) (local.get $at) (i32.const 99)))))
         (call $set_status_code (i32.const 418))
         (call $set_header_value (i32.const 1) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 6))
         (call $write_body (i32.const 1) (i32.const 1024) (i32.sub (local.get $at) (i32.const 1024)))
         (i64.const 0)",
        "unreachable",
    );
    let handler = handler(&wasm, &[("guestConfig", "{cfg}")]).await.unwrap();
    for _ in 0..2 {
        let mut request = post("/a?b", "t/p", "body");
        request.headers_mut().append("x-seen", "one".parse().unwrap());
        request.headers_mut().append("x-seen", "two".parse().unwrap());
        let peer = PeerAddress::Tcp("1.2.3.4:5".parse().unwrap());
        request.extensions_mut().insert(peer);
        let seen = call(&handler, request).await;
        assert_eq!(seen.status, 418);
        assert!(seen.passed.is_none());
        assert_eq!(seen.headers["x-seen"], "x-seen");
        assert_eq!(
            seen.body,
            "POST/a?bHTTP/1.11.2.3.4:5{cfg}content-type\0x-seen\0one\0two\0body"
        );
        assert_eq!(seen.headers["content-length"], seen.body.len().to_string());
    }
}

#[tokio::test]
async fn a_guest_changes_a_buffered_answer_and_no_other() {
    let change = "(if (i32.ne (local.get $context) (i32.const 7)) (then unreachable))
        (if (i32.ne (call $get_status_code) (i32.const 200)) (then unreachable))
        (call $set_status_code (i32.const 201))
        (call $remove_header (i32.const 1) (i32.const 0) (i32.const 7))
        (call $write_body (i32.const 1) (i32.const 1024)
            (i32.wrap_i64 (call $read_body (i32.const 1) (i32.const 1024) (i32.const 3))))";
    let buffered = guest(
        "x-inner",
        &format!("(drop (call $enable_features (i32.const 7))) {GO_ON}"),
        change,
    );
    let seen = call(&handler(&buffered, &[]).await.unwrap(), get("/")).await;
    assert_eq!((seen.status, seen.body.as_str()), (201, "inn"));
    assert!(!seen.headers.contains_key("x-inner"));

    let unbuffered = guest("x-inner", GO_ON, change);
    let mut request = get("/");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request
        .headers_mut()
        .insert("traceparent", parent.parse().unwrap());
    let seen = call(&handler(&unbuffered, &[]).await.unwrap(), request).await;
    assert_eq!(seen.status, 500);
    let said: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(said["errorCode"], "ERR_MIDDLEWARE");
    assert_eq!(said["handler"], "handler");
    assert_eq!(said["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert!(
        said["message"].as_str().unwrap().contains("buffer_response"),
        "{said}"
    );
}

#[tokio::test]
async fn a_body_that_was_read_is_kept_only_when_buffered() {
    for (features, left) in [(0, ""), (1, "body")] {
        let wasm = guest(
            "",
            &format!(
                "(drop (call $enable_features (i32.const {features})))
                 (drop (call $read_body (i32.const 0) (i32.const 0) (i32.const 2)))
                 {GO_ON}"
            ),
            "",
        );
        let seen = call(&handler(&wasm, &[]).await.unwrap(), post("/", "t/p", "body")).await;
        assert_eq!(seen.passed.unwrap().body(), left);
    }
}

#[tokio::test]
async fn a_guest_that_fails_costs_its_own_request_only() {
    for (request, said) in [
        ("unreachable", "unreachable"),
        ("(loop (br 0)) unreachable", "fuel"),
        ("(call $proc_exit (i32.const 3)) (i64.const 0)", "3"),
        (
            "(call $set_uri (i32.const 70000) (i32.const 9)) (i64.const 0)",
            "memory",
        ),
        (
            "(call $set_uri (i32.const 0) (i32.const -1)) (i64.const 0)",
            "memory",
        ),
        (
            "(call $set_status_code (i32.const 99999)) (i64.const 0)",
            "status",
        ),
        (
            "(call $set_uri (i32.const 0) (i32.const 4)) (i64.const 0)",
            "not a path",
        ),
        (
            "(call $set_header_value (i32.const 0) (i32.const 4) (i32.const 2) (i32.const 0) (i32.const 1)) (i64.const 0)",
            "header",
        ),
        (
            "(call $set_header_value (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)) (i64.const 0)",
            "trailers",
        ),
        (
            "(drop (call $read_body (i32.const 0) (i32.const 0) (i32.const 0))) (i64.const 0)",
            "buf_limit",
        ),
    ] {
        // Every second call goes well: by a fresh instance, since the first one failed.
        let wasm = guest("text\\0d\\0a", request, "");
        let handler = handler(&wasm, &[]).await.unwrap();
        for _ in 0..2 {
            let seen = call(&handler, get("/")).await;
            assert_eq!(seen.status, 500, "{request}");
            assert!(seen.body.contains(said), "{request}: {}", seen.body);
            assert!(seen.passed.is_none());
        }
    }
}

#[tokio::test]
async fn a_guest_cannot_take_all_memory() {
    let wasm = guest(
        "",
        "(if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (call $set_status_code (i32.const 204))))
         (i64.const 0)",
        "",
    );
    assert_eq!(
        call(&handler(&wasm, &[]).await.unwrap(), get("/")).await.status,
        204
    );
}

#[tokio::test]
async fn in_the_strict_sandbox_nothing_is_random() {
    // Answers with eight random bytes, as hexadecimal digits would need a loop: the sum of two calls must agree.
    let wasm = guest(
        "",
        "(drop (call $random_get (i32.const 1024) (i32.const 32)))
         (call $write_body (i32.const 1) (i32.const 1024) (i32.const 32))
         (i64.const 0)",
        "",
    );
    let ask = async |strict: &str| {
        let handler = handler(&wasm, &[("strictSandbox", strict)]).await.unwrap();
        call(&handler, get("/")).await.body
    };
    assert_eq!(ask("true").await, ask("true").await);
    assert_ne!(ask("false").await, ask("false").await);
}

#[tokio::test]
async fn instances_are_used_again_and_many_run_at_once() {
    let wasm = guest(
        "",
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (call $set_status_code (i32.add (i32.const 200) (global.get $calls)))
         (i64.const 0)",
        "",
    );
    let handler = handler(&wasm, &[]).await.unwrap();
    for expected in 201..210 {
        assert_eq!(call(&handler, get("/")).await.status, expected);
    }
    let all = futures::future::join_all((0..50).map(|_| call(&handler, get("/")))).await;
    assert!(all.iter().all(|seen| (201..270).contains(&seen.status)));
}

#[tokio::test]
async fn a_guest_can_come_by_http() {
    let wasm = guest("", GO_ON, "");
    let router = Router::new().route("/guest.wasm", routing::get(move || async move { wasm }));
    let base = serve(router).await;
    let url = format!("{base}/guest.wasm");
    let handler = open(WASM, &[("url", &url)]).await.unwrap();
    assert_eq!(call(&handler, get("/")).await.body, "inner");
    assert!(
        open(WASM, &[("url", &format!("{base}/absent.wasm"))])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_is_no_handler_is_refused_at_the_start() {
    let without = |text: &str| wat::parse_str(text).unwrap();
    for (wasm, said) in [
        (b"no wasm".to_vec(), "error compiling guest"),
        (without("(module)"), "doesn't export func[handle_request]"),
        (
            without("(module (func (export \"handle_request\")))"),
            "exports the wrong signature for func[handle_request]",
        ),
        (
            without(
                "(module (func (export \"handle_request\") (result i64) (i64.const 0)) (func (export \"handle_response\") (param i32 i32)))",
            ),
            "doesn't export memory",
        ),
        (
            without(
                "(module (import \"env\" \"absent\" (func)) (memory (export \"memory\") 1) (func (export \"handle_request\") (result i64) (i64.const 0)) (func (export \"handle_response\") (param i32 i32)))",
            ),
            "error instantiating guest",
        ),
    ] {
        let error = handler(&wasm, &[]).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    for (url, said) in [
        ("", "missing url"),
        ("nowhere", "invalid URL: nowhere"),
        ("oci://ghcr.io/x", "unsupported URL scheme: oci"),
        ("ldap://h/x", "unsupported URL scheme: ldap"),
        ("http:// ", "invalid URL"),
    ] {
        let error = open(WASM, &[("url", url)]).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let absent = PathBuf::from("absent.wasm");
    let error = open(WASM, &[("url", &format!("file://{}", absent.display()))])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("absent.wasm"), "{error}");
}
