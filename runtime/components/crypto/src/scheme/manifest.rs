//! The manifest: what a document says about itself.

use base64::{Engine, engine::general_purpose::STANDARD};
use outrigger_component::Error;
use serde::{Deserialize, Serialize};

use super::file_key::NONCE_PREFIX_LENGTH;

/// A name or number that the scheme does not know.
#[derive(Debug, thiserror::Error)]
#[error("{what} {name} is not supported")]
pub struct Unsupported {
    what: &'static str,
    name: String,
}

/// How a document's key is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// AES key wrap, 256 bits (`A256KW`, also called `AES`).
    Aes256Kw,
    /// AES-CBC without padding, 128 bits.
    Aes128Cbc,
    /// AES-CBC without padding, 192 bits.
    Aes192Cbc,
    /// AES-CBC without padding, 256 bits.
    Aes256Cbc,
    /// RSA-OAEP with SHA-256 (`RSA-OAEP-256`, also called `RSA`).
    RsaOaep256,
}

impl KeyAlgorithm {
    const ALL: [Self; 5] = [
        Self::Aes256Kw,
        Self::Aes128Cbc,
        Self::Aes192Cbc,
        Self::Aes256Cbc,
        Self::RsaOaep256,
    ];

    /// The algorithm of a name or alias.
    ///
    /// # Errors
    /// When there is none.
    pub fn parse(name: &str) -> Result<Self, Unsupported> {
        match name {
            "AES" => Ok(Self::Aes256Kw),
            "RSA" => Ok(Self::RsaOaep256),
            _ => Self::ALL
                .into_iter()
                .find(|algorithm| algorithm.name() == name)
                .ok_or_else(|| Unsupported {
                    what: "algorithm",
                    name: name.to_owned(),
                }),
        }
    }

    /// Its JWA name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Kw => "A256KW",
            Self::Aes128Cbc => "A128CBC-NOPAD",
            Self::Aes192Cbc => "A192CBC-NOPAD",
            Self::Aes256Cbc => "A256CBC-NOPAD",
            Self::RsaOaep256 => "RSA-OAEP-256",
        }
    }

    fn id(self) -> u8 {
        match self {
            Self::Aes256Kw => 1,
            Self::Aes128Cbc => 2,
            Self::Aes192Cbc => 3,
            Self::Aes256Cbc => 4,
            Self::RsaOaep256 => 5,
        }
    }
}

/// How a document is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cipher {
    /// `AES-GCM`, 256 bits.
    #[default]
    AesGcm,
    /// `CHACHA20-POLY1305`.
    ChaCha20Poly1305,
}

impl Cipher {
    /// The cipher of a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn parse(name: &str) -> Result<Self, Unsupported> {
        match name {
            "AES-GCM" => Ok(Self::AesGcm),
            "CHACHA20-POLY1305" => Ok(Self::ChaCha20Poly1305),
            _ => Err(Unsupported {
                what: "cipher",
                name: name.to_owned(),
            }),
        }
    }

    fn id(self) -> u8 {
        match self {
            Self::AesGcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }
}

/// The manifest, checked.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    /// Empty where the document names no key.
    pub(super) key_name: String,
    pub(super) key_wrapping_algorithm: KeyAlgorithm,
    pub(super) wrapped_file_key: Vec<u8>,
    pub(super) cipher: Cipher,
    pub(super) nonce_prefix: [u8; NONCE_PREFIX_LENGTH],
}

/// The manifest as JSON; the order of the members is Go's.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    k: String,
    kw: u8,
    wfk: String,
    cph: u8,
    np: String,
}

impl Manifest {
    pub(super) fn to_json(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(&Wire {
            k: self.key_name.clone(),
            kw: self.key_wrapping_algorithm.id(),
            wfk: STANDARD.encode(&self.wrapped_file_key),
            cph: self.cipher.id(),
            np: STANDARD.encode(self.nonce_prefix),
        })
        .map_err(|error| Error::internal("failed to encode JSON manifest").with_source(error))
    }

    /// Says only that a manifest is invalid, not why: it was not authenticated yet.
    pub(super) fn parse(json: &[u8]) -> Result<Self, Error> {
        Self::read(json).ok_or_else(|| Error::invalid("invalid header: invalid manifest"))
    }

    fn read(json: &[u8]) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(json).ok()?;
        let wrapped_file_key = STANDARD.decode(&wire.wfk).ok()?;
        Some(Self {
            key_name: wire.k,
            key_wrapping_algorithm: KeyAlgorithm::ALL
                .into_iter()
                .find(|algorithm| algorithm.id() == wire.kw)?,
            wrapped_file_key: (!wrapped_file_key.is_empty()).then_some(wrapped_file_key)?,
            cipher: [Cipher::AesGcm, Cipher::ChaCha20Poly1305]
                .into_iter()
                .find(|cipher| cipher.id() == wire.cph)?,
            nonce_prefix: STANDARD.decode(&wire.np).ok()?.try_into().ok()?,
        })
    }
}
