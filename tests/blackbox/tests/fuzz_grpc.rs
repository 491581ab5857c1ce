//! Bad calls of every method of the public gRPC API: each ends with a status in bounded time, and the sidecar goes on
//! as if nothing had been.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_wire::descriptor_pool;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, MethodDescriptor, Value};
use tokio::net::TcpStream;

use crate::support::{
    app::App,
    echo::framed,
    random::{Random, seed},
    sidecar::{Launch, sidecar_with_everything},
};

/// Calls of each method.
const ROUNDS: usize = 30;
/// Longest time to a status.
const WITHIN: Duration = Duration::from_secs(30);
/// A stream that goes on for so long has begun well.
const STREAM_WITHIN: Duration = Duration::from_millis(300);
const MEMORY: u64 = 400 << 10;

const TEXTS: &[&str] = &[
    "",
    "",
    "k",
    "memory",
    "sqlite",
    "events",
    "durable-events",
    "secrets",
    "configuration",
    "lock",
    "crypto",
    "files",
    "conversation",
    "fuzzed",
    "nosuch",
    "a||b",
    "../..",
    "\u{0}",
    "\u{202e}x",
    "99999999999999999999",
    "-1",
    "application/json",
    "upsert",
    "delete",
    "create",
    "get",
    "@every 1s",
    "@every -1s",
    "R/PT0S",
    "* * * * * *",
    "2999-01-01T00:00:00Z",
    "key",
    "A256KW",
    "RSA-OAEP-256",
    "aes-gcm",
    "strong",
    "traceparent",
    "ttlInSeconds",
    "rawPayload",
    "true",
    "fileName",
];

fn text(random: &mut Random) -> String {
    match random.below(30) {
        0 => "y".repeat(random.below(100_000)),
        1 => "%zz".repeat(random.below(100)),
        _ => random.pick(TEXTS).to_owned(),
    }
}

/// A message of the right type with anything in it.
fn message(random: &mut Random, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        if random.once_in(4) || depth > 5 {
            continue;
        }
        let value = if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                continue;
            };
            let (key, value) = (
                entry.map_entry_key_field().kind(),
                entry.map_entry_value_field().kind(),
            );
            let entries = (0..random.below(4)).filter_map(|_| {
                let key = match one(random, &key, depth) {
                    Value::String(text) => MapKey::String(text),
                    Value::I32(number) => MapKey::I32(number),
                    Value::I64(number) => MapKey::I64(number),
                    Value::U32(number) => MapKey::U32(number),
                    Value::U64(number) => MapKey::U64(number),
                    Value::Bool(bool) => MapKey::Bool(bool),
                    _ => return None,
                };
                Some((key, one(random, &value, depth)))
            });
            Value::Map(entries.collect())
        } else if field.is_list() {
            let count = if random.once_in(20) { 300 } else { random.below(4) };
            Value::List((0..count).map(|_| one(random, &field.kind(), depth)).collect())
        } else {
            one(random, &field.kind(), depth)
        };
        message.set_field(&field, value);
    }
    message
}

fn one(random: &mut Random, kind: &Kind, depth: usize) -> Value {
    let number = *random.pick(&[
        &0,
        &1,
        &-1,
        &7,
        &60,
        &i64::MAX,
        &i64::MIN,
        &i64::from(i32::MAX),
        &1_000_000,
    ]);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "any number will do"
    )]
    match kind {
        Kind::Double => Value::F64(*random.pick(&[&0.0, &1.5, &-1.0, &f64::NAN, &f64::INFINITY, &1e300])),
        Kind::Float => Value::F32(*random.pick(&[&0.0, &f32::NAN, &f32::MIN])),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number as u64),
        Kind::Bool => Value::Bool(random.once_in(2)),
        Kind::String => Value::String(text(random)),
        Kind::Bytes => {
            let most = if random.once_in(10) { 200_000 } else { 40 };
            let length = random.below(most);
            let json = random.pick(&["{\"a\":1}", "[", "null", "\"x\"", "1e999"]);
            Value::Bytes(
                if random.once_in(2) {
                    json.as_bytes().to_vec()
                } else {
                    random.bytes(length)
                }
                .into(),
            )
        }
        Kind::Message(descriptor) => Value::Message(message(random, descriptor, depth + 1)),
        Kind::Enum(_) => Value::EnumNumber(*random.pick(&[&0, &1, &2, &99, &-1])),
    }
}

