//! RSA encryption and the private key that signatures share.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{
        KeyPair, KeyPairComponents, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384,
        OAEP_SHA512_MGF1SHA512, OaepAlgorithm, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
        Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
        PublicKeyComponents,
    },
};

use super::CryptoError;
use crate::key::{Key, Material};

fn oaep(algorithm: &str) -> Result<&'static OaepAlgorithm, CryptoError> {
    match algorithm {
        "RSA-OAEP" => Ok(&OAEP_SHA1_MGF1SHA1),
        "RSA-OAEP-256" => Ok(&OAEP_SHA256_MGF1SHA256),
        "RSA-OAEP-384" => Ok(&OAEP_SHA384_MGF1SHA384),
        "RSA-OAEP-512" => Ok(&OAEP_SHA512_MGF1SHA512),
        _ => Err(CryptoError::UnsupportedAlgorithm),
    }
}

/// The key pair; keys of 2048 to 8192 bits.
pub(super) fn pair(key: &Key) -> Result<KeyPair, CryptoError> {
    let Material::Rsa {
        n,
        e,
        private: Some(private),
    } = &key.material
    else {
        return Err(CryptoError::KeyTypeMismatch);
    };
    KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents {
            n: n.as_slice(),
            e: e.as_slice(),
        },
        d: private.d.as_slice(),
        p: private.p.as_slice(),
        q: private.q.as_slice(),
        dP: private.dp.as_slice(),
        dQ: private.dq.as_slice(),
        qInv: private.qi.as_slice(),
    })
    .map_err(|_| CryptoError::KeyTypeMismatch)
}

fn decrypting(key: &Key) -> Result<PrivateDecryptingKey, CryptoError> {
    let der: Pkcs8V1Der<'_> = pair(key)?.as_der().map_err(|_| CryptoError::Failed)?;
    PrivateDecryptingKey::from_pkcs8(der.as_ref()).map_err(|_| CryptoError::KeyTypeMismatch)
}

fn encrypting(key: &Key) -> Result<PublicEncryptingKey, CryptoError> {
    let Material::Rsa { .. } = key.material else {
        return Err(CryptoError::KeyTypeMismatch);
    };
    let der = key.public_der().ok_or(CryptoError::KeyTypeMismatch)?;
    PublicEncryptingKey::from_der(&der).map_err(|_| CryptoError::KeyTypeMismatch)
}

pub(super) fn encrypt(
    algorithm: &str,
    key: &Key,
    plaintext: &[u8],
    label: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    // The length is checked first so that the error names it.
    if algorithm == "RSA1_5" {
        let key =
            Pkcs1PublicEncryptingKey::new(encrypting(key)?).map_err(|_| CryptoError::KeyTypeMismatch)?;
        if plaintext.len() > key.max_plaintext_size() {
            return Err(CryptoError::InvalidPlaintextLength);
        }
        let mut out = vec![0; key.ciphertext_size()];
        let length = key
            .encrypt(plaintext, &mut out)
            .map_err(|_| CryptoError::Failed)?
            .len();
        out.truncate(length);
        return Ok(out);
    }
    let algorithm = oaep(algorithm)?;
    let key = OaepPublicEncryptingKey::new(encrypting(key)?).map_err(|_| CryptoError::KeyTypeMismatch)?;
    if plaintext.len() > key.max_plaintext_size(algorithm) {
        return Err(CryptoError::InvalidPlaintextLength);
    }
    let mut out = vec![0; key.ciphertext_size()];
    let length = key
        .encrypt(algorithm, plaintext, &mut out, label_of(label))
        .map_err(|_| CryptoError::Failed)?
        .len();
    out.truncate(length);
    Ok(out)
}

pub(super) fn decrypt(
    algorithm: &str,
    key: &Key,
    ciphertext: &[u8],
    label: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    if algorithm == "RSA1_5" {
        let key =
            Pkcs1PrivateDecryptingKey::new(decrypting(key)?).map_err(|_| CryptoError::KeyTypeMismatch)?;
        let mut out = vec![0; key.min_output_size()];
        let length = key
            .decrypt(ciphertext, &mut out)
            .map_err(|_| CryptoError::Authentication)?
            .len();
        out.truncate(length);
        return Ok(out);
    }
    let algorithm = oaep(algorithm)?;
    let key = OaepPrivateDecryptingKey::new(decrypting(key)?).map_err(|_| CryptoError::KeyTypeMismatch)?;
    let mut out = vec![0; key.min_output_size()];
    let length = key
        .decrypt(algorithm, ciphertext, &mut out, label_of(label))
        .map_err(|_| CryptoError::Authentication)?
        .len();
    out.truncate(length);
    Ok(out)
}

fn label_of(label: &[u8]) -> Option<&[u8]> {
    (!label.is_empty()).then_some(label)
}
