use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaEncoding,
    },
};
use axum::{Json, Router, extract::State, routing};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, header::AUTHORIZATION};
use outrigger_http_client::{Freshness, Proxies};
use outrigger_middleware::{Body, Middleware};
use serde_json::{Value, json};

use super::{
    BEARER, Bearer, BearerConfig,
    keys::{KeySet, Warnings},
};
use crate::testing::{call, get, open, serve};

enum Signer {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
            Self::Rsa(pair) => {
                let public = pair.public_key();
                let n = public.modulus().big_endian_without_leading_zero().to_vec();
                let e = public.exponent().big_endian_without_leading_zero().to_vec();
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": b64(&n), "e": b64(&e)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "x": b64(pair.public_key().as_ref())})
            }
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = match self {
            Self::Ec(pair) => pair
                .sign(&SystemRandom::new(), message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &'static dyn RsaEncoding = &RSA_PKCS1_SHA256;
                pair.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, kid: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "kid": kid}), claims)
    }
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// An issuer: its document and its keys, which can be replaced.
#[derive(Clone, Default)]
struct Issuer {
    keys: Arc<Mutex<Vec<Value>>>,
    url: Arc<Mutex<String>>,
    fetched: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: Vec<Value>) -> Self {
        let issuer = Self::default();
        *issuer.keys.lock().unwrap() = keys;
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                routing::get(|State(issuer): State<Self>| async move {
                    let url = issuer.url();
                    Json(json!({"issuer": url, "jwks_uri": format!("{url}/keys")}))
                }),
            )
            .route(
                "/keys",
                routing::get(|State(issuer): State<Self>| async move {
                    issuer.fetched.fetch_add(1, Ordering::SeqCst);
                    Json(json!({"keys": *issuer.keys.lock().unwrap()}))
                }),
            )
            .with_state(issuer.clone());
        let url = serve(router).await;
        issuer.url.lock().unwrap().push_str(&url);
        issuer
    }

    fn url(&self) -> String {
        self.url.lock().unwrap().clone()
    }

    fn claims(&self) -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({"iss": self.url(), "aud": ["other", "me"], "exp": now + 60, "nbf": now, "iat": now, "sub": "x"})
    }

    async fn handler(&self) -> Arc<dyn Middleware> {
        open(BEARER, &[("issuer", &self.url()), ("audience", "me")])
            .await
            .unwrap()
    }
}

fn with_token(token: &str) -> Request<Body> {
    let mut request = get("/v1.0/state/s/k");
    request
        .headers_mut()
        .insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    request
}

async fn status(handler: &Arc<dyn Middleware>, token: &str) -> u16 {
    call(handler, with_token(token)).await.status
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn good_tokens_of_every_kind_of_key_pass() {
    let signers = [
        Signer::ec(),
        Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        Signer::Ed(Ed25519KeyPair::generate().unwrap()),
    ];
    let keys = signers
        .iter()
        .enumerate()
        .map(|(number, signer)| signer.jwk(&number.to_string()))
        .collect();
    let issuer = Issuer::start(keys).await;
    let handler = issuer.handler().await;
    for (number, signer) in signers.iter().enumerate() {
        let token = signer.token(&number.to_string(), &issuer.claims());
        let seen = call(&handler, with_token(&token)).await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (200, "inner"),
            "{}",
            signer.algorithm()
        );
        // The token goes on to whoever is behind.
        assert!(seen.passed.unwrap().headers().contains_key(AUTHORIZATION));
    }
    let token = signers[0].token("0", &issuer.claims());
    let mut lower = get("/");
    lower
        .headers_mut()
        .insert(AUTHORIZATION, format!("bEaReR {token}").parse().unwrap());
    assert_eq!(call(&handler, lower).await.status, 200);
}

