//! Services known only by what they tell of themselves (G1, G2).

use outrigger_platform_wire::virtufin::{
    Empty, GetMethodSchemaRequest, InvokeRequest, ListMethodsRequest, MethodInfo,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::backend::{Backend, Speaks};
use crate::harness::{Gateway, until};

/// Every kind of field.
pub(crate) fn everything() -> Value {
    json!({
        "aDouble": 1.5, "aFloat": -2.25, "anInt32": -3, "anInt64": "-9223372036854775808", "aUint32": 5,
        "aUint64": "18446744073709551615", "aSint32": -7, "aSint64": "-8", "aFixed32": 9, "aFixed64": "10",
        "aSfixed32": -11, "aSfixed64": "-12", "aBool": true, "aString": "ü\n\"", "someBytes": "AAH/", "color": "RED",
        "inner": {"name": "i", "next": {"name": "j"}}, "numbers": [1, 2], "inners": [{"name": "x"}, {"name": ""}],
        "named": {"k": {"name": "v"}}, "thing": {"name": "chosen"}, "maybe": 0, "at": "2026-11-22T03:04:05.678Z",
        "lasting": "1.500s", "object": {"a": [1.0, null, {"b": true}]}, "maybeLong": "7",
    })
}

#[tokio::test]
async fn services_and_methods_are_listed_without_stubs() {
    for speaks in [Speaks::V1, Speaks::V1Alpha] {
        let backend = Backend::start_as(speaks, "", 0).await;
        let gateway = Gateway::start(json!([backend.entry("shop"), {"name": "other"}]), &[]).await;
        let services = gateway
            .gateway()
            .list_services(Empty {})
            .await
            .unwrap()
            .into_inner()
            .services;
        assert_eq!(services, ["shop", "other"]);
        let request = ListMethodsRequest {
            service: "shop".to_owned(),
        };
        let methods = gateway
            .gateway()
            .list_methods(request)
            .await
            .unwrap()
            .into_inner()
            .methods;
        let names: Vec<&str> = methods.iter().map(|method| method.name.as_str()).collect();
        assert_eq!(names, ["Echo", "Sum", "Fail", "Watch", "Chat", "Wait"]);
        assert_eq!(
            methods[3],
            MethodInfo {
                name: "Watch".to_owned(),
                full_name: "shop.v1.Shop.Watch".to_owned(),
                input_type: "shop.v1.Total".to_owned(),
                output_type: "shop.v1.Total".to_owned(),
                is_client_streaming: false,
                is_server_streaming: true,
            }
        );
    }
}

#[tokio::test]
async fn a_schema_tells_every_field() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(json!([backend.entry("shop")]), &[]).await;
    let ask = async |method: &str, side: &str| {
        let request = GetMethodSchemaRequest {
            service: "shop".to_owned(),
            method: method.to_owned(),
            schema_type: side.to_owned(),
        };
        let answer = gateway.gateway().get_method_schema(request).await?;
        Ok::<_, tonic::Status>(answer.into_inner().schema.unwrap())
    };
    let schema = ask("Echo", "").await.unwrap();
    assert_eq!(
        (schema.schema_type.as_str(), schema.input_type_name.as_str()),
        ("input", "shop.v1.All")
    );
    let told: Vec<String> = schema
        .fields
        .iter()
        .map(|field| {
            let mut text = format!("{}:{}", field.name, field.r#type);
            if !field.type_name.is_empty() {
                text += &format!("({})", field.type_name);
            }
            if field.is_repeated {
                text += " repeated";
            }
            if field.is_optional {
                text += " optional";
            }
            if !field.oneof_group.is_empty() {
                text += &format!(" in {}", field.oneof_group);
            }
            text
        })
        .collect();
    assert_eq!(
        told,
        [
            "a_double:double",
            "a_float:float",
            "an_int32:int32",
            "an_int64:int64",
            "a_uint32:uint32",
            "a_uint64:uint64",
            "a_sint32:sint32",
            "a_sint64:sint64",
            "a_fixed32:fixed32",
            "a_fixed64:fixed64",
            "a_sfixed32:sfixed32",
            "a_sfixed64:sfixed64",
            "a_bool:bool",
            "a_string:string",
            "some_bytes:bytes",
            "color:enum(shop.v1.Color)",
            "inner:message(shop.v1.Inner)",
            "numbers:int32 repeated",
            "inners:message(shop.v1.Inner) repeated",
            "named:map<string, shop.v1.Inner>(shop.v1.All.NamedEntry)",
            "choice:oneof in choice",
            "text:string in choice",
            "thing:message(shop.v1.Inner) in choice",
            "maybe:int32 optional",
            "at:message(google.protobuf.Timestamp)",
            "lasting:message(google.protobuf.Duration)",
            "object:message(google.protobuf.Struct)",
            "maybe_long:message(google.protobuf.Int64Value)",
        ]
    );
    let choice = &schema.fields[20];
    let cases: Vec<_> = choice
        .oneof_cases
        .iter()
        .map(|case| {
            (
                case.name.as_str(),
                case.r#type.as_str(),
                case.type_name.as_str(),
                case.field_number,
            )
        })
        .collect();
    assert_eq!(
        cases,
        [
            ("text", "string", "", 21),
            ("thing", "message", "shop.v1.Inner", 22)
        ]
    );
    let schema = ask("shop.v1.Shop/Sum", "output").await.unwrap();
    assert_eq!((schema.schema_type.as_str(), schema.fields.len()), ("output", 1));
    assert_eq!(ask("Nothing", "").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        ask("Echo", "both").await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn json_goes_in_and_comes_out() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(json!([backend.entry("shop")]), &[]).await;
    let answer = gateway.invoke_json("shop", "Echo", &everything()).await;
    assert!(answer.success, "{}", answer.message);
    assert_eq!(
        serde_json::from_str::<Value>(&answer.response_data).unwrap(),
        everything()
    );
    let answer = gateway
        .invoke_json("shop", "Sum", &json!({"values": ["1", 2, -4]}))
        .await;
    assert_eq!(answer.response_data, r#"{"value":"-1"}"#);
    assert_eq!(answer.status, "OK");
}

#[tokio::test]
async fn failures_keep_the_name_of_their_status() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(json!([backend.entry("shop"), {"name": "silent"}]), &[]).await;
    for (code, name) in [
        (5, "NOT_FOUND"),
        (9, "FAILED_PRECONDITION"),
        (10, "ABORTED"),
        (16, "UNAUTHENTICATED"),
    ] {
        let answer = gateway.invoke_json("shop", "Fail", &json!({"value": code})).await;
        assert_eq!((answer.success, answer.status.as_str()), (false, name));
        assert_eq!(answer.message, "it failed");
    }
    for (service, method, json, name) in [
        ("nobody", "Echo", json!({}), "NOT_FOUND"),
        ("shop", "Nothing", json!({}), "NOT_FOUND"),
        ("shop", "Echo", json!({"nothing": 1}), "INVALID_ARGUMENT"),
        ("shop", "Watch", json!({}), "UNIMPLEMENTED"),
        ("silent", "Echo", json!({}), "FAILED_PRECONDITION"),
    ] {
        let answer = gateway.invoke_json(service, method, &json).await;
        assert_eq!(answer.status, name, "{service}/{method}: {}", answer.message);
    }
}

#[tokio::test]
async fn bytes_pass_untouched_and_need_no_reflection() {
    for speaks in [Speaks::V1, Speaks::None] {
        let backend = Backend::start_as(speaks, "", 0).await;
        let gateway = Gateway::start(json!([backend.entry("shop")]), &[]).await;
        // A field that nobody has declared, and one in an encoding that nobody would write.
        let odd = bytes::Bytes::from_static(&[0x18, 0x81, 0x80, 0x00, 0xFA, 0x3E, 0x02, b'h', b'i']);
        let request = InvokeRequest {
            service: "shop".to_owned(),
            method: "shop.v1.Shop/Echo".to_owned(),
            request_data: odd.clone(),
        };
        let answer = gateway.gateway().invoke(request).await.unwrap().into_inner();
        assert!(answer.success, "{}", answer.message);
        assert_eq!(answer.response_data, odd);
    }
}

#[tokio::test]
async fn nobody_speaks_to_an_app_as_its_sidecar() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(json!([backend.entry("shop")]), &[]).await;
    let method = "dapr.proto.runtime.v1.AppCallback/OnTopicEvent";
    let request = InvokeRequest {
        service: "shop".to_owned(),
        method: method.to_owned(),
        request_data: bytes::Bytes::new(),
    };
    let answer = gateway.gateway().invoke(request).await.unwrap().into_inner();
    assert_eq!(answer.status, "PERMISSION_DENIED", "{}", answer.message);
    let mut grpc = tonic::client::Grpc::new(gateway.channel.clone());
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(bytes::Bytes::new());
    request
        .metadata_mut()
        .insert("x-virtufin-service", "shop".parse().unwrap());
    let path = http::uri::PathAndQuery::try_from(format!("/{method}")).unwrap();
    let status = grpc
        .unary(request, path, outrigger_platform_transcoding::Raw)
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn a_method_that_a_backend_gains_is_found() {
    let backend = Backend::start().await;
    let port = backend.address.port();
    let gateway = Gateway::start(json!([backend.entry("shop")]), &[]).await;
    assert_eq!(
        gateway.invoke_json("shop", "Again", &json!({})).await.status,
        "NOT_FOUND"
    );
    drop(backend);
    let more =
        r#"rpc Again(Total) returns (Total) { option (google.api.http) = {get: "/shop/v1/again/{value}"}; }"#;
    let _backend = Backend::start_as(Speaks::V1, more, port).await;
    until("the new method is found by itself", async || {
        gateway
            .invoke_json("shop", "Again", &json!({"value": 7}))
            .await
            .response_data
            == r#"{"value":"7"}"#
    })
    .await;
    // Its route too, at the latest once what was told is forgotten.
    assert_eq!(
        gateway.send("DELETE", "/v1/grpc/shop/cache", None).await.status,
        204
    );
    until("its route is served", async || {
        gateway.get("/shop/v1/again/7").await.json()["value"] == "7"
    })
    .await;
    assert_eq!(gateway.send("DELETE", "/v1/grpc/cache", None).await.status, 204);
    assert_eq!(
        gateway.send("DELETE", "/v1/grpc/nobody/cache", None).await.status,
        404
    );
}

#[tokio::test]
async fn a_field_that_a_message_gains_is_found() {
    let backend = Backend::start().await;
    let port = backend.address.port();
    let gateway = Gateway::start(json!([backend.entry("shop")]), &[]).await;
    let ask = json!({"values": [1], "later": true});
    let answer = gateway.invoke_json("shop", "Sum", &ask).await;
    assert_eq!(answer.status, "INVALID_ARGUMENT");
    drop(backend);
    let _backend = Backend::start_with(Speaks::V1, port, |text| {
        text.replace(
            "repeated int64 values = 1;",
            "repeated int64 values = 1;\n  bool later = 2;",
        )
    })
    .await;
    until("the new field is found by itself", async || {
        gateway.invoke_json("shop", "Sum", &ask).await.response_data == r#"{"value":"1"}"#
    })
    .await;
}

#[tokio::test]
async fn calls_have_a_time_limit_and_a_breaker() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(json!([backend.entry("shop")]), &["--call-timeout-seconds=1"]).await;
    let answer = gateway.invoke_json("shop", "Wait", &json!({})).await;
    assert_eq!(answer.status, "DEADLINE_EXCEEDED");
    drop(backend);
    until("the circuit opens", async || {
        gateway.invoke_json("shop", "Sum", &json!({})).await;
        gateway.health("breaker").await["description"] == "open: app shop"
    })
    .await;
    assert_eq!(
        gateway.invoke_json("shop", "Sum", &json!({})).await.status,
        "UNAVAILABLE"
    );
    let pool = gateway.health("grpc-channel-pool").await;
    assert_eq!(
        pool["description"],
        "1 of at most 100 channels, 0 given up for others"
    );
}
