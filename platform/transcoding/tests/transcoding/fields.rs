//! Every kind of field, in body, query and path.

use http::StatusCode;
use serde_json::{Value, json};

use crate::schema::{echo, send};

#[tokio::test]
async fn a_body_holds_every_kind_of_field() {
    let body = json!({
        "aDouble": 1.5, "aFloat": -2.25, "anInt32": -3, "anInt64": "-9223372036854775808", "aUint32": 5,
        "aUint64": "18446744073709551615", "aSint32": -7, "aSint64": "-8", "aFixed32": 9, "aFixed64": "10",
        "aSfixed32": -11, "aSfixed64": "-12", "aBool": true, "aString": "ü\n\"", "someBytes": "AAH/",
        "color": "BLUE", "inner": {"name": "i", "size": 1, "next": {"name": "j"}}, "numbers": [1, 2],
        "words": ["a", ""], "inners": [{"name": "x"}, {"size": 2}], "colors": ["RED", "BLUE"],
        "counts": {"a": 1}, "byNumber": {"-4": {"name": "four"}}, "byBool": {"true": "yes"},
        "thing": {"name": "chosen"}, "maybe": 0, "at": "2026-11-22T03:04:05.678Z", "lasting": "1.500s",
        "mask": "aString,inner.name", "object": {"a": [1.0, null, {"b": true}]}, "anyJson": ["x", 2.0],
        "list": [1.0, "two"], "maybeText": "", "maybeLong": "7", "maybeBool": false, "maybeBytes": "AQ==",
        "any": {"@type": "type.googleapis.com/test.Inner", "name": "packed"}, "nothing": {},
        "times": ["1970-01-01T00:00:00Z"], "otherName": "r",
    });
    assert_eq!(echo("POST", "/v1/all", &body.to_string()).await, body);
}

#[tokio::test]
async fn an_answer_tells_fields_at_their_default() {
    let answer = send("POST", "/v1/all", "{}").await.json();
    assert_eq!(answer["anInt64"], "0");
    assert_eq!(answer["aString"], "");
    assert_eq!(answer["color"], "COLOR_UNSPECIFIED");
    assert_eq!(answer["words"], json!([]));
    // With presence: absent is not zero.
    assert_eq!(answer.get("maybe"), None);
    assert_eq!(answer.get("text"), None);
    assert_eq!(answer.get("inner"), None);
}

#[tokio::test]
async fn a_query_holds_every_kind_of_field() {
    let query = "a_double=1.5&aFloat=-2.25&an_int32=-3&anInt64=-9223372036854775808&a_uint32=5\
        &a_uint64=18446744073709551615&a_sint32=-7&a_sint64=-8&a_fixed32=9&a_fixed64=10&a_sfixed32=-11\
        &a_sfixed64=-12&a_bool=true&a_string=%C3%BC+%26&some_bytes=AAH_&color=BLUE&inner.name=i&inner.next.size=4\
        &numbers=1&numbers=2&words=a&words=&colors=RED&colors=2&counts[a]=1&counts[b]=2&byBool[true]=yes\
        &number=6&maybe=0&at=2026-11-22T03:04:05Z&lasting=1.5s&mask=aString,inner.name&maybe_text=t\
        &maybe_long=7&maybe_bool=false&maybe_bytes=AQ&times=1970-01-01T00:00:00Z&times=1970-01-01T00:00:01Z&otherName=r";
    assert_eq!(
        echo("GET", &format!("/v1/all?{query}"), "").await,
        json!({
            "aDouble": 1.5, "aFloat": -2.25, "anInt32": -3, "anInt64": "-9223372036854775808", "aUint32": 5,
            "aUint64": "18446744073709551615", "aSint32": -7, "aSint64": "-8", "aFixed32": 9, "aFixed64": "10",
            "aSfixed32": -11, "aSfixed64": "-12", "aBool": true, "aString": "ü &", "someBytes": "AAH/",
            "color": "BLUE", "inner": {"name": "i", "next": {"size": 4}}, "numbers": [1, 2], "words": ["a", ""],
            "colors": ["RED", "BLUE"], "counts": {"a": 1, "b": 2}, "byBool": {"true": "yes"}, "number": 6,
            "maybe": 0, "at": "2026-11-22T03:04:05Z", "lasting": "1.500s", "mask": "aString,inner.name",
            "maybeText": "t", "maybeLong": "7", "maybeBool": false, "maybeBytes": "AQ==",
            "times": ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"], "otherName": "r",
        })
    );
}

