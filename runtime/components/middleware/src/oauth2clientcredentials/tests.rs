use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::join_all;

use super::CLIENT_CREDENTIALS;
use crate::{
    oauth::fake::FakeEndpoint,
    testing::{call, get, open},
};

fn pairs<'a>(url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![
        ("clientID", "testId"),
        ("clientSecret", "s3cr&t"),
        ("scopes", "read,write"),
        ("tokenURL", url),
        ("headerName", "authorization"),
    ];
    pairs.extend_from_slice(more);
    pairs
}

fn json(body: &str) -> (u16, &'static str, String) {
    (200, "application/json", body.to_owned())
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    form.iter()
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

#[tokio::test]
async fn one_token_serves_many_requests() {
    let endpoint = FakeEndpoint::start(vec![json(
        r#"{"access_token":"abcd","token_type":"bearer","expires_in":3600}"#,
    )])
    .await;
    let more = [("endpointParamsQuery", "resource=a%20b&resource=c")];
    let handler = open(CLIENT_CREDENTIALS, &pairs(&endpoint.url, &more))
        .await
        .unwrap();
    let all = join_all((0..20).map(|_| {
        let mut request = get("/v1.0/invoke/a/method/m");
        request
            .headers_mut()
            .insert("authorization", "Bearer forged".parse().unwrap());
        call(&handler, request)
    }))
    .await;
    for seen in all {
        let headers = seen.passed.unwrap().headers().clone();
        let values: Vec<_> = headers.get_all("authorization").iter().collect();
        assert_eq!(values, ["Bearer abcd"], "and no value of the caller's");
    }
    let asked = endpoint.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    let (authorization, form) = &asked[0];
    let secret = STANDARD.encode("testId:s3cr%26t");
    assert_eq!(*authorization, format!("Basic {secret}"));
    assert_eq!(field(form, "grant_type"), ["client_credentials"]);
    assert_eq!(field(form, "scope"), ["read write"]);
    assert_eq!(field(form, "resource"), ["a b", "c"]);
    assert!(field(form, "client_secret").is_empty());
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed() {
    let endpoint = FakeEndpoint::start(vec![
        json(r#"{"access_token":"one","expires_in":"5"}"#),
        (
            200,
            "application/x-www-form-urlencoded",
            "access_token=two&token_type=mac&expires_in=3600".to_owned(),
        ),
    ])
    .await;
    let handler = open(CLIENT_CREDENTIALS, &pairs(&endpoint.url, &[]))
        .await
        .unwrap();
    for expected in ["Bearer one", "MAC two", "MAC two"] {
        let seen = call(&handler, get("/")).await;
        assert_eq!(seen.passed.unwrap().headers()["authorization"], expected);
    }
    assert_eq!(endpoint.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn the_way_to_show_the_secret_is_found_out_once() {
    let refused = (
        401,
        "application/json",
        r#"{"error":"invalid_client"}"#.to_owned(),
    );
    let endpoint = FakeEndpoint::start(vec![refused, json(r#"{"access_token":"a","expires_in":1}"#)]).await;
    let handler = open(CLIENT_CREDENTIALS, &pairs(&endpoint.url, &[]))
        .await
        .unwrap();
    assert_eq!(call(&handler, get("/")).await.status, 200);
    assert_eq!(call(&handler, get("/")).await.status, 200);
    let asked = endpoint.asked.lock().unwrap();
    let shown: Vec<_> = asked
        .iter()
        .map(|(authorization, form)| {
            (
                !authorization.is_empty(),
                !field(form, "client_secret").is_empty(),
            )
        })
        .collect();
    assert_eq!(shown, [(true, false), (false, true), (false, true)]);
}

#[tokio::test]
async fn without_a_token_nothing_passes() {
    for (status, body) in [
        (500, "{}"),
        (200, "{}"),
        (200, "no json"),
        (200, r#"{"access_token":"a\nb"}"#),
        (400, r#"{"error":"invalid_scope","error_description":"s3cr&t"}"#),
    ] {
        let endpoint = FakeEndpoint::start(vec![(status, "application/json", body.to_owned())]).await;
        let handler = open(CLIENT_CREDENTIALS, &pairs(&endpoint.url, &[("authStyle", "2")]))
            .await
            .unwrap();
        let seen = call(&handler, get("/")).await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (500, "Internal Server Error"),
            "{body}"
        );
        assert!(seen.passed.is_none());
    }
}

#[tokio::test]
async fn the_filter_says_which_paths_get_a_token() {
    let endpoint = FakeEndpoint::start(vec![json(r#"{"access_token":"a","expires_in":60}"#)]).await;
    let handler = open(
        CLIENT_CREDENTIALS,
        &pairs(&endpoint.url, &[("pathFilter", "^/api/.*")]),
    )
    .await
    .unwrap();
    for (path, expected) in [
        ("/api/x", true),
        ("//api/x", true),
        ("/other", false),
        ("/api/../other", false),
    ] {
        let seen = call(&handler, get(path)).await;
        assert_eq!(
            seen.passed.unwrap().headers().contains_key("authorization"),
            expected,
            "{path}"
        );
    }
}

#[tokio::test]
async fn everything_wrong_is_said_at_once() {
    let error = open(CLIENT_CREDENTIALS, &[("authStyle", "3"), ("pathFilter", "(")])
        .await
        .unwrap_err();
    let text = error.to_string();
    for part in [
        "metadata errors: Parameter 'headerName' needs to be set. Parameter 'clientID' needs to be set. Parameter 'clientSecret' needs to be set. Parameter 'scopes' needs to be set. Parameter 'tokenURL' needs to be set. ",
        "Parameter 'pathFilter' is not a valid regex: ",
        "Parameter 'authStyle' can only have the values 0,1,2. Received: '3'. ",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(open(CLIENT_CREDENTIALS, &pairs("no url", &[])).await.is_err());
    let error = open(
        CLIENT_CREDENTIALS,
        &pairs("http://h/", &[("endpointParamsQuery", "scope=x")]),
    )
    .await;
    assert!(error.is_err());
}

#[test]
fn a_secret_is_never_printed() {
    let properties = outrigger_component::Properties::from_pairs(pairs("http://h/", &[]));
    let config = super::ClientCredentialsConfig::parse(&properties).unwrap();
    assert!(!format!("{config:?}").contains("s3cr"));
    let handler = super::ClientCredentials::new(config).unwrap();
    assert!(!format!("{handler:?}").contains("s3cr"));
}
