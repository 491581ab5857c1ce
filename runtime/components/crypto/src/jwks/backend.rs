//! The provider over a key set.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use outrigger_component::{Error, ErrorKind, Host};
use outrigger_http_client::{Cached, Client, ClientError, ClientOptions, Freshness};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::{JwksConfig, set::Keys};
use crate::{
    key::Key,
    local::{KeySource, Local},
};

/// Longer documents are no key sets.
const MAX_BYTES: usize = 1 << 20;

/// Where the set is.
#[derive(Debug)]
pub struct KeySet(Source);

/// The provider; the name of a key is its `kid`.
pub type Jwks = Local<KeySet>;

#[derive(Debug)]
enum Source {
    Inline(Keys),
    File(File),
    Address(Cached<Keys>),
}

/// A file that is looked at when a key is asked for, so that a change takes effect with the next operation.
#[derive(Debug)]
struct File {
    path: PathBuf,
    known: Mutex<(Stamp, Arc<Keys>)>,
}

/// What tells that a file is another one. A mounted secret changes by a link, which gives another modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Jwks {
    /// Finds and reads the set.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub async fn open(config: &JwksConfig, host: &Host) -> Result<Self, Error> {
        let location = config.jwks.expose();
        if location.starts_with("http://") || location.starts_with("https://") {
            if location.starts_with("http://") {
                tracing::warn!(
                    "Loading JWK from an HTTP endpoint without TLS: this is not recommended on production environments."
                );
            }
            let cached = fetch(config).await.map_err(|error| {
                let message = "failed to init cache: failed to fetch JWKS";
                match error {
                    ClientError::Url(_) | ClientError::Document { .. } => Error::configuration(message),
                    _ => Error::unavailable(message),
                }
                .with_source(error)
            })?;
            return Ok(Self::new(KeySet(Source::Address(cached))));
        }
        let path = host.path(location);
        if tokio::fs::metadata(&path)
            .await
            .is_ok_and(|found| found.is_file())
        {
            let known = read(&path).await.map_err(|reason| {
                Error::configuration(format!(
                    "failed to init cache: failed to parse JWKS file: {reason}"
                ))
            })?;
            let known = Mutex::new(known);
            return Ok(Self::new(KeySet(Source::File(File { path, known }))));
        }
        let keys = Keys::parse_inline(location).map_err(|_| {
            Error::configuration(
                "failed to init cache: failed to parse property 'location': not a URL, path to local file, or JSON value (optionally base64-encoded)",
            )
        })?;
        Ok(Self::new(KeySet(Source::Inline(keys))))
    }
}

async fn fetch(config: &JwksConfig) -> Result<Cached<Keys>, ClientError> {
    let client = Client::new(ClientOptions {
        timeout: config.request_timeout,
        max_response: MAX_BYTES,
        ..ClientOptions::default()
    })?;
    let interval = config.min_refresh_interval;
    let freshness = Freshness {
        min: interval,
        max: interval,
        missing: interval,
    };
    let url = Client::parse(config.jwks.expose())?;
    Cached::open(client, url, freshness, |bytes| Keys::parse(bytes)).await
}

async fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = tokio::fs::metadata(path).await?;
    Ok(Stamp {
        modified: metadata.modified().ok(),
        length: metadata.len(),
    })
}

/// The file's keys. The stamp is taken first: a change meanwhile is seen the next time.
async fn read(path: &Path) -> Result<(Stamp, Arc<Keys>), String> {
    let stamp = stamp(path).await.map_err(|error| error.to_string())?;
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| error.to_string())?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| error.to_string())?;
    if bytes.len() > MAX_BYTES {
        return Err("it is too long for a key set".to_owned());
    }
    Ok((stamp, Arc::new(Keys::parse(&bytes)?)))
}

impl File {
    /// The keys as the file has them now; as it had them where it cannot be read.
    async fn keys(&self) -> Arc<Keys> {
        let (known_stamp, keys) = self.known.lock().clone();
        match stamp(&self.path).await {
            Ok(now) if now == known_stamp => return keys,
            Ok(_) => {}
            Err(error) => {
                tracing::error!("Error reading JWKS from disk: {error}");
                return keys;
            }
        }
        match read(&self.path).await {
            Ok(known) => {
                let keys = Arc::clone(&known.1);
                *self.known.lock() = known;
                keys
            }
            Err(reason) => {
                tracing::error!("Error reading JWKS from disk: failed to parse JWKS file: {reason}");
                keys
            }
        }
    }
}

impl KeySource for KeySet {
    async fn key(&self, name: &str) -> Result<Arc<Key>, Error> {
        let found = match &self.0 {
            Source::Inline(keys) => keys.get(name),
            Source::File(file) => file.keys().await.get(name),
            Source::Address(cached) => {
                let keys = cached.current();
                match keys.get(name) {
                    Some(key) => Some(key),
                    None => cached.after_missing(&keys).await.get(name),
                }
            }
        };
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "key not found"))
    }
}