#[tokio::test]
async fn tokens_for_others_or_other_times_are_refused() {
    let signer = Signer::ec();
    let issuer = Issuer::start(vec![signer.jwk("k")]).await;
    let handler = issuer.handler().await;
    let good = issuer.claims();
    let now = jsonwebtoken::get_current_timestamp();
    for (what, claims, expected) in [
        ("good", good.clone(), 200),
        ("another audience", with(&good, "aud", json!("you")), 401),
        ("one audience", with(&good, "aud", json!("me")), 200),
        ("no audience", with(&good, "aud", Value::Null), 401),
        (
            "another issuer",
            with(&good, "iss", json!("https://evil.example")),
            401,
        ),
        (
            "two issuers",
            with(&good, "iss", json!(["https://evil.example", issuer.url()])),
            401,
        ),
        ("no issuer", with(&good, "iss", Value::Null), 401),
        (
            "expired within the skew",
            with(&good, "exp", json!(now - 240)),
            200,
        ),
        ("expired", with(&good, "exp", json!(now - 360)), 401),
        ("an end that is no time", with(&good, "exp", json!("never")), 401),
        (
            "not yet, within the skew",
            with(&good, "nbf", json!(now + 240)),
            200,
        ),
        ("not yet", with(&good, "nbf", json!(now + 360)), 401),
        ("issued tomorrow", with(&good, "iat", json!(now + 86400)), 401),
    ] {
        assert_eq!(
            status(&handler, &signer.token("k", &claims)).await,
            expected,
            "{what}"
        );
    }
}

#[tokio::test]
async fn unsigned_tokens_are_refused() {
    let signer = Signer::ec();
    let issuer = Issuer::start(vec![signer.jwk("k")]).await;
    let handler = issuer.handler().await;
    for algorithm in ["none", "None", "NONE", "nOnE"] {
        let message = message(&json!({"alg": algorithm, "kid": "k"}), &issuer.claims());
        for signature in ["", "AAAA"] {
            assert_eq!(
                status(&handler, &format!("{message}.{signature}")).await,
                401,
                "{algorithm}"
            );
        }
    }
    let good = signer.token("k", &issuer.claims());
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    assert_eq!(status(&handler, unsigned).await, 401);
    assert_eq!(status(&handler, &format!("{unsigned}.")).await, 401);
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret() {
    // Key confusion: sign by HMAC with what everybody can read.
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Vec<u8> = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key())
        .unwrap()
        .as_ref()
        .to_vec();
    let signer = Signer::Rsa(pair);
    let jwk = signer.jwk("k");
    let modulus = jwk["n"].as_str().unwrap().to_owned();
    let issuer = Issuer::start(vec![jwk.clone()]).await;
    let handler = issuer.handler().await;
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(&der)
    );
    let secrets = [
        der.clone(),
        pem.into_bytes(),
        modulus.clone().into_bytes(),
        URL_SAFE_NO_PAD.decode(&modulus).unwrap(),
        jwk.to_string().into_bytes(),
    ];
    for secret in secrets {
        let message = message(&json!({"alg": "HS256", "kid": "k"}), &issuer.claims());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(status(&handler, &token).await, 401);
    }
}

