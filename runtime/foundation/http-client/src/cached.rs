//! A document behind an address, kept parsed and fresh.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, header};
use tokio::sync::Mutex;
use url::Url;

use crate::{Client, ClientError};

/// How often a document is fetched.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    /// A document is used at least this long before it is fetched again, however short its own word on that is.
    pub min: Duration,
    /// Used at most this long, and this long where the document itself says nothing.
    pub max: Duration,
    /// After a fetch that was made because something is missing in the document, the next such fetch waits this long:
    /// whoever asks for what never was must not be able to make us hammer the other end.
    pub missing: Duration,
}

type Parse<T> = dyn Fn(&Bytes) -> Result<T, String> + Send + Sync;

/// A document that is fetched at the start and then again when it is old or lacks something. Callers never wait for
/// a refresh of an old document: they use it until the new one is there, also where the other end is gone meanwhile.
pub struct Cached<T>(Arc<Inner<T>>);

struct Inner<T> {
    client: Client,
    url: Url,
    parse: Box<Parse<T>>,
    freshness: Freshness,
    held: ArcSwap<Held<T>>,
    /// Holds the time of the last try; its lock makes refreshes one at a time.
    last_try: Mutex<Instant>,
}

struct Held<T> {
    document: Arc<T>,
    until: Instant,
}

impl<T> Clone for Cached<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Cached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("host", &self.0.url.host_str())
            .field("freshness", &self.0.freshness)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Cached<T> {
    /// Fetches the document for the first time.
    ///
    /// # Errors
    /// When it cannot be fetched or read.
    pub async fn open(
        client: Client,
        url: Url,
        freshness: Freshness,
        parse: impl Fn(&Bytes) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        let held = fetch(&client, &url, freshness, &parse).await?;
        Ok(Self(Arc::new(Inner {
            client,
            url,
            parse: Box::new(parse),
            freshness,
            held: ArcSwap::from_pointee(held),
            last_try: Mutex::new(Instant::now()),
        })))
    }

    /// The document as it is known. Never waits; an old one is refreshed in the background.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        let held = self.0.held.load();
        if held.until <= Instant::now() {
            // A refresh under way holds the lock: one task for it, however many ask meanwhile.
            let due = self
                .0
                .last_try
                .try_lock()
                .is_ok_and(|last_try| last_try.elapsed() >= self.0.freshness.min);
            if due {
                let cached = self.clone();
                tokio::spawn(async move { cached.refresh(cached.0.freshness.min).await });
            }
        }
        Arc::clone(&held.document)
    }

    /// The document after something was missing in `seen`: fetched anew, unless that was done a moment ago. Safe to
    /// drop: the refresh goes on for others.
    pub async fn after_missing(&self, seen: &Arc<T>) -> Arc<T> {
        let held = self.0.held.load_full();
        if Arc::ptr_eq(&held.document, seen) {
            let cached = self.clone();
            let refresh = tokio::spawn(async move { cached.refresh(cached.0.freshness.missing).await });
            let _ = refresh.await;
        }
        Arc::clone(&self.0.held.load().document)
    }

    /// Fetches unless the last try is younger than `pause`. One at a time.
    async fn refresh(&self, pause: Duration) {
        let inner = &self.0;
        let mut last_try = inner.last_try.lock().await;
        if last_try.elapsed() < pause {
            return;
        }
        *last_try = Instant::now();
        match fetch(&inner.client, &inner.url, inner.freshness, &*inner.parse).await {
            Ok(held) => inner.held.store(Arc::new(held)),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(cause, "a document stays as it was: {error}");
            }
        }
    }
}

async fn fetch<T>(
    client: &Client,
    url: &Url,
    freshness: Freshness,
    parse: &Parse<T>,
) -> Result<Held<T>, ClientError> {
    let response = client.get(url).await?;
    let document = parse(response.body()).map_err(|reason| ClientError::Document {
        url: format!("{}{}", url.host_str().unwrap_or_default(), url.path()),
        reason,
    })?;
    let lifetime = max_age(response.headers())
        .unwrap_or(freshness.max)
        .clamp(freshness.min, freshness.max.max(freshness.min));
    Ok(Held {
        document: Arc::new(document),
        until: Instant::now() + lifetime,
    })
}

