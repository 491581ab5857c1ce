//! Symmetric encryption: AES in CBC, CBC with HMAC, GCM and key wrap, ChaCha20-Poly1305 with both nonce lengths.

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::NoPadding},
};
use aes_kw::{AesKw, KeyInit};
use aws_lc_rs::{
    aead::{
        AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce,
        UnboundKey,
    },
    constant_time::verify_slices_are_equal,
    hmac,
};
use chacha20poly1305::{AeadInOut, XChaCha20Poly1305};

use super::{CryptoError, Encrypted};
use crate::key::{Key, Material};

const BLOCK: usize = 16;
const AEAD_TAG: usize = 16;

/// Bits of the AES key.
#[derive(Clone, Copy)]
enum Size {
    B128,
    B192,
    B256,
}

impl Size {
    fn bytes(self) -> usize {
        match self {
            Self::B128 => 16,
            Self::B192 => 24,
            Self::B256 => 32,
        }
    }
}

enum Mode {
    Cbc { size: Size, padded: bool },
    CbcHmac(Size),
    Gcm(Size),
    KeyWrap(Size),
    ChaCha,
    XChaCha,
}

fn mode(algorithm: &str) -> Result<Mode, CryptoError> {
    Ok(match algorithm {
        "C20P" | "C20PKW" => Mode::ChaCha,
        "XC20P" | "XC20PKW" => Mode::XChaCha,
        "A128CBC-HS256" => Mode::CbcHmac(Size::B128),
        "A192CBC-HS384" => Mode::CbcHmac(Size::B192),
        "A256CBC-HS512" => Mode::CbcHmac(Size::B256),
        _ => {
            let (size, mode) = algorithm
                .split_at_checked(4)
                .ok_or(CryptoError::UnsupportedAlgorithm)?;
            let size = match size {
                "A128" => Size::B128,
                "A192" => Size::B192,
                "A256" => Size::B256,
                _ => return Err(CryptoError::UnsupportedAlgorithm),
            };
            match mode {
                "CBC" => Mode::Cbc { size, padded: true },
                "CBC-NOPAD" => Mode::Cbc { size, padded: false },
                "GCM" => Mode::Gcm(size),
                "KW" => Mode::KeyWrap(size),
                _ => return Err(CryptoError::UnsupportedAlgorithm),
            }
        }
    })
}

fn key_bytes(key: &Key) -> Result<&[u8], CryptoError> {
    match &key.material {
        Material::Symmetric(bytes) => Ok(bytes),
        _ => Err(CryptoError::KeyTypeMismatch),
    }
}

pub(super) fn encrypt(
    algorithm: &str,
    key: &Key,
    plaintext: &[u8],
    nonce: &[u8],
    associated_data: &[u8],
) -> Result<Encrypted, CryptoError> {
    let mode = mode(algorithm)?;
    let key = key_bytes(key)?;
    let untagged = |data| Encrypted {
        data,
        tag: Vec::new(),
    };
    match mode {
        Mode::Cbc { size, padded } => {
            check(key.len() == size.bytes(), CryptoError::KeyTypeMismatch)?;
            check(nonce.len() == BLOCK, CryptoError::InvalidNonce)?;
            check(
                padded || plaintext.len().is_multiple_of(BLOCK),
                CryptoError::InvalidPlaintextLength,
            )?;
            let text = if padded {
                pad(plaintext)
            } else {
                plaintext.to_vec()
            };
            cbc_encrypt(size, key, nonce, text).map(untagged)
        }
        Mode::CbcHmac(size) => {
            check(key.len() == 2 * size.bytes(), CryptoError::KeyTypeMismatch)?;
            check(nonce.len() == BLOCK, CryptoError::InvalidNonce)?;
            let (mac_key, enc_key) = key.split_at(size.bytes());
            let data = cbc_encrypt(size, enc_key, nonce, pad(plaintext))?;
            let tag = hmac_tag(size, mac_key, associated_data, nonce, &data);
            Ok(Encrypted { data, tag })
        }
        Mode::Gcm(size) => {
            check(key.len() == size.bytes(), CryptoError::KeyTypeMismatch)?;
            seal(gcm(size), key, plaintext, nonce, associated_data)
        }
        Mode::ChaCha => {
            check(key.len() == 32, CryptoError::KeyTypeMismatch)?;
            seal(&CHACHA20_POLY1305, key, plaintext, nonce, associated_data)
        }
        Mode::XChaCha => {
            let (cipher, nonce) = xchacha(key, nonce)?;
            let mut data = plaintext.to_vec();
            let tag = cipher
                .encrypt_inout_detached(&nonce.into(), associated_data, data.as_mut_slice().into())
                .map_err(|_| CryptoError::InvalidPlaintextLength)?;
            Ok(Encrypted {
                data,
                tag: tag.to_vec(),
            })
        }
        Mode::KeyWrap(size) => {
            check(key.len() == size.bytes(), CryptoError::KeyTypeMismatch)?;
            let mut out = vec![0; plaintext.len() + 8];
            let done =
                match size {
                    Size::B128 => AesKw::<Aes128>::new_from_slice(key)
                        .map(|kw| kw.wrap_key(plaintext, &mut out).is_ok()),
                    Size::B192 => AesKw::<Aes192>::new_from_slice(key)
                        .map(|kw| kw.wrap_key(plaintext, &mut out).is_ok()),
                    Size::B256 => AesKw::<Aes256>::new_from_slice(key)
                        .map(|kw| kw.wrap_key(plaintext, &mut out).is_ok()),
                };
            check(
                done.map_err(|_| CryptoError::KeyTypeMismatch)?,
                CryptoError::InvalidPlaintextLength,
            )?;
            Ok(untagged(out))
        }
    }
}

