//! The handler.

use std::{net::IpAddr, time::Instant};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use outrigger_middleware::{Body, Middleware, Next, PeerAddress};
use parking_lot::Mutex;

use super::buckets::{Buckets, MAX_BUCKETS};
use crate::{path, respond};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Lets so many requests per second through for one client and path; others are answered 429.
///
/// The client is the last address of `X-Forwarded-For`, else `X-Real-IP`, else the peer; of an IPv6 address its /64
/// counts. Behind no proxy a client can therefore choose its own name, as upstream's can.
#[derive(Debug)]
pub struct RateLimit {
    rate: f64,
    buckets: Mutex<Buckets>,
}

impl RateLimit {
    /// A limiter of so many requests per second (positive and finite).
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self {
            rate,
            buckets: Mutex::new(Buckets::new(rate, MAX_BUCKETS)),
        }
    }

    /// The headers of every answer, whatever comes of the request.
    fn describe(&self, request: &Request<Body>, peer: &str) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(7);
        let mut add = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.append(HeaderName::from_static(name), value);
            }
        };
        add("x-rate-limit-limit", &format!("{:.2}", self.rate));
        add("x-rate-limit-duration", "1");
        let forwarded = text(request.headers(), &FORWARDED_FOR);
        if !forwarded.trim().is_empty() {
            add("x-rate-limit-request-forwarded-for", forwarded);
        }
        add("x-rate-limit-request-remote-addr", peer);
        headers
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Who asks.
fn client(headers: &HeaderMap, peer: Option<&PeerAddress>) -> String {
    let forwarded = text(headers, &FORWARDED_FOR);
    let real = text(headers, &REAL_IP);
    if !forwarded.is_empty() {
        canonical(forwarded.rsplit(',').next().unwrap_or_default().trim())
    } else if !real.is_empty() {
        canonical(real)
    } else {
        match peer {
            Some(PeerAddress::Tcp(address)) => canonical(&address.ip().to_string()),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

/// An IPv6 address by its /64; everything else as it is.
fn canonical(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            std::net::Ipv6Addr::from(network).to_string()
        }
        _ => address.to_owned(),
    }
}

impl Middleware for RateLimit {
    fn handle(&self, mut request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        let peer = request.extensions().get::<PeerAddress>().cloned();
        let mut client = client(request.headers(), peer.as_ref());
        if client.is_empty() {
            // On the way to the app there is no peer; all of that traffic counts as one client, and the app sees so.
            request
                .headers_mut()
                .insert(FORWARDED_FOR, HeaderValue::from_static("0.0.0.0"));
            client.push_str("0.0.0.0");
        }
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let mut headers = self.describe(&request, &peer);
        let key = format!("{client}|{}|", path::decoded(request.uri()));
        let left = self.buckets.lock().take(&key, Instant::now());
        let limit = HeaderValue::try_from(format!("{:.0}", self.rate.round()));
        headers.append(
            HeaderName::from_static("ratelimit-limit"),
            limit.unwrap_or_else(|_| HeaderValue::from_static("0")),
        );
        headers.append(
            HeaderName::from_static("ratelimit-reset"),
            HeaderValue::from_static("1"),
        );
        headers.append(
            HeaderName::from_static("ratelimit-remaining"),
            HeaderValue::from(left.unwrap_or(0)),
        );
        Box::pin(async move {
            let mut response = match left {
                Some(_) => next.run(request).await,
                None => respond::text(
                    StatusCode::TOO_MANY_REQUESTS,
                    "You have reached maximum request limit.",
                ),
            };
            response.headers_mut().extend(headers);
            response
        })
    }
}
