//! The services of these tests, and an upstream that says back what it gets.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use outrigger_platform_transcoding::{Call, Messages, Transcoder, Upstream};
use prost_reflect::{DescriptorPool, DynamicMessage};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::ServiceExt as _;

const TEST: &str = r#"
syntax = "proto3";
package test;
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Color { COLOR_UNSPECIFIED = 0; RED = 1; BLUE = 2; }

// A thing inside
// another one.
message Inner {
  string name = 1;
  int32 size = 2;
  Inner next = 3;
}

message All {
  double a_double = 1;
  float a_float = 2;
  int32 an_int32 = 3;
  int64 an_int64 = 4;
  uint32 a_uint32 = 5;
  uint64 a_uint64 = 6;
  sint32 a_sint32 = 7;
  sint64 a_sint64 = 8;
  fixed32 a_fixed32 = 9;
  fixed64 a_fixed64 = 10;
  sfixed32 a_sfixed32 = 11;
  sfixed64 a_sfixed64 = 12;
  bool a_bool = 13;
  // What it is called.
  string a_string = 14;
  bytes some_bytes = 15;
  Color color = 16;
  Inner inner = 17;
  repeated int32 numbers = 18;
  repeated string words = 19;
  repeated Inner inners = 20;
  repeated Color colors = 21;
  map<string, int32> counts = 22;
  map<int32, Inner> by_number = 23;
  map<bool, string> by_bool = 24;
  oneof choice {
    string text = 25;
    int32 number = 26;
    Inner thing = 27;
  }
  optional int32 maybe = 28;
  google.protobuf.Timestamp at = 29;
  google.protobuf.Duration lasting = 30;
  google.protobuf.FieldMask mask = 31;
  google.protobuf.Struct object = 32;
  google.protobuf.Value any_json = 33;
  google.protobuf.ListValue list = 34;
  google.protobuf.StringValue maybe_text = 35;
  google.protobuf.Int64Value maybe_long = 36;
  google.protobuf.BoolValue maybe_bool = 37;
  google.protobuf.BytesValue maybe_bytes = 38;
  google.protobuf.Any any = 39;
  google.protobuf.Empty nothing = 40;
  google.protobuf.NullValue null = 41;
  repeated google.protobuf.Timestamp times = 42;
  string renamed = 43 [json_name = "otherName"];
}

message Key { string service = 1; string key = 2; bool include_value = 3; Inner inner = 4; }
message File { string id = 1; google.api.HttpBody content = 2; }

// Says back what it hears.
service Echo {
  // The whole message.
  // In two lines.
  rpc Whole(All) returns (All) { option (google.api.http) = {post: "/v1/all" body: "*"}; }
  rpc Query(All) returns (All) {
    option (google.api.http) = {
      get: "/v1/all"
      additional_bindings {get: "/v1/all/by-number/{an_int32}"}
      additional_bindings {get: "/v1/all/by-name/{inner.name=rooms/*}"}
      additional_bindings {get: "/v1/all/by-color/{color}"}
    };
  }
  rpc Put(All) returns (All) { option (google.api.http) = {put: "/v1/all/{a_string}" body: "*"}; }
  rpc Patch(All) returns (All) {
    option (google.api.http) = {patch: "/v1/all/{a_string}/inner" body: "inner" response_body: "inner"};
  }
  rpc PatchWords(All) returns (All) {
    option (google.api.http) = {patch: "/v1/all/{a_string}/words" body: "words" response_body: "words"};
  }
  rpc PatchNumber(All) returns (All) {
    option (google.api.http) = {patch: "/v1/all/{a_string}/number" body: "an_int64" response_body: "an_int64"};
  }
  rpc Get(Key) returns (Key) { option (google.api.http) = {get: "/v1/state/{service}/{key=**}"}; }
  rpc List(Key) returns (Key) { option (google.api.http) = {get: "/v1/state/{service}"}; }
  rpc Delete(Key) returns (Key) { option (google.api.http) = {delete: "/v1/state/{service}/{key=**}"}; }
  rpc Run(Key) returns (Key) { option (google.api.http) = {post: "/v1/state/{service}:run" body: "*"}; }
  rpc Look(Key) returns (Key) { option (google.api.http) = {custom {kind: "PROPFIND" path: "/v1/state/{service}"}}; }
  rpc Upload(File) returns (File) {
    option (google.api.http) = {post: "/v1/files/{id}" body: "content" response_body: "content"};
  }
  rpc Fail(Key) returns (Key) { option (google.api.http) = {get: "/v1/fail/{key}"}; }
  rpc Watch(Key) returns (stream Key) { option (google.api.http) = {get: "/v1/watch/{key}"}; }
  rpc Hidden(Key) returns (Key);
}