pub(super) fn decrypt(
    algorithm: &str,
    key: &Key,
    ciphertext: &[u8],
    nonce: &[u8],
    tag: &[u8],
    associated_data: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let mode = mode(algorithm)?;
    let key = key_bytes(key)?;
    match mode {
        Mode::Cbc { size, padded } => {
            check(key.len() == size.bytes(), CryptoError::KeyTypeMismatch)?;
            check(nonce.len() == BLOCK, CryptoError::InvalidNonce)?;
            check(
                ciphertext.len().is_multiple_of(BLOCK),
                CryptoError::InvalidCiphertextLength,
            )?;
            let text = cbc_decrypt(size, key, nonce, ciphertext)?;
            if padded { unpad(text) } else { Ok(text) }
        }
        Mode::CbcHmac(size) => {
            check(key.len() == 2 * size.bytes(), CryptoError::KeyTypeMismatch)?;
            check(nonce.len() == BLOCK, CryptoError::InvalidNonce)?;
            check(tag.len() == size.bytes(), CryptoError::InvalidTag)?;
            let (mac_key, enc_key) = key.split_at(size.bytes());
            let expected = hmac_tag(size, mac_key, associated_data, nonce, ciphertext);
            verify_slices_are_equal(&expected, tag).map_err(|_| CryptoError::Authentication)?;
            check(
                ciphertext.len().is_multiple_of(BLOCK),
                CryptoError::InvalidCiphertextLength,
            )?;
            unpad(cbc_decrypt(size, enc_key, nonce, ciphertext)?)
        }
        Mode::Gcm(size) => {
            check(key.len() == size.bytes(), CryptoError::KeyTypeMismatch)?;
            open(gcm(size), key, ciphertext, nonce, tag, associated_data)
        }
        Mode::ChaCha => {
            check(key.len() == 32, CryptoError::KeyTypeMismatch)?;
            open(&CHACHA20_POLY1305, key, ciphertext, nonce, tag, associated_data)
        }
        Mode::XChaCha => {
            let (cipher, nonce) = xchacha(key, nonce)?;
            let tag: [u8; AEAD_TAG] = tag.try_into().map_err(|_| CryptoError::InvalidTag)?;
            let mut data = ciphertext.to_vec();
            cipher
                .decrypt_inout_detached(
                    &nonce.into(),
                    associated_data,
                    data.as_mut_slice().into(),
                    &tag.into(),
                )
                .map_err(|_| CryptoError::Authentication)?;
            Ok(data)
        }
        Mode::KeyWrap(size) => {
            check(key.len() == size.bytes(), CryptoError::KeyTypeMismatch)?;
            check(
                ciphertext.len() >= 16 && ciphertext.len().is_multiple_of(8),
                CryptoError::InvalidCiphertextLength,
            )?;
            let mut out = vec![0; ciphertext.len() - 8];
            let done =
                match size {
                    Size::B128 => AesKw::<Aes128>::new_from_slice(key)
                        .map(|kw| kw.unwrap_key(ciphertext, &mut out).is_ok()),
                    Size::B192 => AesKw::<Aes192>::new_from_slice(key)
                        .map(|kw| kw.unwrap_key(ciphertext, &mut out).is_ok()),
                    Size::B256 => AesKw::<Aes256>::new_from_slice(key)
                        .map(|kw| kw.unwrap_key(ciphertext, &mut out).is_ok()),
                };
            check(
                done.map_err(|_| CryptoError::KeyTypeMismatch)?,
                CryptoError::Authentication,
            )?;
            Ok(out)
        }
    }
}

fn check(holds: bool, otherwise: CryptoError) -> Result<(), CryptoError> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn pad(text: &[u8]) -> Vec<u8> {
    let missing = BLOCK - text.len() % BLOCK;
    let mut padded = Vec::with_capacity(text.len() + missing);
    padded.extend_from_slice(text);
    padded.resize(text.len() + missing, missing as u8);
    padded
}