/// A body; sometimes it holds one whole message.
fn body(random: &mut Random, method: &MethodDescriptor) -> Vec<u8> {
    let length = random.below(300);
    let mut good = framed(&message(random, &method.input(), 0).encode_to_vec()).to_vec();
    match random.below(14) {
        0 => Vec::new(),
        1 => random.bytes(length),
        2 => framed(&random.bytes(length)).to_vec(),
        3 => {
            good.truncate(random.below(good.len()));
            good
        }
        // Compressed, it says, but how?
        4 => {
            good[0] = *random.pick(&[&1, &2, &255]);
            good
        }
        5 => [&[0, 0xff, 0xff, 0xff, 0xff][..], &good].concat(),
        6 => {
            let at = random.below(good.len());
            good[at] ^= 1 << random.below(8);
            good
        }
        7 => [&good[..], &good].concat(),
        8 if random.once_in(6) => framed(&vec![0x0a; 5 << 20]).to_vec(),
        // A field of a message inside a message inside a message.
        9 => {
            let mut inner = Vec::new();
            for _ in 0..2000 {
                let mut outer = vec![0x0a];
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                outer.extend(inner);
                inner = outer;
            }
            framed(&inner).to_vec()
        }
        _ => good,
    }
}

async fn connect(port: u16) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

/// The status a call ended with; HTTP's for what is no call.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Grpc(i32),
    Http(u16),
    /// The stream was reset, as HTTP/2 has it for broken requests.
    Reset(String),
    /// Still open.
    Open,
}

async fn end(response: Result<Response<hyper::body::Incoming>, hyper::Error>) -> End {
    let response = match response {
        Ok(response) => response,
        Err(error) => return End::Reset(format!("{error:?}")),
    };
    if response.status() != 200 {
        return End::Http(response.status().as_u16());
    }
    let code = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    if let Some(code) = code(response.headers()) {
        return End::Grpc(code);
    }
    match response.into_body().collect().await {
        Ok(body) => body.trailers().and_then(code).map_or(End::Http(200), End::Grpc),
        Err(error) => End::Reset(format!("{error:?}")),
    }
}

