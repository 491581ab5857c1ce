//! The key of one document and what is derived from it.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac, rand,
};
use outrigger_component::Error;
use zeroize::Zeroizing;

use super::manifest::{Cipher, Manifest};

/// Bytes of the key.
pub(super) const LENGTH: usize = 32;
/// Random bytes at the start of every nonce.
pub(super) const NONCE_PREFIX_LENGTH: usize = 7;
/// Bytes that sealing adds to a segment.
pub(super) const OVERHEAD: usize = 16;

/// The keys derived by HKDF-SHA-256: one signs the header, one seals the segments.
pub(super) struct FileKey {
    header: hmac::Key,
    payload: LessSafeKey,
    nonce_prefix: [u8; NONCE_PREFIX_LENGTH],
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        LENGTH
    }
}

/// A fresh key and nonce prefix.
pub(super) fn generate() -> Result<(Zeroizing<[u8; LENGTH]>, [u8; NONCE_PREFIX_LENGTH]), Error> {
    let mut key = Zeroizing::new([0; LENGTH]);
    let mut prefix = [0; NONCE_PREFIX_LENGTH];
    rand::fill(&mut *key)
        .and_then(|()| rand::fill(&mut prefix))
        .map_err(|_| Error::internal("failed to generate file key"))?;
    Ok((key, prefix))
}

fn derive(key: &[u8; LENGTH], salt: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; LENGTH]>, Error> {
    let mut out = Zeroizing::new([0; LENGTH]);
    Salt::new(HKDF_SHA256, salt)
        .extract(key)
        .expand(&[info], Bytes32)
        .and_then(|okm| okm.fill(&mut *out))
        .map_err(|_| Error::internal("failed to derive a key"))?;
    Ok(out)
}

impl FileKey {
    /// Derives the keys for a manifest.
    pub(super) fn new(key: &[u8; LENGTH], manifest: &Manifest) -> Result<Self, Error> {
        let header = derive(key, &[], b"header")?;
        let payload = derive(key, &manifest.nonce_prefix, b"payload")?;
        let algorithm = match manifest.cipher {
            Cipher::AesGcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let payload =
            UnboundKey::new(algorithm, &*payload).map_err(|_| Error::internal("failed to create cipher"))?;
        Ok(Self {
            header: hmac::Key::new(hmac::HMAC_SHA256, &*header),
            payload: LessSafeKey::new(payload),
            nonce_prefix: manifest.nonce_prefix,
        })
    }

    /// The code of a header's first two lines.
    pub(super) fn authenticate(&self, message: &[u8]) -> hmac::Tag {
        hmac::sign(&self.header, message)
    }

    /// Whether the code is right; in constant time.
    pub(super) fn is_authentic(&self, message: &[u8], code: &[u8]) -> bool {
        hmac::verify(&self.header, message, code).is_ok()
    }

    fn nonce(&self, number: u32, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..NONCE_PREFIX_LENGTH].copy_from_slice(&self.nonce_prefix);
        nonce[NONCE_PREFIX_LENGTH..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(last);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a segment where it lies.
    pub(super) fn seal(&self, segment: &mut Vec<u8>, number: u32, last: bool) -> bool {
        self.payload
            .seal_in_place_append_tag(self.nonce(number, last), Aad::empty(), segment)
            .is_ok()
    }

    /// Opens a segment where it lies.
    pub(super) fn open(&self, segment: &mut Vec<u8>, number: u32, last: bool) -> bool {
        let Ok(plain) = self
            .payload
            .open_in_place(self.nonce(number, last), Aad::empty(), segment)
        else {
            return false;
        };
        let length = plain.len();
        segment.truncate(length);
        true
    }
}
