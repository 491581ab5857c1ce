//! What providers share that hold keys themselves: from a key's name to the operation with it (upstream's
//! `LocalCryptoBaseComponent`).

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use outrigger_component::{Error, ErrorKind};
use outrigger_crypto::{CipherParams, CryptoProvider, KeyFormat, Sealed};

use crate::{
    algorithm::{self, CryptoError},
    key::{Key, Operation},
};

/// Where a provider's keys are.
pub trait KeySource: fmt::Debug + Send + Sync + 'static {
    /// The key of this name.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn key(&self, name: &str) -> impl Future<Output = Result<Arc<Key>, Error>> + Send;
}

/// A provider over keys that it holds itself.
#[derive(Debug)]
pub struct Local<S>(S);

impl<S: KeySource> Local<S> {
    /// A provider over these keys.
    pub fn new(source: S) -> Self {
        Self(source)
    }

    /// The key for an operation, if it may do that with that algorithm.
    async fn key_for(&self, name: &str, operation: Operation, algorithm: &str) -> Result<Arc<Key>, Error> {
        let missing = match operation {
            Operation::WrapKey | Operation::UnwrapKey => "failed to retrieve the key encryption key",
            _ => "failed to retrieve the key",
        };
        let key = self
            .0
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

impl<S: KeySource> CryptoProvider for Local<S> {
    fn encryption_algorithms(&self) -> &[&'static str] {
        algorithm::ENCRYPTION
    }

    fn signature_algorithms(&self) -> &[&'static str] {
        algorithm::SIGNATURE
    }

    async fn public_key(&self, name: &str, format: KeyFormat) -> Result<Bytes, Error> {
        let key = self.0.key(name).await?;
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
