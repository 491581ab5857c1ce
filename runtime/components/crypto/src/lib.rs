//! Cryptography without a key vault: `crypto.dapr.localstorage`, `crypto.dapr.jwks` and the streaming scheme
//! `dapr.io/enc/v1` (A9.9).
//!
//! - [`key`]: keys as files hold them (JWK, PEM, raw bytes) and what a key may be used for;
//! - [`algorithm`]: every JWA algorithm of Dapr's kit over such keys;
//! - [`scheme`]: encryption and decryption of streams of any length in bounded memory, over any
//!   [`DynCryptoProvider`](outrigger_crypto::DynCryptoProvider);
//! - [`local`]: a provider over keys that it holds itself;
//! - `localstorage`, `jwks`: the components, which say where the keys are.
//!
//! The file `testdata/README.md` says how the golden vectors were made.

pub mod algorithm;
mod jwks;
pub mod key;
pub mod local;
mod localstorage;
pub mod scheme;

pub use jwks::{JWKS, Jwks, JwksConfig, KeySet};
pub use localstorage::{Folder, LOCAL_STORAGE, LocalStorage, LocalStorageConfig};