#[tokio::test]
async fn a_wrong_query_is_refused_by_name() {
    for (query, part) in [
        ("missing=1", "has no field \"missing\""),
        ("an_int32=x", "\"x\" is not a 32-bit integer"),
        ("an_int32=2147483648", "is not a 32-bit integer"),
        ("a_uint32=-1", "not negative"),
        ("a_bool=yes", "neither true nor false"),
        ("some_bytes=*", "is no Base64"),
        ("color=GREEN", "no value of test.Color"),
        ("inner=x", "cannot be written as one value"),
        ("a_string=a&a_string=b", "is given twice"),
        ("text=a&number=1", "another case of choice"),
        ("at=yesterday", "is no google.protobuf.Timestamp"),
        ("counts=1", "name a key"),
        ("a_string[x]=1", "is no map"),
        ("a_string.b=1", "is no single message"),
        ("inners.name=1", "is no single message"),
    ] {
        let answer = send("GET", &format!("/v1/all?{query}"), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(answer.json()["code"], 3);
        assert!(answer.message().contains(part), "{query}: {}", answer.message());
    }
    let answer = send("GET", "/v1/all/by-number/7?anInt32=8", "").await;
    assert!(
        answer.message().contains("given by the path"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_path_sets_fields() {
    assert_eq!(
        echo("GET", "/v1/all/by-number/-7?a_bool=1", "").await,
        json!({"anInt32": -7, "aBool": true})
    );
    assert_eq!(
        echo("GET", "/v1/all/by-name/rooms/a%2Fb", "").await,
        json!({"inner": {"name": "rooms/a/b"}})
    );
    assert_eq!(
        echo("GET", "/v1/all/by-color/RED", "").await,
        json!({"color": "RED"})
    );
    let answer = send("GET", "/v1/all/by-number/x", "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.message().contains("an_int32"), "{}", answer.message());
}

#[tokio::test]
async fn a_body_can_be_one_field_of_any_kind() {
    let answer = send(
        "PATCH",
        "/v1/all/me/inner?a_bool=true",
        r#"{"name":"i","size":3}"#,
    )
    .await;
    assert_eq!(answer.json(), json!({"name": "i", "size": 3}));
    let answer = send("PATCH", "/v1/all/me/words", r#"["a","b"]"#).await;
    assert_eq!(answer.json(), json!(["a", "b"]));
    let answer = send("PATCH", "/v1/all/me/number", "12").await;
    assert_eq!(answer.json(), json!("12"));
    // The body's field is not for the query.
    let answer = send("PATCH", "/v1/all/me/words?words=c", r#"["a"]"#).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_path_wins_over_the_body() {
    let answer = echo("PUT", "/v1/all/path", r#"{"aString":"body","anInt32":1}"#).await;
    assert_eq!(answer, json!({"aString": "path", "anInt32": 1}));
}

#[tokio::test]
async fn a_wrong_body_is_refused() {
    for (body, part) in [
        ("{", "EOF"),
        ("[]", "test.All"),
        (r#"{"missing":1}"#, "missing"),
        (r#"{"anInt32":"x"}"#, "JSON is no test.All"),
        (r#"{"anInt32":1}{}"#, "does not end"),
        (r#"{"color":"GREEN"}"#, "test.All"),
    ] {
        let answer = send("POST", "/v1/all", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.message().contains(part), "{body}: {}", answer.message());
    }
    let answer = send("POST", "/v1/all?a_bool=true", "{}").await;
    assert!(answer.message().contains("none in the query"));
    let answer = send("GET", "/v1/all", "{}").await;
    assert!(answer.message().contains("takes no body"));
}

#[tokio::test]
async fn an_empty_body_is_an_empty_message() {
    assert_eq!(
        echo("POST", "/v1/all", "").await,
        Value::Object(serde_json::Map::new())
    );
}
