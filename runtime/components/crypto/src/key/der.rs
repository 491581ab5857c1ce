//! The little ASN.1 that keys need: PKCS#8, PKCS#1, SEC 1, PKIX and the key inside a certificate.
//!
//! Definite lengths only, every length checked; what is not needed is skipped, not judged.

use aws_lc_rs::{
    agreement,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use zeroize::Zeroizing;

use super::{EcCurve, Key, KeyError, Material, OkpCurve, RsaPrivate, SecretBytes, pem::Block};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const X25519: &[u8] = &[0x2b, 0x65, 0x6e];

/// A number without leading zeros; zero is empty.
pub(super) fn unsigned(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// A number padded to a length; `None` where it does not fit.
pub(super) fn fixed(bytes: &[u8], length: usize) -> Option<SecretBytes> {
    let bytes = unsigned(bytes);
    let mut padded = Zeroizing::new(vec![0; length.checked_sub(bytes.len())?]);
    padded.extend_from_slice(bytes);
    Some(padded)
}

/// Reads the values of one level from left to right.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(u8, &'a [u8]), KeyError> {
        let [tag, first, rest @ ..] = self.0 else {
            return Err(KeyError::Der);
        };
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest
                    .split_at_checked(usize::from(first & 0x7f))
                    .ok_or(KeyError::Der)?;
                (
                    bytes
                        .iter()
                        .fold(0, |length, byte| length << 8 | usize::from(*byte)),
                    rest,
                )
            }
            _ => return Err(KeyError::Der),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(KeyError::Der)?;
        self.0 = rest;
        Ok((*tag, content))
    }

    fn expect(&mut self, tag: u8) -> Result<&'a [u8], KeyError> {
        match self.next()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(KeyError::Der),
        }
    }

    fn sequence(&mut self) -> Result<Reader<'a>, KeyError> {
        self.expect(SEQUENCE).map(Reader)
    }

    fn bits(&mut self) -> Result<&'a [u8], KeyError> {
        match self.expect(BIT_STRING)? {
            [0, content @ ..] => Ok(content),
            _ => Err(KeyError::Der),
        }
    }

    fn number(&mut self) -> Result<&'a [u8], KeyError> {
        self.expect(INTEGER).map(unsigned)
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }
}

/// Reads the key in a PEM block.
pub(super) fn read(block: &Block) -> Result<Key, KeyError> {
    let mut content = Reader(&block.content).sequence()?;
    let material = match block.label.as_str() {
        "PRIVATE KEY" => pkcs8(content),
        "RSA PRIVATE KEY" => rsa_private(content),
        "EC PRIVATE KEY" => ec_private(content, None),
        "PUBLIC KEY" => pkix(content),
        "RSA PUBLIC KEY" => rsa_public(content),
        "CERTIFICATE" => {
            let mut certificate = content.sequence()?;
            if certificate.peek() == Some(CONTEXT_0) {
                certificate.next()?;
            }
            // Serial number, algorithm, issuer, validity, subject.
            for _ in 0..5 {
                certificate.next()?;
            }
            pkix(certificate.sequence()?)
        }
        _ => Err(KeyError::Pem("no key in it")),
    }?;
    Ok(Key::new(material))
}

enum Algorithm {
    Rsa,
    Ec(EcCurve),
    Okp(OkpCurve),
}

fn curve(oid: &[u8]) -> Result<EcCurve, KeyError> {
    match oid {
        P256 => Ok(EcCurve::P256),
        P384 => Ok(EcCurve::P384),
        P521 => Ok(EcCurve::P521),
        _ => Err(KeyError::UnsupportedKind),
    }
}

fn algorithm(mut identifier: Reader<'_>) -> Result<Algorithm, KeyError> {
    match identifier.expect(OID)? {
        RSA => Ok(Algorithm::Rsa),
        EC => curve(identifier.expect(OID)?).map(Algorithm::Ec),
        ED25519 => Ok(Algorithm::Okp(OkpCurve::Ed25519)),
        X25519 => Ok(Algorithm::Okp(OkpCurve::X25519)),
        _ => Err(KeyError::UnsupportedKind),
    }
}

fn pkcs8(mut content: Reader<'_>) -> Result<Material, KeyError> {
    content.number()?;
    let algorithm = algorithm(content.sequence()?)?;
    let mut key = Reader(content.expect(OCTET_STRING)?);
    match algorithm {
        Algorithm::Rsa => rsa_private(key.sequence()?),
        Algorithm::Ec(curve) => ec_private(key.sequence()?, Some(curve)),
        Algorithm::Okp(curve) => {
            let seed = Zeroizing::new(key.expect(OCTET_STRING)?.to_vec());
            let public = okp_public(curve, &seed)?;
            Ok(Material::Okp {
                curve,
                public,
                private: Some(seed),
            })
        }
    }
}

fn okp_public(curve: OkpCurve, seed: &[u8]) -> Result<Vec<u8>, KeyError> {
    match curve {
        OkpCurve::Ed25519 => Ok(Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| KeyError::Der)?
            .public_key()
            .as_ref()
            .to_vec()),
        OkpCurve::X25519 => agreed_public(&agreement::X25519, seed),
    }
}

