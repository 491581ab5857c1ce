//! Requests that are almost right: the routes of the public HTTP API (wire.md §2) with one or two faults each.

use serde_json::{Value, json};

use crate::support::random::Random;

/// Methods, path, and a body that would be right. Words in braces are replaced by good or bad values.
pub(crate) const ROUTES: &[(&str, &str, &str)] = &[
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
pub(crate) struct Bad {
    pub(crate) bytes: Vec<u8>,
    pub(crate) well_formed: bool,
}

/// One or two things are wrong at a time: with more, the first one hides the others.
pub(crate) fn request(random: &mut Random, (methods, path, body): (&str, &str, &str)) -> Bad {
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
