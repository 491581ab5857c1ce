//! Bad requests to every route of the public HTTP API: each gets an answer of Dapr's shape in bounded time, and the
//! sidecar goes on as if nothing had been.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::support::{
    app::App,
    client::{Answer, Raw, send_raw},
    random::{Random, seed},
    sidecar::{Launch, Sidecar},
};

/// Requests to each route.
const ROUNDS: usize = 40;
const AT_ONCE: usize = 16;
/// Longest time to an answer. Resolving an app that does not exist takes longest: a few tries of mDNS.
const WITHIN: Duration = Duration::from_secs(30);
/// What a sidecar under fuzz may hold at most, in KiB: sixteen requests of the largest body, several times over.
const MEMORY: u64 = 400 << 10;

/// Methods, path, and a body that would be right. Words in braces are replaced by good or bad values.
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/v1.0/state/{state}/{key}", ""),
    (
        "POST,PUT",
        "/v1.0/state/{state}",
        r#"[{"key":"k","value":{"a":1},"etag":"1","metadata":{"ttlInSeconds":"60"},"options":{"consistency":"strong","concurrency":"first-write"}}]"#,
    ),
    ("DELETE", "/v1.0/state/{state}/{key}", ""),
    (
        "POST,PUT",
        "/v1.0/state/{state}/bulk",
        r#"{"keys":["k","l"],"parallelism":2,"metadata":{"a":"b"}}"#,
    ),
    (
        "POST,PUT",
        "/v1.0/state/{state}/transaction",
        r#"{"operations":[{"operation":"upsert","request":{"key":"k","value":1,"etag":"1"}},{"operation":"delete","request":{"key":"l"}}],"metadata":{"a":"b"}}"#,
    ),
    (
        "POST,PUT",
        "/v1.0-alpha1/state/{state}/query",
        r#"{"filter":{"EQ":{"a":1}},"sort":[{"key":"a","order":"DESC"}],"page":{"limit":3,"token":"1"}}"#,
    ),
    ("POST,PUT", "/v1.0/publish/{pubsub}/{topic}", r#"{"orderId":1}"#),
    (
        "POST,PUT",
        "/v1.0/publish/{pubsub}/deep/{topic}",
        r#"{"specversion":"1.0","type":"t","source":"s","id":"i","data":{"a":1},"traceid":5}"#,
    ),
    (
        "POST,PUT",
        "/v1.0/publish/bulk/{pubsub}/{topic}",
        r#"[{"entryId":"1","event":{"a":1},"contentType":"application/json","metadata":{"a":"b"}},{"entryId":"2","event":"aGk=","contentType":"application/octet-stream"}]"#,
    ),
    (
        "POST,PUT",
        "/v1.0-alpha1/publish/bulk/{pubsub}/{topic}",
        r#"[{"entryId":"1","event":"x","contentType":"text/plain"}]"#,
    ),
    (
        "POST,PUT",
        "/v1.0/bindings/{binding}",
        r#"{"data":{"a":1},"metadata":{"fileName":"f"},"operation":"create"}"#,
    ),
    ("GET", "/v1.0/secrets/{secrets}/{key}", ""),
    ("GET", "/v1.0/secrets/{secrets}/bulk", ""),
    ("GET", "/v1.0/configuration/{configuration}", ""),
    ("GET", "/v1.0/configuration/{configuration}/subscribe", ""),
    ("GET", "/v1.0/configuration/{configuration}/{key}/unsubscribe", ""),
    ("GET", "/v1.0-alpha1/configuration/{configuration}", ""),
    ("GET", "/v1.0-alpha1/configuration/{configuration}/subscribe", ""),
    (
        "GET",
        "/v1.0-alpha1/configuration/{configuration}/{key}/unsubscribe",
        "",
    ),
    (
        "GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS",
        "/v1.0/invoke/{app}/method/{key}",
        r#"{"a":1}"#,
    ),
    (
        "POST,PUT",
        "/v1.0/actors/{key}/{key}/state",
        r#"[{"operation":"upsert","request":{"key":"k","value":1}}]"#,
    ),
    ("GET", "/v1.0/actors/{key}/{key}/state/{key}", ""),
    (
        "GET,POST,PUT,DELETE",
        "/v1.0/actors/{key}/{key}/method/{key}",
        "{}",
    ),
    (
        "POST,PUT,GET,DELETE",
        "/v1.0/actors/{key}/{key}/reminders/{key}",
        r#"{"dueTime":"1s","period":"R3/PT1S","ttl":"5s","data":1}"#,
    ),
    (
        "POST,PUT,DELETE",
        "/v1.0/actors/{key}/{key}/timers/{key}",
        r#"{"dueTime":"1s","period":"1s","callback":"c","data":1}"#,
    ),
    ("GET", "/v1.0/metadata", ""),
    ("PUT", "/v1.0/metadata/{key}", "value"),
    ("GET", "/v1.0/healthz", ""),
    ("GET", "/v1.0/healthz/outbound", ""),
    (
        "POST,GET,DELETE",
        "/v1.0/jobs/{key}",
        r#"{"schedule":"@every 1h","repeats":2,"dueTime":"10s","ttl":"1h","data":{"a":1},"failurePolicy":{"constant":{"interval":"1s","maxRetries":2}}}"#,
    ),
    (
        "POST,GET,DELETE",
        "/v1.0-alpha1/jobs/{key}",
        r#"{"schedule":"@daily","data":1}"#,
    ),
    ("GET", "/v1.0/workflows/dapr/{key}", ""),
    ("POST", "/v1.0/workflows/dapr/{key}/start", r#"{"a":1}"#),
    ("POST", "/v1.0/workflows/dapr/{key}/pause", ""),
    ("POST", "/v1.0/workflows/dapr/{key}/resume", ""),
    ("POST", "/v1.0/workflows/dapr/{key}/terminate", ""),
    ("POST", "/v1.0/workflows/dapr/{key}/purge", ""),
    ("POST", "/v1.0/workflows/dapr/{key}/raiseEvent/{key}", "1"),
    ("GET", "/v1.0-beta1/workflows/dapr/{key}", ""),
    ("POST", "/v1.0-beta1/workflows/dapr/{key}/start", "1"),
    (
        "POST",
        "/v1.0-alpha1/lock/{lock}",
        r#"{"resourceId":"r","lockOwner":"o","expiryInSeconds":10}"#,
    ),
    (
        "POST",
        "/v1.0-alpha1/unlock/{lock}",
        r#"{"resourceId":"r","lockOwner":"o"}"#,
    ),
    ("PUT", "/v1.0-alpha1/crypto/{crypto}/encrypt", "plain"),
    (
        "PUT",
        "/v1.0-alpha1/crypto/{crypto}/decrypt",
        "dapr.io/enc/v1\n{\"k\":\"key\",\"kw\":1,\"wfk\":\"AAAA\",\"cph\":1,\"np\":\"AAAAAAAAAA==\"}\nAAAA\nzzzz",
    ),
    (
        "POST",
        "/v1.0-alpha1/subtlecrypto/{crypto}/getkey",
        r#"{"name":"key","format":"PEM"}"#,
    ),
    (
        "POST",
        "/v1.0-alpha1/subtlecrypto/{crypto}/encrypt",
        r#"{"plaintext":"aGk=","algorithm":"A256GCM","keyName":"key"}"#,
    ),
    (
        "POST",
        "/v1.0-alpha1/conversation/{conversation}/converse",
        r#"{"inputs":[{"content":"hi","role":"user","scrubPII":true}],"temperature":0.5,"parameters":{}}"#,
    ),
    (
        "POST",
        "/v1.0-alpha2/conversation/{conversation}/converse",
        r#"{"inputs":[{"messages":[{"of_user":{"name":"n","content":[{"text":"hi"}]}}],"scrub_pii":false}],"temperature":1,"tools":[{"function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"tool_choice":"auto"}"#,
    ),
    ("GET,POST", "/v1.0/{key}/{key}", "x"),
    ("GET,POST", "/{key}", ""),
];

/// Good values of the words in braces, beside bad ones.
fn good<'a>(word: &str, random: &mut Random) -> &'a str {
    match word {
        "state" => random.pick(&["memory", "sqlite"]),
        "pubsub" => random.pick(&["events", "durable-events"]),
        "secrets" => "secrets",
        "configuration" => "configuration",
        "lock" => "lock",
        "crypto" => "crypto",
        "binding" => random.pick(&["files", "web"]),
        "conversation" => "conversation",
        "app" => "fuzzed",
        _ => random.pick(&["k", "topic", "method", "a-b_c"]),
    }
}

const BAD: &[&str] = &[
    "nosuch",
    "%",
    "%zz",
    "%2",
    "%00",
    "%ff%fe",
    "%2F..%2F..%2Fetc",
    "%2e%2e",
    "..",
    ".",
    "%20",
    "+",
    "a||b",
    "%7C%7C",
    "fuzzed||k",
    "*",
    "{}",
    "%7B%22a%22%7D",
    "%F0%9F%92%A9",
    "%0d%0aX-Injected:%201",
    "a%3Fb%23c",
    "-1",
    "0",
    "99999999999999999999",
    "true",
    "null",
    "%3Cscript%3E",
    "a.b.c",
    "dapr-internal",
    "bulk",
    "state",
    "transaction",
    "%5C",
    ";",
    "@",
    "a:b",
    "http:%2F%2F127.0.0.1:1",
    "%E2%80%AE",
    "a&b",
    "~",
    "'%20OR%201=1--",
];

const QUERIES: &[&str] = &[
    "",
    "",
    "",
    "metadata.ttlInSeconds=-1",
    "metadata.ttlInSeconds=99999999999999999999",
    "metadata.ttlInSeconds=x",
    "metadata.=x",
    "metadata",
    "consistency=bogus&concurrency=bogus",
    "metadata.rawPayload=maybe",
    "metadata.rawPayload=true",
    "metadata.a=%zz",
    "%zz=%zz",
    "metadata.partitionKey=%00",
    "key=a&key=b&key=%ff",
    "instanceID=%2e%2e",
    "instanceID=a%2Fb",
    "appid=other",
    "a=b;c=d",
    "&&&&",
    "=",
    "metadata.contentType=application/json",
    "metadata.keyPrefix=none",
    "metadata.bulkPublishDeliverAs=x",
    "metadata.maxResults=-5",
];

const HEADERS: &[&str] = &[
    "content-type: application/json",
    "content-type: application/cloudevents+json",
    "content-type: text/plain",
    "content-type: application/octet-stream",
    "content-type: ;;;",
    "content-type: application/json; charset=\"",
    "content-type: \u{e9}",
    "dapr-app-id: nosuch.app.too.many",
    "dapr-app-id: fuzzed",
    "dapr-app-id:",
    "dapr-app-id: http://127.0.0.1:1/x",
    "dapr-app-id: ../..",
    "traceparent: 00-00-00-00",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "traceparent: zz",
    "tracestate: ====",
    "baggage: a=b;c=%zz,,,",
    "if-match: \"\"",
    "if-match: *",
    "if-match: 99999999999999999999999",
    "accept: text/event-stream",
    "accept: nonsense",
    "grpc-timeout: 1x",
    "dapr-key-name: ../../key",
    "dapr-key-name: key",
    "dapr-key-wrap-algorithm: A256KW",
    "dapr-key-wrap-algorithm: ROT13",
    "dapr-data-encryption-cipher: rot13",
    "authorization: Basic ZGFwci1hcHAtaWQ6bm9zdWNo",
    "authorization: Basic !!!",
    "metadata.a: b",
    "dapr-force-shutdown: maybe",
    "origin: null",
    "access-control-request-method: BREW",
    "accept-encoding: gzip;q=x",
    "expect: nothing",
    "x-empty:",
    "cookie: a=b; c",
];

/// A request as bytes, and whether a server must answer it at all.
struct Bad {
    bytes: Vec<u8>,
    well_formed: bool,
}

/// One or two things are wrong at a time: with more, the first one hides the others.
fn request(random: &mut Random, (methods, path, body): (&str, &str, &str)) -> Bad {
    let mut faults = [false; 6];
    for _ in 0..=random.below(2) {
        // Half of all faults are in the body, where there is one.
        let at = if !body.is_empty() && random.once_in(2) {
            3
        } else {
            random.below(faults.len())
        };
        faults[at] = true;
    }
    let [
        bad_method,
        bad_path,
        bad_headers,
        wrong_body,
        bad_framing,
        bad_line,
    ] = faults;
    let methods: Vec<&str> = methods.split(',').collect();
    let mut method = random.pick(&methods);
    if bad_method {
        method = random.pick(&[
            "GET", "POST", "PUT", "DELETE", "PATCH", "BREW", "PROPFIND", "TRACE", "QUERY",
        ]);
    }
    let path = target(random, path, bad_path);
    let mut headers = String::new();
    if bad_headers {
        match random.below(24) {
            0 => headers += &format!("x-long: {}\r\n", "y".repeat(6 << 10)),
            1 => headers += &format!("x-longer: {}\r\n", "y".repeat(300 << 10)),
            2 => (0..150).for_each(|at| headers += &format!("x-{at}: z\r\n")),
            3 => headers += &format!("metadata.{}: z\r\n", "m".repeat(2000)),
            _ => {
                for _ in 0..=random.below(3) {
                    headers += random.pick(HEADERS);
                    headers += "\r\n";
                }
            }
        }
    }
    if !headers.contains("content-type") && !random.once_in(5) {
        headers += "content-type: application/json\r\n";
    }
    if path.contains("/crypto/") && !headers.contains("dapr-key") && !random.once_in(4) {
        headers += "dapr-key-name: key\r\ndapr-key-wrap-algorithm: A256KW\r\n";
    }
    let body = if wrong_body {
        bad_body(random, body)
    } else {
        body.as_bytes().to_vec()
    };
    let mut well_formed = true;
    let mut framed = Vec::new();
    match if bad_framing { random.below(5) } else { 5 } {
        0 | 1 => {
            for chunk in body.chunks(random.below(4000) + 1) {
                framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                framed.extend_from_slice(chunk);
                framed.extend_from_slice(b"\r\n");
            }
            framed.extend_from_slice(b"0\r\n\r\n");
            headers += "transfer-encoding: chunked\r\n";
        }
        2 => {
            well_formed = false;
            framed.extend_from_slice(b"zz\r\nnot a chunk\r\n");
            headers += "transfer-encoding: chunked\r\n";
        }
        3 => {
            // Both lengths at once: a smuggler's request.
            well_formed = false;
            framed.extend_from_slice(b"0\r\n\r\n");
            headers += "content-length: 5\r\ntransfer-encoding: chunked\r\n";
        }
        4 => {
            well_formed = false;
            headers += random.pick(&[
                "content-length: -1\r\n",
                "content-length: x\r\n",
                "content-length: 1\r\ncontent-length: 2\r\n",
            ]);
            framed = body;
        }
        _ => {
            headers += &format!("content-length: {}\r\n", body.len());
            framed = body;
        }
    }
    let version = if random.once_in(50) {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
    let mut bytes =
        format!("{method} {path} {version}\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
            .into_bytes();
    bytes.extend_from_slice(&framed);
    if bad_line {
        well_formed = false;
        let at = random.below(bytes.len().min(200));
        bytes[at] ^= 1 << random.below(8);
    }
    Bad { bytes, well_formed }
}

/// The path with its words replaced. It never becomes that of the call that ends the sidecar.
fn target(random: &mut Random, path: &str, bad: bool) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').unwrap();
        out += before;
        match if bad { random.below(10) } else { 0 } {
            0..3 => out += good(word, random),
            3 => out += &random.pick(&["k", "%20", "a/"]).repeat(random.below(700)),
            _ => out += random.pick(BAD),
        }
        rest = after;
    }
    out += rest;
    match if bad { random.below(15) } else { 15 } {
        0 => out = out.replace('/', "//"),
        1 => out += "/",
        2 => out += "/..",
        3 => out = out.replace("/v1.0", "/v1.0/../v1.0"),
        4 => {
            out = out.replacen(
                "v1.0",
                random.pick(&["v2.0", "V1.0", "v1.0-alpha9", "%76%31.0", ""]),
                1,
            )
        }
        _ => {}
    }
    let query = if bad || random.once_in(4) {
        random.pick(QUERIES)
    } else {
        ""
    };
    if !query.is_empty() {
        out = format!("{out}?{query}");
    }
    out
}

fn bad_body(random: &mut Random, body: &str) -> Vec<u8> {
    let mut bytes = body.as_bytes().to_vec();
    match random.below(16) {
        0 => Vec::new(),
        1 => {
            bytes.truncate(random.below(bytes.len() + 1));
            bytes
        }
        2 => {
            for _ in 0..=random.below(4) {
                if !bytes.is_empty() {
                    let at = random.below(bytes.len());
                    bytes[at] = random.next().to_le_bytes()[0];
                }
            }
            bytes
        }
        3 => {
            let length = random.below(2000);
            random.bytes(length)
        }
        4 => {
            let depth = random.pick(&[&100, &5_000, &200_000]);
            random
                .pick(&["[", "{\"a\":", "[{\"key\":"])
                .repeat(*depth)
                .into_bytes()
        }
        5 => format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000)).into_bytes(),
        6 => [b"\xef\xbb\xbf", &bytes[..]].concat(),
        7 => [&bytes[..], b" trailing"].concat(),
        8 => random
            .pick(&[
                "null",
                "[]",
                "{}",
                "0",
                "\"\"",
                "true",
                "[null]",
                "[[]]",
                "{\"\":null}",
                " \n\t ",
            ])
            .into(),
        9 if random.once_in(4) => vec![b'x'; 5 << 20],
        9 => format!("[{}]", "{},".repeat(5000)).into_bytes(),
        _ => match serde_json::from_str(body) {
            Ok(mut value) => {
                for _ in 0..=random.below(3) {
                    twist(random, &mut value);
                }
                let mut text = value.to_string();
                if random.once_in(3) {
                    text = text
                        .replace("\"HUGE\"", "1e999")
                        .replace("\"LONG\"", &"9".repeat(400));
                }
                text.into_bytes()
            }
            Err(_) => bytes,
        },
    }
}

