//! The provider over a folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use outrigger_component::{Error, ErrorKind};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::{
    key::{self, ContentType, Key},
    local::{KeySource, Local},
};

/// Longer files are no keys; a key of 16384 bits has some ten thousand bytes.
const MAX_KEY_BYTES: u64 = 1 << 20;

/// Uses keys that lie in files: the name of a key is the path of its file below the folder. Every use reads the
/// file, so that a replaced key takes effect at once.
#[derive(Debug)]
pub struct Folder {
    folder: PathBuf,
}

/// The provider.
pub type LocalStorage = Local<Folder>;

impl LocalStorage {
    /// Looks at the folder.
    ///
    /// # Errors
    /// When it is not there or no folder.
    pub async fn open(folder: PathBuf) -> Result<Self, Error> {
        let shown = folder.display().to_string();
        let metadata = tokio::fs::metadata(&folder).await.map_err(|error| {
            Error::configuration(format!("failed to load metadata: could not stat path '{shown}'"))
                .with_source(error)
        })?;
        if !metadata.is_dir() {
            return Err(Error::configuration(format!(
                "failed to load metadata: path '{shown}' is not a directory"
            )));
        }
        Ok(Self::new(Folder { folder }))
    }
}

impl KeySource for Folder {
    async fn key(&self, name: &str) -> Result<Arc<Key>, Error> {
        if name.contains("..") {
            return Err(Error::invalid("invalid key path: cannot contain '..'"));
        }
        // A leading slash would make the join forget the folder.
        let path = self.folder.join(name.trim_start_matches('/'));
        let bytes = read(&path).await.map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::InvalidData => ErrorKind::InvalidRequest,
                _ => ErrorKind::Internal,
            };
            Error::new(kind, format!("failed to load key '{name}'")).with_source(error)
        })?;
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        let content_type = match extension.to_ascii_lowercase().as_str() {
            "json" => ContentType::Json,
            "pem" => ContentType::Pem,
            _ => ContentType::Unknown,
        };
        key::parse(&bytes, content_type)
            .map(Arc::new)
            .map_err(|error| Error::invalid("failed to parse key from secret").with_source(error))
    }
}

async fn read(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = tokio::fs::File::open(path).await?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_KEY_BYTES + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > MAX_KEY_BYTES {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "too long for a key",
        ));
    }
    Ok(bytes)
}
