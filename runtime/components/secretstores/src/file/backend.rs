//! The store over a JSON file.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Mutex, sync::PoisonError};

use outrigger_component::{Error, ErrorKind, Metadata};
use outrigger_secrets::{Secret, SecretStore};
use serde_json::{Map, Value};

use super::{FileConfig, flatten};

/// Larger files are no secrets files; the bound keeps a wrong path from filling the memory.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Serves the secrets of one file. The file is read anew for every request, so that rotated values are seen at
/// once (A4.7; upstream reads it at start only). A file that cannot be read or parsed for the moment, because an
/// editor is writing it, leaves the last good secrets in place.
pub struct FileStore {
    config: FileConfig,
    path: PathBuf,
    last_good: Mutex<BTreeMap<String, Secret>>,
}

impl FileStore {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When there is no such file or it holds no JSON object.
    pub async fn open(config: FileConfig, path: PathBuf) -> Result<Self, Error> {
        let secrets = read(&path, &config).await?;
        Ok(Self {
            config,
            path,
            last_good: Mutex::new(secrets),
        })
    }

    async fn refresh(&self) {
        match read(&self.path, &self.config).await {
            Ok(secrets) => *self.last_good.lock().unwrap_or_else(PoisonError::into_inner) = secrets,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), error = %error.chain(), "keeping the last good secrets");
            }
        }
    }
}

async fn read(path: &PathBuf, config: &FileConfig) -> Result<BTreeMap<String, Secret>, Error> {
    let failed = |error: std::io::Error| {
        Error::configuration(format!("cannot read the secrets file {}", path.display())).with_source(error)
    };
    let length = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Error::configuration(format!(
            "the secrets file {} has {length} bytes, more than the allowed {MAX_FILE_BYTES}",
            path.display()
        )));
    }
    let text = tokio::fs::read(path).await.map_err(failed)?;
    // The parser's message names line and column only, never the text, so that no secret can leak through it.
    let document: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| {
        Error::configuration(format!(
            "the secrets file {} is not a JSON object (line {}, column {})",
            path.display(),
            error.line(),
            error.column()
        ))
    })?;
    Ok(flatten::secrets(&document, config))
}

impl SecretStore for FileStore {
    fn multi_valued(&self) -> bool {
        self.config.multi_valued
    }

    async fn get(&self, name: &str, _metadata: &Metadata) -> Result<Secret, Error> {
        self.refresh().await;
        let secrets = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        secrets
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("secret {name} not found")))
    }

    async fn all(&self, _metadata: &Metadata) -> Result<BTreeMap<String, Secret>, Error> {
        self.refresh().await;
        Ok(self
            .last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
