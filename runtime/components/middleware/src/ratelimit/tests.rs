use std::time::{Duration, Instant};

use http::Request;
use outrigger_middleware::{Body, PeerAddress};

use super::{RATE_LIMIT, buckets::Buckets};
use crate::testing::{call, get, open};

fn from(address: &str, path: &str) -> Request<Body> {
    let mut request = get(path);
    request
        .extensions_mut()
        .insert(PeerAddress::Tcp(address.parse().unwrap()));
    request
}

#[tokio::test]
async fn a_client_gets_its_burst_and_then_429() {
    let handler = open(RATE_LIMIT, &[("maxRequestsPerSecond", "3.4")])
        .await
        .unwrap();
    for left in ["2", "1", "0"] {
        let seen = call(&handler, from("10.0.0.1:5555", "/a")).await;
        assert_eq!((seen.status, seen.body.as_str()), (200, "inner"));
        assert_eq!(seen.headers["ratelimit-remaining"], left);
        assert_eq!(seen.headers["ratelimit-limit"], "3");
        assert_eq!(seen.headers["ratelimit-reset"], "1");
        assert_eq!(seen.headers["x-rate-limit-limit"], "3.40");
        assert_eq!(seen.headers["x-rate-limit-duration"], "1");
        assert_eq!(seen.headers["x-rate-limit-request-remote-addr"], "10.0.0.1:5555");
        assert!(!seen.headers.contains_key("x-rate-limit-request-forwarded-for"));
    }
    // Another port is the same client; another address or path is not.
    let seen = call(&handler, from("10.0.0.1:6666", "/a?x=1")).await;
    assert_eq!(seen.status, 429);
    assert_eq!(seen.body, "You have reached maximum request limit.");
    assert_eq!(seen.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(seen.headers["ratelimit-remaining"], "0");
    assert!(seen.passed.is_none());
    assert_eq!(call(&handler, from("10.0.0.2:5555", "/a")).await.status, 200);
    assert_eq!(call(&handler, from("10.0.0.1:5555", "/b")).await.status, 200);
    // The path that is dispatched counts, however it is written.
    assert_eq!(call(&handler, from("10.0.0.1:5555", "//a")).await.status, 429);
}

#[tokio::test]
async fn headers_name_the_client_before_the_peer_does() {
    let handler = open(RATE_LIMIT, &[("maxRequestsPerSecond", "1")]).await.unwrap();
    let ask = async |name: &'static str, value: &'static str| {
        let mut request = from("10.0.0.1:1", "/");
        request.headers_mut().insert(name, value.parse().unwrap());
        call(&handler, request).await
    };
    let seen = ask("x-forwarded-for", "1.1.1.1, 2.2.2.2").await;
    assert_eq!(seen.status, 200);
    assert_eq!(
        seen.headers["x-rate-limit-request-forwarded-for"],
        "1.1.1.1, 2.2.2.2"
    );
    assert_eq!(ask("x-forwarded-for", "9.9.9.9,2.2.2.2").await.status, 429);
    assert_eq!(ask("x-real-ip", "2.2.2.2").await.status, 429);
    assert_eq!(ask("x-real-ip", "3.3.3.3").await.status, 200);
    // An IPv6 client is its /64.
    assert_eq!(ask("x-real-ip", "2001:db8:1:2::1").await.status, 200);
    assert_eq!(ask("x-real-ip", "2001:db8:1:2:ffff::9").await.status, 429);
    assert_eq!(ask("x-real-ip", "2001:db8:1:3::1").await.status, 200);
}

#[tokio::test]
async fn towards_the_app_everyone_is_one_client() {
    let handler = open(RATE_LIMIT, &[("maxRequestsPerSecond", "1")]).await.unwrap();
    let seen = call(&handler, get("/m")).await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.passed.unwrap().headers()["x-forwarded-for"], "0.0.0.0");
    assert_eq!(seen.headers["x-rate-limit-request-remote-addr"], "");
    assert_eq!(call(&handler, get("/m")).await.status, 429);
}

#[tokio::test]
async fn the_rate_must_be_a_positive_number() {
    for value in ["0", "-1", "NaN", "inf", "many"] {
        assert!(
            open(RATE_LIMIT, &[("maxRequestsPerSecond", value)])
                .await
                .is_err(),
            "{value}"
        );
    }
    assert!(open(RATE_LIMIT, &[]).await.is_ok());
}

#[test]
fn tokens_come_back_with_time() {
    let start = Instant::now();
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let mut slow = Buckets::new(0.5, 10);
    assert_eq!(slow.take("a", at(0.0)), Some(0));
    assert_eq!(slow.take("a", at(1.9)), None);
    assert_eq!(slow.take("a", at(2.0)), Some(0), "a refused try costs nothing");
    let mut fast = Buckets::new(10.0, 10);
    for left in (0..10).rev() {
        assert_eq!(fast.take("a", at(0.0)), Some(left));
    }
    assert_eq!(fast.take("a", at(0.05)), None);
    assert_eq!(fast.take("a", at(0.11)), Some(0));
    assert_eq!(fast.take("a", at(99.0)), Some(9), "never more than the burst");
}

#[test]
fn the_number_of_clients_is_bounded() {
    let start = Instant::now();
    let mut buckets = Buckets::new(1.0, 100);
    for client in 0..1000_u64 {
        // All within the second in which no bucket becomes full again.
        buckets.take(&client.to_string(), start + Duration::from_micros(client));
        assert!(buckets.len() <= 100);
    }
    assert_eq!(
        buckets.take("999", start + Duration::from_millis(2)),
        None,
        "the latest is still known"
    );
    buckets.take("new", start + Duration::from_secs(9));
    buckets.take("new2", start + Duration::from_secs(9));
    assert!(buckets.len() <= 100);
}