/// Replaces one part of a value by something of the wrong kind.
fn twist(random: &mut Random, value: &mut Value) {
    let inside = !random.once_in(4);
    match value {
        Value::Array(items) if inside && !items.is_empty() => {
            let at = random.below(items.len());
            twist(random, &mut items[at]);
        }
        Value::Object(fields) if inside && !fields.is_empty() => {
            let at = random.below(fields.len());
            let name = fields.keys().nth(at).unwrap().clone();
            if random.once_in(5) {
                let field = fields.remove(&name).unwrap();
                fields.insert(name.to_uppercase(), field);
            } else {
                twist(random, fields.get_mut(&name).unwrap());
            }
        }
        _ => {
            *value = match random.below(14) {
                0 => Value::Null,
                1 => json!(true),
                2 => json!(-1),
                3 => json!(u64::MAX),
                4 => json!(1.5),
                5 => json!(""),
                6 => json!("HUGE"),
                7 => json!("LONG"),
                8 => json!("x".repeat(random.below(70_000))),
                9 => json!([]),
                10 => json!({}),
                11 => json!([null, [null]]),
                12 => json!("\u{0}\u{202e}"),
                _ => json!({"": {"": ""}}),
            }
        }
    }
}

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

/// A sidecar with a component of every kind, its files in this folder.
pub(crate) async fn sidecar_with_everything(files: &Path, app: u16) -> Sidecar {
    std::fs::write(files.join("secrets.json"), r#"{"k":"v","nested":{"a":"b"}}"#).unwrap();
    std::fs::create_dir(files.join("keys")).unwrap();
    std::fs::create_dir(files.join("files")).unwrap();
    std::fs::write(files.join("keys/key"), [7; 32]).unwrap();
    let path = |name: &str| files.join(name).to_str().unwrap().to_owned();
    Launch::new("fuzzed")
        .folder(files)
        .env("OUTRIGGER_REGISTRY_DIR", &path("registry"))
        .component("memory", "state.in-memory", &[])
        .component(
            "sqlite",
            "state.sqlite",
            &[("connectionString", &path("state.db")), ("synchronous", "OFF")],
        )
        .component("events", "pubsub.in-memory", &[])
        .component(
            "durable-events",
            "pubsub.sqlite",
            &[("connectionString", &path("pubsub.db")), ("synchronous", "OFF")],
        )
        .component(
            "secrets",
            "secretstores.local.file",
            &[("secretsFile", &path("secrets.json"))],
        )
        .component(
            "configuration",
            "configuration.sqlite",
            &[("connectionString", &path("configuration.db"))],
        )
        .component("lock", "lock.sqlite", &[("connectionString", &path("lock.db"))])
        .component("crypto", "crypto.dapr.localstorage", &[("path", &path("keys"))])
        .component("files", "bindings.localstorage", &[("rootPath", &path("files"))])
        .component("web", "bindings.http", &[("url", "http://127.0.0.1:1")])
        .component("conversation", "conversation.echo", &[])
        .component("shout", "middleware.http.uppercase", &[])
        .start_with_app(app)
        .await
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
