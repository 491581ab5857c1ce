//! Keys: their material, what they may be used for, and how files spell them.

mod der;
mod jwk;
mod parse;
mod pem;

use std::fmt;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

pub use parse::{ContentType, KeyError, parse};

/// Secret bytes, wiped when dropped.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// An elliptic curve for signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EcCurve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
}

impl EcCurve {
    /// Bytes of a coordinate or of a private key.
    #[must_use]
    pub fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// A curve of RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OkpCurve {
    /// Signatures.
    Ed25519,
    /// Key agreement; such a key can only be shown.
    X25519,
}

/// The private half of an RSA key; big-endian numbers without leading zeros.
#[derive(Clone)]
pub struct RsaPrivate {
    /// Private exponent.
    pub d: SecretBytes,
    /// First prime.
    pub p: SecretBytes,
    /// Second prime.
    pub q: SecretBytes,
    /// `d mod (p - 1)`.
    pub dp: SecretBytes,
    /// `d mod (q - 1)`.
    pub dq: SecretBytes,
    /// Inverse of `q` modulo `p`.
    pub qi: SecretBytes,
}

/// The numbers of a key.
#[derive(Clone)]
pub enum Material {
    /// A symmetric key.
    Symmetric(SecretBytes),
    /// An RSA key; `n` and `e` are big-endian without leading zeros.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Public exponent.
        e: Vec<u8>,
        /// The private half, if there.
        private: Option<Box<RsaPrivate>>,
    },
    /// A key on a NIST curve.
    Ec {
        /// Which one.
        curve: EcCurve,
        /// The public point, uncompressed (`04 x y`).
        point: Vec<u8>,
        /// The private scalar, as long as a coordinate.
        private: Option<SecretBytes>,
    },
    /// A key of RFC 8037.
    Okp {
        /// Which curve.
        curve: OkpCurve,
        /// The public key.
        public: Vec<u8>,
        /// The private seed.
        private: Option<SecretBytes>,
    },
}

/// What one may do with a key, in the words of JWK's `key_ops`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `encrypt`.
    Encrypt,
    /// `decrypt`.
    Decrypt,
    /// `wrapKey`.
    WrapKey,
    /// `unwrapKey`.
    UnwrapKey,
    /// `sign`.
    Sign,
    /// `verify`.
    Verify,
}

impl Operation {
    /// Its name in `key_ops`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::WrapKey => "wrapKey",
            Self::UnwrapKey => "unwrapKey",
            Self::Sign => "sign",
            Self::Verify => "verify",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Sign | Self::Verify => "sig",
            _ => "enc",
        }
    }
}

/// A key and its JWK members beside the numbers (`kid`, `alg`, `use`, `key_ops`, …).
#[derive(Clone)]
pub struct Key {
    /// The numbers.
    pub material: Material,
    members: Map<String, Value>,
}

impl Key {
    /// A key without any limits on its use.
    #[must_use]
    pub fn new(material: Material) -> Self {
        Self {
            material,
            members: Map::new(),
        }
    }

    /// A symmetric key.
    #[must_use]
    pub fn symmetric(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Material::Symmetric(Zeroizing::new(bytes.into())))
    }

    fn text(&self, member: &str) -> &str {
        self.members
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether `use` and `key_ops` allow the operation; a key with neither allows everything (RFC 7517 §4.2, §4.3).
    #[must_use]
    pub fn can(&self, operation: Operation) -> bool {
        let listed = match self.members.get("key_ops").and_then(Value::as_array) {
            Some(operations) if !operations.is_empty() => operations
                .iter()
                .any(|allowed| allowed.as_str() == Some(operation.name())),
            _ => true,
        };
        let usage = self.text("use");
        listed && (usage.is_empty() || usage == operation.usage())
    }

    /// Whether `alg` allows the algorithm; a key without it allows every one.
    #[must_use]
    pub fn fits(&self, algorithm: &str) -> bool {
        let own = self.text("alg");
        own.is_empty() || own == algorithm
    }

    /// The public key as JWK; `None` for a symmetric key.
    #[must_use]
    pub fn public_jwk(&self) -> Option<Vec<u8>> {
        jwk::write_public(self)
    }

    /// The public key as PKIX PEM; `None` for a symmetric key.
    #[must_use]
    pub fn public_pem(&self) -> Option<String> {
        Some(pem::write("PUBLIC KEY", &self.public_der()?))
    }

    /// The public key as `SubjectPublicKeyInfo`; `None` for a symmetric key.
    #[must_use]
    pub fn public_der(&self) -> Option<Vec<u8>> {
        der::write_public(&self.material)
    }

    /// The public RSA key as PKCS#1; `None` for all others.
    pub(crate) fn rsa_public_der(&self) -> Option<Vec<u8>> {
        match &self.material {
            Material::Rsa { n, e, .. } => Some(der::write_rsa_public(n, e)),
            _ => None,
        }
    }
}

impl fmt::Debug for RsaPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaPrivate(***)")
    }
}

impl fmt::Debug for Material {
    /// The kind only: the numbers may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, private) = match self {
            Self::Symmetric(_) => ("oct", true),
            Self::Rsa { private, .. } => ("RSA", private.is_some()),
            Self::Ec { private, .. } => ("EC", private.is_some()),
            Self::Okp { private, .. } => ("OKP", private.is_some()),
        };
        f.debug_struct("Material")
            .field("kind", &kind)
            .field("private", &private)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.material).finish()
    }
}
