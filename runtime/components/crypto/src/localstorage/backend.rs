//! The provider over a folder.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use outrigger_component::{Error, ErrorKind};
use outrigger_crypto::{CipherParams, CryptoProvider, KeyFormat, Sealed};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::{
    algorithm::{self, CryptoError},
    key::{self, ContentType, Key, Operation},
};

/// Longer files are no keys; a key of 16384 bits has some ten thousand bytes.
const MAX_KEY_BYTES: u64 = 1 << 20;

/// Uses keys that lie in files: the name of a key is the path of its file below the folder. Every use reads the
/// file, so that a replaced key takes effect at once.
#[derive(Debug)]
pub struct LocalStorage {
    folder: PathBuf,
}

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
        Ok(Self { folder })
    }

    async fn key(&self, name: &str) -> Result<Key, Error> {
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
            .map_err(|error| Error::invalid("failed to parse key from secret").with_source(error))
    }

    /// The key for an operation, if it may do that with that algorithm.
    async fn key_for(&self, name: &str, operation: Operation, algorithm: &str) -> Result<Key, Error> {
        let missing = match operation {
            Operation::WrapKey | Operation::UnwrapKey => "failed to retrieve the key encryption key",
            _ => "failed to retrieve the key",
        };
        let key = self
            .key(name)
            .await
            .map_err(|error| Error::new(error.kind(), missing).with_source(error))?;
        if !key.can(operation) {
            return Err(Error::invalid(format!(
                "key cannot perform the '{}' operation",
                operation.name()
            )));
        }
        if !key.fits(algorithm) {
            return Err(Error::invalid(format!(
                "key cannot be used with algorithm '{algorithm}'"
            )));
        }
        Ok(key)
    }

    async fn seal(
        &self,
        operation: Operation,
        plaintext: &[u8],
        params: &CipherParams,
    ) -> Result<Sealed, Error> {
        let key = self.key_for(&params.key, operation, &params.algorithm).await?;
        algorithm::encrypt(
            &params.algorithm,
            &key,
            plaintext,
            &params.nonce,
            &params.associated_data,
        )
        .map(|encrypted| Sealed {
            data: encrypted.data.into(),
            tag: encrypted.tag.into(),
        })
        .map_err(|error| failed("failed to encrypt data", error))
    }

    async fn unseal(
        &self,
        operation: Operation,
        ciphertext: &[u8],
        params: &CipherParams,
    ) -> Result<Bytes, Error> {
        let key = self.key_for(&params.key, operation, &params.algorithm).await?;
        algorithm::decrypt(
            &params.algorithm,
            &key,
            ciphertext,
            &params.nonce,
            &params.tag,
            &params.associated_data,
        )
        .map(Bytes::from)
        .map_err(|error| failed("failed to decrypt data", error))
    }
}

fn failed(message: &'static str, error: CryptoError) -> Error {
    let kind = if error == CryptoError::Failed {
        ErrorKind::Internal
    } else {
        ErrorKind::InvalidRequest
    };
    Error::new(kind, message).with_source(error)
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

impl CryptoProvider for LocalStorage {
    fn encryption_algorithms(&self) -> &[&'static str] {
        algorithm::ENCRYPTION
    }

    fn signature_algorithms(&self) -> &[&'static str] {
        algorithm::SIGNATURE
    }

    async fn public_key(&self, name: &str, format: KeyFormat) -> Result<Bytes, Error> {
        let key = self.key(name).await?;
        let bytes = match format {
            KeyFormat::Pem => key.public_pem().map(String::into_bytes),
            KeyFormat::Json => key.public_jwk(),
        };
        // A symmetric key has nothing to show: as if it were not there.
        bytes
            .map(Bytes::from)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "key not found"))
    }

    async fn encrypt(&self, plaintext: Bytes, params: CipherParams) -> Result<Sealed, Error> {
        self.seal(Operation::Encrypt, &plaintext, &params).await
    }

    async fn decrypt(&self, ciphertext: Bytes, params: CipherParams) -> Result<Bytes, Error> {
        self.unseal(Operation::Decrypt, &ciphertext, &params).await
    }

    async fn wrap_key(&self, plaintext: Bytes, params: CipherParams) -> Result<Sealed, Error> {
        self.seal(Operation::WrapKey, &plaintext, &params).await
    }

    async fn unwrap_key(&self, wrapped: Bytes, params: CipherParams) -> Result<Bytes, Error> {
        self.unseal(Operation::UnwrapKey, &wrapped, &params).await
    }

    async fn sign(&self, digest: Bytes, algorithm: &str, name: &str) -> Result<Bytes, Error> {
        let key = self.key_for(name, Operation::Sign, algorithm).await?;
        algorithm::sign(algorithm, &key, &digest)
            .map(Bytes::from)
            .map_err(|error| failed("failed to sign message", error))
    }

    async fn verify(
        &self,
        digest: Bytes,
        signature: Bytes,
        algorithm: &str,
        name: &str,
    ) -> Result<bool, Error> {
        let key = self.key_for(name, Operation::Verify, algorithm).await?;
        algorithm::verify(algorithm, &key, &digest, &signature)
            .map_err(|error| failed("failed to validate the signature", error))
    }
}
