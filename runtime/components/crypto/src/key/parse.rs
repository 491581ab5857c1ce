//! From the bytes of a file to a key.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{Key, der, jwk, pem};

/// What the bytes are said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// One JWK.
    Json,
    /// PEM: PKCS#8, PKCS#1, SEC 1, PKIX or a certificate.
    Pem,
    /// To be found out.
    Unknown,
}

/// Why bytes are no key. Never shows any of them.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No bytes.
    #[error("key is empty")]
    Empty,
    /// Not a JWK.
    #[error("not a valid JWK: {0}")]
    Jwk(&'static str),
    /// Not PEM.
    #[error("not valid PEM: {0}")]
    Pem(&'static str),
    /// The DER inside the PEM is not what its label says.
    #[error("not a valid DER encoding of a key")]
    Der,
    /// A kind of key that nothing here can use.
    #[error("invalid key type")]
    UnsupportedKind,
}

const RAW: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::RequireNone);

/// Reads a key as Dapr's kit does (`crypto/keys.go`): by its stated type, else by how it begins: `{` is a JWK unless
/// the length is that of an AES key, `-----` is PEM, everything else a symmetric key, in base64 (either alphabet,
/// padded or not) where it decodes, as it stands where not.
///
/// # Errors
/// When it is no key.
pub fn parse(bytes: &[u8], content_type: ContentType) -> Result<Key, KeyError> {
    let first = *bytes.first().ok_or(KeyError::Empty)?;
    match content_type {
        ContentType::Json => jwk::read(bytes),
        ContentType::Pem => der::read(&pem::read(bytes)?),
        ContentType::Unknown if first == b'{' && !matches!(bytes.len(), 16 | 24 | 32) => jwk::read(bytes),
        ContentType::Unknown if bytes.len() > 10 && bytes.starts_with(b"-----") => {
            der::read(&pem::read(bytes)?)
        }
        ContentType::Unknown => Ok(symmetric(bytes)),
    }
}

fn symmetric(bytes: &[u8]) -> Key {
    let end = bytes
        .iter()
        .rposition(|byte| !matches!(byte, b'\n' | b'='))
        .map_or(0, |last| last + 1);
    // Go's decoder skips line breaks inside the text.
    let text: Vec<u8> = bytes[..end]
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect();
    for alphabet in [&STANDARD, &URL_SAFE] {
        if let Ok(decoded) = GeneralPurpose::new(alphabet, RAW).decode(&text) {
            return Key::symmetric(decoded);
        }
    }
    Key::symmetric(bytes)
}
