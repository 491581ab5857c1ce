//! The cryptography block: trait of key providers and behaviour suite.
//!
//! A provider holds keys and uses them; the streaming scheme `dapr.io/enc/v1` is built on `wrap_key` and
//! `unwrap_key` in `outrigger-components-crypto`.

pub mod suite;

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use outrigger_component::Error;

/// How a public key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// PKIX PEM.
    Pem,
    /// JSON Web Key.
    Json,
}

/// A ciphertext with the tag of authenticated modes (empty otherwise).
#[derive(Debug, Clone, Default)]
pub struct Sealed {
    /// The ciphertext, or the wrapped key.
    pub data: Bytes,
    /// The authentication tag.
    pub tag: Bytes,
}

/// What goes into an encryption beside the plaintext; all may be empty.
#[derive(Debug, Clone, Default)]
pub struct CipherParams {
    /// JWA name of the algorithm, for example `RSA-OAEP-256` or `A256GCM`.
    pub algorithm: String,
    /// Name of the key, optionally `name/version`.
    pub key: String,
    /// Nonce or initialisation vector.
    pub nonce: Bytes,
    /// Authentication tag (decryption only).
    pub tag: Bytes,
    /// Associated data.
    pub associated_data: Bytes,
}

/// A provider of keys.
pub trait CryptoProvider: fmt::Debug + Send + Sync + 'static {
    /// Algorithms for [`CryptoProvider::encrypt`] and [`CryptoProvider::decrypt`].
    fn encryption_algorithms(&self) -> &[&'static str];
    /// Algorithms for signatures.
    fn signature_algorithms(&self) -> &[&'static str];
    /// The public part of a key.
    fn public_key(&self, key: &str, format: KeyFormat) -> impl Future<Output = Result<Bytes, Error>> + Send;
    /// Encrypts a small message.
    fn encrypt(
        &self,
        plaintext: Bytes,
        params: CipherParams,
    ) -> impl Future<Output = Result<Sealed, Error>> + Send;
    /// Decrypts a small message.
    fn decrypt(
        &self,
        ciphertext: Bytes,
        params: CipherParams,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;
    /// Encrypts a symmetric key.
    fn wrap_key(
        &self,
        plaintext: Bytes,
        params: CipherParams,
    ) -> impl Future<Output = Result<Sealed, Error>> + Send;
    /// Decrypts a symmetric key.
    fn unwrap_key(
        &self,
        wrapped: Bytes,
        params: CipherParams,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;
    /// Signs a digest.
    fn sign(
        &self,
        digest: Bytes,
        algorithm: &str,
        key: &str,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send;
    /// Checks a signature over a digest.
    fn verify(
        &self,
        digest: Bytes,
        signature: Bytes,
        algorithm: &str,
        key: &str,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
    /// Lets go of what it holds.
    fn close(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// The erased twin of [`CryptoProvider`].
pub trait DynCryptoProvider: fmt::Debug + Send + Sync + 'static {
    /// See [`CryptoProvider::encryption_algorithms`].
    fn encryption_algorithms(&self) -> &[&'static str];
    /// See [`CryptoProvider::signature_algorithms`].
    fn signature_algorithms(&self) -> &[&'static str];
    /// See [`CryptoProvider::public_key`].
    fn public_key<'a>(&'a self, key: &'a str, format: KeyFormat) -> BoxFuture<'a, Result<Bytes, Error>>;
    /// See [`CryptoProvider::encrypt`].
    fn encrypt(&self, plaintext: Bytes, params: CipherParams) -> BoxFuture<'_, Result<Sealed, Error>>;
    /// See [`CryptoProvider::decrypt`].
    fn decrypt(&self, ciphertext: Bytes, params: CipherParams) -> BoxFuture<'_, Result<Bytes, Error>>;
    /// See [`CryptoProvider::wrap_key`].
    fn wrap_key(&self, plaintext: Bytes, params: CipherParams) -> BoxFuture<'_, Result<Sealed, Error>>;
    /// See [`CryptoProvider::unwrap_key`].
    fn unwrap_key(&self, wrapped: Bytes, params: CipherParams) -> BoxFuture<'_, Result<Bytes, Error>>;
    /// See [`CryptoProvider::sign`].
    fn sign<'a>(
        &'a self,
        digest: Bytes,
        algorithm: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Bytes, Error>>;
    /// See [`CryptoProvider::verify`].
    fn verify<'a>(
        &'a self,
        digest: Bytes,
        signature: Bytes,
        algorithm: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>>;
    /// See [`CryptoProvider::close`].
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A shared provider.
pub type SharedCryptoProvider = Arc<dyn DynCryptoProvider>;

impl<P: CryptoProvider> DynCryptoProvider for P {
    fn encryption_algorithms(&self) -> &[&'static str] {
        CryptoProvider::encryption_algorithms(self)
    }
    fn signature_algorithms(&self) -> &[&'static str] {
        CryptoProvider::signature_algorithms(self)
    }
    fn public_key<'a>(&'a self, key: &'a str, format: KeyFormat) -> BoxFuture<'a, Result<Bytes, Error>> {
        Box::pin(CryptoProvider::public_key(self, key, format))
    }
    fn encrypt(&self, plaintext: Bytes, params: CipherParams) -> BoxFuture<'_, Result<Sealed, Error>> {
        Box::pin(CryptoProvider::encrypt(self, plaintext, params))
    }
    fn decrypt(&self, ciphertext: Bytes, params: CipherParams) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(CryptoProvider::decrypt(self, ciphertext, params))
    }
    fn wrap_key(&self, plaintext: Bytes, params: CipherParams) -> BoxFuture<'_, Result<Sealed, Error>> {
        Box::pin(CryptoProvider::wrap_key(self, plaintext, params))
    }
    fn unwrap_key(&self, wrapped: Bytes, params: CipherParams) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(CryptoProvider::unwrap_key(self, wrapped, params))
    }
    fn sign<'a>(
        &'a self,
        digest: Bytes,
        algorithm: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        Box::pin(CryptoProvider::sign(self, digest, algorithm, key))
    }
    fn verify<'a>(
        &'a self,
        digest: Bytes,
        signature: Bytes,
        algorithm: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(CryptoProvider::verify(self, digest, signature, algorithm, key))
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(CryptoProvider::close(self))
    }
}