fn call(random: &mut Random, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let kind = if random.once_in(20) {
        random.pick(&["application/grpc+json", "application/json", "", "text/plain"])
    } else {
        "application/grpc"
    };
    let mut request = Request::post(format!("http://localhost{path}"))
        .header("content-type", kind)
        .header("te", "trailers");
    let (name, value) = *random.pick(&[
        &("x-any", "thing"),
        &("x-any", "thing"),
        &("x-any", "thing"),
        &("grpc-timeout", "nonsense"),
        &("grpc-timeout", "99999999H"),
        &("grpc-timeout", "10S"),
        &("grpc-encoding", "gzip"),
        &("grpc-encoding", "nonsense"),
        &("grpc-accept-encoding", ",,,"),
        &("grpc-trace-bin", "!!!"),
        &("x-bad-bin", "%%%"),
        &("traceparent", "00-zz-zz-00"),
        &("dapr-app-id", ""),
        &("dapr-app-id", "../.."),
        &("dapr-api-token", "x"),
        &("dapr-stream", "maybe"),
    ]);
    // A call for another app would be the proxy's, not the method's.
    if name != "dapr-app-id" || !path.starts_with("/dapr.proto") {
        request = request.header(name, value);
    }
    request.body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn every_method_ends_bad_calls_with_a_status() {
    let app = App::echo().await;
    let files = tempfile::tempdir().unwrap();
    let mut sidecar = sidecar_with_everything(files.path(), app.port).await;
    let mut ends: BTreeMap<End, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let services = ["dapr.proto.runtime.v1.Dapr", "TaskHubSidecarService"];
    let methods = services.into_iter().flat_map(|service| {
        let service = descriptor_pool().get_service_by_name(service).unwrap();
        service.methods().collect::<Vec<_>>()
    });
    // It does what it is asked to, even by chance.
    for (number, method) in methods.filter(|method| method.name() != "Shutdown").enumerate() {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let streams = method.is_server_streaming() || method.is_client_streaming();
        let mut random = Random::new(seed(), 2000 + number as u64);
        let calls: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let body = body(&mut random, &method);
                let shown = body[..body.len().min(300)].escape_ascii().to_string();
                let request = call(&mut random, &path, body);
                let shown = format!("{path} {:?} {shown}", request.headers());
                (request, shown)
            })
            .collect();
        // Making them can take longer than a connection may idle.
        let sender = connect(sidecar.grpc).await;
        let mut batch = tokio::task::JoinSet::new();
        for (request, shown) in calls {
            let mut sender = sender.clone();
            batch.spawn(async move {
                let within = if streams { STREAM_WITHIN } else { WITHIN };
                let ended = tokio::time::timeout(within, async {
                    if let Err(error) = sender.ready().await {
                        return End::Reset(format!("not ready: {error:?}"));
                    }
                    end(sender.send_request(request).await).await
                });
                (ended.await.unwrap_or(End::Open), shown)
            });
        }
        while let Some(done) = batch.join_next().await {
            let (end, shown) = done.unwrap();
            let right = match &end {
                End::Grpc(code) => (0..=16).contains(code),
                // What upstream's server answers to content types that are not gRPC's.
                End::Http(status) => *status == 415,
                End::Open => streams,
                End::Reset(_) => false,
            };
            if !right {
                wrong.push(format!("{end:?}: {shown}"));
            }
            *ends.entry(end).or_default() += 1;
        }
        sidecar.assert_alive().await;
    }
    let (now, most) = sidecar.memory();
    eprintln!("seed {}: {ends:?}; memory {now} KiB, at most {most} KiB", seed());
    assert!(
        wrong.is_empty(),
        "seed {}: {} wrong\n{}",
        seed(),
        wrong.len(),
        wrong.join("\n")
    );
    assert!(most < MEMORY, "{most} KiB");
    assert!(ends.len() >= 8, "the calls do not reach far: {ends:?}");
}

#[tokio::test]
async fn unknown_methods_end_with_a_status() {
    let mut sidecar = Launch::new("unknown").start().await;
    let mut random = Random::new(seed(), 3000);
    for port in [sidecar.grpc, sidecar.internal] {
        let sender = connect(port).await;
        for path in [
            "/",
            "/a",
            "/a/b",
            "/a/b/c",
            "//",
            "/dapr.proto.runtime.v1.Dapr/",
            "/dapr.proto.runtime.v1.Dapr/NoSuch",
            "/dapr.proto.runtime.v1.Dapr/GetState/",
            "/DAPR.proto.runtime.v1.Dapr/GetState",
            "/%2F/%2F",
            "/a%00/b",
            "/grpc.reflection.v1.ServerReflection/NoSuch",
            "/TaskHubSidecarService/NoSuch",
            "/dapr.proto.internals.v1.ServiceInvocation/CallLocal",
            "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream",
            "/dapr.proto.internals.v1.ServiceInvocation/CallActor",
        ] {
            for _ in 0..8 {
                let length = random.below(200);
                let bytes = random.bytes(length);
                let body = if random.once_in(2) {
                    framed(&bytes).to_vec()
                } else {
                    bytes
                };
                let request = call(&mut random, path, body);
                let mut sender = sender.clone();
                let ended = async {
                    sender.ready().await.unwrap();
                    end(sender.send_request(request).await).await
                };
                let end = tokio::time::timeout(WITHIN, ended).await.unwrap_or(End::Open);
                let refused = matches!(end, End::Grpc(1..=16) | End::Http(415));
                assert!(refused, "{path}: {end:?}");
            }
        }
        sidecar.assert_alive().await;
    }
}
