//! The algorithms of Dapr's kit (`crypto/consts.go`) by their JWA names.

mod rsa;
mod signature;
mod symmetric;
#[cfg(test)]
mod tests;

use crate::key::Key;

/// Algorithms for [`encrypt`] and [`decrypt`].
pub const ENCRYPTION: &[&str] = &[
    "A128CBC",
    "A192CBC",
    "A256CBC",
    "A128CBC-NOPAD",
    "A192CBC-NOPAD",
    "A256CBC-NOPAD",
    "A128GCM",
    "A192GCM",
    "A256GCM",
    "A128CBC-HS256",
    "A192CBC-HS384",
    "A256CBC-HS512",
    "A128KW",
    "A192KW",
    "A256KW",
    "C20P",
    "C20PKW",
    "XC20P",
    "XC20PKW",
    "RSA1_5",
    "RSA-OAEP",
    "RSA-OAEP-256",
    "RSA-OAEP-384",
    "RSA-OAEP-512",
];

/// Algorithms for [`sign`] and [`verify`].
pub const SIGNATURE: &[&str] = &[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
];

/// Why an operation failed. Nothing in it depends on secret bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// No such algorithm.
    #[error("unsupported algorithm")]
    UnsupportedAlgorithm,
    /// The key is of another kind or size than the algorithm wants, or lacks its private half.
    #[error("key type mismatch")]
    KeyTypeMismatch,
    /// The nonce has not the length that the algorithm wants.
    #[error("invalid nonce")]
    InvalidNonce,
    /// The tag has not the length that the algorithm wants.
    #[error("invalid tag")]
    InvalidTag,
    /// The plaintext has not a length that the algorithm can take.
    #[error("invalid plaintext length")]
    InvalidPlaintextLength,
    /// The ciphertext has not a length that the algorithm can make.
    #[error("invalid ciphertext length")]
    InvalidCiphertextLength,
    /// The digest has not the length of the algorithm's hash.
    #[error("invalid digest length")]
    InvalidDigestLength,
    /// Wrong key, or the data was changed.
    #[error("message authentication failed")]
    Authentication,
    /// The padding is not as it was made: wrong key, or the data was changed.
    #[error("pkcs7: incorrect padding")]
    Padding,
    /// The primitive refused.
    #[error("cryptographic operation failed")]
    Failed,
}

/// A ciphertext and the tag of authenticated modes (empty otherwise).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encrypted {
    /// The ciphertext.
    pub data: Vec<u8>,
    /// The tag.
    pub tag: Vec<u8>,
}

/// Encrypts a small message. `nonce` is ignored by RSA and key wrap; `associated_data` is RSA-OAEP's label and is
/// ignored where the algorithm has no place for it.
///
/// # Errors
/// When the algorithm is unknown or the key, the nonce or the message does not fit it.
pub fn encrypt(
    algorithm: &str,
    key: &Key,
    plaintext: &[u8],
    nonce: &[u8],
    associated_data: &[u8],
) -> Result<Encrypted, CryptoError> {
    if algorithm.starts_with("RSA") {
        return Ok(Encrypted {
            data: rsa::encrypt(algorithm, key, plaintext, associated_data)?,
            tag: Vec::new(),
        });
    }
    symmetric::encrypt(algorithm, key, plaintext, nonce, associated_data)
}

/// Undoes [`encrypt`].
///
/// # Errors
/// As [`encrypt`], and when the data was made with another key or was changed.
pub fn decrypt(
    algorithm: &str,
    key: &Key,
    ciphertext: &[u8],
    nonce: &[u8],
    tag: &[u8],
    associated_data: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    if algorithm.starts_with("RSA") {
        return rsa::decrypt(algorithm, key, ciphertext, associated_data);
    }
    symmetric::decrypt(algorithm, key, ciphertext, nonce, tag, associated_data)
}

/// Signs a digest (`EdDSA`: the whole message, which it hashes itself).
///
/// # Errors
/// When the algorithm is unknown or the key or the digest does not fit it.
pub fn sign(algorithm: &str, key: &Key, digest: &[u8]) -> Result<Vec<u8>, CryptoError> {
    signature::sign(algorithm, key, digest)
}

/// Checks a signature over a digest (`EdDSA`: over the whole message).
///
/// # Errors
/// As [`sign`]; a signature that does not match is `Ok(false)`.
pub fn verify(algorithm: &str, key: &Key, digest: &[u8], signature: &[u8]) -> Result<bool, CryptoError> {
    signature::verify(algorithm, key, digest, signature)
}
