//! JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037).

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{EcCurve, Key, KeyError, Material, OkpCurve, RsaPrivate, SecretBytes, der};

/// Members that hold numbers; all others travel with the public key.
const NUMBERS: [&str; 14] = [
    "kty", "crv", "k", "n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y", "oth",
];

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn read(bytes: &[u8]) -> Result<Key, KeyError> {
    let mut members: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|_| KeyError::Jwk("not a JSON object"))?;
    let material = match text(&members, "kty") {
        Some("oct") => Material::Symmetric(secret(&members, "k")?.ok_or(KeyError::Jwk("k is missing"))?),
        Some("RSA") => rsa(&members)?,
        Some("EC") => ec(&members)?,
        Some("OKP") => okp(&members)?,
        Some(_) => return Err(KeyError::UnsupportedKind),
        None => return Err(KeyError::Jwk("kty is missing")),
    };
    for number in NUMBERS {
        members.remove(number);
    }
    Ok(Key { material, members })
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

fn secret(members: &Map<String, Value>, name: &str) -> Result<Option<SecretBytes>, KeyError> {
    text(members, name)
        .map(|text| {
            LENIENT
                .decode(text)
                .map(Zeroizing::new)
                .map_err(|_| KeyError::Jwk("a number is not base64url"))
        })
        .transpose()
}

fn public(members: &Map<String, Value>, name: &str, missing: &'static str) -> Result<Vec<u8>, KeyError> {
    Ok(secret(members, name)?.ok_or(KeyError::Jwk(missing))?.to_vec())
}

fn rsa(members: &Map<String, Value>) -> Result<Material, KeyError> {
    let n = der::unsigned(&public(members, "n", "n is missing")?).to_vec();
    let e = der::unsigned(&public(members, "e", "e is missing")?).to_vec();
    let part = |name: &str| {
        secret(members, name)?.ok_or(KeyError::Jwk("a private RSA key needs d, p, q, dp, dq and qi"))
    };
    let private = if members.contains_key("d") {
        if members.contains_key("oth") {
            return Err(KeyError::Jwk(
                "RSA keys of more than two primes are not supported",
            ));
        }
        Some(Box::new(RsaPrivate {
            d: part("d")?,
            p: part("p")?,
            q: part("q")?,
            dp: part("dp")?,
            dq: part("dq")?,
            qi: part("qi")?,
        }))
    } else {
        None
    };
    Ok(Material::Rsa { n, e, private })
}

fn ec(members: &Map<String, Value>) -> Result<Material, KeyError> {
    let curve = match text(members, "crv") {
        Some("P-256") => EcCurve::P256,
        Some("P-384") => EcCurve::P384,
        Some("P-521") => EcCurve::P521,
        _ => return Err(KeyError::Jwk("crv is not P-256, P-384 or P-521")),
    };
    let length = curve.coordinate_len();
    let mut point = vec![4];
    for (name, missing) in [("x", "x is missing"), ("y", "y is missing")] {
        point.extend_from_slice(
            &der::fixed(&public(members, name, missing)?, length)
                .ok_or(KeyError::Jwk("a coordinate is too long"))?,
        );
    }
    let private = secret(members, "d")?
        .map(|d| der::fixed(&d, length).ok_or(KeyError::Jwk("d is too long")))
        .transpose()?;
    Ok(Material::Ec {
        curve,
        point,
        private,
    })
}

fn okp(members: &Map<String, Value>) -> Result<Material, KeyError> {
    let curve = match text(members, "crv") {
        Some("Ed25519") => OkpCurve::Ed25519,
        Some("X25519") => OkpCurve::X25519,
        _ => return Err(KeyError::Jwk("crv is not Ed25519 or X25519")),
    };
    let public = public(members, "x", "x is missing")?;
    let private = secret(members, "d")?;
    if public.len() != 32 || private.as_ref().is_some_and(|private| private.len() != 32) {
        return Err(KeyError::Jwk("x and d must have 32 bytes"));
    }
    Ok(Material::Okp {
        curve,
        public,
        private,
    })
}

/// Members in the order of their names, as Go's library writes them.
pub(super) fn write_public(key: &Key) -> Option<Vec<u8>> {
    let mut members = key.members.clone();
    let mut put = |name: &str, text: String| members.insert(name.to_owned(), Value::String(text));
    match &key.material {
        Material::Symmetric(_) => return None,
        Material::Rsa { n, e, .. } => {
            put("kty", "RSA".to_owned());
            put("n", URL_SAFE_NO_PAD.encode(n));
            put("e", URL_SAFE_NO_PAD.encode(e));
        }
        Material::Ec { curve, point, .. } => {
            let name = match curve {
                EcCurve::P256 => "P-256",
                EcCurve::P384 => "P-384",
                EcCurve::P521 => "P-521",
            };
            let (x, y) = point.get(1..)?.split_at_checked(curve.coordinate_len())?;
            put("kty", "EC".to_owned());
            put("crv", name.to_owned());
            put("x", URL_SAFE_NO_PAD.encode(x));
            put("y", URL_SAFE_NO_PAD.encode(y));
        }
        Material::Okp { curve, public, .. } => {
            let name = match curve {
                OkpCurve::Ed25519 => "Ed25519",
                OkpCurve::X25519 => "X25519",
            };
            put("kty", "OKP".to_owned());
            put("crv", name.to_owned());
            put("x", URL_SAFE_NO_PAD.encode(public));
        }
    }
    serde_json::to_vec(&members).ok()
}
