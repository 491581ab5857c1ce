//! The store over Vault's HTTP API (components-contrib `secretstores/hashicorp/vault/vault.go`).

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Mutex, sync::PoisonError};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, StatusCode};
use outrigger_component::{Error, ErrorKind, Host, Metadata, SecretString};
use outrigger_secrets::{Secret, SecretStore};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    VaultConfig,
    client::{Answer, Client},
    config::Token,
    tls,
};

/// What stays as it is in a path: RFC 3986's unreserved characters and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Secrets of a bulk read fetched at once.
const AT_ONCE: usize = 8;
/// Secrets of a bulk read, and folders visited for it.
const MAX_SECRETS: usize = 10_000;
/// As much of an error's body as goes into its text.
const MAX_TEXT: usize = 4096;

/// The secrets of one folder of one engine.
pub struct VaultStore {
    config: VaultConfig,
    client: Client,
    token: TokenSource,
}

enum TokenSource {
    Fixed(SecretString),
    File {
        path: PathBuf,
        last_good: Mutex<SecretString>,
    },
}

/// An answer to a read of several keys.
#[derive(Deserialize)]
struct Keys {
    data: Option<KeysData>,
}

#[derive(Deserialize)]
struct KeysData {
    data: Option<BTreeMap<String, Value>>,
}

/// A value on its way into a [`SecretString`]; `null` is empty, as Go decodes it.
#[derive(Deserialize)]
#[serde(transparent)]
struct Value(Option<String>);

/// An answer to a read of a text.
#[derive(Deserialize)]
struct Text {
    data: Option<TextData>,
}

#[derive(Deserialize)]
struct TextData {
    data: Option<Box<RawValue>>,
}

/// An answer to a listing.
#[derive(Deserialize)]
struct Listing {
    data: Option<ListingData>,
}

#[derive(Deserialize)]
struct ListingData {
    #[serde(default)]
    keys: Vec<String>,
}

impl VaultStore {
    /// Reads the token and the roots. Vault itself is not asked yet, as upstream does not.
    ///
    /// # Errors
    /// When the token file or a root certificate cannot be read.
    pub async fn open(config: VaultConfig, host: &Host) -> Result<Self, Error> {
        let token = match &config.token {
            Token::Value(token) => TokenSource::Fixed(token.clone()),
            Token::File(file) => {
                let path = host.path(file);
                let first = read_token(&path).await.map_err(|error| {
                    Error::configuration(format!(
                        "couldn't read vault token from mount path {file} err: {error}"
                    ))
                })?;
                TokenSource::File {
                    path,
                    last_good: Mutex::new(first),
                }
            }
        };
        let tls = tls::options(&config.trust, config.server_name.as_deref(), host).await?;
        let client = Client::new(tls)?;
        Ok(Self {
            config,
            client,
            token,
        })
    }

    async fn token(&self) -> SecretString {
        match &self.token {
            TokenSource::Fixed(token) => token.clone(),
            TokenSource::File { path, last_good } => {
                // An agent may be writing it at this moment.
                let read = read_token(path).await.ok();
                let mut last_good = last_good.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(token) = read.filter(|token| !token.expose().is_empty()) {
                    *last_good = token;
                }
                last_good.clone()
            }
        }
    }

    async fn call(&self, method: &Method, address: &str) -> Result<Answer, Error> {
        let token = self.token().await;
        self.client.call(method, address, &token, Bytes::new()).await
    }

    /// The address of something below the engine's `data` or `metadata`.
    fn address(&self, kind: &str, path: &str) -> String {
        let VaultConfig {
            address,
            engine,
            prefix,
            ..
        } = &self.config;
        let slash = if prefix.is_empty() { "" } else { "/" };
        let (engine, prefix, path) = (encoded(engine), encoded(prefix), encoded(path));
        format!("{address}/v1/{engine}/{kind}/{prefix}{slash}{path}")
    }

