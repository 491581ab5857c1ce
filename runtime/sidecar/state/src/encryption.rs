//! Encryption at rest (A3.9; upstream `pkg/encryption`).
//!
//! Stored bytes are `base64(nonce ‖ AES-GCM ciphertext)`, `||` and the name of the key's secret; the name picks the key
//! on reading, so that keys can rotate: the secondary key of today is the primary of yesterday.

use std::fmt;

use aws_lc_rs::aead::{
    self, AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use outrigger_component::{Error, SecretString};

const SEPARATOR: &[u8] = b"||";

/// A key with the name of the secret it came from.
pub struct NamedKey {
    name: String,
    key: LessSafeKey,
}

impl NamedKey {
    /// Reads a hex key of 128, 192 or 256 bits.
    ///
    /// # Errors
    /// A configuration error; the key itself is never part of it.
    pub fn from_hex(name: impl Into<String>, hex_key: &SecretString) -> Result<Self, Error> {
        let bytes = hex::decode(hex_key.expose()).map_err(|_| {
            Error::configuration("failed to extract encryption key: it is not hexadecimal text")
        })?;
        let algorithm: &'static aead::Algorithm = match bytes.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            length => {
                return Err(Error::configuration(format!(
                    "failed to extract encryption key: {length} bytes; use 16, 24 or 32"
                )));
            }
        };
        let key = UnboundKey::new(algorithm, &bytes)
            .map_err(|_| Error::configuration("failed to extract encryption key: the cipher refuses it"))?;
        Ok(Self {
            name: name.into(),
            key: LessSafeKey::new(key),
        })
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The keys of one store.
#[derive(Debug)]
pub struct EncryptionKeys {
    /// Writes and reads.
    pub primary: NamedKey,
    /// Reads only.
    pub secondary: Option<NamedKey>,
}

impl EncryptionKeys {
    /// Encrypts a value.
    ///
    /// # Errors
    /// When no randomness is to be had.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Bytes, Error> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Error::internal("no randomness to be had"))?;
        let mut sealed = plain.to_vec();
        self.primary
            .key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .map_err(|_| Error::internal("encryption failed"))?;
        let mut whole = Vec::with_capacity(NONCE_LEN + sealed.len());
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&sealed);
        let mut text = STANDARD.encode(whole).into_bytes();
        text.extend_from_slice(SEPARATOR);
        text.extend_from_slice(self.primary.name.as_bytes());
        Ok(Bytes::from(text))
    }

    /// Decrypts a stored value; an empty one stays empty.
    ///
    /// # Errors
    /// When the value was not written by one of the keys, or was changed.
    pub fn decrypt(&self, stored: &[u8]) -> Result<Bytes, Error> {
        if stored.is_empty() {
            return Ok(Bytes::new());
        }
        let at = stored
            .windows(SEPARATOR.len())
            .rposition(|window| window == SEPARATOR)
            .ok_or_else(|| Error::internal("could not decrypt data: the value names no encryption key"))?;
        let name = &stored[at + SEPARATOR.len()..];
        let key = std::iter::once(&self.primary)
            .chain(&self.secondary)
            .find(|key| key.name.as_bytes() == name)
            .ok_or_else(|| Error::internal("could not decrypt data: no encryption key of that name"))?;
        let mut sealed = STANDARD
            .decode(&stored[..at])
            .map_err(|_| Error::internal("could not decrypt data: not base64"))?;
        if sealed.len() < NONCE_LEN {
            return Err(Error::internal("could not decrypt data: too short"));
        }
        let mut cipher = sealed.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&sealed)
            .map_err(|_| Error::internal("could not decrypt data"))?;
        let plain = key
            .key
            .open_in_place(nonce, Aad::empty(), &mut cipher)
            .map_err(|_| Error::internal("could not decrypt data: authentication failed"))?;
        let length = plain.len();
        cipher.truncate(length);
        Ok(Bytes::from(cipher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, byte: &str) -> NamedKey {
        NamedKey::from_hex(name, &byte.repeat(16).into()).unwrap()
    }

    #[test]
    fn rotated_keys_still_read() {
        let old = EncryptionKeys {
            primary: key("k1", "01"),
            secondary: None,
        };
        let stored = old.encrypt(b"value").unwrap();
        assert!(stored.ends_with(b"||k1"));
        assert!(!stored.windows(5).any(|window| window == b"value"));
        let new = EncryptionKeys {
            primary: key("k2", "02"),
            secondary: Some(key("k1", "01")),
        };
        assert_eq!(new.decrypt(&stored).unwrap(), "value");
        assert!(
            EncryptionKeys {
                primary: key("k2", "02"),
                secondary: None
            }
            .decrypt(&stored)
            .is_err()
        );
    }

    #[test]
    fn damaged_values_are_refused_and_never_panic() {
        let keys = EncryptionKeys {
            primary: key("k1", "01"),
            secondary: None,
        };
        for stored in [
            &b"x"[..],
            b"||k1",
            b"AAAA||k1",
            b"!!||k1",
            b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA||k1",
        ] {
            assert!(keys.decrypt(stored).is_err());
        }
        assert_eq!(keys.decrypt(b"").unwrap(), "");
    }

    #[test]
    fn keys_are_checked() {
        assert!(NamedKey::from_hex("k", &"zz".into()).is_err());
        assert!(NamedKey::from_hex("k", &"0102".into()).is_err());
        assert!(!format!("{:?}", key("k", "ab")).contains("ab"));
    }
}
