use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{CryptoError, ENCRYPTION, SIGNATURE, decrypt, encrypt, sign, verify};
use crate::key::{ContentType, Key, Material, parse};

fn testdata(name: &str) -> Vec<u8> {
    fs::read(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(name),
    )
    .unwrap()
}

fn key(name: &str) -> Key {
    parse(&testdata(&format!("keys/{name}")), ContentType::Unknown).unwrap()
}

fn vectors(group: &str) -> Vec<Value> {
    let all: Value = serde_json::from_slice(&testdata("vectors.json")).unwrap();
    all[group].as_array().unwrap().clone()
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    STANDARD.decode(vector[field].as_str().unwrap()).unwrap()
}

#[test]
fn symmetric_ciphertexts_are_those_of_go() {
    let mut seen = Vec::new();
    for vector in vectors("Symmetric") {
        let algorithm = vector["Algorithm"].as_str().unwrap();
        let key = Key::symmetric(bytes(&vector, "Key"));
        let [nonce, aad, plaintext, ciphertext, tag] =
            ["Nonce", "AssociatedData", "Plaintext", "Ciphertext", "Tag"].map(|field| bytes(&vector, field));
        let sealed = encrypt(algorithm, &key, &plaintext, &nonce, &aad).unwrap();
        assert_eq!((&sealed.data, &sealed.tag), (&ciphertext, &tag), "{algorithm}");
        assert_eq!(
            decrypt(algorithm, &key, &ciphertext, &nonce, &tag, &aad).unwrap(),
            plaintext,
            "{algorithm}"
        );

        let wrong = Key::symmetric(vec![7; bytes(&vector, "Key").len()]);
        if !algorithm.ends_with("NOPAD") {
            let opened = decrypt(algorithm, &wrong, &ciphertext, &nonce, &tag, &aad);
            assert_ne!(opened.as_ref(), Ok(&plaintext), "{algorithm}");
        }
        if !tag.is_empty() {
            let mut changed = tag.clone();
            changed[0] ^= 1;
            let error = decrypt(algorithm, &key, &ciphertext, &nonce, &changed, &aad).unwrap_err();
            assert_eq!(error, CryptoError::Authentication, "{algorithm}");
            let error = decrypt(algorithm, &key, &ciphertext, &nonce, &tag[1..], &aad).unwrap_err();
            assert_eq!(error, CryptoError::InvalidTag, "{algorithm}");
        }
        if !nonce.is_empty() {
            let error = encrypt(algorithm, &key, &plaintext, &nonce[1..], &aad).unwrap_err();
            assert_eq!(error, CryptoError::InvalidNonce, "{algorithm}");
        }
        let error = encrypt(algorithm, &Key::symmetric(vec![0; 5]), &plaintext, &nonce, &aad).unwrap_err();
        assert_eq!(error, CryptoError::KeyTypeMismatch, "{algorithm}");
        seen.push(algorithm.to_owned());
    }
    seen.dedup();
    let symmetric: Vec<_> = ENCRYPTION
        .iter()
        .filter(|name| !name.starts_with("RSA"))
        .collect();
    assert_eq!(seen.len(), symmetric.len());
}

