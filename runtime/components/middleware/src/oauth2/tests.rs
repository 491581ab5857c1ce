use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Request};
use outrigger_component::Properties;
use outrigger_middleware::{Body, Middleware};
use url::Url;

use super::{
    OAUTH2, Oauth2, Oauth2Config,
    session::{LIFETIME, MAX_SESSIONS, Session, Sessions},
};
use crate::{
    oauth::fake::FakeEndpoint,
    testing::{Seen, call, get, open},
};

fn pairs<'a>(token_url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = vec![
        ("clientID", "id"),
        ("clientSecret", "hush-hush"),
        ("scopes", "openid,profile"),
        ("authURL", "https://login.example/authorize?tenant=1"),
        ("tokenURL", token_url),
        ("redirectURL", "https://app.example/"),
    ];
    pairs.extend_from_slice(more);
    pairs
}

async fn endpoint() -> FakeEndpoint {
    let body = r#"{"access_token":"tok","token_type":"bearer","expires_in":3600}"#;
    FakeEndpoint::start(vec![(200, "application/json", body.to_owned())]).await
}

fn ask(path: &str, cookie: Option<&str>) -> Request<Body> {
    let mut request = get(path);
    request
        .headers_mut()
        .insert("host", HeaderValue::from_static("app.example"));
    if let Some(cookie) = cookie {
        let value = format!("theme=dark; gosessionsid={cookie}");
        request.headers_mut().insert("cookie", value.parse().unwrap());
    }
    request
}

fn cookie(seen: &Seen) -> String {
    let cookie = seen.headers["set-cookie"].to_str().unwrap();
    let (name, rest) = cookie.split_once('=').unwrap();
    assert_eq!(name, "gosessionsid");
    rest.split(';').next().unwrap().to_owned()
}

fn login(seen: &Seen) -> HashMap<String, String> {
    assert_eq!(seen.status, 302);
    let url = Url::parse(seen.headers["location"].to_str().unwrap()).unwrap();
    assert_eq!(
        (url.host_str(), url.path()),
        (Some("login.example"), "/authorize")
    );
    url.query_pairs().into_owned().collect()
}

