//! Signatures over digests.

use aws_lc_rs::{
    digest::{self, Digest},
    signature::{
        self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
        ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_ASN1_SIGNING, ED25519,
        EcdsaKeyPair, Ed25519KeyPair, RsaEncoding, RsaParameters, RsaPssSaltLength, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};

use super::{CryptoError, rsa};
use crate::key::{EcCurve, Key, Material, OkpCurve};

struct RsaScheme {
    hash: &'static digest::Algorithm,
    signing: &'static dyn RsaEncoding,
    /// Any of these may accept a signature.
    verifying: &'static [&'static dyn VerificationAlgorithm],
}

fn rsa_scheme(algorithm: &str) -> Option<RsaScheme> {
    let (hash, signing, verifying): (_, &dyn RsaEncoding, &'static [&'static dyn VerificationAlgorithm]) =
        match algorithm {
            "RS256" => (
                &digest::SHA256,
                &signature::RSA_PKCS1_SHA256,
                &[&signature::RSA_PKCS1_2048_8192_SHA256],
            ),
            "RS384" => (
                &digest::SHA384,
                &signature::RSA_PKCS1_SHA384,
                &[&signature::RSA_PKCS1_2048_8192_SHA384],
            ),
            "RS512" => (
                &digest::SHA512,
                &signature::RSA_PKCS1_SHA512,
                &[&signature::RSA_PKCS1_2048_8192_SHA512],
            ),
            "PS256" => (
                &digest::SHA256,
                &signature::RSA_PSS_SHA256,
                &[&signature::RSA_PSS_2048_8192_SHA256, &PSS_256_MAX_SALT],
            ),
            "PS384" => (
                &digest::SHA384,
                &signature::RSA_PSS_SHA384,
                &[&signature::RSA_PSS_2048_8192_SHA384, &PSS_384_MAX_SALT],
            ),
            "PS512" => (
                &digest::SHA512,
                &signature::RSA_PSS_SHA512,
                &[&signature::RSA_PSS_2048_8192_SHA512, &PSS_512_MAX_SALT],
            ),
            _ => return None,
        };
    Some(RsaScheme {
        hash,
        signing,
        verifying,
    })
}

// JWA fixes the salt to the hash's length, and so do we when signing; Go's library, and with it Dapr, makes the salt
// as long as it fits. Both verify.
const MAX_SALT: RsaPssSaltLength = RsaPssSaltLength::Max;
const PSS_256_MAX_SALT: RsaParameters = signature::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(MAX_SALT);
const PSS_384_MAX_SALT: RsaParameters = signature::RSA_PSS_2048_8192_SHA384.with_pss_salt_length(MAX_SALT);
const PSS_512_MAX_SALT: RsaParameters = signature::RSA_PSS_2048_8192_SHA512.with_pss_salt_length(MAX_SALT);

/// ECDSA signs the leftmost bits of a digest of any length; the primitive wants exactly its own hash's length. The
/// number that is signed stays the same when a longer digest is cut to the curve's size and a shorter one gets
/// leading zeros. Only for P-521 could a digest be longer than the hash and still count: no hash is that long.
fn ecdsa_digest(curve: EcCurve, bytes: &[u8]) -> Result<Digest, CryptoError> {
    let hash = match curve {
        EcCurve::P256 => &digest::SHA256,
        EcCurve::P384 => &digest::SHA384,
        EcCurve::P521 => &digest::SHA512,
    };
    let length = hash.output_len();
    if bytes.is_empty() || (curve == EcCurve::P521 && bytes.len() > length) {
        return Err(CryptoError::InvalidDigestLength);
    }
    let kept = &bytes[..bytes.len().min(length)];
    let mut padded = vec![0; length - kept.len()];
    padded.extend_from_slice(kept);
    Digest::import_less_safe(&padded, hash).map_err(|_| CryptoError::InvalidDigestLength)
}

fn is_ecdsa(algorithm: &str) -> bool {
    // Which hash is the caller's choice: the curve comes from the key, as in Dapr's kit.
    matches!(algorithm, "ES256" | "ES384" | "ES512")
}

pub(super) fn sign(algorithm: &str, key: &Key, bytes: &[u8]) -> Result<Vec<u8>, CryptoError> {
    if let Some(scheme) = rsa_scheme(algorithm) {
        let pair = rsa::pair(key)?;
        let digest =
            Digest::import_less_safe(bytes, scheme.hash).map_err(|_| CryptoError::InvalidDigestLength)?;
        let mut out = vec![0; pair.public_modulus_len()];
        pair.sign_digest(scheme.signing, &digest, &mut out)
            .map_err(|_| CryptoError::Failed)?;
        return Ok(out);
    }
    if is_ecdsa(algorithm) {
        let Material::Ec {
            curve,
            point,
            private: Some(private),
        } = &key.material
        else {
            return Err(CryptoError::KeyTypeMismatch);
        };
        let signing = match curve {
            EcCurve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            EcCurve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
            EcCurve::P521 => &ECDSA_P521_SHA512_ASN1_SIGNING,
        };
        let digest = ecdsa_digest(*curve, bytes)?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(signing, private, point)
            .map_err(|_| CryptoError::KeyTypeMismatch)?;
        return Ok(pair
            .sign_digest(&digest)
            .map_err(|_| CryptoError::Failed)?
            .as_ref()
            .to_vec());
    }
    if algorithm == "EdDSA" {
        let Material::Okp {
            curve: OkpCurve::Ed25519,
            public,
            private: Some(seed),
        } = &key.material
        else {
            return Err(CryptoError::KeyTypeMismatch);
        };
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public)
            .map_err(|_| CryptoError::KeyTypeMismatch)?;
        return Ok(pair.sign(bytes).as_ref().to_vec());
    }
    Err(CryptoError::UnsupportedAlgorithm)
}

pub(super) fn verify(
    algorithm: &str,
    key: &Key,
    bytes: &[u8],
    signature: &[u8],
) -> Result<bool, CryptoError> {
    if let Some(scheme) = rsa_scheme(algorithm) {
        let der = key.rsa_public_der().ok_or(CryptoError::KeyTypeMismatch)?;
        let digest =
            Digest::import_less_safe(bytes, scheme.hash).map_err(|_| CryptoError::InvalidDigestLength)?;
        let accepts = |verifying: &&'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(*verifying, &der)
                .verify_digest(&digest, signature)
                .is_ok()
        };
        return Ok(scheme.verifying.iter().any(accepts));
    }
    if is_ecdsa(algorithm) {
        let Material::Ec { curve, point, .. } = &key.material else {
            return Err(CryptoError::KeyTypeMismatch);
        };
        let verifying: &'static dyn VerificationAlgorithm = match curve {
            EcCurve::P256 => &ECDSA_P256_SHA256_ASN1,
            EcCurve::P384 => &ECDSA_P384_SHA384_ASN1,
            EcCurve::P521 => &ECDSA_P521_SHA512_ASN1,
        };
        let digest = ecdsa_digest(*curve, bytes)?;
        return Ok(UnparsedPublicKey::new(verifying, point)
            .verify_digest(&digest, signature)
            .is_ok());
    }
    if algorithm == "EdDSA" {
        let Material::Okp {
            curve: OkpCurve::Ed25519,
            public,
            ..
        } = &key.material
        else {
            return Err(CryptoError::KeyTypeMismatch);
        };
        return Ok(UnparsedPublicKey::new(&ED25519, public)
            .verify(bytes, signature)
            .is_ok());
    }
    Err(CryptoError::UnsupportedAlgorithm)
}
