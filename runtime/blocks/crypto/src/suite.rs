//! The behaviour every cryptography provider shows, as a test any crate can run on its provider.
//!
//! A failed expectation panics, as in any test.

use bytes::Bytes;
use outrigger_component::Retry;

use crate::{CipherParams, KeyFormat, SharedCryptoProvider};

/// Keys of the provider under test, by name; a case whose key is absent is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keys<'a> {
    /// A symmetric key and a wrapping algorithm for it.
    pub wrapping: Option<(&'a str, &'a str)>,
    /// A symmetric key, an authenticated algorithm for it and its nonce's length.
    pub sealing: Option<(&'a str, &'a str, usize)>,
    /// An RSA key pair.
    pub rsa: Option<&'a str>,
    /// A pair for signatures, an algorithm for it and the digest's length.
    pub signing: Option<(&'a str, &'a str, usize)>,
}

fn params(key: &str, algorithm: &str) -> CipherParams {
    CipherParams {
        algorithm: algorithm.to_owned(),
        key: key.to_owned(),
        ..CipherParams::default()
    }
}

/// Runs all cases that there are keys for.
pub async fn run(provider: &SharedCryptoProvider, keys: Keys<'_>) {
    let secret = Bytes::from_static(&[0x5a; 32]);

    if let Some((key, algorithm)) = keys.wrapping {
        assert!(provider.encryption_algorithms().contains(&algorithm));
        let sealed = provider
            .wrap_key(secret.clone(), params(key, algorithm))
            .await
            .expect("wrap");
        assert_ne!(sealed.data, secret);
        let params = CipherParams {
            tag: sealed.tag,
            ..params(key, algorithm)
        };
        assert_eq!(
            provider
                .unwrap_key(sealed.data, params.clone())
                .await
                .expect("unwrap"),
            secret
        );
        let broken = provider.unwrap_key(Bytes::from_static(&[0; 40]), params).await;
        assert_eq!(broken.expect_err("nothing was wrapped").retry(), Retry::Permanent);
        // A symmetric key is never shown.
        assert!(provider.public_key(key, KeyFormat::Pem).await.is_err());
    }

    if let Some((key, algorithm, nonce)) = keys.sealing {
        assert!(provider.encryption_algorithms().contains(&algorithm));
        let params = CipherParams {
            nonce: vec![7; nonce].into(),
            associated_data: Bytes::from_static(b"aad"),
            ..params(key, algorithm)
        };
        let sealed = provider
            .encrypt(secret.clone(), params.clone())
            .await
            .expect("encrypt");
        let params = CipherParams {
            tag: sealed.tag,
            ..params
        };
        let opened = provider.decrypt(sealed.data.clone(), params.clone()).await;
        assert_eq!(opened.expect("decrypt"), secret);
        let other = CipherParams {
            associated_data: Bytes::from_static(b"other"),
            ..params.clone()
        };
        assert!(
            provider.decrypt(sealed.data.clone(), other).await.is_err(),
            "the associated data counts"
        );
        let short = CipherParams {
            nonce: vec![7; nonce - 1].into(),
            ..params
        };
        assert!(
            provider.decrypt(sealed.data, short).await.is_err(),
            "the nonce's length counts"
        );
    }

    if let Some(key) = keys.rsa {
        let sealed = provider
            .encrypt(secret.clone(), params(key, "RSA-OAEP-256"))
            .await
            .expect("encrypt");
        let again = provider
            .encrypt(secret.clone(), params(key, "RSA-OAEP-256"))
            .await
            .expect("encrypt");
        assert_ne!(sealed.data, again.data, "RSA-OAEP is randomised");
        let opened = provider.decrypt(sealed.data, params(key, "RSA-OAEP-256")).await;
        assert_eq!(opened.expect("decrypt"), secret);
        let pem = provider
            .public_key(key, KeyFormat::Pem)
            .await
            .expect("public key");
        assert!(pem.starts_with(b"-----BEGIN PUBLIC KEY-----\n"));
        let jwk: serde_json::Value = serde_json::from_slice(
            &provider
                .public_key(key, KeyFormat::Json)
                .await
                .expect("public key"),
        )
        .expect("a JWK");
        assert!(
            jwk["kty"] == "RSA" && jwk.get("d").is_none(),
            "only the public half is shown"
        );
    }

    if let Some((key, algorithm, length)) = keys.signing {
        assert!(provider.signature_algorithms().contains(&algorithm));
        let digest = Bytes::from(vec![3; length]);
        let signature = provider.sign(digest.clone(), algorithm, key).await.expect("sign");
        let verified = provider.verify(digest, signature.clone(), algorithm, key).await;
        assert!(verified.expect("verify"), "the own signature is good");
        let other = Bytes::from(vec![4; length]);
        let verified = provider.verify(other, signature, algorithm, key).await;
        assert!(
            !verified.expect("verify"),
            "a signature over something else is not good"
        );
    }

    let missing = provider
        .encrypt(secret, params("outrigger-suite-absent", "A256GCM"))
        .await;
    assert_eq!(missing.expect_err("no such key").retry(), Retry::Permanent);
    provider.close().await.expect("close");
}