service Wrong {
  rpc In(stream Key) returns (Key) { option (google.api.http) = {post: "/v1/in" body: "*"}; }
  rpc Field(Key) returns (Key) { option (google.api.http) = {get: "/v1/{nothing}"}; }
  rpc Message(Key) returns (Key) { option (google.api.http) = {get: "/v1/{inner}"}; }
  rpc Body(Key) returns (Key) { option (google.api.http) = {post: "/v1/b" body: "nothing"}; }
  rpc Answer(Key) returns (Key) { option (google.api.http) = {get: "/v1/a" response_body: "nothing"}; }
  rpc Template(Key) returns (Key) { option (google.api.http) = {get: "v1/a"}; }
}
"#;

const HTTP_BODY: &str = r#"
syntax = "proto3";
package google.api;
import "google/protobuf/any.proto";
message HttpBody { string content_type = 1; bytes data = 2; repeated google.protobuf.Any extensions = 3; }
"#;

struct Texts;

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = match name {
            "test.proto" => TEST,
            "google/api/httpbody.proto" => HTTP_BODY,
            "google/api/annotations.proto" => {
                include_str!("../../../../wire/platform/proto/google/api/annotations.proto")
            }
            "google/api/http.proto" => include_str!("../../../../wire/platform/proto/google/api/http.proto"),
            _ => return Err(protox::Error::file_not_found(name)),
        };
        File::from_source(name, text)
    }
}

pub(crate) fn pool() -> DescriptorPool {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("test.proto").unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

/// Answers with the request's own bytes; `Fail` fails with the code that its key names, `Watch` answers thrice, and
/// fails after that where the key is `broken`. The metadata `x-say` comes back as `x-said`.
#[derive(Debug, Clone)]
pub(crate) struct Echo(pub(crate) DescriptorPool);

impl Echo {
    fn key(&self, message: &Bytes) -> String {
        let kind = self.0.get_message_by_name("test.Key").unwrap();
        let message = DynamicMessage::decode(kind, message.clone()).unwrap();
        let key = message.get_field_by_name("key").unwrap();
        key.as_str().unwrap().to_owned()
    }
}

fn said(metadata: &MetadataMap) -> MetadataMap {
    let mut answer = MetadataMap::new();
    if let Some(say) = metadata.get("x-say") {
        answer.insert("x-said", say.clone());
    }
    answer
}

impl Upstream for Echo {
    fn unary(&self, call: Call) -> BoxFuture<'_, Result<(MetadataMap, Bytes), Status>> {
        Box::pin(async move {
            if call.path.path() == "/test.Echo/Fail" {
                let code: i32 = self.key(&call.message).parse().unwrap();
                let details =
                    ErrorDetails::with_error_info("BECAUSE", "test", [("a".to_owned(), "b".to_owned())]);
                return Err(Status::with_error_details(Code::from(code), "it failed", details));
            }
            Ok((said(&call.metadata), call.message))
        })
    }

    fn server_streaming(&self, call: Call) -> BoxFuture<'_, Result<(MetadataMap, Messages), Status>> {
        Box::pin(async move {
            let key = self.key(&call.message);
            if key == "refused" {
                return Err(Status::permission_denied("not you"));
            }
            let mut items: Vec<_> = (0..3).map(|_| Ok(call.message.clone())).collect();
            if key == "broken" {
                items.push(Err(Status::data_loss("lost")));
                items.push(Ok(call.message.clone()));
            }
            Ok((said(&call.metadata), stream::iter(items).boxed()))
        })
    }
}

/// An answer, read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

/// Sends a request with JSON, or an empty body.
pub(crate) async fn send(method: &str, path: &str, body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    send_request(request.body(Body::from(body.to_owned())).unwrap()).await
}

pub(crate) async fn send_request(request: Request<Body>) -> Answer {
    let pool = pool();
    let router = Transcoder::new(&pool, &["test.Echo", "test.Missing"])
        .max_body(1 << 16)
        .router(Echo(pool));
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// Sends, and keeps of the answer what is neither empty nor a default.
pub(crate) async fn echo(method: &str, path: &str, body: &str) -> serde_json::Value {
    let answer = send(method, path, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let kind = if path.starts_with("/v1/all") {
        "test.All"
    } else {
        "test.Key"
    };
    let kind = pool().get_message_by_name(kind).unwrap();
    let message = outrigger_platform_transcoding::from_json(kind, &answer.body).unwrap();
    serde_json::to_value(&message).unwrap()
}

pub(crate) fn shared() -> Arc<dyn Upstream> {
    Arc::new(Echo(pool()))
}