    /// One secret of a version, 0 for the newest.
    async fn read(&self, name: &str, version: &str) -> Result<Secret, Error> {
        if name.split('/').any(|step| matches!(step, "." | "..")) {
            return Err(not_found(name));
        }
        let version = encoded(version);
        let address = format!("{}?version={version}", self.address("data", name));
        let answer = self.call(&Method::GET, &address).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(not_found(name)),
            status => {
                return Err(Error::new(
                    kind(status),
                    format!(
                        "couldn't get successful response, status code {}, body {}",
                        status.as_u16(),
                        shown(&answer.body)
                    ),
                ));
            }
        }
        if self.config.text {
            let text = as_text(&answer.body)?;
            return Ok(Secret::from([(name.to_owned(), text)]));
        }
        let keys: Keys = serde_json::from_slice(&answer.body).map_err(undecoded)?;
        let values = keys.data.and_then(|data| data.data).unwrap_or_default();
        Ok(values
            .into_iter()
            .map(|(key, value)| (key, value.0.unwrap_or_default().into()))
            .collect())
    }

    /// The names of all secrets below the prefix, folder by folder.
    async fn list(&self) -> Result<Vec<String>, Error> {
        let mut folders = vec![String::new()];
        let mut names = Vec::new();
        let mut visited = 0;
        while let Some(folder) = folders.pop() {
            let list = Method::from_bytes(b"LIST")
                .map_err(|error| Error::internal("couldn't generate request").with_source(error))?;
            let answer = self.call(&list, &self.address("metadata", &folder)).await?;
            if answer.status != StatusCode::OK {
                return Err(Error::new(
                    kind(answer.status),
                    format!(
                        "list keys couldn't get successful response, status code: {}, status: {}, response {}",
                        answer.status.as_u16(),
                        answer.status,
                        shown(&answer.body)
                    ),
                ));
            }
            let listing: Listing = serde_json::from_slice(&answer.body).map_err(undecoded)?;
            for key in listing.data.map(|data| data.keys).unwrap_or_default() {
                let path = format!("{folder}{key}");
                if key.ends_with('/') {
                    folders.push(path);
                } else {
                    names.push(path);
                }
            }
            visited += 1;
            if names.len() > MAX_SECRETS || visited + folders.len() > MAX_SECRETS {
                return Err(Error::new(
                    ErrorKind::Exhausted,
                    format!("there are more than {MAX_SECRETS} secrets below the prefix"),
                ));
            }
        }
        Ok(names)
    }
}

impl SecretStore for VaultStore {
    fn multi_valued(&self) -> bool {
        !self.config.text
    }

    async fn get(&self, name: &str, metadata: &Metadata) -> Result<Secret, Error> {
        self.read(name, version(metadata)).await
    }

    async fn all(&self, metadata: &Metadata) -> Result<BTreeMap<String, Secret>, Error> {
        let version = version(metadata);
        let names = self.list().await?;
        let found = stream::iter(names)
            .map(async |name| match self.read(&name, version).await {
                Ok(secret) => Ok(Some((name, secret))),
                // Not in this version, or deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            })
            .buffer_unordered(AT_ONCE)
            .try_filter_map(async |found| Ok(found));
        found.try_collect().await
    }

    async fn ping(&self) -> Result<(), Error> {
        let address = format!(
            "{}/v1/sys/health?standbyok=true&perfstandbyok=true",
            self.config.address
        );
        let answer = self.call(&Method::GET, &address).await?;
        if answer.status.is_server_error() {
            return Err(Error::unavailable(format!(
                "vault is sealed or not initialized, status code {}",
                answer.status.as_u16()
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for VaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultStore")
            .field("address", &self.config.address)
            .field("engine", &self.config.engine)
            .field("prefix", &self.config.prefix)
            .finish_non_exhaustive()
    }
}

async fn read_token(path: &PathBuf) -> std::io::Result<SecretString> {
    let text = tokio::fs::read_to_string(path).await?;
    Ok(text.trim().into())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

fn version(metadata: &Metadata) -> &str {
    metadata.get("version_id").map_or("0", String::as_str)
}

fn not_found(name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("getSecret {name} failed secret key or version not exist"),
    )
}

fn kind(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        401 | 403 => ErrorKind::Forbidden,
        400 => ErrorKind::InvalidRequest,
        429 | 500..=599 => ErrorKind::Unavailable,
        other => ErrorKind::Status(other.into()),
    }
}

/// Vault's own words about a failure; no secret is in them.
fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(MAX_TEXT)]).into_owned()
}

/// Place and kind of a decoding failure, never the text around it.
#[allow(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn undecoded(error: serde_json::Error) -> Error {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a value is not a string",
        _ => "it is not JSON",
    };
    Error::internal(format!(
        "couldn't decode response body: {what} (line {}, column {})",
        error.line(),
        error.column()
    ))
}

/// The whole secret as one text: an object as JSON, as Vault wrote it; a string as it is.
fn as_text(body: &[u8]) -> Result<SecretString, Error> {
    let text: Text = serde_json::from_slice(body).map_err(undecoded)?;
    let Some(raw) = text.data.and_then(|data| data.data) else {
        return Ok("".into());
    };
    match serde_json::from_str::<String>(raw.get()) {
        Ok(string) => Ok(string.into()),
        Err(_) => Ok(raw.get().into()),
    }
}
