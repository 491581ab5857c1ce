use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use outrigger_component::{ErrorKind, Host, Properties, Spec};
use outrigger_crypto::{CipherParams, DynCryptoProvider, KeyFormat, suite};

use super::LOCAL_STORAGE;

fn spec(path: &str) -> Spec {
    Spec {
        name: "c".into(),
        type_name: "crypto.dapr.localstorage".into(),
        version: String::new(),
        properties: Properties::from_pairs([("path", path)]),
    }
}

async fn open(folder: &str) -> Arc<dyn DynCryptoProvider> {
    let host = Host::new("app", PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    (LOCAL_STORAGE.validate)(&spec(folder))
        .unwrap()
        .run(host)
        .await
        .unwrap()
}

fn params(algorithm: &str, key: &str) -> CipherParams {
    CipherParams {
        algorithm: algorithm.into(),
        key: key.into(),
        ..CipherParams::default()
    }
}

#[tokio::test]
async fn keys_wrap_and_unwrap() {
    let provider = open("testdata/keys").await;
    for (algorithm, key) in [
        ("A256KW", "kek"),
        ("A256KW", "kek.json"),
        ("RSA-OAEP-256", "rsa.pkcs8.pem"),
        ("RSA-OAEP-256", "/rsa.json"),
    ] {
        let plain = Bytes::from_static(&[7; 32]);
        let sealed = provider
            .wrap_key(plain.clone(), params(algorithm, key))
            .await
            .unwrap();
        assert_eq!(
            provider
                .unwrap_key(sealed.data, params(algorithm, key))
                .await
                .unwrap(),
            plain
        );
    }
}

#[tokio::test]
async fn public_keys_are_shown_and_symmetric_ones_are_not() {
    let provider = open("testdata/keys").await;
    let pem = provider.public_key("p256.json", KeyFormat::Pem).await.unwrap();
    assert!(pem.starts_with(b"-----BEGIN PUBLIC KEY-----\n"));
    let jwk: serde_json::Value = serde_json::from_slice(
        &provider
            .public_key("rsa.pkcs1.pem", KeyFormat::Json)
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(jwk["kty"], "RSA");
    assert!(jwk.get("d").is_none());
    let error = provider.public_key("kek", KeyFormat::Pem).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "key not found")
    );
}

#[tokio::test]
async fn names_stay_in_the_folder() {
    let provider = open("testdata/keys").await;
    for name in ["../vectors.json", "a/../../b"] {
        let error = provider.sign(Bytes::new(), "ES256", name).await.unwrap_err();
        assert_eq!(
            error.chain(),
            "failed to retrieve the key: invalid key path: cannot contain '..'"
        );
    }
    let error = provider
        .encrypt(Bytes::new(), params("A256GCM", "/etc/passwd"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error
            .chain()
            .starts_with("failed to retrieve the key: failed to load key '/etc/passwd': ")
    );
}

#[tokio::test]
async fn a_key_does_only_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, members: &str| {
        let text = format!(r#"{{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODw"{members}}}"#);
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write("sig.json", r#","use":"sig""#);
    write("wrap.json", r#","key_ops":["wrapKey"]"#);
    write("alg.json", r#","alg":"A128KW""#);
    let provider = open(folder.path().to_str().unwrap()).await;
    for (algorithm, key, expected) in [
        (
            "A128GCM",
            "sig.json",
            "key cannot perform the 'encrypt' operation",
        ),
        (
            "A128GCM",
            "wrap.json",
            "key cannot perform the 'encrypt' operation",
        ),
        (
            "A128GCM",
            "alg.json",
            "key cannot be used with algorithm 'A128GCM'",
        ),
    ] {
        let error = provider
            .encrypt(Bytes::new(), params(algorithm, key))
            .await
            .unwrap_err();
        assert_eq!(error.chain(), expected);
    }
    provider
        .wrap_key(Bytes::from_static(&[0; 16]), params("A128KW", "wrap.json"))
        .await
        .unwrap();
    let error = provider
        .unwrap_key(Bytes::new(), params("A128KW", "wrap.json"))
        .await
        .unwrap_err();
    assert_eq!(error.chain(), "key cannot perform the 'unwrapKey' operation");
    let error = provider
        .encrypt(Bytes::new(), params("A256GCM", "/etc/../x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    let error = provider
        .encrypt(Bytes::new(), params("nonsense", "sig.json"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn the_folder_must_be_one() {
    assert!((LOCAL_STORAGE.validate)(&spec("")).is_err());
    for path in ["testdata/absent", "testdata/vectors.json"] {
        let host = Host::new("app", PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let error = (LOCAL_STORAGE.validate)(&spec(path))
            .unwrap()
            .run(host)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
}

#[tokio::test]
async fn it_behaves_as_every_provider() {
    let provider = open("testdata/keys").await;
    for signing in [
        ("rsa.json", "PS256", 32),
        ("p384.sec1.pem", "ES384", 48),
        ("ed25519.json", "EdDSA", 5),
    ] {
        let keys = suite::Keys {
            wrapping: Some(("kek", "A256KW")),
            sealing: Some(("kek.json", "A256GCM", 12)),
            rsa: Some("rsa.pkcs1.pem"),
            signing: Some(signing),
        };
        suite::run(&provider, keys).await;
    }
}
