//! Cryptography without a key vault: `crypto.dapr.localstorage` and the streaming scheme `dapr.io/enc/v1` (A9.9).
//!
//! - [`key`]: keys as files hold them (JWK, PEM, raw bytes) and what a key may be used for;
//! - [`algorithm`]: every JWA algorithm of Dapr's kit over such keys;
//! - [`scheme`]: encryption and decryption of streams of any length in bounded memory, over any
//!   [`DynCryptoProvider`](outrigger_crypto::DynCryptoProvider);
//! - `localstorage`: the component.
//!
//! The file `testdata/README.md` says how the golden vectors were made.

pub mod algorithm;
pub mod key;
mod localstorage;
pub mod scheme;

pub use localstorage::{LOCAL_STORAGE, LocalStorage, LocalStorageConfig};