fn agreed_public(algorithm: &'static agreement::Algorithm, private: &[u8]) -> Result<Vec<u8>, KeyError> {
    let private = agreement::PrivateKey::from_private_key(algorithm, private).map_err(|_| KeyError::Der)?;
    Ok(private
        .compute_public_key()
        .map_err(|_| KeyError::Der)?
        .as_ref()
        .to_vec())
}

fn rsa_private(mut content: Reader<'_>) -> Result<Material, KeyError> {
    if !content.number()?.is_empty() {
        // Version 1 means more than two primes.
        return Err(KeyError::UnsupportedKind);
    }
    let n = content.number()?.to_vec();
    let e = content.number()?.to_vec();
    let mut part = || content.number().map(|number| Zeroizing::new(number.to_vec()));
    let private = RsaPrivate {
        d: part()?,
        p: part()?,
        q: part()?,
        dp: part()?,
        dq: part()?,
        qi: part()?,
    };
    Ok(Material::Rsa {
        n,
        e,
        private: Some(Box::new(private)),
    })
}

fn rsa_public(mut content: Reader<'_>) -> Result<Material, KeyError> {
    Ok(Material::Rsa {
        n: content.number()?.to_vec(),
        e: content.number()?.to_vec(),
        private: None,
    })
}

fn ec_private(mut content: Reader<'_>, outer: Option<EcCurve>) -> Result<Material, KeyError> {
    content.number()?;
    let private = content.expect(OCTET_STRING)?;
    let mut inner = outer;
    if content.peek() == Some(CONTEXT_0) {
        inner = Some(curve(Reader(content.next()?.1).expect(OID)?)?);
    }
    let curve = outer.or(inner).ok_or(KeyError::Der)?;
    let private = fixed(private, curve.coordinate_len()).ok_or(KeyError::Der)?;
    // The public point is optional in the file, and cheap to compute, which also proves the scalar.
    let algorithm = match curve {
        EcCurve::P256 => &agreement::ECDH_P256,
        EcCurve::P384 => &agreement::ECDH_P384,
        EcCurve::P521 => &agreement::ECDH_P521,
    };
    let point = agreed_public(algorithm, &private)?;
    if content.peek() == Some(CONTEXT_1) && Reader(content.next()?.1).bits()? != point {
        return Err(KeyError::Der);
    }
    Ok(Material::Ec {
        curve,
        point,
        private: Some(private),
    })
}

fn pkix(mut content: Reader<'_>) -> Result<Material, KeyError> {
    let algorithm = algorithm(content.sequence()?)?;
    let key = content.bits()?;
    match algorithm {
        Algorithm::Rsa => rsa_public(Reader(key).sequence()?),
        Algorithm::Ec(curve) if key.len() == 1 + 2 * curve.coordinate_len() && key[0] == 4 => {
            Ok(Material::Ec {
                curve,
                point: key.to_vec(),
                private: None,
            })
        }
        Algorithm::Okp(curve) if key.len() == 32 => Ok(Material::Okp {
            curve,
            public: key.to_vec(),
            private: None,
        }),
        Algorithm::Ec(_) | Algorithm::Okp(_) => Err(KeyError::Der),
    }
}

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let bytes = unsigned(&bytes);
        out.push(0x80 | bytes.len() as u8);
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(content);
    out
}

fn number(bytes: &[u8]) -> Vec<u8> {
    let mut content = unsigned(bytes).to_vec();
    // A set top bit would make it negative.
    if content.first().is_none_or(|first| first & 0x80 != 0) {
        content.insert(0, 0);
    }
    value(INTEGER, &content)
}

/// A public RSA key as PKCS#1.
pub(super) fn write_rsa_public(n: &[u8], e: &[u8]) -> Vec<u8> {
    value(SEQUENCE, &[number(n), number(e)].concat())
}

/// A public key as `SubjectPublicKeyInfo`; `None` for a symmetric key.
pub(super) fn write_public(material: &Material) -> Option<Vec<u8>> {
    let (identifier, key) = match material {
        Material::Symmetric(_) => return None,
        Material::Rsa { n, e, .. } => (
            [value(OID, RSA), value(NULL, &[])].concat(),
            write_rsa_public(n, e),
        ),
        Material::Ec { curve, point, .. } => {
            let curve = match curve {
                EcCurve::P256 => P256,
                EcCurve::P384 => P384,
                EcCurve::P521 => P521,
            };
            ([value(OID, EC), value(OID, curve)].concat(), point.clone())
        }
        Material::Okp { curve, public, .. } => {
            let oid = match curve {
                OkpCurve::Ed25519 => ED25519,
                OkpCurve::X25519 => X25519,
            };
            (value(OID, oid), public.clone())
        }
    };
    let bits = [&[0], key.as_slice()].concat();
    Some(value(
        SEQUENCE,
        &[value(SEQUENCE, &identifier), value(BIT_STRING, &bits)].concat(),
    ))
}