#[tokio::test]
async fn a_login_goes_all_the_way() {
    let endpoint = endpoint().await;
    let handler = open(OAUTH2, &pairs(&endpoint.url, &[])).await.unwrap();
    let seen = call(&handler, ask("/v1.0/invoke/a/method/m?x=1", None)).await;
    assert!(seen.passed.is_none());
    let asked = login(&seen);
    for (name, value) in [
        ("tenant", "1"),
        ("access_type", "offline"),
        ("client_id", "id"),
        ("redirect_uri", "https://app.example/"),
        ("response_type", "code"),
        ("scope", "openid profile"),
    ] {
        assert_eq!(asked[name], value);
    }
    let before = cookie(&seen);
    let attributes = seen.headers["set-cookie"].to_str().unwrap();
    assert!(
        attributes.contains("; HttpOnly") && attributes.contains("; SameSite=Lax"),
        "{attributes}"
    );
    assert!(
        !attributes.contains("Secure") && !attributes.contains("Domain"),
        "{attributes}"
    );

    let back = format!("/?state={}&code=c0de", asked["state"]);
    let seen = call(&handler, ask(&back, Some(&before))).await;
    assert_eq!(seen.status, 302);
    assert_eq!(seen.headers["location"], "/v1.0/invoke/a/method/m?x=1");
    let after = cookie(&seen);
    assert_ne!(before, after, "the session's name changes with the login");
    {
        let asked = endpoint.asked.lock().unwrap();
        let form: HashMap<_, _> = asked[0].1.iter().cloned().collect();
        assert_eq!(form["grant_type"], "authorization_code");
        assert_eq!(form["code"], "c0de");
        assert_eq!(form["redirect_uri"], "https://app.example/");
    }

    let mut request = ask("/v1.0/invoke/a/method/m", Some(&after));
    request
        .headers_mut()
        .insert("authorization", "Bearer forged".parse().unwrap());
    let seen = call(&handler, request).await;
    let passed = seen.passed.unwrap();
    let values: Vec<_> = passed.headers().get_all("authorization").iter().collect();
    assert_eq!(values, ["Bearer tok"]);
    // The old name is worth nothing, and the state was good once.
    assert_eq!(call(&handler, ask(&back, Some(&before))).await.status, 500);
    assert_eq!(endpoint.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_header_of_the_token_can_be_named() {
    let endpoint = endpoint().await;
    for (name, header) in [("", "authorization"), ("X-Token", "x-token")] {
        let handler = open(OAUTH2, &pairs(&endpoint.url, &[("authHeaderName", name)]))
            .await
            .unwrap();
        let seen = call(&handler, ask("/", None)).await;
        let back = format!("/?state={}&code=c", login(&seen)["state"]);
        let seen = call(&handler, ask(&back, Some(&cookie(&seen)))).await;
        let passed = call(&handler, ask("/", Some(&cookie(&seen))))
            .await
            .passed
            .unwrap();
        assert_eq!(passed.headers()[header], "Bearer tok");
    }
}

#[tokio::test]
async fn a_state_must_be_the_sessions_own() {
    let endpoint = endpoint().await;
    let handler = open(OAUTH2, &pairs(&endpoint.url, &[])).await.unwrap();
    let mine = call(&handler, ask("/", None)).await;
    let theirs = call(&handler, ask("/", None)).await;
    let crossed = format!("/?state={}&code=c", login(&theirs)["state"]);
    let seen = call(&handler, ask(&crossed, Some(&cookie(&mine)))).await;
    assert_eq!((seen.status, seen.body.as_str()), (400, "invalid state"));
    let codeless = format!("/?state={}", login(&mine)["state"]);
    let seen = call(&handler, ask(&codeless, Some(&cookie(&mine)))).await;
    assert_eq!((seen.status, seen.body.as_str()), (400, "code not found"));
    let seen = call(&handler, ask("/?state=x&code=y", None)).await;
    assert_eq!((seen.status, seen.body.as_str()), (500, "Internal Server Error"));
    assert!(endpoint.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_session_cannot_be_fixed_by_somebody_else() {
    let endpoint = endpoint().await;
    let handler = open(OAUTH2, &pairs(&endpoint.url, &[])).await.unwrap();
    let seen = call(&handler, ask("/", Some("chosen-by-a-thief"))).await;
    assert_ne!(cookie(&seen), "chosen-by-a-thief");
}

#[tokio::test]
async fn nobody_is_sent_to_another_host() {
    let endpoint = endpoint().await;
    for (force, wanted, sent) in [
        ("false", "//evil.example/x", "/evil.example/x"),
        ("false", "///evil.example", "/evil.example"),
        ("true", "/a?b", "https://app.example/a?b"),
        ("true", "//evil.example/x", "https://app.example/evil.example/x"),
    ] {
        let handler = open(OAUTH2, &pairs(&endpoint.url, &[("forceHTTPS", force)]))
            .await
            .unwrap();
        let seen = call(&handler, ask(wanted, None)).await;
        let secure = seen.headers["set-cookie"].to_str().unwrap().contains("; Secure");
        assert_eq!(secure, force == "true");
        let back = format!("/?state={}&code=c", login(&seen)["state"]);
        let seen = call(&handler, ask(&back, Some(&cookie(&seen)))).await;
        assert_eq!(seen.headers["location"], sent);
    }
}

#[tokio::test]
async fn a_failed_exchange_leaves_nobody_logged_in() {
    let endpoint = FakeEndpoint::start(vec![(
        400,
        "application/json",
        r#"{"error":"invalid_grant"}"#.to_owned(),
    )])
    .await;
    let handler = open(OAUTH2, &pairs(&endpoint.url, &[])).await.unwrap();
    let seen = call(&handler, ask("/", None)).await;
    let back = format!("/?state={}&code=c", login(&seen)["state"]);
    let failed = call(&handler, ask(&back, Some(&cookie(&seen)))).await;
    assert_eq!(
        (failed.status, failed.body.as_str()),
        (500, "Internal Server Error")
    );
    assert_eq!(call(&handler, ask("/", Some(&cookie(&seen)))).await.status, 302);
}

#[tokio::test]
async fn the_filter_says_which_paths_need_a_login() {
    let endpoint = endpoint().await;
    let handler = open(OAUTH2, &pairs(&endpoint.url, &[("pathFilter", "^/v1.0/invoke/")]))
        .await
        .unwrap();
    for (path, passes) in [
        ("/v1.0/healthz", true),
        ("/v1.0/invoke/a/method/m", false),
        ("//v1.0/invoke/a/method/m", false),
        ("/v1.0/x/../invoke/a/method/m", false),
    ] {
        assert_eq!(
            call(&handler, ask(path, None)).await.passed.is_some(),
            passes,
            "{path}"
        );
    }
}

#[tokio::test]
async fn wrong_metadata_is_said_at_the_start() {
    for pair in [
        ("authHeaderName", "no header"),
        ("authURL", "nowhere"),
        ("tokenURL", "nowhere"),
        ("pathFilter", "("),
    ] {
        let error = open(OAUTH2, &pairs("http://h/", &[pair])).await.unwrap_err();
        assert!(error.to_string().contains(pair.0), "{error}");
    }
}

#[tokio::test]
async fn beginning_logins_does_not_fill_the_memory() {
    let properties = Properties::from_pairs(pairs("http://h/", &[]));
    let concrete = Arc::new(Oauth2::new(Oauth2Config::parse(&properties).unwrap()).unwrap());
    let handler: Arc<dyn Middleware> = concrete.clone();
    let mut cookie_of_one = None;
    for _ in 0..5 {
        let seen = call(&handler, ask("/", cookie_of_one.as_deref())).await;
        cookie_of_one = Some(cookie(&seen));
    }
    assert_eq!(concrete.sessions(), 1, "one client has one session");
    assert!(!format!("{concrete:?}").contains("hush-hush"));
}

#[test]
fn sessions_end_and_are_bounded() {
    let now = Instant::now();
    let mut sessions = Sessions::default();
    let logged_in = Session::LoggedIn {
        header: HeaderValue::from_static("Bearer x"),
    };
    let first = sessions.begin(logged_in.clone(), Duration::from_secs(60), now);
    assert!(sessions.get(&first, now + Duration::from_secs(59)).is_some());
    assert!(
        sessions.get(&first, now + Duration::from_secs(60)).is_none(),
        "no longer than its token"
    );
    let long = sessions.begin(logged_in, Duration::from_secs(1 << 30), now);
    assert!(sessions.get(&long, now + LIFETIME).is_none());
    for _ in 0..MAX_SESSIONS + 10 {
        let pending = Session::Pending {
            state: String::new(),
            target: String::new(),
        };
        sessions.begin(pending, LIFETIME, now);
    }
    assert_eq!(sessions.len(), MAX_SESSIONS);
    assert!(
        sessions.get(&long, now).is_some(),
        "a flood of logins throws nobody out who is in"
    );
}