#[tokio::test]
async fn symmetric_and_foreign_keys_of_the_set_are_not_used() {
    let signer = Signer::ec();
    let mut for_encryption = signer.jwk("enc");
    for_encryption["use"] = json!("enc");
    let mut other_algorithm = signer.jwk("es384");
    other_algorithm["alg"] = json!("ES384");
    let secret = json!({"kty": "oct", "kid": "oct", "k": URL_SAFE_NO_PAD.encode([7_u8; 32])});
    let unknown = json!({"kty": "PQ", "kid": "pq", "x": "AA"});
    let issuer = Issuer::start(vec![
        for_encryption,
        other_algorithm,
        secret,
        unknown,
        json!("no key"),
        signer.jwk("k"),
    ])
    .await;
    let handler = issuer.handler().await;
    let claims = issuer.claims();
    assert_eq!(
        status(&handler, &signer.token("k", &claims)).await,
        200,
        "one bad key spoils no other"
    );
    assert_eq!(status(&handler, &signer.token("enc", &claims)).await, 401);
    assert_eq!(status(&handler, &signer.token("es384", &claims)).await, 401);
    let message = message(&json!({"alg": "HS256", "kid": "oct"}), &claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(status(&handler, &token).await, 401);
}

#[tokio::test]
async fn keys_that_a_token_brings_along_are_not_believed() {
    let (signer, thief) = (Signer::ec(), Signer::ec());
    let issuer = Issuer::start(vec![signer.jwk("k")]).await;
    let handler = issuer.handler().await;
    let header = json!({"alg": "ES256", "kid": "k", "jwk": thief.jwk("k"), "jku": "http://127.0.0.1:1/"});
    assert_eq!(
        status(&handler, &thief.sign(&header, &issuer.claims())).await,
        401
    );
    // A header that must be understood, and is not.
    let header = json!({"alg": "ES256", "kid": "k", "crit": ["exp"]});
    assert_eq!(
        status(&handler, &signer.sign(&header, &issuer.claims())).await,
        401
    );
}

#[tokio::test]
async fn requests_without_one_plain_token_are_refused() {
    let signer = Signer::ec();
    let issuer = Issuer::start(vec![signer.jwk("k")]).await;
    let handler = issuer.handler().await;
    let token = signer.token("k", &issuer.claims());
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer short",
        "Basic dXNlcjpwYXNz",
        &token,
        "Bearer a.b.c.d.e.f.g",
    ] {
        let mut request = get("/");
        request
            .headers_mut()
            .insert(AUTHORIZATION, value.parse().unwrap());
        let seen = call(&handler, request).await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (401, "Unauthorized"),
            "{value}"
        );
        assert!(seen.passed.is_none());
    }
    assert_eq!(call(&handler, get("/")).await.status, 401);
    let mut twice = with_token(&token);
    twice
        .headers_mut()
        .append(AUTHORIZATION, "Bearer 0123456789".parse().unwrap());
    assert_eq!(call(&handler, twice).await.status, 401);
}