/// Nothing at all stays nothing, as in Dapr's kit.
fn unpad(mut text: Vec<u8>) -> Result<Vec<u8>, CryptoError> {
    let Some(last) = text.last() else { return Ok(text) };
    let count = usize::from(*last);
    check(
        (1..=BLOCK).contains(&count) && count <= text.len(),
        CryptoError::Padding,
    )?;
    let kept = text.len() - count;
    check(
        text[kept..].iter().all(|byte| usize::from(*byte) == count),
        CryptoError::Padding,
    )?;
    text.truncate(kept);
    Ok(text)
}

/// Whole blocks only.
fn cbc_encrypt(size: Size, key: &[u8], iv: &[u8], mut text: Vec<u8>) -> Result<Vec<u8>, CryptoError> {
    let length = text.len();
    let done = match size {
        Size::B128 => cbc::Encryptor::<Aes128>::new_from_slices(key, iv)
            .map(|cipher| cipher.encrypt_padded::<NoPadding>(&mut text, length).is_ok()),
        Size::B192 => cbc::Encryptor::<Aes192>::new_from_slices(key, iv)
            .map(|cipher| cipher.encrypt_padded::<NoPadding>(&mut text, length).is_ok()),
        Size::B256 => cbc::Encryptor::<Aes256>::new_from_slices(key, iv)
            .map(|cipher| cipher.encrypt_padded::<NoPadding>(&mut text, length).is_ok()),
    };
    check(
        done.map_err(|_| CryptoError::KeyTypeMismatch)?,
        CryptoError::InvalidPlaintextLength,
    )?;
    Ok(text)
}

/// Whole blocks only.
fn cbc_decrypt(size: Size, key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let mut text = ciphertext.to_vec();
    let done = match size {
        Size::B128 => cbc::Decryptor::<Aes128>::new_from_slices(key, iv)
            .map(|cipher| cipher.decrypt_padded::<NoPadding>(&mut text).is_ok()),
        Size::B192 => cbc::Decryptor::<Aes192>::new_from_slices(key, iv)
            .map(|cipher| cipher.decrypt_padded::<NoPadding>(&mut text).is_ok()),
        Size::B256 => cbc::Decryptor::<Aes256>::new_from_slices(key, iv)
            .map(|cipher| cipher.decrypt_padded::<NoPadding>(&mut text).is_ok()),
    };
    check(
        done.map_err(|_| CryptoError::KeyTypeMismatch)?,
        CryptoError::InvalidCiphertextLength,
    )?;
    Ok(text)
}

/// RFC 7518 §5.2.2.1: over associated data, nonce, ciphertext and the bits of the associated data; the tag is as
/// long as the AES key.
fn hmac_tag(size: Size, key: &[u8], associated_data: &[u8], nonce: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let algorithm = match size {
        Size::B128 => hmac::HMAC_SHA256,
        Size::B192 => hmac::HMAC_SHA384,
        Size::B256 => hmac::HMAC_SHA512,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    context.update(associated_data);
    context.update(nonce);
    context.update(ciphertext);
    context.update(&(associated_data.len() as u64 * 8).to_be_bytes());
    context.sign().as_ref()[..size.bytes()].to_vec()
}

fn gcm(size: Size) -> &'static Algorithm {
    match size {
        Size::B128 => &AES_128_GCM,
        Size::B192 => &AES_192_GCM,
        Size::B256 => &AES_256_GCM,
    }
}

fn bound(algorithm: &'static Algorithm, key: &[u8]) -> Result<LessSafeKey, CryptoError> {
    UnboundKey::new(algorithm, key)
        .map(LessSafeKey::new)
        .map_err(|_| CryptoError::KeyTypeMismatch)
}

fn seal(
    algorithm: &'static Algorithm,
    key: &[u8],
    plaintext: &[u8],
    nonce: &[u8],
    associated_data: &[u8],
) -> Result<Encrypted, CryptoError> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::InvalidNonce)?;
    let mut data = plaintext.to_vec();
    let tag = bound(algorithm, key)?
        .seal_in_place_separate_tag(nonce, Aad::from(associated_data), &mut data)
        .map_err(|_| CryptoError::Failed)?;
    Ok(Encrypted {
        data,
        tag: tag.as_ref().to_vec(),
    })
}

fn open(
    algorithm: &'static Algorithm,
    key: &[u8],
    ciphertext: &[u8],
    nonce: &[u8],
    tag: &[u8],
    associated_data: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::InvalidNonce)?;
    check(tag.len() == AEAD_TAG, CryptoError::InvalidTag)?;
    let mut data = [ciphertext, tag].concat();
    bound(algorithm, key)?
        .open_in_place(nonce, Aad::from(associated_data), &mut data)
        .map_err(|_| CryptoError::Authentication)?;
    data.truncate(ciphertext.len());
    Ok(data)
}

fn xchacha(key: &[u8], nonce: &[u8]) -> Result<(XChaCha20Poly1305, [u8; 24]), CryptoError> {
    use chacha20poly1305::KeyInit as _;
    let cipher = XChaCha20Poly1305::new_from_slice(key).map_err(|_| CryptoError::KeyTypeMismatch)?;
    Ok((cipher, nonce.try_into().map_err(|_| CryptoError::InvalidNonce)?))
}