#[test]
fn rsa_ciphertexts_of_go_open_and_ours_come_back() {
    let mut seen = 0;
    for vector in vectors("Asymmetric") {
        let algorithm = vector["Algorithm"].as_str().unwrap();
        let private = key(vector["Key"].as_str().unwrap());
        let public = key("rsa.pub.json");
        let [label, plaintext, ciphertext] =
            ["Label", "Plaintext", "Ciphertext"].map(|field| bytes(&vector, field));
        assert_eq!(
            decrypt(algorithm, &private, &ciphertext, &[], &[], &label).unwrap(),
            plaintext,
            "{algorithm}"
        );
        let sealed = encrypt(algorithm, &public, &plaintext, &[], &label).unwrap();
        assert_eq!(
            decrypt(algorithm, &private, &sealed.data, &[], &[], &label).unwrap(),
            plaintext,
            "{algorithm}"
        );
        let error = encrypt(algorithm, &public, &[0; 256], &[], &label).unwrap_err();
        assert_eq!(error, CryptoError::InvalidPlaintextLength);
        if algorithm != "RSA1_5" {
            let error = decrypt(algorithm, &private, &ciphertext, &[], &[], b"other").unwrap_err();
            assert_eq!(error, CryptoError::Authentication, "{algorithm}");
        }
        assert_eq!(
            decrypt(algorithm, &public, &ciphertext, &[], &[], &label).unwrap_err(),
            CryptoError::KeyTypeMismatch
        );
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn signatures_of_go_verify_and_ours_do_too() {
    let mut seen = Vec::new();
    for vector in vectors("Signatures") {
        let algorithm = vector["Algorithm"].as_str().unwrap();
        let name = vector["Key"].as_str().unwrap();
        let private = key(name);
        let public = key(&name.replace(".pkcs8.pem", ".pub.pem"));
        let [digest, signature] = ["Digest", "Signature"].map(|field| bytes(&vector, field));
        assert!(
            verify(algorithm, &public, &digest, &signature).unwrap(),
            "{algorithm} {}",
            digest.len()
        );
        let own = sign(algorithm, &private, &digest).unwrap();
        assert!(verify(algorithm, &public, &digest, &own).unwrap(), "{algorithm}");
        let mut other = digest.clone();
        other[0] ^= 1;
        assert!(!verify(algorithm, &public, &other, &own).unwrap(), "{algorithm}");
        assert!(
            !verify(algorithm, &public, &digest, b"no signature").unwrap(),
            "{algorithm}"
        );
        assert_eq!(
            sign(algorithm, &public, &digest).unwrap_err(),
            CryptoError::KeyTypeMismatch,
            "{algorithm}"
        );
        seen.push(algorithm.to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), SIGNATURE.len());
}

#[test]
fn every_form_of_a_key_is_the_same_key() {
    for (kind, forms) in [
        (
            "rsa",
            [
                "rsa.pkcs8.pem",
                "rsa.pkcs1.pem",
                "rsa.json",
                "rsa.pub.pem",
                "rsa.pub.pkcs1.pem",
            ]
            .as_slice(),
        ),
        (
            "p256",
            &["p256.pkcs8.pem", "p256.sec1.pem", "p256.json", "p256.pub.pem"],
        ),
        (
            "p384",
            &["p384.pkcs8.pem", "p384.sec1.pem", "p384.json", "p384.pub.pem"],
        ),
        (
            "p521",
            &["p521.pkcs8.pem", "p521.sec1.pem", "p521.json", "p521.pub.pem"],
        ),
        (
            "ed25519",
            &["ed25519.pkcs8.pem", "ed25519.json", "ed25519.pub.pem"],
        ),
    ] {
        let pem = String::from_utf8(testdata(&format!("keys/{kind}.pub.pem"))).unwrap();
        let jwk = testdata(&format!("keys/{kind}.pub.json"));
        for form in forms {
            let key = key(form);
            assert_eq!(key.public_pem().unwrap(), pem, "{form}");
            assert_eq!(key.public_jwk().unwrap(), jwk, "{form}");
        }
    }
}

#[test]
fn raw_and_base64_bytes_are_symmetric_keys() {
    for (text, expected) in [
        (
            b"AAECAwQFBgcICQoLDA0ODw==\n".as_slice(),
            (0..16).collect::<Vec<u8>>(),
        ),
        (b"-_-_", vec![0xfb, 0xff, 0xbf]),
        (b"{not base64}....", b"{not base64}....".to_vec()),
        (b"not base64!", b"not base64!".to_vec()),
    ] {
        let key = parse(text, ContentType::Unknown).unwrap();
        let Material::Symmetric(bytes) = &key.material else {
            panic!("symmetric")
        };
        assert_eq!(**bytes, expected);
        assert!(key.public_pem().is_none() && key.public_jwk().is_none());
    }
}

#[test]
fn broken_files_are_errors_without_their_content() {
    for text in [
        b"".as_slice(),
        b"{\"kty\":\"oct\"}",
        b"{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\",\"d\":\"AQAB\"}",
        b"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\"}",
        b"{\"kty\":\"nonsense\"}",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA",
        b"-----BEGIN SOMETHING-----\nMAA=\n-----END SOMETHING-----\n",
    ] {
        assert!(parse(text, ContentType::Unknown).is_err());
    }
}

#[test]
fn unknown_algorithms_are_named_so() {
    let key = Key::symmetric(vec![0; 16]);
    for algorithm in ["", "A1", "A128", "A128GCMKW", "ECDH-ES", "RSA", "HS256", "Ä128"] {
        assert_eq!(
            encrypt(algorithm, &key, b"", b"", b"").unwrap_err(),
            CryptoError::UnsupportedAlgorithm
        );
        assert_eq!(
            decrypt(algorithm, &key, b"", b"", b"", b"").unwrap_err(),
            CryptoError::UnsupportedAlgorithm
        );
        assert_eq!(
            sign(algorithm, &key, b"").unwrap_err(),
            CryptoError::UnsupportedAlgorithm
        );
    }
}
