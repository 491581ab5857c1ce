//! A token taken apart, and what its claims must say. Signatures are the business of the keys.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// Allowed skew of clocks (upstream: five minutes).
const SKEW_SECONDS: f64 = 5.0 * 60.0;

/// A token in compact form (RFC 7515 §7.1), nothing of it believed yet.
pub(super) struct Token<'a> {
    pub(super) header: Header,
    /// What is signed: header and claims as they came.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    claims: &'a str,
}

/// The part of the header that counts. Keys and addresses that a token brings along are not read.
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// What must be understood (RFC 7515 §4.1.11); nothing is.
    crit: Option<Value>,
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

impl<'a> Token<'a> {
    /// `None` where the text is no signed token, or one that asks for more than we understand.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        if claims.contains('.') {
            return None;
        }
        let header: Header = part(header)?;
        header.crit.is_none().then_some(())?;
        Some(Self {
            header,
            message: message.as_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            claims,
        })
    }

    /// Whether the claims are for this audience, of this issuer and good at `now` (seconds since 1970). Upstream takes
    /// tokens that never expire; an issuer that does not want them does not make them.
    pub(super) fn is_for(&self, issuer: &str, audience: &str, now: u64) -> bool {
        let Some(Value::Object(claims)) = part(self.claims) else {
            return false;
        };
        let now = seconds(now);
        // A time that is there must be one, null included: what cannot be read is not taken for absent.
        let time = |name: &str, good: &dyn Fn(f64) -> bool| {
            claims
                .get(name)
                .is_none_or(|value| value.as_f64().is_some_and(good))
        };
        let audience_fits = match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == audience),
            _ => false,
        };
        audience_fits
            && claims.get("iss").and_then(Value::as_str) == Some(issuer)
            && time("exp", &|expires| expires + SKEW_SECONDS >= now)
            && time("nbf", &|begins| begins <= now + SKEW_SECONDS)
            && time("iat", &|issued| issued <= now + SKEW_SECONDS)
    }
}

/// Seconds of this age fit.
fn seconds(time: u64) -> f64 {
    time as f64
}
