//! The issuer's keys.

use std::collections::HashSet;

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, KeyOperations, PublicKeyUse},
};
use parking_lot::Mutex;
use serde_json::Value;

use super::token::Token;

/// More keys than any issuer has; a longer list is cut off.
const MAX_KEYS: usize = 256;
/// Bytes of a coordinate on P-521.
const P521_BYTES: usize = 66;
const ES512: &str = "ES512";

/// One key that can verify signatures.
struct VerifyingKey {
    id: Option<String>,
    verifier: Verifier,
}

/// A key with the algorithms that fit it: never those of another family, which is what key confusion lives on.
enum Verifier {
    /// What the token library knows.
    Library(Vec<Algorithm>, DecodingKey),
    /// ES512, which it does not know.
    Es512(ParsedPublicKey),
}

/// The keys of an issuer.
pub(super) struct KeySet {
    keys: Vec<VerifyingKey>,
    /// Keys that are there and cannot be used: which, and why not.
    passed_over: Vec<(String, &'static str)>,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its key is not among ours; newer keys may have it.
    UnknownKey,
    /// Nothing will make it good.
    Bad,
}

impl KeySet {
    /// Reads a JWKS. Keys that cannot verify are left out: symmetric ones (a secret that is published is none), keys
    /// for encryption, kinds that are not known.
    pub(super) fn parse(document: &Bytes) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        let listed = document
            .get("keys")
            .and_then(Value::as_array)
            .ok_or("it has no member \"keys\"")?;
        let mut set = Self {
            keys: Vec::new(),
            passed_over: Vec::new(),
        };
        for (number, key) in listed.iter().take(MAX_KEYS).enumerate() {
            match verifying(key) {
                Ok(key) => set.keys.push(key),
                Err(reason) => {
                    let name = match key.get("kid").and_then(Value::as_str) {
                        Some(id) => format!("{id:?}"),
                        None => format!("number {}", number + 1),
                    };
                    set.passed_over.push((name, reason));
                }
            }
        }
        Ok(set)
    }

    /// The key of a token: by its `kid`; a token without one is only taken where there is one key.
    fn find(&self, id: Option<&str>) -> Option<&VerifyingKey> {
        match (id, &*self.keys) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Whether a token is good.
    pub(super) fn check(&self, token: &str, issuer: &str, audience: &str) -> Result<(), Refusal> {
        let token = Token::read(token).ok_or(Refusal::Bad)?;
        let key = self
            .find(token.header.kid.as_deref())
            .ok_or(Refusal::UnknownKey)?;
        let now = jsonwebtoken::get_current_timestamp();
        if key.verifier.has_signed(&token) && token.is_for(issuer, audience, now) {
            Ok(())
        } else {
            Err(Refusal::Bad)
        }
    }
}

impl Verifier {
    fn has_signed(&self, token: &Token<'_>) -> bool {
        match self {
            Self::Es512(key) => {
                token.header.alg == ES512 && key.verify_sig(token.message, &token.signature).is_ok()
            }
            Self::Library(algorithms, key) => {
                let Ok(algorithm) = token.header.alg.parse() else {
                    return false;
                };
                algorithms.contains(&algorithm)
                    && jsonwebtoken::crypto::verify(
                        &URL_SAFE_NO_PAD.encode(&token.signature),
                        token.message,
                        key,
                        algorithm,
                    )
                    .unwrap_or(false)
            }
        }
    }
}

fn verifying(key: &Value) -> Result<VerifyingKey, &'static str> {
    let unknown = "its kind is not known";
    let jwk: Jwk = serde_json::from_value(key.clone()).map_err(|_| unknown)?;
    let common = &jwk.common;
    let for_signatures = common
        .public_key_use
        .as_ref()
        .is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !for_signatures {
        return Err("it is not for signatures");
    }
    // A key that names its algorithm is for that one only.
    let named = key.get("alg").and_then(Value::as_str);
    let misnamed = "it names an algorithm that does not fit it";
    let library = |fitting: &[Algorithm]| {
        let algorithms = match named {
            None => fitting.to_vec(),
            Some(named) => match named.parse() {
                Ok(named) if fitting.contains(&named) => vec![named],
                _ => return Err(misnamed),
            },
        };
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| "it cannot be read")?;
        Ok(Verifier::Library(algorithms, key))
    };
    let verifier = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => library(&[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ])?,
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => library(&[Algorithm::ES256])?,
            EllipticCurve::P384 => library(&[Algorithm::ES384])?,
            EllipticCurve::P521 if named.is_none_or(|named| named == ES512) => {
                Verifier::Es512(p521(ec).ok_or("it is no point on its curve")?)
            }
            EllipticCurve::P521 => return Err(misnamed),
            _ => return Err(unknown),
        },
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            library(&[Algorithm::EdDSA])?
        }
        AlgorithmParameters::OctetKey(_) => return Err("a secret that is published is none"),
        _ => return Err(unknown),
    };
    Ok(VerifyingKey {
        id: common.key_id.clone(),
        verifier,
    })
}

/// The point in its uncompressed form (SEC 1 §2.3.3), if it is on the curve.
fn p521(key: &EllipticCurveKeyParameters) -> Option<ParsedPublicKey> {
    let mut point = vec![4];
    for coordinate in [&key.x, &key.y] {
        let bytes = URL_SAFE_NO_PAD.decode(coordinate).ok()?;
        // Some makers leave leading zeros out (RFC 7518 §6.2.1.2 says not to).
        let missing = P521_BYTES.checked_sub(bytes.len())?;
        point.resize(point.len() + missing, 0);
        point.extend(bytes);
    }
    ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).ok()
}

/// Says of each key once that it is passed over, however often the set is fetched.
#[derive(Default)]
pub(super) struct Warnings(Mutex<HashSet<String>>);

impl Warnings {
    /// The names of keys that were not spoken of before.
    pub(super) fn speak(&self, set: &KeySet) -> Vec<String> {
        let mut spoken = self.0.lock();
        let mut new = Vec::new();
        for (name, reason) in &set.passed_over {
            // An issuer with ever new keys of that kind fills no memory and no log.
            if spoken.len() < MAX_KEYS && spoken.insert(name.clone()) {
                tracing::warn!("key {name} of the issuer's key set is not used: {reason}");
                new.push(name.clone());
            }
        }
        new
    }
}