/// `Cache-Control: max-age`, as the document's own word on how long it may be used.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|directive| {
            let (name, value) = directive.trim().split_once('=')?;
            name.eq_ignore_ascii_case("max-age")
                .then(|| value.trim_matches('"').parse().ok().map(Duration::from_secs))?
        })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{Router, extract::State, http::StatusCode, routing};

    use super::*;
    use crate::ClientOptions;

    /// Counts up, and fails at every third request.
    async fn count(State(counter): State<Arc<AtomicUsize>>) -> (StatusCode, String) {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        let status = if number % 3 == 2 {
            StatusCode::BAD_GATEWAY
        } else {
            StatusCode::OK
        };
        (status, number.to_string())
    }

    fn number(bytes: &Bytes) -> Result<usize, String> {
        String::from_utf8_lossy(bytes)
            .parse()
            .map_err(|_| "no number".to_owned())
    }

    async fn cached(freshness: Freshness) -> (Cached<usize>, Arc<AtomicUsize>) {
        let counter = Arc::new(AtomicUsize::new(0));
        let router = Router::new()
            .route("/", routing::get(count))
            .with_state(Arc::clone(&counter));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = Client::new(ClientOptions::default()).unwrap();
        let cached = Cached::open(client, url.parse().unwrap(), freshness, number)
            .await
            .unwrap();
        (cached, counter)
    }

    #[tokio::test]
    async fn what_is_missing_is_looked_for_once_by_many() {
        let (cached, counter) = cached(Freshness {
            min: Duration::from_secs(3600),
            max: Duration::from_secs(3600),
            missing: Duration::ZERO,
        })
        .await;
        let seen = cached.current();
        let all = futures::future::join_all((0..50).map(|_| cached.after_missing(&seen))).await;
        // Whoever came first fetched; some others may have fetched after it, but none hammers: a caller whose
        // document was replaced meanwhile takes the new one.
        assert!(all.iter().all(|document| **document >= 1));
        let fetched = counter.load(Ordering::SeqCst);
        let seen = cached.current();
        let stale = Arc::new(0);
        cached.after_missing(&stale).await;
        assert_eq!(
            counter.load(Ordering::SeqCst),
            fetched,
            "the newer document is used as it is"
        );
        drop(seen);
    }

    #[tokio::test]
    async fn a_flood_of_unknown_keys_fetches_once() {
        let (cached, counter) = cached(Freshness {
            min: Duration::from_secs(3600),
            max: Duration::from_secs(3600),
            missing: Duration::from_secs(3600),
        })
        .await;
        for _ in 0..20 {
            let seen = cached.current();
            cached.after_missing(&seen).await;
        }
        assert_eq!(
            counter.load(Ordering::SeqCst),
            1,
            "the first fetch was a moment ago"
        );
    }

    #[tokio::test]
    async fn an_old_document_is_used_until_the_new_one_is_there() {
        let (cached, counter) = cached(Freshness {
            min: Duration::ZERO,
            max: Duration::ZERO,
            missing: Duration::ZERO,
        })
        .await;
        assert_eq!(*cached.current(), 0);
        let newer = async {
            while *cached.current() < 3 {
                tokio::task::yield_now().await;
            }
        };
        // The third answer is an error, and the document survives it.
        tokio::time::timeout(Duration::from_secs(20), newer)
            .await
            .unwrap();
        assert!(counter.load(Ordering::SeqCst) >= 4);
    }

    #[test]
    fn the_documents_own_word_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(max_age(&headers), None);
        headers.append(header::CACHE_CONTROL, "public, Max-Age=60".parse().unwrap());
        assert_eq!(max_age(&headers), Some(Duration::from_secs(60)));
    }
}
