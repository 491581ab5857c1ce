//! A provider with policy and metrics laid around each of its operations.

use std::sync::Arc;

use bytes::Bytes;
use outrigger_component::{Error, ErrorKind};
use outrigger_crypto::{CipherParams, CryptoProvider, KeyFormat, Sealed, SharedCryptoProvider};
use outrigger_sidecar_api::Loaded;
use outrigger_sidecar_resilience::{ComponentKind, RunError};
use outrigger_telemetry::metrics::ComponentCall;

use crate::call::Surroundings;

/// The label of everything but reading keys.
const CRYPTO_OP: &str = "crypto_op";

#[derive(Debug)]
pub(super) struct Guarded {
    loaded: Arc<Loaded<SharedCryptoProvider>>,
    around: Surroundings,
}

impl Guarded {
    pub(super) fn new(loaded: Arc<Loaded<SharedCryptoProvider>>, around: Surroundings) -> Self {
        Self { loaded, around }
    }

    async fn run<T, F>(
        &self,
        operation: &str,
        call: impl Fn(Arc<Loaded<SharedCryptoProvider>>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let name = &self.loaded.name;
        let began = self.around.clock();
        let done = self
            .around
            .outbound(name, ComponentKind::Crypto)
            .run(|_| call(Arc::clone(&self.loaded)))
            .await;
        self.around
            .count(ComponentCall::Crypto, name, operation, done.is_ok(), began);
        done.map_err(|error| match error {
            RunError::Op(error) => error,
            RunError::Timeout => Error::new(ErrorKind::Timeout, error.to_string()),
            RunError::BreakerOpen | RunError::TooManyRequests => Error::unavailable(error.to_string()),
        })
    }
}

impl CryptoProvider for Guarded {
    fn encryption_algorithms(&self) -> &[&'static str] {
        self.loaded.instance.encryption_algorithms()
    }

    fn signature_algorithms(&self) -> &[&'static str] {
        self.loaded.instance.signature_algorithms()
    }

    async fn public_key(&self, key: &str, format: KeyFormat) -> Result<Bytes, Error> {
        self.run("get", |loaded| async move {
            loaded.instance.public_key(key, format).await
        })
        .await
    }

    async fn encrypt(&self, plaintext: Bytes, params: CipherParams) -> Result<Sealed, Error> {
        self.run(CRYPTO_OP, |loaded| {
            let (input, params) = (plaintext.clone(), params.clone());
            async move { loaded.instance.encrypt(input, params).await }
        })
        .await
    }

    async fn decrypt(&self, ciphertext: Bytes, params: CipherParams) -> Result<Bytes, Error> {
        self.run(CRYPTO_OP, |loaded| {
            let (input, params) = (ciphertext.clone(), params.clone());
            async move { loaded.instance.decrypt(input, params).await }
        })
        .await
    }

    async fn wrap_key(&self, plaintext: Bytes, params: CipherParams) -> Result<Sealed, Error> {
        self.run(CRYPTO_OP, |loaded| {
            let (input, params) = (plaintext.clone(), params.clone());
            async move { loaded.instance.wrap_key(input, params).await }
        })
        .await
    }

    async fn unwrap_key(&self, wrapped: Bytes, params: CipherParams) -> Result<Bytes, Error> {
        self.run(CRYPTO_OP, |loaded| {
            let (input, params) = (wrapped.clone(), params.clone());
            async move { loaded.instance.unwrap_key(input, params).await }
        })
        .await
    }

    async fn sign(&self, digest: Bytes, algorithm: &str, key: &str) -> Result<Bytes, Error> {
        self.run(CRYPTO_OP, |loaded| {
            let digest = digest.clone();
            async move { loaded.instance.sign(digest, algorithm, key).await }
        })
        .await
    }

    async fn verify(
        &self,
        digest: Bytes,
        signature: Bytes,
        algorithm: &str,
        key: &str,
    ) -> Result<bool, Error> {
        self.run(CRYPTO_OP, |loaded| {
            let (digest, signature) = (digest.clone(), signature.clone());
            async move { loaded.instance.verify(digest, signature, algorithm, key).await }
        })
        .await
    }
}
