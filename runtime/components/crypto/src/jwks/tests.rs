use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, routing};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use outrigger_component::{Error, ErrorKind, Host, Properties, Spec};
use outrigger_crypto::{CipherParams, DynCryptoProvider, KeyFormat, suite};
use serde_json::{Value, json};

use super::JWKS;

async fn open(pairs: &[(&str, &str)]) -> Result<Arc<dyn DynCryptoProvider>, Error> {
    let spec = Spec {
        name: "c".into(),
        type_name: "crypto.dapr.jwks".into(),
        version: String::new(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    (JWKS.validate)(&spec)?
        .run(Host::new("app", env!("CARGO_MANIFEST_DIR")))
        .await
}

fn key(file: &str, id: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/keys")
        .join(file);
    let mut key: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    key["kid"] = id.into();
    key
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

async fn wraps(provider: &Arc<dyn DynCryptoProvider>, name: &str) -> Result<(), String> {
    let params = CipherParams {
        algorithm: "A256KW".into(),
        key: name.into(),
        ..CipherParams::default()
    };
    let wrapped = provider.wrap_key(Bytes::from_static(&[7; 32]), params).await;
    wrapped.map(|_| ()).map_err(|error| error.chain())
}

#[tokio::test]
async fn it_behaves_as_every_provider() {
    let all = set(&[
        key("kek.json", "kek"),
        key("rsa.json", "rsa"),
        key("p384.json", "p384"),
        key("ed25519.json", "ed"),
    ]);
    for jwks in [
        all.clone(),
        STANDARD.encode(&all),
        STANDARD.encode(&all).trim_end_matches('=').to_owned(),
    ] {
        let provider = open(&[("jwks", &jwks)]).await.unwrap();
        for signing in [("rsa", "PS256", 32), ("p384", "ES384", 48), ("ed", "EdDSA", 5)] {
            let keys = suite::Keys {
                wrapping: Some(("kek", "A256KW")),
                sealing: Some(("kek", "A256GCM", 12)),
                rsa: Some("rsa"),
                signing: Some(signing),
            };
            suite::run(&provider, keys).await;
        }
    }
}

#[tokio::test]
async fn a_key_is_found_by_its_id_only() {
    let jwks = set(&[
        json!({"kty": "PQ", "kid": "pq"}),
        json!({"kty": "oct", "k": "AAAA"}),
        key("kek.json", "mine"),
        key("rsa.json", "mine"),
    ]);
    let provider = open(&[("jwks", &jwks)]).await.unwrap();
    assert_eq!(wraps(&provider, "mine").await, Ok(()), "the first of two");
    for name in ["pq", "", "MINE", "/etc/passwd"] {
        assert_eq!(
            wraps(&provider, name).await.unwrap_err(),
            "failed to retrieve the key encryption key: key not found"
        );
    }
    let error = provider.public_key("none", KeyFormat::Pem).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "key not found")
    );
    // A single key is a set of one.
    let one = key("kek.json", "one").to_string();
    assert_eq!(
        wraps(&open(&[("jwks", &one)]).await.unwrap(), "one").await,
        Ok(())
    );
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_a_broken_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&[key("kek.json", "old")])).unwrap();
    let provider = open(&[("jwks", file.to_str().unwrap())]).await.unwrap();
    assert_eq!(wraps(&provider, "old").await, Ok(()));
    // Another length each time: the clock of a file system may be coarse.
    std::fs::write(&file, set(&[key("kek.json", "new"), key("rsa.json", "rsa")])).unwrap();
    assert_eq!(wraps(&provider, "new").await, Ok(()));
    assert!(wraps(&provider, "old").await.is_err());
    std::fs::write(&file, "{").unwrap();
    assert_eq!(wraps(&provider, "new").await, Ok(()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(wraps(&provider, "new").await, Ok(()));
}

type Served = Arc<(Mutex<String>, AtomicUsize)>;

async fn serve(keys: &str) -> (String, Served) {
    let served: Served = Arc::new((Mutex::new(keys.to_owned()), AtomicUsize::new(0)));
    let router = Router::new()
        .route(
            "/keys",
            routing::get(|State(served): State<Served>| async move {
                served.1.fetch_add(1, Ordering::SeqCst);
                served.0.lock().unwrap().clone()
            }),
        )
        .route("/silent", routing::get(std::future::pending::<()>))
        .with_state(Arc::clone(&served));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, served)
}

#[tokio::test]
async fn a_set_behind_an_address_is_fetched_again_but_not_at_every_try() {
    let (url, served) = serve(&set(&[key("kek.json", "old")])).await;
    let jwks = format!("{url}/keys");
    let patient = open(&[("jwks", &jwks)]).await.unwrap();
    let eager = open(&[("jwks", &jwks), ("minRefreshInterval", "1s")])
        .await
        .unwrap();
    *served.0.lock().unwrap() = set(&[key("kek.json", "new")]);
    assert_eq!(wraps(&patient, "old").await, Ok(()));
    for _ in 0..10 {
        assert!(wraps(&patient, "new").await.is_err());
    }
    assert_eq!(served.1.load(Ordering::SeqCst), 2, "ten minutes have not passed");
    let found = async {
        while wraps(&eager, "new").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), found)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wrong_set_is_said_at_the_start_without_showing_it() {
    for jwks in ["not a set, s3cret", "{\"s3cret\": 1}", "[]", "bm90IGpzb24"] {
        let error = open(&[("jwks", jwks)]).await.unwrap_err();
        let text = format!("{error:?} {}", error.chain());
        assert!(
            text.contains("not a URL, path to local file, or JSON value"),
            "{text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
    }
    let error = open(&[]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to load metadata: metadata property 'jwks' is required"
    );
    let (url, _served) = serve("{}").await;
    for (path, timeout) in [("keys", "30s"), ("absent", "30s"), ("silent", "50ms")] {
        let jwks = format!("{url}/{path}");
        let error = open(&[("jwks", &jwks), ("requestTimeout", timeout)])
            .await
            .unwrap_err();
        assert!(
            error
                .chain()
                .starts_with("failed to init cache: failed to fetch JWKS: "),
            "{}",
            error.chain()
        );
    }
}