#[tokio::test]
async fn a_new_key_is_found_and_unknown_ones_do_not_hammer_the_issuer() {
    let (old, new) = (Signer::ec(), Signer::ec());
    let issuer = Issuer::start(vec![old.jwk("old")]).await;
    let config = |freshness| {
        let config = BearerConfig {
            issuer: issuer.url(),
            audience: "me".to_owned(),
            jwks_url: Some(format!("{}/keys", issuer.url())),
        };
        Bearer::open_with(config, freshness, Proxies::default())
    };
    let hour = Duration::from_secs(3600);
    let eager = config(Freshness {
        min: hour,
        max: hour,
        missing: Duration::ZERO,
    });
    let eager: Arc<dyn Middleware> = Arc::new(eager.await.unwrap());
    *issuer.keys.lock().unwrap() = vec![old.jwk("old"), new.jwk("new")];
    assert_eq!(status(&eager, &new.token("new", &issuer.claims())).await, 200);

    let patient = config(Freshness {
        min: hour,
        max: hour,
        missing: hour,
    });
    let patient: Arc<dyn Middleware> = Arc::new(patient.await.unwrap());
    let before = issuer.fetched.load(Ordering::SeqCst);
    for number in 0..20 {
        let token = new.token(&format!("invented-{number}"), &issuer.claims());
        assert_eq!(status(&patient, &token).await, 401);
    }
    assert_eq!(issuer.fetched.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn oidc_host_poisoning_a_document_of_another_issuer_is_refused() {
    let router = Router::new().route(
        "/.well-known/openid-configuration",
        routing::get(|headers: http::HeaderMap| async move {
            let host = headers["host"].to_str().unwrap().to_owned();
            Json(json!({"issuer": "https://evil.example", "jwks_uri": format!("http://{host}/keys")}))
        }),
    );
    let url = serve(router).await;
    let error = open(BEARER, &[("issuerURL", &url), ("clientID", "me")])
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("doesn't match the one provided"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_missing_at_the_start_is_said() {
    for (pairs, said) in [
        (vec![("audience", "a")], "metadata property 'issuer' is required"),
        (vec![("issuer", "i")], "metadata property 'audience' is required"),
        (
            vec![("issuer", "no url"), ("audience", "a")],
            "failed to retrieve OpenID Configuration document",
        ),
        (
            vec![("issuer", "i"), ("audience", "a"), ("jwksURL", "ftp://h/")],
            "failed to register JWKS cache",
        ),
    ] {
        let error = open(BEARER, &pairs).await.unwrap_err();
        assert!(error.chain().starts_with(said), "{}", error.chain());
    }
    let router = Router::new().route("/text", routing::get(|| async { "no keys" }));
    let url = serve(router).await;
    for path in ["text", "absent"] {
        let jwks = format!("{url}/{path}");
        let error = open(BEARER, &[("issuer", "i"), ("audience", "a"), ("jwksURL", &jwks)])
            .await
            .unwrap_err();
        assert!(
            error.chain().starts_with("failed to fetch JWKS: "),
            "{}",
            error.chain()
        );
    }
}

/// A key on P-521 and a token that another maker's library signed with it.
fn es512() -> (Value, String) {
    let made: Value = serde_json::from_str(include_str!("testdata/es512.json")).unwrap();
    (made["jwk"].clone(), made["token"].as_str().unwrap().to_owned())
}

/// A handler of the issuer in the token above, its keys these.
async fn es512_handler(keys: Vec<Value>) -> Arc<dyn Middleware> {
    let jwks = format!("{}/keys", Issuer::start(keys).await.url());
    let pairs = [
        ("issuer", "https://issuer.example"),
        ("audience", "me"),
        ("jwksURL", &jwks),
    ];
    open(BEARER, &pairs).await.unwrap()
}

#[tokio::test]
async fn es512_of_another_maker_passes() {
    let (jwk, token) = es512();
    let mut unnamed = jwk.clone();
    unnamed.as_object_mut().unwrap().remove("alg");
    for key in [jwk.clone(), unnamed] {
        let handler = es512_handler(vec![key]).await;
        assert_eq!(status(&handler, &token).await, 200);
        // One letter of the claims, one of the signature.
        for at in [token.find('.').unwrap() + 20, token.len() - 30] {
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let mut forged = token.clone();
            forged.replace_range(at..=at, other);
            assert_eq!(status(&handler, &forged).await, 401, "at {at}");
        }
    }
    // The same name, another key or another algorithm.
    let mut misnamed = jwk.clone();
    misnamed["alg"] = json!("ES256");
    for key in [Signer::ec().jwk("p521"), misnamed] {
        assert_eq!(status(&es512_handler(vec![key]).await, &token).await, 401);
    }
}

#[test]
fn a_key_that_is_passed_over_is_spoken_of_once() {
    let (es512, _) = es512();
    let mut off_curve = es512.clone();
    off_curve["kid"] = json!("off curve");
    off_curve["x"] = off_curve["y"].clone();
    let set = |keys: Value| KeySet::parse(&json!({"keys": keys}).to_string().into()).unwrap();
    let first = set(json!([es512, off_curve, {"kty": "PQ"}, {"kty": "oct", "kid": "o", "k": "AA"}]));
    let warnings = Warnings::default();
    assert_eq!(warnings.speak(&first), ["\"off curve\"", "number 3", "\"o\""]);
    assert!(warnings.speak(&first).is_empty());
    let flood = set((0..256)
        .map(|number| json!({"kty": "PQ", "kid": number.to_string()}))
        .collect());
    assert_eq!(warnings.speak(&flood).len(), 256 - 3, "bounded");
}
