//! The issuer's keys and what a token must be to be good.

use bytes::Bytes;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde_json::Value;

/// More keys than any issuer has; a longer list is cut off.
const MAX_KEYS: usize = 256;
/// Allowed skew of clocks (upstream: five minutes).
const SKEW_SECONDS: u64 = 5 * 60;

/// One key that can verify signatures.
pub(super) struct VerifyingKey {
    id: Option<String>,
    /// The algorithms that fit the key: never those of another family, which is what key confusion lives on.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys of an issuer.
pub(super) struct KeySet(Vec<VerifyingKey>);

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
        let keys = document
            .get("keys")
            .and_then(Value::as_array)
            .ok_or("it has no member \"keys\"")?;
        Ok(Self(keys.iter().take(MAX_KEYS).filter_map(verifying).collect()))
    }

    /// The key of a token: by its `kid`; a token without one is only taken where there is one key.
    fn find(&self, id: Option<&str>) -> Option<&VerifyingKey> {
        match (id, &*self.0) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Whether a token is good.
    pub(super) fn check(&self, token: &str, issuer: &str, audience: &str) -> Result<(), Refusal> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refusal::Bad)?;
        // A header that must be understood and is not (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return Err(Refusal::Bad);
        }
        let key = self.find(header.kid.as_deref()).ok_or(Refusal::UnknownKey)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.algorithms.clone_from(&key.algorithms);
        validation.leeway = SKEW_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[audience]);
        validation.set_issuer(&[issuer]);
        // Upstream takes tokens that never expire; an issuer that does not want them does not make them.
        validation.set_required_spec_claims(&["aud", "iss"]);
        let claims = jsonwebtoken::decode::<Value>(token, &key.key, &validation)
            .map_err(|_| Refusal::Bad)?
            .claims;
        // The library takes a list of issuers; a token has one. It does not look at the time of issue.
        let issued_later = claims.get("iat").is_some_and(|issued| {
            let latest = jsonwebtoken::get_current_timestamp() + SKEW_SECONDS;
            issued.as_f64().is_none_or(|issued| issued > seconds(latest))
        });
        if claims.get("iss").and_then(Value::as_str) == Some(issuer) && !issued_later {
            Ok(())
        } else {
            Err(Refusal::Bad)
        }
    }
}

/// Seconds of this age fit.
fn seconds(time: u64) -> f64 {
    time as f64
}

fn verifying(key: &Value) -> Option<VerifyingKey> {
    let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
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
        return None;
    }
    let fitting: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => return None,
    };
    // A key that names its algorithm is for that one only.
    let algorithms = match common.key_algorithm {
        None => fitting.to_vec(),
        Some(named) => {
            let named = Algorithm::try_from(named).ok()?;
            fitting.contains(&named).then(|| vec![named])?
        }
    };
    Some(VerifyingKey {
        id: common.key_id.clone(),
        algorithms,
        key: DecodingKey::from_jwk(&jwk).ok()?,
    })
}
